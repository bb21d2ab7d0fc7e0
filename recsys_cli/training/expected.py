"""How long a training will take yet, from what its steps took in the run in use, or in a typical one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.errors import RecsysError
from recsys_cli.progress import Step

TYPICAL = {
    "read data": 1, "sources on the history window": 12, "settings of sources": 10,
    "sources on the history window as settled": 1, "recall of sources": 5, "sources up to the validation window": 6,
    "requests": 8, "training table": 6, "light ranker": 4, "relevance ranker": 12, "heavy ranker": 26, "order": 20,
    "sources on everything before the test window": 6, "bundle that is measured": 8, "sources on everything": 6,
    "bundle that is served": 4,
}
"""Step → its share in a typical training, in parts of each other."""


class Expected:
    """The steps of a training still to come, and the line that tells of them."""

    def __init__(self, earlier: Mapping[str, float], bar: Step):
        """earlier: seconds of each step of an earlier run; empty where there is none."""
        known = {name: earlier[name] for name in TYPICAL if name in earlier}
        self._seconds = known or TYPICAL
        self._measured = bool(known)
        self._began, self._bar = time.perf_counter(), bar
        self._done: list[str] = []
        self._running: list[str] = []

    @classmethod
    def of_store(cls, store: RunStore, bar: Step) -> Expected:
        """With what the run in use took."""
        try:
            return cls(store.open().manifest.durations, bar)
        except RecsysError:
            return cls({}, bar)

    @property
    def left(self) -> float | None:
        """Seconds until the end; None where nothing tells how quick this machine is with this data."""
        done = sum(self._seconds.get(name, 0.0) for name in self._done)
        if not done and not self._measured:
            return None
        pace = (time.perf_counter() - self._began) / done if done else 1.0
        return pace * sum(seconds for name, seconds in self._seconds.items() if name not in self._done)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of the training runs."""
        self._running.append(name)
        self._say()
        yield
        self._running.remove(name)
        self._done.append(name)
        self._bar.advance(self._seconds.get(name, 0.0) / sum(self._seconds.values()))
        self._say()

    def _say(self) -> None:
        left = self.left
        until = "" if left is None else f", about {_clock(left)} to go"
        self._bar.describe(" and ".join(self._running) + until)


def _clock(seconds: float) -> str:
    """As 1:05, in steps that an estimate deserves."""
    rounded = round(seconds / 5) * 5 if seconds >= 10 else round(seconds)
    return f"{rounded // 60}:{rounded % 60:02d}"
