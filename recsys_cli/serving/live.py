"""A run as it is served: its engine, its pools, and what is the same for everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.engine import RecommendationEngine
from recsys_cli.serving.answers import Words
from recsys_cli.serving.config import ServingConfig
from recsys_cli.serving.feedback import Feedback
from recsys_cli.serving.newcomers import Newcomers, with_newcomers
from recsys_cli.serving.pooling import Pool, context_key, query_of
from recsys_cli.serving.pools import Builder, Pools
from recsys_cli.serving.refresher import Refreshed, Refresher, RunPlace, stale
from recsys_cli.serving.served_memory import ServedMemory
from recsys_cli.serving.session import Likeness, boosted
from recsys_cli.serving.way import CONTEXTS, Way
from recsys_cli.serving.workers import WAYS, Job, Worker, build_jobs
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from recsys_cli.pipeline.query import Query
    from recsys_cli.serving.fold import Fold
    from recsys_cli.serving.memory import Memory
    from recsys_cli.serving.metrics import Metrics
    from recsys_cli.settings import Settings

LISTED = 2_000
"""Items that each list of everybody holds."""


PLACES = 500_000
"""Items, and users, whose positions are kept."""


class Live:
    """One run in service. Made by `load`, then `begin` on the event loop."""

    def __init__(self, engine: RecommendationEngine, config: ServingConfig, artifacts: str, trace: TraceLog = SILENT):
        self.trained = self.engine = engine
        self.refreshed: int = 0
        """µs: what is before is among what the engines know; 0 for the moment of the training"""
        self._run_engine = engine
        self._feedback = Feedback(engine)
        self.served = ServedMemory(config.served_seconds, config.served_items)
        """what this run served to whom, in its positions"""
        self._places: dict[str, int] = {}
        """positions of items that were asked for; they stay as they are while the run is served"""
        self._people: dict[str, int] = {}
        """positions of users, likewise"""
        self._learned: dict[str, np.ndarray] | None = None
        self.config, self.trace = config, trace
        self.newcomers: Newcomers | None = None
        self._artifacts = artifacts
        self.run = None if engine.manifest is None else engine.manifest.id
        self.words = Words(engine.answer_data)
        self._ways = {"": Way(engine, engine, config.pool.size)}
        self.pools: Pools | None = None
        self.workers: list[Worker] = []
        self.refresher: Refresher | None = None
        self._check = lru_cache(CONTEXTS)(self._check_context)
        self.lists = _lists(engine)
        self.way().everybody(())

    @classmethod
    def load(cls, settings: Settings, run: str | None = None, trace: TraceLog = SILENT) -> Live:
        """Open a run, the current one by default; raises ArtifactError."""
        engine = RecommendationEngine.load(settings.paths.artifacts, run, settings.pipeline)
        return cls(engine, settings.serving, settings.paths.artifacts, trace)

    def begin(self, metrics: Metrics | None = None, log: Path | None = None, *, beside: bool = False) -> None:
        """Start the processes that build pools; log: what the state is brought forward by; beside: whether another run
        is the one that is served."""
        config, place = self.config, RunPlace(self._artifacts, self.run, self.engine.pipeline, self.config.pool.size)
        if log is not None:
            self.refresher = Refresher(place, log, beside=beside)
        if config.mode == "batch":
            from recsys_cli.serving.written import WrittenSlates

            builders: list[Builder] = [WrittenSlates(config.slates, self.engine.bundle)]
        else:
            self.workers = builders = [Worker(place) for _ in range(config.workers)]
        self.pools = Pools(config.pool, builders, keep=config.mode != "realtime", metrics=metrics, trace=self.trace)

    async def close(self) -> None:
        """End the processes."""
        if self.pools is not None:
            self.pools.close()
        ending = [*self.workers, *([] if self.refresher is None else [self.refresher])]
        await asyncio.gather(*(asyncio.to_thread(each.close) for each in ending))

    @property
    def stale(self) -> bool:
        """Whether the data of the run are too old to be brought forward to the clock."""
        return stale(self._run_engine.state.now, time.time_ns() // 1000)

    def refresh(self, refreshed: Refreshed, fold: Fold) -> Callable[[], None]:
        """Make ready to answer as of another state; what is returned, called on the event loop, has it happen.

        fold: `newcomers.frozen`, for items that came since. Raises OSError where the state is gone.
        """
        trained = refreshed.opened(self._run_engine)
        grown = self._grown(trained, fold)
        ways = {name: Way(trained, grown[0], self.config.pool.size, name) for name in list(self._ways)}
        for way in ways.values():
            way.use(grown[0], self._learned)
            way.everybody(())

        def swap() -> None:
            self.trained, self.refreshed, self._ways = trained, refreshed.now, ways
            self.engine, self.newcomers, self.lists = grown
            self.words = Words(self.engine.answer_data)
            for worker in self.workers:
                worker.tell(refreshed)

        return swap

    def grow(self, fold: Fold) -> None:
        """Know the items of a fold (`newcomers.frozen`) as well, and no longer those taken out."""
        self.engine, self.newcomers, self.lists = self._grown(self.trained, fold)
        self.words = Words(self.engine.answer_data)
        for way in list(self._ways.values()):
            way.use(self.engine, self._learned)

    @property
    def learns(self) -> bool:
        """Whether what anybody is shown depends on what came of it before."""
        return any(way.learns for way in list(self._ways.values()))

    def learn(self, fold: Fold) -> None:
        """Explore by what came of the impressions that a fold holds."""
        self._learned = self._feedback.of(fold, self.engine)
        for way in list(self._ways.values()):
            if way.learns:
                way.use(way.engine, self._learned)

    def _grown(self, trained: RecommendationEngine, fold: Fold):
        """(engine, new items, lists) of a run that knows what a fold tells of items."""
        engine, newcomers = with_newcomers(trained, fold, self._run_engine.bundle.catalogue.n_items)
        lists = _lists(engine)
        if newcomers is not None:
            items, values = lists["latest"]
            old = ~np.isin(items, newcomers.items)
            times = engine.state.catalogue.item_created[newcomers.items].astype(np.float64)
            lists["latest"] = np.append(newcomers.items, items[old]), np.append(times, values[old])
        return engine, newcomers, lists

    def way(self, overrides: str = "") -> Way:
        """The run's own pipeline, or one with the settings of an experiment; raises ConfigError."""
        found = self._ways.get(overrides)
        if found is None:
            found = Way(self.trained, self.engine, self.config.pool.size, overrides)
            found.use(self.engine, self._learned)
            if len(self._ways) >= WAYS:
                self._ways = {"": self._ways[""]}
            self._ways[overrides] = found
        return found

    def of_session(self, pool: Pool, memory: Memory) -> Pool:
        """The pool of somebody as the session that goes on has it; as it was where none does."""
        session, positive = memory.current_session(time.time_ns() // 1000), self._run_engine.bundle.spec.positive
        items = self.items([item for item, kind, _ in session if kind in positive])
        items = items[items < self._run_engine.bundle.catalogue.n_items]
        return boosted(pool, self.likeness.of(pool.items, items), self.config.session_boost) if len(items) else pool

    @cached_property
    def likeness(self) -> Likeness:
        """Of the items that the run was trained with."""
        return Likeness(self._run_engine.bundle)

    @property
    def worker_pids(self) -> list[int]:
        """Ids of the processes that build pools and bring the state forward."""
        each = [*self.workers, *([] if self.refresher is None else [self.refresher])]
        return [worker.pid for worker in each if worker.pid is not None]

    @property
    def wait(self) -> float:
        """Seconds that a request waits for a pool."""
        return self.config.pool.build_seconds if self.config.mode == "realtime" else self.config.pool.wait_ms / 1e3

    def query(self, user: int) -> Query:
        """What stages are asked with for one user."""
        return query_of(self.engine, np.array([user], np.int32), self.engine.pipeline.slate_size)

    def build_now(self, job: Job) -> Pool:
        """A pool, built where this is called."""
        return build_jobs(self.way(job.overrides).pooling, [job])[0]

    def context(self, surface: str | None, device: str | None, more: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """A request's context as part of a pool's key; raises UsageError for what the data do not have."""
        if surface is None and device is None and not more:
            return ()
        values = dict(more)
        values.pop("time", None)
        if surface is not None:
            values["surface"] = surface
        if device is not None:
            values["device"] = device
        key = context_key(values)
        self._check(key)
        return key

    def _check_context(self, key: tuple[tuple[str, str], ...]) -> None:
        self.engine.context(dict(key))

    def user(self, user_id: int | str) -> int:
        """Position, -1 for somebody whom the run does not know."""
        at = self._people.get(user_id)
        if at is None:
            at = self.trained.bundle.user_ids.position(user_id)
            if len(self._people) > PLACES:
                self._people = {}
            if at >= 0:  # strangers may be known to the next state
                self._people[user_id] = at
        return at

    def attributes(self, user_id: str, columns: Iterable[str]) -> dict[str, Any]:
        """What the run knows of a user in some columns: categories and numbers."""
        catalogue, user = self.trained.bundle.catalogue, self.user(user_id)
        out: dict[str, Any] = {}
        for column in columns if user >= 0 else ():
            if column in catalogue.user_codes and (code := int(catalogue.user_codes[column][user])) >= 0:
                out[column] = catalogue.names[f"user.{column}"][code]
            elif column in catalogue.user_numbers and np.isfinite(value := catalogue.user_numbers[column][user]):
                out[column] = int(value) if float(value).is_integer() else float(value)
        return out

    def items(self, ids: Collection[int | str]) -> np.ndarray:
        """int32 positions of those that the run knows."""
        if not ids:
            return np.zeros(0, np.int32)
        places = self._places
        try:
            return np.array([places[i] for i in ids], np.int32)
        except KeyError:
            ids = [str(i) for i in ids]
            found = self.engine.bundle.item_ids.positions(ids)
        if len(places) > PLACES:
            places.clear()
        places.update((i, at) for i, at in zip(ids, found.tolist(), strict=True) if at >= 0)
        return found[found >= 0]

    def authors(self, ids: Iterable[int | str]) -> np.ndarray:
        """int32 positions of the authors that the run knows."""
        ids = [str(i) for i in ids]
        if not ids:
            return np.zeros(0, np.int32)
        found = self.engine.bundle.author_ids.positions(ids)
        return found[found >= 0]

    def lately_active(self, n: int) -> list[int]:
        """Positions of the users who were active last, the latest first."""
        state = self.engine.state
        ends = state.history_time.offsets[1:]
        some = np.flatnonzero(state.history_time.lengths > 0)
        last = state.history_time.values[ends[some] - 1]
        return some[np.argsort(-last, kind="stable")[:n]].astype(int).tolist()


def _lists(engine: RecommendationEngine) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name → (int32 items that may be shown to anybody, best first; their values)."""
    state = engine.state
    created = state.catalogue.item_created
    may = state.available
    rules = engine.safety_rules
    if rules is not None and (drops := rules.verdicts(state.catalogue).drops) is not None:
        may = may & ~drops[0, :-1]
    out = {}
    for name, values in (
        ("popular", state.interactions), ("trending", state.trending), ("latest", np.where(created > 0, created, 0)),
    ):
        order = np.lexsort((np.arange(len(values)), -values.astype(np.float64)))
        order = order[may[order] & (values[order] > 0)][:LISTED].astype(np.int32)
        out[name] = order, values[order].astype(np.float64)
    return out
