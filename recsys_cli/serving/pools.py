"""Pools between requests: kept within bounds of memory and age, built by workers in batches, never waited for long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from recsys_cli.serving.config import PoolConfig
from recsys_cli.serving.pooling import Pool
from recsys_cli.serving.workers import BuildError, Job
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from recsys_cli.serving.metrics import Metrics

PAUSE = 0.1
"""Seconds before a worker is asked again that could not build."""
WARM_AT_ONCE = 64
"""Pools that are built together while nobody waits for an answer."""
OLD_AT_ONCE = 4
"""Pools that are built again together: somebody who has none waits for no more than these."""


class Builder(Protocol):
    """What builds pools, such as a `Worker`."""

    def submit(self, jobs: list[Job]) -> Future[list[Pool]]:
        """A future of the pools of some jobs; BuildError in it where they cannot be built."""


@dataclass
class _Held:
    pool: Pool
    built: float


class PoolCache:
    """Pools by key, at most so many bytes; the least recently used go first."""

    def __init__(self, config: PoolConfig, clock: Callable[[], float] = time.monotonic):
        self._config, self._clock = config, clock
        self._most = config.memory_mb * 2**20
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> tuple[Pool, bool] | None:
        """A pool, and whether it should be built again; None where there is none that may serve."""
        held = self._held.get(key)
        if held is None:
            return None
        age = self._clock() - held.built
        if age > self._config.stale_seconds:
            self.drop(key)
            return None
        self._held.move_to_end(key)
        return held.pool, age > self._config.seconds

    def put(self, key: Hashable, pool: Pool) -> None:
        """Keep a pool in the place of an older one."""
        self.drop(key)
        self._held[key] = _Held(pool, self._clock())
        self.nbytes += pool.nbytes
        while self.nbytes > self._most and len(self._held) > 1:
            _, gone = self._held.popitem(last=False)
            self.nbytes -= gone.pool.nbytes

    def drop(self, key: Hashable) -> None:
        """Forget a pool."""
        held = self._held.pop(key, None)
        if held is not None:
            self.nbytes -= held.pool.nbytes

    def keys(self) -> list[Hashable]:
        """The least recently used first."""
        return list(self._held)


@dataclass
class _Wish:
    job: Callable[[], Job]
    future: asyncio.Future
    keep: bool
    again: bool
    """whether an older one serves meanwhile"""


class Pools:
    """What requests get pools from; lives on one event loop.

    Those who have none come before those whose pool is old, and what is built again takes no more than a share of a
    builder's time. A key is built once, however many wait for it.
    """

    def __init__(
        self, config: PoolConfig, builders: list[Builder], *, keep: bool = True, metrics: Metrics | None = None,
        trace: TraceLog = SILENT,
    ):
        """keep: whether pools are kept between requests."""
        self.cache = PoolCache(config)
        self._config, self._keep, self._metrics, self._trace = config, keep, metrics, trace
        self._at_once = config.batch_size
        self._new: OrderedDict[Hashable, _Wish] = OrderedDict()
        self._old: OrderedDict[Hashable, _Wish] = OrderedDict()
        self._running: dict[Hashable, _Wish] = {}
        self._wake = asyncio.Event()
        self._tasks = [asyncio.create_task(self._work(builder)) for builder in builders]
        self.failure: str | None = None
        """what the latest batch failed with; None once one succeeds"""

    @property
    def waiting(self) -> int:
        """Pools to be built."""
        return len(self._new) + len(self._old)

    async def get(self, key: Hashable, job: Callable[[], Job], wait: float) -> Pool | None:
        """The pool of a key, waiting at most `wait` seconds for one that has to be built; None where it takes longer.

        job: says what to build, asked when the time has come, so that it knows the latest.
        """
        if self._keep:
            found = self.cache.get(key)
            if self._metrics is not None:
                (self._metrics.found if found else self._metrics.not_found).inc()
            if found is not None:
                pool, old = found
                if old:
                    self.refresh(key, job)
                return pool
        wish = self._wish(key, job, self._new, keep=self._keep)
        if wish is None:
            return None
        if wait <= 0:
            return None
        try:
            return await asyncio.wait_for(asyncio.shield(wish.future), wait)
        except TimeoutError:
            return None

    async def once(self, job: Job, wait: float) -> Pool | None:
        """A pool for this request alone."""
        wish = self._wish(object(), lambda: job, self._new, keep=False)
        if wish is None:
            return None
        try:
            return await asyncio.wait_for(wish.future, wait)
        except TimeoutError:
            return None

    async def warm(self, jobs: Mapping[Hashable, Callable[[], Job]], seconds: float | None) -> None:
        """Build pools before anybody asks for them; those that are missing after so many seconds (None: as long as it
        takes) are built as old ones are."""
        self._at_once = max(WARM_AT_ONCE, self._config.batch_size)
        try:
            wishes = {key: self._wish(key, job, self._new, keep=self._keep) for key, job in jobs.items()}
            waiting = [wish.future for wish in wishes.values() if wish is not None]
            if waiting:
                await asyncio.wait(waiting, timeout=seconds)
        finally:
            self._at_once = self._config.batch_size
        for key, wish in wishes.items():
            if self._new.get(key) is wish and wish is not None:
                del self._new[key]
                if self._keep:
                    wish.again = True
                    self._old[key] = wish

    def refresh(self, key: Hashable, job: Callable[[], Job]) -> None:
        """Build a pool again when there is time; the present one serves meanwhile."""
        if self._keep and key not in self._new:
            self._wish(key, job, self._old, keep=True)

    def _wish(self, key: Hashable, job: Callable[[], Job], queue: OrderedDict, *, keep: bool) -> _Wish | None:
        """What stands in the queue for a key; None where the queue is full."""
        wish = self._new.get(key)
        if wish is None and queue is self._old:
            wish = self._old.get(key)
        if wish is not None:
            return wish
        if queue is self._new and key in self._running:
            return self._running[key]
        if self.waiting >= self._config.queue:
            if queue is self._old or not self._old:
                return None
            self._old.popitem(last=False)  # an old pool can wait, somebody who has none cannot
        wish = queue[key] = _Wish(job, asyncio.get_running_loop().create_future(), keep, queue is self._old)
        self._wake.set()
        return wish

    def _batch(self, queue: OrderedDict[Hashable, _Wish], most: int) -> dict[Hashable, _Wish]:
        batch: dict[Hashable, _Wish] = {}
        while queue and len(batch) < most:
            key, wish = queue.popitem(last=False)
            if key in self._running:  # it is under way and would only come twice
                if not wish.future.done():
                    self._running[key].future.add_done_callback(lambda f, w=wish: _hand_on(f, w.future))
                continue
            if not wish.future.cancelled():
                batch[key] = wish
        return batch

    async def _next(self, rest: float) -> dict[Hashable, _Wish]:
        """What to build next: for those who have none at once, what is built again not before `rest` (of the loop's
        clock)."""
        loop = asyncio.get_running_loop()
        while True:
            batch = self._batch(self._new, self._at_once)
            left = rest - loop.time()
            if not batch and left <= 0:
                batch = self._batch(self._old, OLD_AT_ONCE)
            if batch:
                return batch
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left if self._old and left > 0 else None)

    async def _work(self, builder: Builder) -> None:
        loop, rest = asyncio.get_running_loop(), 0.0
        while True:
            batch = await self._next(rest)
            again, began = any(wish.again for wish in batch.values()), loop.time()
            self._running.update(batch)
            try:
                jobs = [wish.job() for wish in batch.values()]
                pools = await asyncio.wrap_future(builder.submit(jobs))
                self.failure = None
            except BuildError as error:
                self._failed(str(error))
                pools = [None] * len(batch)
                await asyncio.sleep(PAUSE)
            finally:
                for key in batch:
                    self._running.pop(key, None)
            if again:
                rest = loop.time() + (loop.time() - began) * (1 / self._config.refresh_share - 1)
            for (key, wish), pool in zip(batch.items(), pools, strict=True):
                if pool is not None and wish.keep:
                    self.cache.put(key, pool)
                if not wish.future.done():
                    wish.future.set_result(pool)
            if self._metrics is not None:
                self._metrics.pools.inc(sum(pool is not None for pool in pools))
                for pool in pools:
                    if pool is not None and pool.failures:
                        self._metrics.alerts.labels("pool").inc()
                        self._trace.event("pool", failures=list(pool.failures))

    def _failed(self, told: str) -> None:
        self.failure = told
        self._trace.event("pools", error=told)
        if self._metrics is not None:
            self._metrics.pool_failures.inc()
            self._metrics.alerts.labels("pools").inc()

    def close(self) -> None:
        """Stop building; whoever waits gets none."""
        for task in self._tasks:
            task.cancel()
        for queue in (self._new, self._old, self._running):
            for wish in queue.values():
                if not wish.future.done():
                    wish.future.set_result(None)
            queue.clear()


def _hand_on(done: asyncio.Future, waiting: asyncio.Future) -> None:
    if not waiting.done():
        waiting.set_result(None if done.cancelled() else done.result())
