"""Visits: runs of a user's impressions without a longer pause, as far as they are known at a moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.as_of import AsOf
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.history import View


def session_gap(config: FeatureConfig) -> int:
    """µs without an impression after which a visit has ended."""
    return round(config.session_gap_minutes * formulas.MINUTE)


def visits_as_of(rows: AsOf) -> Visits:
    """The latest visit of each row's user before its moment."""
    gap = session_gap(rows.past.spec.config)
    return rows.once("visits", lambda: Visits.of(rows.view("user"), rows.column("positive"), gap))


@dataclass(frozen=True)
class Visits:
    """The latest visit of each of n users, as of some moment."""

    last: np.ndarray
    """int64[n] µs of its latest impression, 0 where there is none"""
    start: np.ndarray
    """int64[n] of its first impression"""
    previous: np.ndarray
    """int64[n] of the latest impression of the visit before it, 0 where there is none"""
    shown: np.ndarray
    """float32[n] impressions in it"""
    positive: np.ndarray
    """float32[n] interactions in it"""

    @classmethod
    def of(cls, view: View, positive: np.ndarray, gap: int) -> Visits:
        """From a view of users' histories. positive: bool, a column of the log."""
        history = view.history
        row, time = history.row, history.clock.time
        if not len(row):
            none = np.zeros(len(view.time), np.int64)
            return cls(none, none, none, none.astype(np.float32), none.astype(np.float32))
        when, group = time[row], history.place // history.clock.span
        fresh = np.ones(len(row), bool)
        fresh[1:] = (group[1:] != group[:-1]) | (when[1:] - when[:-1] > gap)
        first = np.maximum.accumulate(np.where(fresh, np.arange(len(row), dtype=np.int32), np.int32(0)))
        running = np.zeros(len(row) + 1, np.int32)
        np.cumsum(positive[row], out=running[1:])
        known = view.end > view.start
        at = np.maximum(view.end - 1, 0)
        begin = first[at]
        earlier = known & (begin > view.start)
        return cls(
            np.where(known, when[at], 0),
            np.where(known, when[begin], 0),
            np.where(earlier, when[np.maximum(begin - 1, 0)], 0),
            np.where(known, view.end - begin, 0).astype(np.float32),
            np.where(known, running[view.end] - running[begin], 0).astype(np.float32),
        )

    @classmethod
    def held(cls, times: np.ndarray, counts: np.ndarray, users: np.ndarray) -> Visits:
        """Of some users, -1 the last row, from what `arrays` gave."""
        return cls(*times.take(users, axis=1, mode="wrap"), *counts.take(users, axis=1, mode="wrap"))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """int64[3, n] times and float32[2, n] counts."""
        return np.stack([self.last, self.start, self.previous]), np.stack([self.shown, self.positive])

    def current(self, now: np.ndarray | int, gap: int) -> np.ndarray:
        """bool[n]: the visit goes on at `now` (µs)."""
        return (self.last > 0) & (now - self.last <= gap)

    def begins(self, now: np.ndarray | int, gap: int) -> np.ndarray:
        """int64[n] µs where the visit began that goes on at `now`; `now` where none does."""
        return np.where(self.current(now, gap), self.start, now)
