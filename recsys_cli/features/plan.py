"""How the features of a batch of requests are put together from a snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.before import is_before
from recsys_cli.features.columns import DATES, number_or_code
from recsys_cli.features.families import CROSS, family
from recsys_cli.features.overlap import SOURCE as OVERLAP
from recsys_cli.features.questions import as_slice
from recsys_cli.features.sessions import SOURCE as SESSION
from recsys_cli.features.sessions import Visits
from recsys_cli.features.spec import PLACES, Feature, FeatureSpec
from recsys_cli.features.store import find
from recsys_cli.features.vectors import VECTORS, match

if TYPE_CHECKING:
    from recsys_cli.features.snapshot import Snapshot


@dataclass(frozen=True)
class Context:
    """What a batch of requests brings along."""

    now: int
    """µs"""
    surface: np.ndarray | None = None
    """int16[B] codes, -1 unknown; None stands for the commonest of the log"""
    device: np.ndarray | None = None
    """int16[B] codes, likewise"""
    visits: Visits | None = None
    """of the users; filled in by the plan where features read them"""
    more: dict[str, np.ndarray] = field(default_factory=dict)
    """further column of impressions → [B] codes or numbers, -1 or NaN unknown; those that are not here stand on the
    commonest code or the mean of the log"""

    def rows(self, rows) -> Context:
        """Of some of the requests (a slice, index array or mask)."""
        return Context(
            self.now,
            None if self.surface is None else self.surface[rows],
            None if self.device is None else self.device[rows],
            more={name: values[rows] for name, values in self.more.items()},
        )


def general_names(spec: FeatureSpec) -> tuple[str, ...]:
    """What `Snapshot.everything` holds, in its order: log-odds of actions, then mean dwell where it was recorded."""
    return (*spec.positive, *spec.negative, "positive", "negative", "dwell", "completion")


class _Block:
    """Some columns of one of the snapshot's matrices."""

    def __init__(self, snapshot: Snapshot, name: str, columns: list[str]):
        """name: "user", "item" or "surface"."""
        block = getattr(snapshot, f"{name}_block")
        held = [f.name for f in snapshot.spec.features if (f.source if name == "surface" else f.place) == name]
        at = [held.index(c) for c in columns]
        every = at == list(range(len(held)))
        # a request asks for few users but many items: columns of items are worth a copy side by side
        self._copied = every or name != "user"
        self._block = block if every or name == "user" else np.ascontiguousarray(block[:, at])
        self._at = at

    def rows(self, who: np.ndarray) -> np.ndarray:
        """float32[..., columns]; -1 takes the last row, which stands for the unknown."""
        values = self._block.take(who, axis=0, mode="wrap")
        return values if self._copied else values[..., self._at]


def _block_of(source: str) -> str:
    return "surface" if source == "surface" else family(source).place


class Plan:
    """How to put together one choice of columns; made once per choice and kept."""

    def __init__(self, snapshot: Snapshot, columns: tuple[str, ...] | None):
        self.s, spec = snapshot, snapshot.spec
        self.spec = spec
        wanted = set(spec.names if columns is None else columns)
        unknown = wanted - set(spec.names)
        if unknown:
            raise KeyError(f"no feature {sorted(unknown)[0]!r}")
        self.chosen = [f for f in spec.features if f.name in wanted]
        names = [f.name for f in self.chosen]
        self.order = None if columns is None or list(columns) == names else [names.index(c) for c in columns]
        self.at = {name: i for i, name in enumerate(names)}
        self.part = {p: self._slice([i for i, f in enumerate(self.chosen) if f.place == p]) for p in PLACES}
        self.user_block = _Block(snapshot, "user", [f.name for f in self.chosen if f.place == "user"])
        self.item_block = _Block(snapshot, "item", [f.name for f in self.chosen if f.place == "item"])
        self.by_source: dict[str, list[Feature]] = {}
        for f in self.chosen:
            self.by_source.setdefault(f.source, []).append(f)
        self.by_overlap: dict[str, list[Feature]] = {}
        for f in self.by_source.get(OVERLAP, ()):
            self.by_overlap.setdefault(f.argument, []).append(f)
        self.every = dict(zip(general_names(spec), snapshot.everything, strict=False))
        self.surface_block = _Block(snapshot, "surface", [f.name for f in self.by_source.get("surface", ())])
        self.families = [PairPlan(self, s, fs) for s, fs in self.by_source.items() if s in snapshot.stores]
        self.of_visits = any(f.source == SESSION or f.measure == "session" for f in self.chosen)
        of_users = [f.name for f in spec.features if f.place == "user"]
        self.prior = of_users.index("user_positive_logodds") if SESSION in {f.source for f in spec.features} else 0
        self.before = [f for f in self.chosen if is_before(f) and f.place == "pair"]

    @staticmethod
    def _slice(at: list[int]) -> slice:
        return slice(at[0], at[-1] + 1) if at else slice(0, 0)

    def __call__(self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict) -> np.ndarray:
        batch, slots = items.shape
        out = np.empty((batch, slots, len(self.chosen)), np.float32)
        usual = (np.full(batch, code, np.int16) for code in self.s.usual)
        given = (context.surface, context.device)
        surface, device = (u if g is None else np.asarray(g) for u, g in zip(usual, given, strict=True))
        visits = Visits.held(self.s.visit_times, self.s.visit_counts, users) if self.of_visits else None
        context = Context(context.now, surface, device, visits, context.more)
        self._user(out, users, context)
        self._context(out, users, surface, context)
        self._item(out, items, context)
        for plan in self.families:
            if plan.place == "pair":
                plan.write(out, users[:, None], items, surface[:, None], context)
        if self.before:
            for name, values in self.s.before.values(self.before, self.s.keys, users[:, None], items, batch == 1):
                out[..., self.at[name]] = values
        self._social(out, users, items)
        self._circle(out, users, items)
        self._likeness(out, users, items)
        for f in self.by_source.get("similarity", ()):
            scores = similarities.get(f.argument)
            out[..., self.at[f.name]] = 0 if scores is None else scores
        empty = items < 0
        if empty.any():
            out[empty] = 0
        return out if self.order is None else out.take(self.order, axis=-1)

    def _user(self, out: np.ndarray, users: np.ndarray, context: Context) -> None:
        part = self.part["user"]
        if part.start == part.stop:
            return
        block = self.user_block.rows(users)
        for f in self.chosen[part]:
            which = {"age": 0, "since_shown": 1, "since_positive": 2}.get(f.measure)
            if f.source == DATES and f.measure == "age":
                times = self.s.dates[f"user.{f.argument}"].take(users, mode="wrap")
                block[:, self.at[f.name] - part.start] = formulas.age(context.now, times)
            elif which is not None:
                time = self.s.user_times[which].take(users, mode="wrap")
                formula = formulas.recency if which else formulas.age
                block[:, self.at[f.name] - part.start] = formula(context.now, time)
        sessions = self.by_source.get(SESSION, ())
        if sessions:
            prior = self.s.user_block[:, self.prior].take(users, mode="wrap")
            for f in sessions:
                block[:, self.at[f.name] - part.start] = context.visits.value(f, context.now, prior)
        out[..., part] = block[:, None, :]

    def _item(self, out: np.ndarray, items: np.ndarray, context: Context) -> None:
        part = self.part["item"]
        if part.start == part.stop:
            return
        out[..., part] = self.item_block.rows(items)
        later = context.now - self.s.now
        for f in self.chosen[part]:
            column = out[..., self.at[f.name]]
            if f.measure == "age":
                dated = self.s.dates[f"item.{f.argument}"] if f.source == DATES else self.s.item_created
                column[...] = formulas.age(context.now, dated.take(items, mode="wrap"))
            elif f.measure == "decayed" and later > 0:
                column[...] = np.log1p(np.expm1(column) * np.float32(2 ** (-later / f.span)))

    def _context(self, out: np.ndarray, users: np.ndarray, surface: np.ndarray, context: Context) -> None:
        part = self.part["context"]
        if part.start == part.stop:
            return
        values = np.zeros((len(users), 1, len(self.chosen)), np.float32)
        for f in self.by_source.get("clock", ()):
            values[..., self.at[f.name]] = formulas.cycle(context.now, f.span)[0 if f.measure == "sine" else 1]
        for f in self.by_source.get("request", ()):
            _, dot, name = f.argument.partition(".")
            given = getattr(context, f.argument) if not dot else context.more.get(name)
            values[:, 0, self.at[f.name]] = number_or_code(f, self.s.usual_more[name] if given is None else given)
        of_surface = [self.at[f.name] for f in self.by_source.get("surface", ())]
        if of_surface:
            values[:, 0, of_surface] = self.surface_block.rows(surface)
        for plan in self.families:
            if plan.place == "context":
                plan.write(values, users[:, None], np.full((len(users), 1), -1), surface[:, None], context)
        out[..., part] = values[..., part]

    def _social(self, out: np.ndarray, users: np.ndarray, items: np.ndarray) -> None:
        features = [f for f in self.by_source.get("social", ()) if f.place == "pair"]
        if not features:
            return
        s = self.s
        author = s.keys.key("author", users, items, None)
        forth = self._follows(users[:, None], author)
        back = None
        for f in features:
            if f.measure != "follows_author" and back is None:
                writer = np.where(author >= 0, s.author_user.take(author, mode="clip"), -1)
                own = np.where(users >= 0, s.author_of_user.take(users, mode="clip"), -1)
                back = self._follows(writer, own[:, None])
            value = {"follows_author": forth, "follows_user": back}.get(f.measure)
            out[..., self.at[f.name]] = forth & back if value is None else value

    def _circle(self, out: np.ndarray, users: np.ndarray, items: np.ndarray) -> None:
        measures = [f.measure for f in self.by_source.get("circle", ())]
        if measures:
            s, width = self.s, max(self.s.keys.n_authors, 1)
            low = s.follow_keys.searchsorted(users.astype(np.int64) * width)
            high = s.follow_keys.searchsorted((users.astype(np.int64) + 1) * width)
            followed = [s.follow_keys[a:b] % width for a, b in zip(low, high, strict=True)]
            author = s.keys.key("author", users, items, None)
            for name, values in s.circle.values(measures, users, items, s.author_user, author, followed).items():
                out[..., self.at[name]] = values

    def _likeness(self, out: np.ndarray, users: np.ndarray, items: np.ndarray) -> None:
        """Of user and item by what they are like: words, tastes before the log, attributes of the same value."""
        s = self.s
        for f in self.by_source.get(VECTORS, ()):
            if f.measure == "match":
                vectors, interests = s.vectors[f.argument]
                mine = interests.take(users, axis=0, mode="wrap")[:, None, :]
                out[..., self.at[f.name]] = match(mine, vectors.take(items, axis=0, mode="wrap"))
        for argument, features in self.by_overlap.items():
            found = s.overlaps[argument].values([f.measure for f in features], users[:, None], items)
            for f, values in zip(features, found, strict=True):
                out[..., self.at[f.name]] = values
        for f in self.by_source.get("tastes", ()):
            out[..., self.at[f.name]] = s.tastes.value(f, users[:, None], items)
        for f in self.by_source.get("same", ()):
            of_users, of_items = s.same[f.argument]
            out[..., self.at[f.name]] = of_users.take(users, mode="wrap")[:, None] == of_items.take(items, mode="wrap")

    def _follows(self, users: np.ndarray, authors: np.ndarray) -> np.ndarray:
        held = self.s.follow_keys
        keys = np.where(
            (users >= 0) & (authors >= 0), users.astype(np.int64) * max(self.s.keys.n_authors, 1) + authors, -1
        )
        return find(held, keys) < len(held)


class PairPlan:
    """One family of pairs within a plan: which counters to gather and where the results go."""

    def __init__(self, plan: Plan, source: str, features: list[Feature]):
        snapshot, spec = plan.s, plan.spec
        self.s, self.plan, self.source, self.place = snapshot, plan, source, family(source).place
        self.store = snapshot.stores[source]
        self.rates = [f for f in features if f.measure == "rate"]
        self.others = [f for f in features if f.measure != "rate"]
        self.strength = spec.strength(source) if self.rates else 0.0
        self.session_gap = round(spec.config.session_gap_minutes * formulas.MINUTE)
        columns = [self.store.count[f.argument] for f in self.rates]
        self.count_at = as_slice(columns)
        self.out_at = as_slice([plan.at[f.name] for f in self.rates])
        self.parents = [
            (p, _Block(snapshot, _block_of(p), [f"{p}_{f.argument}_logodds" for f in self.rates]))
            for p in spec.parents(source)
        ]
        self.every = np.array([plan.every[f.argument] for f in self.rates], np.float32)
        self.dwell_parents = {
            f.measure: next(
                (
                    _Block(snapshot, _block_of(p), [n])
                    for p in spec.parents(source)
                    if (n := f"{p}_{f.measure}") in spec.column
                ),
                None,
            )
            for f in self.others
            if f.measure in ("dwell", "completion")
        }
        # one user's keys stand together
        of_user = source.startswith(("user_", f"user{CROSS}"))
        self.width = snapshot.keys.width(source) if of_user else None

    def _who(self, parent: str, users, items, surface) -> np.ndarray:
        place = family(parent).place
        return surface if parent == "surface" else users if place == "user" else items

    def write(
        self, out: np.ndarray, users: np.ndarray, items: np.ndarray, surface: np.ndarray, context: Context
    ) -> None:
        """users, surface: [B, 1]. items: [B, K]. Writes into `out`, [B, K, columns of the plan]."""
        keys = self.s.keys.key(self.source, users, items, surface, context.now)
        bounds = ()
        if self.width is not None and len(users) == 1:
            low = int(users[0, 0]) * self.width
            bounds = (low, low + self.width)
        at = self.store.find(keys, *bounds)
        counts = self._counts(at)
        column = self.store.count
        if self.rates:
            prior = (1 - len(self.parents)) * self.every
            for parent, block in self.parents:
                prior = prior + block.rows(self._who(parent, users, items, surface))
            shown = counts[..., column["shown"], None]
            out[..., self.out_at] = formulas.log_odds(counts[..., self.count_at], shown, prior, self.strength)
        for f in self.others:
            out[..., self.plan.at[f.name]] = self._other(f, counts, at, users, items, surface, context)

    def _counts(self, at: np.ndarray) -> np.ndarray:
        if at.ndim == 2:
            return self.store.counts.take(at, axis=0)
        # numpy sums a short middle axis slowly
        total = self.store.counts.take(at[..., 0], axis=0)
        for t in range(1, at.shape[2]):
            total += self.store.counts.take(at[..., t], axis=0)
        return total

    def _other(self, f: Feature, counts, at, users, items, surface, context: Context):
        column = self.store.count
        if f.measure == "shown":
            return formulas.size(counts[..., column["shown"]])
        if f.measure in ("since_shown", "since_positive"):
            last = self.store.last[self.store.last_names.index(f.measure)].take(at)
            return formulas.recency(context.now, last.max(axis=2) if at.ndim == 3 else last)
        if f.measure == "session":
            current = context.visits.current(context.now, self.session_gap)
            return formulas.size(counts[..., column["session"]] * current[:, None])
        if f.measure == "decayed":
            later = max(context.now - self.s.now, 0)
            return formulas.size(counts[..., column["decayed"]] * np.float32(2 ** (-later / f.span)))
        if f.measure == "match":
            topics = (self.s.keys.key("topic", users, items, None) >= 0).sum(axis=-1)
            return formulas.cosine(
                counts[..., column["positive"]], self.s.profile_norm.take(users, mode="wrap"), topics
            )
        block = self.dwell_parents[f.measure]
        if block is None:
            prior = self.plan.every[f.measure]
        else:
            parent = next(p for p in self.s.spec.parents(self.source) if f"{p}_{f.measure}" in self.s.spec.column)
            prior = block.rows(self._who(parent, users, items, surface))[..., 0]
        total, known = counts[..., column[f.measure]], counts[..., column[f"{f.measure}_known"]]
        return formulas.mean(total, known, prior, self.s.spec.config.dwell_smoothing)
