"""Features as of now, for serving: everything counted beforehand, gathered per request.

The values come from the same definitions, counters and formulas as the training table. What depends on a
user or an item alone is kept as a matrix; pairs are found by key and put through the formulas per request.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.features import formulas
from recsys_cli.features.evaluate import Evaluator, Questions
from recsys_cli.features.families import ItemKeys, family
from recsys_cli.features.social import author_of_user
from recsys_cli.features.spec import PLACES, Feature, FeatureSpec
from recsys_cli.features.store import PairStore, find

_KEYS = ("author", "format", "topics")
_ARRAYS = (
    "user_block", "item_block", "surface_block", "everything", "user_times", "item_created", "profile_norm",
    "follow_keys", "author_user", "author_of_user", "usual",
)


@dataclass(frozen=True)
class Context:
    """What a batch of requests brings along."""

    now: int
    """µs"""
    surface: np.ndarray | None = None
    """int16[B] codes, -1 unknown; None stands for the commonest of the log"""
    device: np.ndarray | None = None
    """int16[B] codes, likewise"""

    def rows(self, rows) -> Context:
        """Of some of the requests (a slice, index array or mask)."""
        return Context(
            self.now, None if self.surface is None else self.surface[rows],
            None if self.device is None else self.device[rows],
        )

    def rows(self, part: slice) -> Context:
        """The same for some of the requests."""
        return Context(
            self.now,
            None if self.surface is None else self.surface[part],
            None if self.device is None else self.device[part],
        )


@dataclass(frozen=True)
class Snapshot:
    """Feature values of every user and item, and counters of every pair that occurred, as of `now`."""

    spec: FeatureSpec
    now: int
    keys: ItemKeys
    stores: dict[str, PairStore]
    """family of pairs → its counters"""
    user_block: np.ndarray
    """float32[n_users + 1, user features], the last row for unknown users"""
    item_block: np.ndarray
    """float32[n_items + 1, item features], likewise"""
    surface_block: np.ndarray
    """float32[n_surfaces + 1, features of the surface]"""
    everything: np.ndarray
    """float32[actions + 4] log-odds over all impressions, see `_every`"""
    user_times: np.ndarray
    """int64[3, n_users + 1] µs: created, last impression, last interaction; 0 never"""
    item_created: np.ndarray
    """int64[n_items + 1] µs"""
    profile_norm: np.ndarray
    """float32[n_users + 1] length of the user's topic profile"""
    follow_keys: np.ndarray
    """int64 user · n_authors + author, ascending"""
    author_user: np.ndarray
    author_of_user: np.ndarray
    usual: np.ndarray
    """int16[2] the commonest surface and device, -1 where the log has none"""
    _cache: dict = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(
        cls, spec: FeatureSpec, catalogue: Catalogue, log: Log, now: int,
        follows: dict[str, np.ndarray] | None = None, blocks: dict[str, np.ndarray] | None = None,
    ) -> Snapshot:
        """From the rows of `log` strictly before `now` (µs) and the edges that `Dataset.edges` gives."""
        evaluator = Evaluator(spec, catalogue, log.window(end=now), follows, blocks)
        every = evaluator.everything(np.array([now], np.int64))

        def block(place: str, n: int, features: list[Feature]) -> np.ndarray:
            who = np.append(np.arange(n, dtype=np.int32), np.int32(-1))
            out = np.zeros((n + 1, len(features)), np.float32)
            evaluator.fill(Questions.at(now, n + 1, **{place: who}), features, out)
            return out

        users = np.append(np.arange(catalogue.n_users), -1)
        mine = evaluator.history("user").view(users, np.int64(now))
        norm = np.sqrt(mine.sum(evaluator.column("profile_square"))) if "user_topic" in spec.sources else np.zeros(len(users))
        stores = {
            s: PairStore.build(evaluator, s, [f for f in spec.features if f.source == s], now)
            for s in spec.sources if family(s).place == "pair" or s == "user_surface"
        }
        return cls(
            spec=spec, now=int(now), keys=evaluator.keys, stores=stores,
            user_block=block("user", catalogue.n_users, [f for f in spec.features if f.place == "user"]),
            item_block=block("item", catalogue.n_items, [f for f in spec.features if f.place == "item"]),
            surface_block=block("surface", spec.n_surfaces, [f for f in spec.features if f.source == "surface"]),
            everything=np.array([every[name][0] for name in _every(spec) if name in every], np.float32),
            user_times=np.stack(
                [np.append(catalogue.user_created, 0), mine.last(), mine.last(evaluator.column("positive"))]
            ).astype(np.int64),
            item_created=np.append(catalogue.item_created, 0).astype(np.int64), profile_norm=norm.astype(np.float32),
            follow_keys=evaluator.follows.keys_before(now), author_user=catalogue.author_user,
            author_of_user=author_of_user(catalogue),
            usual=np.array([_commonest(evaluator.log.surface), _commonest(evaluator.log.device)], np.int16),
        )

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict]:
        """For `arrays.save_arrays`."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays.update({f"keys/{k}": getattr(self.keys, k) for k in _KEYS})
        for name, store in self.stores.items():
            arrays.update({f"{name}/{k}": getattr(store, k) for k in ("keys", "counts", "last")})
        sizes = {k: int(getattr(self.keys, k)) for k in ("n_users", "n_authors", "n_topics", "n_formats", "n_surfaces")}
        names = {s: [store.count_names, store.last_names] for s, store in self.stores.items()}
        return arrays, {"spec": self.spec.to_json(), "now": self.now, "sizes": sizes, "stores": names}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict) -> Snapshot:
        stores = {
            s: PairStore(*(arrays[f"{s}/{k}"] for k in ("keys", "counts", "last")), tuple(counts), tuple(last))
            for s, (counts, last) in meta["stores"].items()
        }
        keys = ItemKeys(**{k: arrays[f"keys/{k}"] for k in _KEYS}, values={}, **meta["sizes"])
        given = {name: arrays[name] for name in _ARRAYS}
        return cls(spec=FeatureSpec.from_json(meta["spec"]), now=meta["now"], keys=keys, stores=stores, **given)

    def features(
        self, users: np.ndarray, items: np.ndarray, context: Context,
        similarities: dict[str, np.ndarray] | None = None, columns: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """float32[B, K, F]: the features of `columns` (None: all of the spec, in its order).

        users: int32[B], -1 unknown. items: int32[B, K], -1 gives a row of zeros. similarities: retriever →
        float32[B, K], 0 where missing. Ages and recencies are as of `context.now`, counts as of the snapshot.
        """
        plan = self._cache.get(columns)
        if plan is None:
            plan = self._cache[columns] = _Plan(self, columns)
        return plan(np.asarray(users), np.asarray(items), context, similarities or {})


def _every(spec: FeatureSpec) -> tuple[str, ...]:
    return (*spec.positive, *spec.negative, "positive", "negative", "dwell", "completion")


def _commonest(codes: np.ndarray | None) -> int:
    counts = np.bincount(codes[codes >= 0]) if codes is not None else np.zeros(0)
    return int(counts.argmax()) if len(counts) else -1


class _Plan:
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
        self.user_block = self._columns(snapshot.user_block, "user")
        self.item_block = self._columns(snapshot.item_block, "item")
        self.by_source: dict[str, list[Feature]] = {}
        for f in self.chosen:
            self.by_source.setdefault(f.source, []).append(f)
        self.every = dict(zip(_every(spec), snapshot.everything, strict=False))
        self.families = [
            _PairPlan(self, s, fs) for s, fs in self.by_source.items() if s in snapshot.stores
        ]

    @staticmethod
    def _slice(at: list[int]) -> slice:
        return slice(at[0], at[-1] + 1) if at else slice(0, 0)

    def _columns(self, block: np.ndarray, place: str) -> np.ndarray:
        """The chosen columns of a block, side by side in memory."""
        of_place = [f.name for f in self.spec.features if f.place == place]
        chosen = [i for i, name in enumerate(of_place) if name in self.at]
        return block if len(chosen) == len(of_place) else np.ascontiguousarray(block[:, chosen])

    def __call__(self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict) -> np.ndarray:
        batch, slots = items.shape
        out = np.empty((batch, slots, len(self.chosen)), np.float32)
        usual = (np.full(batch, code, np.int16) for code in self.s.usual)
        given = (context.surface, context.device)
        surface, device = (u if g is None else np.asarray(g) for u, g in zip(usual, given, strict=True))
        context = Context(context.now, surface, device)
        self._user(out, users, context)
        self._context(out, users, surface, context)
        self._item(out, items, context)
        for plan in self.families:
            if plan.place == "pair":
                plan.write(out, users[:, None], items, surface[:, None], context)
        self._social(out, users, items)
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
        block = self.user_block.take(users, axis=0, mode="wrap")
        for f in self.chosen[part]:
            which = {"age": 0, "since_shown": 1, "since_positive": 2}.get(f.measure)
            if which is not None:
                time = self.s.user_times[which].take(users, mode="wrap")
                formula = formulas.recency if which else formulas.age
                block[:, self.at[f.name] - part.start] = formula(context.now, time)
        out[..., part] = block[:, None, :]

    def _item(self, out: np.ndarray, items: np.ndarray, context: Context) -> None:
        part = self.part["item"]
        if part.start == part.stop:
            return
        out[..., part] = self.item_block.take(items, axis=0, mode="wrap")
        later = context.now - self.s.now
        for f in self.chosen[part]:
            column = out[..., self.at[f.name]]
            if f.measure == "age":
                column[...] = formulas.age(context.now, self.s.item_created.take(items, mode="wrap"))
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
            values[:, 0, self.at[f.name]] = formulas.category(getattr(context, f.argument), f.span, f.codes)
        all_of = [f.name for f in self.spec.features if f.source == "surface"]
        for f in self.by_source.get("surface", ()):
            values[:, 0, self.at[f.name]] = self.s.surface_block[surface, all_of.index(f.name)]
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

    def _follows(self, users: np.ndarray, authors: np.ndarray) -> np.ndarray:
        held = self.s.follow_keys
        keys = np.where((users >= 0) & (authors >= 0), users.astype(np.int64) * max(self.s.keys.n_authors, 1) + authors, -1)
        return find(held, keys) < len(held)


class _PairPlan:
    """One family of pairs within a plan: which counters to gather and where the results go."""

    def __init__(self, plan: _Plan, source: str, features: list[Feature]):
        snapshot, spec = plan.s, plan.spec
        self.s, self.plan, self.source, self.place = snapshot, plan, source, family(source).place
        self.store = snapshot.stores[source]
        self.rates = [f for f in features if f.measure == "rate"]
        self.others = [f for f in features if f.measure != "rate"]
        self.strength = spec.strength(source) if self.rates else 0.0
        columns = [self.store.count[f.argument] for f in self.rates]
        self.count_at = _span(columns)
        self.out_at = _span([plan.at[f.name] for f in self.rates])
        self.parents = [(p, self._block(p, [f"{p}_{f.argument}_logodds" for f in self.rates])) for p in spec.parents(source)]
        self.every = np.array([plan.every[f.argument] for f in self.rates], np.float32)
        self.dwell_parents = {
            f.measure: next((self._block(p, [n]) for p in spec.parents(source) if (n := f"{p}_{f.measure}") in spec.column), None)
            for f in self.others if f.measure in ("dwell", "completion")
        }
        self.width = {
            "user_author": snapshot.keys.n_authors, "user_topic": snapshot.keys.n_topics,
            "user_format": snapshot.keys.n_formats, "user_item": len(snapshot.keys.author),
        }.get(source)

    def _block(self, parent: str, names: list[str]) -> np.ndarray:
        place = "surface" if parent == "surface" else family(parent).place
        block = getattr(self.s, f"{place}_block")
        of = [f.name for f in self.s.spec.features if (f.source == "surface" if place == "surface" else f.place == place)]
        return np.ascontiguousarray(block[:, [of.index(n) for n in names]])

    def _who(self, parent: str, users, items, surface) -> np.ndarray:
        place = family(parent).place
        return surface if parent == "surface" else users if place == "user" else items

    def write(self, out: np.ndarray, users: np.ndarray, items: np.ndarray, surface: np.ndarray, context: Context) -> None:
        """users, surface: [B, 1]. items: [B, K]. Writes into `out`, [B, K, columns of the plan]."""
        keys = self.s.keys.key(self.source, users, items, surface)
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
                prior = prior + block.take(self._who(parent, users, items, surface), axis=0, mode="wrap")
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
        if f.measure == "decayed":
            later = max(context.now - self.s.now, 0)
            return formulas.size(counts[..., column["decayed"]] * np.float32(2 ** (-later / f.span)))
        if f.measure == "match":
            topics = (self.s.keys.key("topic", users, items, None) >= 0).sum(axis=-1)
            return formulas.cosine(counts[..., column["positive"]], self.s.profile_norm.take(users, mode="wrap"), topics)
        block = self.dwell_parents[f.measure]
        if block is None:
            prior = self.plan.every[f.measure]
        else:
            parent = next(p for p in self.s.spec.parents(self.source) if f"{p}_{f.measure}" in self.s.spec.column)
            prior = block[:, 0].take(self._who(parent, users, items, surface), mode="wrap")
        total, known = counts[..., column[f.measure]], counts[..., column[f"{f.measure}_known"]]
        return formulas.mean(total, known, prior, self.s.spec.config.dwell_smoothing)


def _span(at: list[int]) -> slice | list[int]:
    """A slice where places follow one another: copying a slice is much faster than a list of places."""
    return slice(at[0], at[-1] + 1) if at and at == list(range(at[0], at[-1] + 1)) else at
