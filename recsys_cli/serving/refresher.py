"""The state of now, made by a process of its own and taken up by the server and by those that build pools.

Counting the features of everything anew takes long, so neither answers nor pools wait for it. The process reads the log
beside the server, folds it, and brings histories, counts, trends and features forward to the clock (`OnlineState`).
Arrays travel in a file that every other process maps, whoever needs them shares the same memory; what they belong to
goes through a pipe.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_cli.data.schema import DAY
from recsys_cli.serving.event_log import decode
from recsys_cli.serving.events import Entry
from recsys_cli.serving.growth import adapted
from recsys_cli.serving.log_file import DATABASE

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from recsys_cli.pipeline.config import PipelineConfig
    from recsys_cli.slate_engine import SlateEngine

LONGEST_GAP = 30 * DAY
"""µs between the end of the data and the clock beyond which the state stays as trained: trends would be empty, and
everything as old as nothing that the rankers learned from."""
FOLDER = "live"
_ALIGNED = 64
_PARTS = ("user_ids", "item_ids", "author_ids", "catalogue", "labels")


class RefreshError(Exception):
    """The state could not be brought forward."""


@dataclass(frozen=True)
class RunPlace:
    """What a process opens."""

    artifacts: str
    run: str
    pipeline: PipelineConfig
    size: int
    """candidates a pool"""


@dataclass(frozen=True)
class Refreshed:
    """A state on its way from one process to another."""

    skeleton: bytes
    """everything but the arrays"""
    path: str
    places: tuple[tuple[int, int], ...]
    """begin and end of each array in the file"""
    offset: int
    """up to which the log is counted"""
    now: int
    """µs"""

    @classmethod
    def of(cls, engine: SlateEngine, path: Path, offset: int) -> Refreshed:
        """Write the arrays of an engine (of `OnlineState.refresh`) to a file."""
        held = {name: getattr(engine.bundle, name) for name in _PARTS}
        held |= {"state": engine.state, "snapshot": engine.snapshot}
        buffers: list[pickle.PickleBuffer] = []
        skeleton = pickle.dumps(held, protocol=5, buffer_callback=buffers.append)
        places, at = [], 0
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            for buffer in buffers:
                raw = buffer.raw()
                file.write(bytes(-at % _ALIGNED))
                at += -at % _ALIGNED
                file.write(raw)
                places.append((at, at + raw.nbytes))
                at += raw.nbytes
            file.write(b"\0")  # a file without a byte cannot be mapped
        os.replace(temporary, path)
        return cls(skeleton, str(path), tuple(places), offset, engine.state.now)

    def opened(self, trained: SlateEngine) -> SlateEngine:
        """The engine of a run with this state; raises OSError where the file is gone."""
        with open(self.path, "rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        arrays = [whole[start:end] for start, end in self.places]
        held = pickle.loads(self.skeleton, buffers=arrays)  # noqa: S301 - it came through a pipe from a process of ours
        state, snapshot = held.pop("state"), held.pop("snapshot")
        bundle = replace(trained.bundle, **held, retrievers=adapted(trained.bundle, held["catalogue"]))
        return replace(trained, bundle=bundle, state=state, snapshot=snapshot)


class LogReader:
    """The log of a server that runs, for whoever folds it; nothing is written."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._connection = sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True, timeout=30)

    def read(self, after: int = 0, limit: int = 10_000) -> list[Entry]:
        """As `EventLog.read`."""
        rows = self._connection.execute(
            "SELECT offset, body FROM events WHERE offset > ? AND body IS NOT NULL ORDER BY offset LIMIT ?",
            (after, limit),
        )
        return [Entry(offset, decode(body)) for offset, body in rows]

    @property
    def last_offset(self) -> int:
        """As `EventLog.last_offset`, of the events that are there."""
        return self._connection.execute("SELECT coalesce(max(offset), 0) FROM events").fetchone()[0]


def stale(now: int, clock: int) -> bool:
    """Whether data that end at `now` (µs) are too old to be brought forward to the clock."""
    return clock - now > LONGEST_GAP


def serve_refreshes(connection: Connection, place: RunPlace, log: str) -> None:
    """What the process does until its parent hangs up: answer each request with a `Refreshed`, or with what went wrong
    as text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when to stop
    os.nice(10)  # answers and pools come before
    from recsys_cli.parallel import one_blas_thread
    from recsys_cli.serving.online_state import OnlineState, dataset_of
    from recsys_cli.slate_engine import SlateEngine

    folder, online, number = Path(log) / FOLDER, None, 0
    while True:
        try:
            if connection.recv() is None:
                return
        except (EOFError, OSError):
            return
        try:
            with one_blas_thread():
                if online is None:
                    engine = SlateEngine.load(place.artifacts, place.run, place.pipeline)
                    online = OnlineState.open(folder, engine, LogReader(Path(log)), dataset=dataset_of(engine))
                online.catch_up()
                offset = online.offset
                refreshed = online.refresh()
            number += 1
            answer: object = Refreshed.of(refreshed, folder / f"{os.getpid()}-{number:06d}.state", offset)
            for old in folder.glob("*.state"):
                if old.name < f"{os.getpid()}-{number - 1:06d}.state" and old.name.startswith(f"{os.getpid()}-"):
                    old.unlink(missing_ok=True)
        except Exception as error:
            answer, online = f"{type(error).__name__}: {error}", None
        try:
            connection.send(answer)
        except OSError:
            return


class Refresher:
    """The process that makes the state of now, asked from a thread of its own; it starts when it is first asked."""

    def __init__(self, place: RunPlace, log: Path):
        self._place, self._log = place, log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="refresh")
        self._process = self._connection = None

    def _start(self) -> None:
        for old in (self._log / FOLDER).glob("*.state"):
            if not Path(f"/proc/{old.name.partition('-')[0]}").exists():  # those of another run are in use
                old.unlink(missing_ok=True)
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self._place, str(self._log))
        self._process = context.Process(target=serve_refreshes, args=arguments, daemon=True, name="recsys-refresh")
        self._process.start()
        theirs.close()

    def _ask(self) -> Refreshed:
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            self._connection.send(True)
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(1)
            raise RefreshError("the process that brings the state forward has ended; another is started") from error
        if isinstance(answer, str):
            raise RefreshError(answer)
        return answer

    def submit(self) -> Future[Refreshed]:
        """A future of the state of now; RefreshError in it."""
        return self._thread.submit(self._ask)

    @property
    def pid(self) -> int | None:
        """Of the process; None before it was asked."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process, whatever it is at, and remove its files."""
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
        self._thread.shutdown(wait=True, cancel_futures=True)
        for old in (self._log / FOLDER).glob(f"{self.pid}-*.state"):
            old.unlink(missing_ok=True)
