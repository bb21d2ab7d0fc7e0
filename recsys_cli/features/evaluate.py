"""Feature values for (user, item, moment) questions, counted from the log strictly before each moment."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property, partial

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.features import formulas
from recsys_cli.features.before import Before, is_before
from recsys_cli.features.circle import CircleHistory
from recsys_cli.features.columns import codes_of_column, lengths_of, number_or_code, numbers_of
from recsys_cli.features.families import ItemKeys
from recsys_cli.features.history import Clock, History, View
from recsys_cli.features.interests import profile_column, spread
from recsys_cli.features.overlap import Overlap, overlaps
from recsys_cli.features.questions import Questions, as_slice, known
from recsys_cli.features.sessions import Visits
from recsys_cli.features.social import Edges, author_of_user
from recsys_cli.features.spec import Feature, FeatureSpec
from recsys_cli.features.tastes import Tastes
from recsys_cli.features.vectors import column_vectors, interest, lacks_vector, match, unit
from recsys_cli.features.works import Credibility, Works

_ROWS_AT_ONCE = 2048
_COLUMNS_AT_ONCE = 8
_QUESTIONS_AT_ONCE = 2**20
"""Features that need no view of all questions at once are made of so many at a time, to bound their memory."""


class Evaluator:
    """Answers questions from one log."""

    def __init__(
        self,
        spec: FeatureSpec,
        catalogue: Catalogue,
        log: Log,
        follows: dict[str, np.ndarray] | None,
        blocks: dict[str, np.ndarray] | None = None,
    ):
        self.spec, self.catalogue, self.log = spec, catalogue, log
        self.clock = Clock(log.time)
        self.keys = ItemKeys.of(catalogue, spec)
        self.follows = Edges(catalogue, log, ("follow",), follows)
        self.blocks = Edges(catalogue, log, ("block", "mute"), blocks)
        self.before = Before.build(spec, catalogue, self.keys)
        self.tastes = Tastes.build(spec, catalogue)
        self._columns: dict[str, np.ndarray] = {}
        self._vectors: dict[str, np.ndarray] = {}

    @cached_property
    def works(self) -> Works:
        return Works(self.catalogue)

    @cached_property
    def credibility(self) -> Credibility:
        return Credibility(self.catalogue, self.log, self.follows)

    @cached_property
    def circle(self) -> CircleHistory:
        return CircleHistory(self.catalogue, self.log, self.follows)

    def vectors(self, path: str) -> np.ndarray:
        """float32[n + 1, D] of a column of users or items, see `column_vectors`."""
        if path not in self._vectors:
            self._vectors[path] = column_vectors(self.catalogue, path, self.spec.dims[path])
        return self._vectors[path]

    @cached_property
    def overlaps(self) -> dict[str, Overlap]:
        return overlaps(self.spec, self.catalogue)

    def visits(self, user: np.ndarray, time: np.ndarray) -> Visits:
        """The latest visit of each user before a moment, -1 is unknown."""
        view = self.history("user").view(user.astype(np.int64), time)
        return Visits.of(view, self.column("positive"), self.session_gap)

    @property
    def session_gap(self) -> int:
        """µs"""
        return round(self.spec.config.session_gap_minutes * formulas.MINUTE)

    def column(self, name: str) -> np.ndarray:
        """A column of the log by the name of an action or a quantity; [n] Boolean, or float without NaN."""
        log = self.log
        if name in log.actions:
            return log.actions[name]
        if name == "positive":
            return log.positive
        if name == "negative":
            return log.negative
        if name not in self._columns:
            make = {
                "dwell": self._dwell,
                "completion": self._completion,
                "dwell_known": lambda: ~np.isnan(self._seconds()),
                "completion_known": lambda: ~np.isnan(self._shares()),
            } | {f"profile_{p}": partial(self._profile, p) for p in ("square", "entropy", "topics", "total")}
            self._columns[name] = make[name]()
        return self._columns[name]

    def _seconds(self) -> np.ndarray:
        return np.full(len(self.log), np.nan, np.float32) if self.log.dwell is None else self.log.dwell

    def _dwell(self) -> np.ndarray:
        return np.nan_to_num(np.log1p(np.maximum(self._seconds(), 0)))

    def _shares(self) -> np.ndarray:
        length = self.catalogue.item_numbers["duration_seconds"][self.log.item]
        return np.where(length > 0, np.minimum(self._seconds() / np.where(length > 0, length, 1), 3), np.nan)

    def _completion(self) -> np.ndarray:
        return np.nan_to_num(self._shares())

    def _profile(self, what: str) -> np.ndarray:
        log = self.log
        keys = self.keys.key("user_topic", log.user, log.item, None)
        keys[~log.positive] = -1
        flat = keys.ravel()
        events = np.flatnonzero(flat >= 0)
        return profile_column(what, flat[events], events // keys.shape[1], len(log))

    def history(self, source: str) -> History:
        """The log by one family's keys; that of users, which many features read, is kept."""
        if source == "user":
            return self._of_users
        return self._history(source)

    @cached_property
    def _of_users(self) -> History:
        return self._history("user")

    def _history(self, source: str) -> History:
        log = self.log
        surface = log.surface if log.surface is not None else np.full(len(log), -1, np.int16)
        return History(self.keys.key(source, log.user, log.item, surface, log.time), self.clock)

    def ask(self, history: History, source: str, q: Questions) -> View:
        return history.view(self.keys.key(source, q.user, q.item, q.surface, q.time), q.time)

    def everything(self, moments: np.ndarray) -> dict[str, np.ndarray]:
        """Log-odds of each action and the mean dwell over all impressions before each moment; float32[n]."""
        view = self.history("everything").view(np.zeros(len(moments), np.int64), moments)
        shown, out = view.shown().astype(np.float32), {}
        base = np.float32(np.log(self.spec.config.base_rate / (1 - self.spec.config.base_rate)))
        for action in (*self.spec.positive, *self.spec.negative, "positive", "negative"):
            count = view.sum(self.column(action))
            out[action] = formulas.log_odds(count, shown, base, self.spec.config.smoothing.everything)
        for name in {f.measure for f in self.spec.features} & {"dwell", "completion"}:
            known = view.sum(self.column(f"{name}_known"))
            out[name] = formulas.mean(view.sum(self.column(name)), known, np.float32(0), 1.0).astype(np.float32)
        return out

    def fill(self, q: Questions, features: Sequence[Feature], out: np.ndarray) -> None:
        """Write the features into the columns of `out`, float32[n, len(features)].

        The parents of a family in `features` must be among them; similarities are left alone.
        """
        filler = _Filler(self, q, {f.name: i for i, f in enumerate(features)}, out)
        for source in self.spec.sources:
            mine = [f for f in features if f.source == source]
            if mine:
                filler.family(source, mine)
        if self.before is not None:
            for source in dict.fromkeys(f.source for f in features if is_before(f)):
                mine = [f for f in features if f.source == source]
                for start in range(0, len(q), _QUESTIONS_AT_ONCE):
                    part = filler.part(slice(start, start + _QUESTIONS_AT_ONCE))
                    part.write(dict(self.before.values(mine, self.keys, part.q.user, part.q.item)))
        rest = [f for f in features if hasattr(filler, f"write_{f.source}")]
        for start in range(0, len(q), _QUESTIONS_AT_ONCE):
            part = filler.part(slice(start, start + _QUESTIONS_AT_ONCE))
            for low in range(0, len(rest), _COLUMNS_AT_ONCE):
                some = rest[low : low + _COLUMNS_AT_ONCE]
                part.write({f.name: getattr(part, f"write_{f.source}")(f) for f in some})


class _Filler:
    """The columns of one set of questions, family by family."""

    def __init__(self, evaluator: Evaluator, q: Questions, column: dict[str, int], out: np.ndarray):
        self.evaluator, self.spec, self.q, self.column, self.out = evaluator, evaluator.spec, q, column, out
        moments, self.moment = np.unique(q.time, return_inverse=True)
        self._everything = evaluator.everything(moments)

    def part(self, rows: slice) -> _Filler:
        """For some of the questions."""
        out = copy(self)
        for name in ("visits", "_user_view"):
            out.__dict__.pop(name, None)
        out.q, out.moment, out.out = self.q.rows(rows), self.moment[rows], self.out[rows]
        return out

    def everything(self, name: str) -> np.ndarray:
        return self._everything[name][self.moment]

    def family(self, source: str, features: list[Feature]) -> None:
        evaluator = self.evaluator
        view = evaluator.ask(evaluator.history(source), source, self.q)
        shown = view.shown()
        # rates first: others of the family lean on them
        ordered = sorted(features, key=lambda f: f.measure != "rate")
        for low in range(0, len(ordered), _COLUMNS_AT_ONCE):
            self.write({f.name: self.measure(view, shown, f) for f in ordered[low : low + _COLUMNS_AT_ONCE]})

    def read(self, name: str) -> np.ndarray | None:
        """float32[n] a column of `out`, in one piece; None where it is not there."""
        at = self.column.get(name)
        return None if at is None else self.out[:, at].copy()

    def write(self, columns: dict[str, np.ndarray]) -> None:
        """Into `out`, some rows at a time: column by column, each write would miss the cache."""
        at = as_slice([self.column[name] for name in columns])
        for low in range(0, len(self.out), _ROWS_AT_ONCE):
            part = [values[low : low + _ROWS_AT_ONCE] for values in columns.values()]
            self.out[low : low + _ROWS_AT_ONCE, at] = np.stack(part, axis=1, dtype=np.float32, casting="unsafe")

    def measure(self, view: View, shown: np.ndarray, f: Feature) -> np.ndarray:
        e, config = self.evaluator, self.spec.config
        if f.measure == "rate":
            count = view.sum(e.column(f.argument)).astype(np.float32)
            prior = self.prior(f.source, f.argument)
            return formulas.log_odds(count, shown.astype(np.float32), prior, self.spec.strength(f.source))
        if f.measure == "shown":
            return formulas.size(shown)
        if f.measure in ("dwell", "completion"):
            known = view.sum(e.column(f"{f.measure}_known"))
            prior = self.parent(f.source, f.measure)
            return formulas.mean(view.sum(e.column(f.measure)), known, prior, config.dwell_smoothing)
        if f.measure == "since_shown":
            return formulas.recency(self.q.time, view.last())
        if f.measure == "since_positive":
            return formulas.recency(self.q.time, view.last(e.column("positive")))
        if f.measure == "window":
            return formulas.size(view.window(e.column(f.argument) if f.argument else None, f.span))
        if f.measure == "latest":
            count, of = view.latest(e.column(f.argument), f.span)
            prior = self.read(f"user_{f.argument}_logodds")
            return formulas.share(count, of, self.everything(f.argument) if prior is None else prior)
        if f.measure == "latest_dwell":
            count, of = view.latest(e.column("dwell_known"), f.span)[0], view.latest(e.column("dwell"), f.span)[0]
            return formulas.mean(of, count, self.everything("dwell"), 2.0)
        if f.measure == "burst":
            mask = e.column(f.argument)
            total, recent = (n.astype(np.float32) for n in (view.sum(mask), view.window(mask, f.span)))
            return formulas.burst(recent, total, self.q.time - view.first(), f.span)
        if f.measure == "session":
            return formulas.size(view.since(self.visits.begins(self.q.time, e.session_gap)))
        if f.measure == "decayed":
            return formulas.size(view.decayed(e.column(f.argument), f.span))
        if f.measure == "match":
            return formulas.cosine(view.sum(e.column("positive")), self.profile_norm(), self.topics())
        raise KeyError(f.measure)

    def prior(self, source: str, action: str) -> np.ndarray:
        """Log-odds that a family's rate of an action is smoothed towards."""
        parents = self.spec.parents(source)
        if not parents:
            return self.everything(action)
        own = self.read(f"{parents[0]}_{action}_logodds")
        for parent in parents[1:]:
            own += self.read(f"{parent}_{action}_logodds")
            own -= self.everything(action)
        return own

    def parent(self, source: str, measure: str) -> np.ndarray:
        names = [n for p in self.spec.parents(source) if (n := f"{p}_{measure}") in self.column]
        return self.read(names[0]) if names else self.everything(measure)

    def profile_norm(self) -> np.ndarray:
        e = self.evaluator
        return np.sqrt(e.ask(e.history("user"), "user", self.q).sum(e.column("profile_square"))).astype(np.float32)

    def topics(self) -> np.ndarray:
        return (self.evaluator.keys.key("topic", self.q.user, self.q.item, None) >= 0).sum(axis=1)

    @cached_property
    def visits(self) -> Visits:
        return self.evaluator.visits(self.q.user, self.q.time)

    @cached_property
    def _user_view(self) -> View:
        return self.evaluator.ask(self.evaluator.history("user"), "user", self.q)

    def write_session(self, f: Feature) -> np.ndarray:
        return self.visits.value(f, self.q.time, self.read("user_positive_logodds"))

    def write_interests(self, f: Feature) -> np.ndarray:
        return spread(self._user_view, self.evaluator.column, f.measure)

    def write_works(self, f: Feature) -> np.ndarray:
        author = known(self.evaluator.keys.author, self.q.item, -1)
        if f.measure == "author_credibility":
            return self.evaluator.credibility.value(author, self.q.time)
        return self.evaluator.works.value(f, author, self.q.time)

    def write_circle(self, f: Feature) -> np.ndarray:
        return self.evaluator.circle.value(f.measure, self.q.user, self.q.item, self.q.time)

    def write_vector(self, f: Feature) -> np.ndarray:
        vectors, who = self.evaluator.vectors(f.argument), self.who(f.argument.partition(".")[0])
        if f.measure == "number":
            return vectors[:, f.span].take(who, mode="wrap")
        if f.measure == "missing":
            return lacks_vector(self.evaluator.catalogue, f.argument).take(who, mode="wrap")
        vectors, log = unit(vectors), self.evaluator.log
        mine = interest(self._user_view, vectors, log.item, log.positive)
        return match(mine, vectors.take(who, axis=0, mode="wrap"))

    def write_overlap(self, f: Feature) -> np.ndarray:
        return self.evaluator.overlaps[f.argument].values((f.measure,), self.q.user, self.q.item)[0]

    def write_list(self, f: Feature) -> np.ndarray:
        return formulas.size(known(lengths_of(self.evaluator.catalogue, f.place, f.argument), self.who(f.place), 0))

    def write_date(self, f: Feature) -> np.ndarray:
        times = getattr(self.evaluator.catalogue, f"{f.place}_columns").times[f.argument]
        times = known(times, self.who(f.place), 0)
        return formulas.age(self.q.time, times) if f.measure == "age" else times == 0

    def write_tastes(self, f: Feature) -> np.ndarray:
        return self.evaluator.tastes.value(f, self.q.user, self.q.item)

    def write_same(self, f: Feature) -> np.ndarray:
        users, items = same_codes(self.evaluator.catalogue, f.argument)
        return known(users, self.q.user, -1) == known(items, self.q.item, -2)

    def who(self, place: str) -> np.ndarray:
        return self.q.user if place == "user" else self.q.item

    def write_created(self, f: Feature) -> np.ndarray:
        created = known(getattr(self.evaluator.catalogue, f"{f.place}_created"), self.who(f.place), 0)
        return formulas.age(self.q.time, created) if f.measure == "age" else created == 0

    def write_attribute(self, f: Feature) -> np.ndarray:
        catalogue, who = self.evaluator.catalogue, self.who(f.place)
        if f.measure == "category":
            codes = known(getattr(catalogue, f"{f.place}_codes")[f.argument], who, -1)
            return formulas.category(codes, f.span, f.codes)
        if f.measure == "code":
            return formulas.category(known(codes_of_column(catalogue, f.place, f.argument), who, -1), f.span, f.codes)
        return number_or_code(f, known(numbers_of(catalogue, f.place, f.argument), who, np.nan))

    def write_clock(self, f: Feature) -> np.ndarray:
        return formulas.cycle(self.q.time, f.span)[0 if f.measure == "sine" else 1]

    def write_request(self, f: Feature) -> np.ndarray:
        _, dot, name = f.argument.partition(".")
        if not dot:
            return number_or_code(f, getattr(self.q, f.argument))
        unknown = -1 if f.measure == "category" else np.nan
        return number_or_code(f, self.q.context.get(name, np.full(len(self.q), unknown)))

    def write_social(self, f: Feature) -> np.ndarray:
        e, q = self.evaluator, self.q
        author = known(e.keys.author, q.item, -1)
        if f.measure in ("author_followers", "author_blockers"):
            edges = e.follows if f.measure == "author_followers" else e.blocks
            return formulas.size(edges.count("author", author, q.time))
        if f.measure in ("user_following", "user_blocking"):
            edges = e.follows if f.measure == "user_following" else e.blocks
            return formulas.size(edges.count("user", q.user, q.time))
        own = known(author_of_user(e.catalogue), q.user, -1)
        if f.measure == "user_followers":
            return formulas.size(e.follows.count("author", own, q.time))
        forth = e.follows.before(q.user, author, q.time) if f.measure != "follows_user" else True
        if f.measure == "follows_author":
            return forth
        return forth & e.follows.before(known(e.catalogue.author_user, author, -1), own, q.time)


def same_codes(catalogue: Catalogue, attribute: str) -> tuple[np.ndarray, np.ndarray]:
    """int32[n_users] and int32[n_items] codes that are equal where an attribute's value is; -1 and -2 unknown."""
    names = catalogue.names[f"user.{attribute}"]
    place = {name: i for i, name in enumerate(names)}
    into = np.array([place.get(n, -2) for n in catalogue.names[f"item.{attribute}"]] + [-2], np.int32)
    return catalogue.user_codes[attribute].astype(np.int32), into[catalogue.item_codes[attribute]]
