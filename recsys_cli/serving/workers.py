"""Processes that build pools: each opens the run for itself and is asked for a batch at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.since import Since, with_since
from recsys_cli.serving.overrides import laid_over
from recsys_cli.serving.pooling import Pool, build_pools, pool_engine
from recsys_cli.serving.refresher import Refreshed, RunPlace

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from recsys_cli.slate_engine import SlateEngine

ContextKey = tuple[tuple[str, str], ...]
WAYS = 32
"""Ways whose engines are kept."""


@dataclass(frozen=True)
class Job:
    """One pool to build."""

    user: int
    """position, -1 for somebody whom the run does not know"""
    context: ContextKey = ()
    since: Since | None = None
    candidates: tuple[int, ...] | None = None
    """items of the caller, to be ranked in the place of what the sources propose"""
    overrides: str = ""
    """settings of the pipeline that differ from the run's (`overrides.written`)"""


class Engines:
    """The engine that a worker builds pools with, and its variants, made once."""

    def __init__(self, engine: SlateEngine, size: int):
        self._trained, self._size = engine, size
        self._held: dict[str, SlateEngine] = {}

    def of(self, overrides: str) -> SlateEngine:
        """The engine of a way (`overrides.written`) that leaves a pool's candidates."""
        found = self._held.get(overrides)
        if found is None:
            trained = self._trained
            mine = trained.with_pipeline(laid_over(trained.pipeline, overrides)) if overrides else trained
            if len(self._held) >= WAYS:
                self._held.clear()
            found = self._held[overrides] = pool_engine(mine, self._size)
        return found

    def build(self, jobs: Sequence[Job]) -> list[Pool]:
        """Pools of jobs in their order."""
        ways = dict.fromkeys(job.overrides for job in jobs)
        if len(ways) == 1:
            return build_jobs(self.of(jobs[0].overrides), jobs)
        out: dict[int, Pool] = {}
        for way in ways:
            mine = [at for at, job in enumerate(jobs) if job.overrides == way]
            out |= zip(mine, build_jobs(self.of(way), [jobs[at] for at in mine]), strict=True)
        return [out[at] for at in range(len(jobs))]


def build_jobs(engine: SlateEngine, jobs: Sequence[Job]) -> list[Pool]:
    """Pools of jobs of one way in their order; jobs of one context are built together.

    engine: one that leaves a pool's candidates (`pool_engine`).
    """
    out: list[Pool | None] = [None] * len(jobs)
    groups: dict[tuple, list[int]] = {}
    for at, job in enumerate(jobs):
        groups.setdefault((job.context, job.candidates is None), []).append(at)
    for (context, sourced), places in groups.items():
        mine = [jobs[at] for at in places]
        asking = np.array([j.user for j in mine], np.int32)
        state, snapshot, users = with_since(engine.state, engine.snapshot, asking, [j.since for j in mine])
        here = engine if state is engine.state else replace(engine, state=state, snapshot=snapshot)
        given = None if sourced else _grid([j.candidates for j in mine])
        asked = engine.context(dict(context), len(mine))
        for at, pool in zip(places, build_pools(here, users, asked, candidates=given), strict=True):
            out[at] = pool
    return out


def _grid(rows: Sequence[tuple[int, ...]]) -> np.ndarray:
    """int32[B, K], -1 where a row is short."""
    grid = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
    for row, items in zip(grid, rows, strict=True):
        row[: len(items)] = items
    return grid


def serve_jobs(connection: Connection, place: RunPlace) -> None:
    """What a worker process does until its parent hangs up: answer lists of jobs with lists of pools.

    What a batch raises is answered as text; the worker goes on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when to stop
    from recsys_cli.parallel import one_blas_thread, stand_back
    from recsys_cli.slate_engine import SlateEngine

    stand_back(5)  # answers come before pools
    try:
        trained = SlateEngine.load(place.artifacts, place.run, place.pipeline)
        engines = Engines(trained, place.size)
        engines.of("")
        connection.send(None)
    except Exception as error:
        with contextlib.suppress(OSError):  # whoever asked is gone
            connection.send(f"{type(error).__name__}: {error}")
        return
    while True:
        try:
            jobs = connection.recv()
        except (EOFError, OSError):
            return
        if jobs is None:
            return
        try:
            with one_blas_thread():
                if isinstance(jobs, Refreshed):
                    engines, answer = Engines(jobs.opened(trained), place.size), None
                else:
                    answer = engines.build(jobs)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        try:
            connection.send(answer)
        except OSError:
            return


class BuildError(Exception):
    """A worker could not build pools."""


class Worker:
    """One process, asked from a thread of its own."""

    def __init__(self, place: RunPlace):
        self._place = place
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pools")
        self._process = self._connection = None
        self.restarts = -1
        self._told: Refreshed | None = None
        self._thread.submit(self._start)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve_jobs, args=(theirs, self._place), daemon=True, name="recsys-pools")
        self._process.start()
        theirs.close()
        self.restarts += 1
        self._ready = False

    def _ask(self, jobs: Sequence[Job]) -> list[Pool]:
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            if not self._ready:
                if told := self._connection.recv():
                    raise BuildError(told)
                self._ready = True
                if self._told is not None:
                    self._connection.send(self._told)
                    if told := self._connection.recv():
                        raise BuildError(told)
            self._connection.send(jobs if isinstance(jobs, Refreshed) else list(jobs))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(1)
            raise BuildError("the process that builds pools has ended; another is started") from error
        if isinstance(answer, str):
            raise BuildError(answer)
        return answer

    def submit(self, jobs: Sequence[Job]):
        """A future of the pools; raises BuildError in it."""
        return self._thread.submit(self._ask, jobs)

    def tell(self, refreshed: Refreshed) -> None:
        """Build what is asked for from now on with another state."""

        def tell() -> None:
            before, self._told = self._told, None
            try:
                self._ask(refreshed)
                self._told = refreshed
            except BuildError:
                self._told = before

        self._thread.submit(tell)

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process."""
        def stop() -> None:
            if self._process is None:
                return
            with contextlib.suppress(OSError):
                self._connection.send(None)
            self._process.join(2)
            if self._process.is_alive():
                self._process.kill()

        self._thread.submit(stop)
        self._thread.shutdown(wait=True)
