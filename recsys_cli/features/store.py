"""Counters of the pairs that occurred, found by key: what the snapshot keeps of the families of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.features.spec import Feature

if TYPE_CHECKING:
    from recsys_cli.features.evaluate import Evaluator
    from recsys_cli.features.sessions import Visits


@dataclass(frozen=True)
class PairStore:
    """Counters of m keys; every other key has zeros."""

    keys: np.ndarray
    """int64[m] ascending"""
    counts: np.ndarray
    """float32[m + 1, C], the last row is of zeros"""
    last: np.ndarray
    """int64[L, m + 1] µs, likewise"""
    count_names: tuple[str, ...]
    """"shown", an action, "dwell", "dwell_known", "decayed", "session", …"""
    last_names: tuple[str, ...]
    """since_shown, since_positive"""

    @classmethod
    def build(
        cls, evaluator: Evaluator, source: str, features: Sequence[Feature], now: int, visits: Visits | None
    ) -> PairStore:
        """Count what the features of one family need, before `now`. visits: the latest one of every user."""
        history = evaluator.history(source)
        keys = history.distinct()
        view = history.view(keys, np.int64(now))
        columns, last = {"shown": view.shown()}, {}
        for f in features:
            if f.measure == "rate":
                columns[f.argument] = view.sum(evaluator.column(f.argument))
            elif f.measure in ("dwell", "completion"):
                for name in (f.measure, f"{f.measure}_known"):
                    columns[name] = view.sum(evaluator.column(name))
            elif f.measure == "decayed":
                columns["decayed"] = view.decayed(evaluator.column(f.argument), f.span)
            elif f.measure == "session":
                columns["session"] = view.since(visits.start[keys // evaluator.keys.width(source)])
            elif f.measure == "match":
                columns["positive"] = view.sum(evaluator.column("positive"))
            elif f.measure in ("since_shown", "since_positive"):
                last[f.measure] = view.last(None if f.measure == "since_shown" else evaluator.column("positive"))
        counts = np.zeros((len(keys) + 1, len(columns)), np.float32)
        times = np.zeros((len(last), len(keys) + 1), np.int64)
        for i, values in enumerate(columns.values()):
            counts[:-1, i] = values
        for i, values in enumerate(last.values()):
            times[i, :-1] = values
        return cls(keys, counts, times, tuple(columns), tuple(last))

    @cached_property
    def count(self) -> dict[str, int]:
        """Counter → column of `counts`."""
        return {name: i for i, name in enumerate(self.count_names)}

    def find(self, keys: np.ndarray, low: int | None = None, high: int | None = None) -> np.ndarray:
        """Rows of keys of any shape; m (the row of zeros) where a key is absent.

        low, high: bounds of the keys asked for, where known: a search among one user's keys stays in the cache.
        """
        return find(self.keys, keys, low, high)


def find(held: np.ndarray, keys: np.ndarray, low: int | None = None, high: int | None = None) -> np.ndarray:
    """Places of keys among ascending ones, len(held) where absent."""
    first, last = 0, len(held)
    if low is not None:
        first, last = held.searchsorted((low, high))
    if first == last:
        return np.full(keys.shape, len(held))
    part = held[first:last]
    at = part.searchsorted(keys)
    np.minimum(at, len(part) - 1, out=at)
    return np.where(part.take(at) == keys, at + first, len(held))
