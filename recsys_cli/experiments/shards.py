"""Users served in several processes that all live the same life.

Every process knows the whole world and follows all that happens in it; only serving, which is what takes the time, is
shared out: users are cut into shards, each process serves its own, and all of them then learn what the others served.
How many shards there are follows from the world and not from the processes, so that batches, and with them the last
bits of every score, are the same however many processes there are.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from recsys_cli.errors import RecsysError
from recsys_cli.experiments.second_process import with_one_thread

USERS = 1_000
"""Users of a shard at least: what is served together costs less."""
MOST = 4
"""Shards at most."""

Served = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict[str, int]]
"""(int[R] places among the day's requests, int32[R, S] slates, their scores, reason → requests of the fallback)"""


def shards_of(n_users: int) -> int:
    """Shards into which the users of a world are cut."""
    return min(max(n_users // USERS, 1), MOST)


@dataclass(frozen=True)
class Shards:
    """The part of one process, number `place` from 0, which leads the others."""

    count: int = 1
    place: int = 0
    processes: int = 1
    ends: Sequence[Connection] = field(default=(), repr=False)
    """pipes to the others; of those that are led one, to the leader"""

    @property
    def leads(self) -> bool:
        return self.place == 0

    @property
    def own(self) -> range:
        """Shards that are served here."""
        return range(self.place, self.count, self.processes)

    def of(self, users: np.ndarray) -> np.ndarray:
        """int[R] shard of each user."""
        return users % self.count

    def gather(self, parts: dict[int, Served]) -> list[Served]:
        """What all processes served, in the order of the shards. parts: shard → what was served here.

        Raises RecsysError where a process ended, and what one of them raised.
        """
        if self.processes == 1:
            return [parts[shard] for shard in sorted(parts)]
        if not self.leads:
            self.ends[0].send((True, parts))
            every = self.ends[0].recv()
        else:
            every = dict(parts)
            for end in self.ends:
                every |= received(end)
            for end in self.ends:
                end.send(every)
        return [every[shard] for shard in sorted(every)]


def received(end: Connection) -> Any:
    """What a process sent; raises what it raised, and RecsysError where it ended."""
    try:
        done, value = end.recv()
    except EOFError:
        raise RecsysError(
            "a process that served some of the users ended",
            "it may have run out of memory; --threads 1 serves all of them in one",
        ) from None
    if not done:
        raise value
    return value


class Processes:
    """Further processes from entering to leaving the context, each of which lives `life(shards)`.

    life: a picklable callable. Leaving ends them.
    """

    def __init__(self, life: Callable[[Shards], None], count: int, processes: int):
        # forking would copy the locks of libraries that run threads
        context = multiprocessing.get_context("spawn")
        self._count, self._number, self._ends, self._others = count, processes, [], []
        for place in range(1, processes):
            mine, theirs = context.Pipe()
            shards = Shards(count, place, processes, (theirs,))
            self._ends.append(mine)
            self._others.append((context.Process(target=_follow, args=(life, shards), daemon=True), theirs))

    def __enter__(self) -> Shards:
        with with_one_thread():
            for process, theirs in self._others:
                process.start()
                theirs.close()
        return Shards(self._count, 0, self._number, tuple(self._ends))

    def __exit__(self, *_: object) -> None:
        for (process, _theirs), end in zip(self._others, self._ends, strict=True):
            if process.pid is not None:
                process.terminate()
                process.join()
            end.close()


def _follow(life: Callable[[Shards], None], shards: Shards) -> None:
    # Ctrl-C reaches the whole group; the leader ends this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        life(shards)
    except EOFError:
        return  # the leader has ended
    except Exception as error:
        with contextlib.suppress(BrokenPipeError):
            shards.ends[0].send((False, error))
