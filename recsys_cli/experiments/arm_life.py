"""One variant of a simulated experiment: it serves its users day by day, and learns from what they do.

What was served on a day may be kept in a folder. A simulation that was interrupted takes these slates instead of
serving again; everything else follows from them, so that it goes on as if nothing had happened.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.exposure import flagged, of_small_authors, small_authors
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.schema import DAY
from recsys_cli.experiments.shards import Served, Shards
from recsys_cli.files import write_bytes
from recsys_cli.progress import Step
from recsys_cli.slate_batch import SlateBatch

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.state import State
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.world.simulator import World
    from recsys_cli.world.visits import Visits

_SESSIONS = 2**40
"""Offset of simulated session and request ids, beyond those of any dataset."""
SCORES = ("utility", "propensity")
"""Scores of what is served that a variant learns from; NaN where the pipeline gives none."""


@dataclass(frozen=True)
class Lived:
    """What came of one arm."""

    sums: dict[str, np.ndarray]
    """column → float64[n_users]"""
    daily: list[dict[str, Any]]
    by_day: list[dict[str, np.ndarray]]
    """for each day, column → float64[n_users], of the columns asked for"""
    distinct_items: int
    fallback: dict[str, int]


@dataclass
class Life:
    """What a variant learns from and changes: its own, or one that all variants share."""

    log: Log
    satisfaction: np.ndarray
    follows: Any
    new: list[Log] = field(default_factory=list)

    @classmethod
    def of(cls, dataset: Dataset, world: World) -> Life:
        return cls(dataset.log, world.satisfaction.copy(), world.follows())

    def settle(self) -> None:
        """End a day: what happened becomes part of the log."""
        for rows in self.new:
            self.log = Log.concat(self.log, rows)
        self.new = []


@dataclass
class ArmLife:
    """One variant: its pipeline, what it lives in, and the sums of what its users did."""

    engine: RecommendationEngine
    dataset: Dataset
    world: World
    first_day: np.ndarray
    """int[n_users] day from 0 on which a user takes part in this variant; -1 who never does"""
    catalogue: Catalogue
    life: Life
    keep: frozenset[str] = frozenset()
    """columns whose sums of every day are kept"""
    slates: Path | None = None
    """beginning of the names of files that keep each day's slates"""
    shards: Shards = field(default_factory=Shards)
    """which of the users are served here"""
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    fallback: dict[str, int] = field(default_factory=dict)
    daily: list[dict[str, Any]] = field(default_factory=list)
    by_day: list[dict[str, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.edges = {table: self.dataset.edges(table) for table in ("follows", "blocks")}
        self.shown = np.zeros(self.catalogue.n_items, bool)
        self.small = _small_authors(self.dataset)

    def live(self, days: int, bar: Step) -> Lived:
        """All days of a variant that lives alone."""
        for day in range(days):
            self.live_day(day)
            self.life.settle()
            bar.advance()
        return self.lived()

    def lived(self) -> Lived:
        return Lived(self.sums, self.daily, self.by_day, int(self.shown.sum()), self.fallback)

    def live_day(self, day: int) -> None:
        """One day: serve every visit of the variant's users, let them respond, and learn from it."""
        visits = self.world.visits(day, self.life.satisfaction)
        first = self.first_day[visits.user]
        rows = np.flatnonzero((first >= 0) & (first <= day))
        items, scores = self._served(day, visits, rows)
        responses = self.world.respond(
            visits.user[rows],
            items,
            visits.time[rows],
            visits.surface[rows],
            visits.device[rows],
            visits.depth[rows],
            follows=self.life.follows,
        )
        if self.engine.pipeline.exploration.enabled:
            slates = SlateBatch(visits.user[rows], items, scores, np.zeros(items.shape, np.uint32), [], [])
            done = {action: responses[action] for action in self.life.log.actions}
            # features of the state are those of the start of the day, as the slates were served
            now = self._engine_of(day)
            self.engine = replace(self.engine, state=now.learn(slates, done, responses["dwell"]).state)
        self.daily.append(self._learn(visits, rows, items, responses, scores["propensity"]))

    def _engine_of(self, day: int) -> RecommendationEngine:
        """The engine as of the start of a day."""
        now = self.world.end + day * DAY
        return self.engine.as_of(self.life.log, now, catalogue=self.catalogue, **self.edges)

    def _served(self, day: int, visits: Visits, rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """int32[R, S] slates of the day's requests, from the folder where they are kept, and float32[R, S] of each of
        SCORES."""
        kept = self.slates and self.slates.with_name(f"{self.slates.name}-day-{day + 1}.npz")
        if kept is not None and kept.is_file():
            with np.load(kept, allow_pickle=False) as stored:
                items, told = stored["items"], json.loads(stored["fallback"].tobytes())
                scores = {name: stored[name] for name in SCORES}
            if len(items) == len(rows):
                self._count_fallback(told)
                return items, scores
        items, scores, fallback = self._serve(day, visits, rows)
        self._count_fallback(fallback)
        if kept is not None and self.shards.leads:
            buffer = io.BytesIO()
            told = np.frombuffer(json.dumps(fallback).encode(), np.uint8)
            np.savez(buffer, items=items, fallback=told, **scores)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(kept, buffer.getvalue())
        return items, scores

    def _count_fallback(self, told: dict[str, int]) -> None:
        for reason, times in told.items():
            self.fallback[reason] = self.fallback.get(reason, 0) + times

    def _serve(
        self, day: int, visits: Visits, rows: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, int]]:
        engine, user = self._engine_of(day), visits.user[rows]
        turns = list(_rounds(user))
        # as of when a turn is answered does not hang on who else is served here
        moments = [max(int(np.median(visits.time[rows[places]])), engine.state.now) for places in turns]
        shard = self.shards.of(user)
        parts = {}
        for mine in self.shards.own:
            of_shard = [places[shard[places] == mine] for places in turns]
            parts[mine] = self._serve_shard(engine, day, visits, rows, of_shard, moments)
        items = np.full((len(rows), engine.pipeline.slate_size), -1, np.int32)
        scores = {name: np.full(items.shape, np.nan, np.float32) for name in SCORES}
        fallback: dict[str, int] = {}
        for places, slates, told, reasons in self.shards.gather(parts):
            items[places] = slates
            for name, column in told.items():
                scores[name][places] = column
            for reason, times in reasons.items():
                fallback[reason] = fallback.get(reason, 0) + times
        return items, scores, fallback

    def _serve_shard(
        self, engine: RecommendationEngine, day: int, visits: Visits, rows: np.ndarray, turns: list[np.ndarray],
        moments: list[int],
    ) -> Served:
        """Slates of some users. turns: places in `rows` of their first requests, of their second, and so on, each
        answered as of its moment."""
        places = np.concatenate([np.zeros(0, np.int64), *turns])
        items = np.full((len(places), engine.pipeline.slate_size), -1, np.int32)
        scores = {name: np.full(items.shape, np.nan, np.float32) for name in SCORES}
        fallback: dict[str, int] = {}
        done = 0
        for number, (turn, moment) in enumerate(zip(turns, moments, strict=True)):
            if not len(turn):
                continue
            at, held = rows[turn], slice(done, done + len(turn))
            context = self._context(visits, at, moment)
            batch = engine.slates(visits.user[at], context=context, request=day * 1000 + number)
            items[held] = batch.items
            for name, column in scores.items():
                if name in batch.scores:
                    column[held] = batch.scores[name]
            for reason in batch.fallback:
                if reason is not None:
                    fallback[reason] = fallback.get(reason, 0) + 1
            engine = replace(engine, state=with_seen(engine.state, visits.user[at], batch.items))
            done += len(turn)
        return places, items, scores, fallback

    def _context(self, visits: Visits, at: np.ndarray, moment: int):
        from recsys_cli.features.context import Context
        from recsys_cli.world.people import DEVICES
        from recsys_cli.world.visits import SURFACES

        codes = {
            name: _codes(self.catalogue.names.get(name, ()), names)[getattr(visits, name)[at]]
            for name, names in (("surface", SURFACES), ("device", DEVICES))
        }
        return Context(now=moment, **codes)

    def _learn(
        self, visits: Visits, rows: np.ndarray, items: np.ndarray, responses: dict, propensity: np.ndarray
    ) -> dict[str, Any]:
        user = visits.user[rows]
        n = len(self.first_day)
        self.life.satisfaction = self.world.next_satisfaction(self.life.satisfaction, user, items, responses)
        place, column = np.nonzero(items >= 0)
        actions = {a: responses[a][place, column] for a in self.life.log.actions}
        told = responses["dwell"][place, column], propensity[place, column]
        new = self._rows(visits, rows, items, place, column, actions, *told)
        if "follow" in actions:
            followed = actions["follow"]
            self.world.add_follows(self.life.follows, user[place][followed], items[place, column][followed])
        self.life.new.append(new)
        self.shown[new.item] = True
        day = outcomes(new, n)
        day |= _slate_sums(items, user, n, self.catalogue)
        day |= self._exposure_sums(new, n)
        day["sessions"] = np.bincount(
            user[np.unique(visits.session[rows], return_index=True)[1]], minlength=n
        ).astype(float)
        day["days_active"] = np.bincount(np.unique(user), minlength=n).astype(float)
        for name, column_sum in day.items():
            self.sums[name] = self.sums.get(name, 0.0) + column_sum
        self.by_day.append({name: values for name, values in day.items() if name in self.keep})
        totals = {c: float(v.sum()) if c == "dwell" else int(v.sum()) for c, v in day.items() if c != "days_active"}
        return {"requests": len(rows), "users": len(np.unique(user)), **totals}

    def _exposure_sums(self, new: Log, n: int) -> dict[str, np.ndarray]:
        """Impressions of items by small authors, and of items that a safety classifier flags, by user."""
        small = of_small_authors(new.item, self.catalogue, self.small)
        out = {"small_author": np.bincount(new.user, weights=small, minlength=n)}
        unsafe = flagged(new.item, self.catalogue)
        if unsafe is not None:
            out["flagged"] = np.bincount(new.user, weights=unsafe, minlength=n)
        return out

    def _rows(self, visits: Visits, rows, items, place, column, actions, dwell, propensity) -> Log:
        """The day's impressions as rows of a log, ordered by time."""
        at = rows[place]
        order = np.lexsort((column, visits.user[at], visits.time[at]))
        at, place, column = at[order], place[order], column[order]
        base = self.life.log
        codes = {n: _codes(self.catalogue.names.get(n, ()), v) for n, v in _vocabularies().items()}
        return replace(
            base,
            _cache={},
            user=visits.user[at],
            item=items[place, column],
            time=visits.time[at],
            actions={a: done[order] for a, done in actions.items()},
            dwell=None if base.dwell is None else dwell[order],
            surface=None if base.surface is None else codes["surface"][visits.surface[at]],
            device=None if base.device is None else codes["device"][visits.device[at]],
            position=None if base.position is None else column.astype(np.int16),
            request=None if base.request is None else visits.request[at] + _SESSIONS,
            session=None if base.session is None else visits.session[at] + _SESSIONS,
            propensity=None if base.propensity is None else propensity[order],
        )


def _vocabularies() -> dict[str, tuple[str, ...]]:
    from recsys_cli.world.people import DEVICES
    from recsys_cli.world.visits import SURFACES

    return {"surface": SURFACES, "device": DEVICES}


def _codes(known: list[str], names: tuple[str, ...]) -> np.ndarray:
    """int16 code in the dataset of each of the world's names, -1 where the log never held it."""
    places = {name: i for i, name in enumerate(known)}
    return np.array([places.get(name, -1) for name in names], np.int16)


def _rounds(users: np.ndarray) -> Iterator[np.ndarray]:
    """Places of everybody's first request of the day, then of the second, and so on; users come grouped."""
    if not len(users):
        return
    first = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    number = np.arange(len(users)) - np.repeat(first, np.diff(np.append(first, len(users))))
    for turn in range(int(number.max()) + 1):
        yield np.flatnonzero(number == turn)


def with_seen(state: State, users: np.ndarray, items: np.ndarray) -> State:
    """The state with further items noted as seen. users: int32[R], each once. items: int32[R, S], -1 empty."""
    row, column = np.nonzero(items >= 0)
    width = np.int64(state.catalogue.n_items + 1)
    new = np.unique(users[row].astype(np.int64) * width + items[row, column])
    old = state.seen.rows.astype(np.int64) * width + state.seen.values
    place = np.searchsorted(old, new)
    unknown = np.ones(len(new), bool)
    inside = place < len(old)
    unknown[inside] = old[place[inside]] != new[inside]
    new, place = new[unknown], place[unknown]
    counts = state.seen.lengths + np.bincount(new // width, minlength=len(state.seen))
    values = np.insert(state.seen.values, place, (new % width).astype(state.seen.values.dtype))
    return replace(state, seen=Ragged(offsets_of(counts), values))


def outcomes(log: Log, n_users: int) -> dict[str, np.ndarray]:
    """Sums by user of what a log holds: impressions, each action, `engagement` (positive actions),
    `interactions` and `negative` (impressions with any positive or negative action), `dwell` seconds."""

    def by_user(weights=None) -> np.ndarray:
        return np.bincount(log.user, weights=weights, minlength=n_users).astype(float)

    out = {"impressions": by_user()} | {a: by_user(done) for a, done in log.actions.items()}
    out["engagement"] = sum((out[a] for a in log.positive_actions), np.zeros(n_users))
    out["interactions"], out["negative"] = by_user(log.positive), by_user(log.negative)
    if log.dwell is not None:
        out["dwell"] = by_user(np.nan_to_num(log.dwell))
    return out


def _slate_sums(items: np.ndarray, users: np.ndarray, n_users: int, catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Slates, and distinct topics and authors summed over slates, by user."""
    slate, slot = np.nonzero(items >= 0)
    item = items[slate, slot]

    def distinct(row: np.ndarray, label: np.ndarray) -> np.ndarray:
        known = label >= 0
        width = np.int64(label.max(initial=0)) + 1
        pairs = np.unique(row[known].astype(np.int64) * width + label[known])
        return np.bincount(users[pairs // width], minlength=n_users).astype(float)

    places, topic = catalogue.item_topics.take(item)
    return {
        "slates": np.bincount(users[np.unique(slate)], minlength=n_users).astype(float),
        "topics": distinct(slate[places], topic),
        "authors": distinct(slate, catalogue.item_author[item]),
    }


def _small_authors(dataset: Dataset) -> np.ndarray:
    """bool[n_authors] see `small_authors`, by the follows at the end of the log."""
    n = len(dataset.author_ids)
    follows = dataset.edges("follows")
    return small_authors(np.bincount(follows["to"], minlength=n)[:n] if follows is not None else np.zeros(n, int))
