"""A run as it is served: its engine, its pools, and what is the same for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.engine import RecommendationEngine
from recsys_cli.serving.answers import Words
from recsys_cli.serving.chooser import Chooser
from recsys_cli.serving.config import ServingConfig
from recsys_cli.serving.newcomers import Newcomers, with_newcomers
from recsys_cli.serving.pooling import Pool, context_key, pool_engine, query_of
from recsys_cli.serving.pools import Builder, Pools
from recsys_cli.serving.workers import Job, RunPlace, Worker, build_jobs
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from recsys_cli.pipeline.query import Query
    from recsys_cli.serving.fold import Fold
    from recsys_cli.serving.metrics import Metrics
    from recsys_cli.settings import Settings

LISTED = 2_000
"""Items that each list of everybody holds."""
CONTEXTS = 256
"""Kinds of contexts whose pool of everybody is kept."""


class Live:
    """One run in service. Made by `load`, then `begin` on the event loop."""

    def __init__(self, engine: RecommendationEngine, config: ServingConfig, artifacts: str, trace: TraceLog = SILENT):
        self.trained = self.engine = engine
        self.config, self.trace = config, trace
        self.newcomers: Newcomers | None = None
        self._artifacts = artifacts
        self._pooling = pool_engine(engine, config.pool.size)
        self.run = None if engine.manifest is None else engine.manifest.id
        self.chooser, self.words = Chooser(engine), Words(engine.answer_data)
        self.pools: Pools | None = None
        self.workers: list[Worker] = []
        self.everybody = lru_cache(CONTEXTS)(self._everybody)
        self._check = lru_cache(CONTEXTS)(self._check_context)
        self.lists = _lists(engine)
        self.everybody(())

    @classmethod
    def load(cls, settings: Settings, run: str | None = None, trace: TraceLog = SILENT) -> Live:
        """Open a run, the current one by default; raises ArtifactError."""
        engine = RecommendationEngine.load(settings.paths.artifacts, run, settings.pipeline)
        return cls(engine, settings.serving, settings.paths.artifacts, trace)

    def begin(self, metrics: Metrics | None = None) -> None:
        """Start the processes that build pools."""
        config = self.config
        if config.mode == "batch":
            from recsys_cli.serving.written import WrittenSlates

            builders: list[Builder] = [WrittenSlates(config.slates, self.engine.bundle)]
        else:
            place = RunPlace(self._artifacts, self.run, self.engine.pipeline, config.pool.size)
            self.workers = builders = [Worker(place) for _ in range(config.workers)]
        self.pools = Pools(config.pool, builders, keep=config.mode != "realtime", metrics=metrics, trace=self.trace)

    async def close(self) -> None:
        """End the processes."""
        if self.pools is not None:
            self.pools.close()
        await asyncio.gather(*(asyncio.to_thread(worker.close) for worker in self.workers))

    def grow(self, fold: Fold) -> None:
        """Know the items of a fold (`newcomers.frozen`) as well, and no longer those taken out."""
        engine, newcomers = with_newcomers(self.trained, fold)
        lists = _lists(engine)
        if newcomers is not None:
            items, values = lists["latest"]
            old = ~np.isin(items, newcomers.items)
            times = engine.state.catalogue.item_created[newcomers.items].astype(np.float64)
            lists["latest"] = np.append(newcomers.items, items[old]), np.append(times, values[old])
        self.engine, self.newcomers, self.lists = engine, newcomers, lists
        self.words = Words(engine.answer_data)
        self.chooser.use(engine)

    @property
    def worker_pids(self) -> list[int]:
        """Ids of the processes that build pools."""
        return [worker.pid for worker in self.workers if worker.pid is not None]

    @property
    def wait(self) -> float:
        """Seconds that a request waits for a pool."""
        return self.config.pool.build_seconds if self.config.mode == "realtime" else self.config.pool.wait_ms / 1e3

    def _everybody(self, context: tuple[tuple[str, str], ...]) -> Pool:
        return build_jobs(self._pooling, [Job(-1, context)])[0]

    def query(self, user: int) -> Query:
        """What stages are asked with for one user."""
        return query_of(self.engine, np.array([user], np.int32), self.engine.pipeline.slate_size)

    def build_now(self, job: Job) -> Pool:
        """A pool, built where this is called."""
        return build_jobs(self._pooling, [job])[0]

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
        return self.trained.bundle.user_ids.position(user_id)

    def items(self, ids: Iterable[int | str]) -> np.ndarray:
        """int32 positions of those that the run knows."""
        ids = [str(i) for i in ids]
        if not ids:
            return np.zeros(0, np.int32)
        found = self.engine.bundle.item_ids.positions(ids)
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
