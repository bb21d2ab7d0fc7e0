"""Processes that build pools: each opens the run for itself and is asked for a batch at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.since import Since, with_since
from recsys_cli.serving.pooling import Pool, build_pools, pool_engine

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from recsys_cli.pipeline.config import PipelineConfig
    from recsys_cli.slate_engine import SlateEngine

ContextKey = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Job:
    """One pool to build."""

    user: int
    """position, -1 for somebody whom the run does not know"""
    context: ContextKey = ()
    since: Since | None = None
    candidates: tuple[int, ...] | None = None
    """items of the caller, to be ranked in the place of what the sources propose"""


@dataclass(frozen=True)
class RunPlace:
    """What a worker opens."""

    artifacts: str
    run: str
    pipeline: PipelineConfig
    size: int
    """candidates a pool"""


def build_jobs(engine: SlateEngine, jobs: Sequence[Job]) -> list[Pool]:
    """Pools of jobs in their order; jobs of one context are built together.

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
    os.nice(5)  # answers come before pools
    from recsys_cli.parallel import one_blas_thread
    from recsys_cli.slate_engine import SlateEngine

    try:
        engine = pool_engine(SlateEngine.load(place.artifacts, place.run, place.pipeline), place.size)
        connection.send(None)
    except Exception as error:
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
                answer = build_jobs(engine, jobs)
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
            self._connection.send(list(jobs))
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
