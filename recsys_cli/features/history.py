"""Counters as of any moment, from a log sorted once per kind of key.

The rows of one key stand together, ordered by time. What was counted for a key strictly before a moment is
then a difference of two running sums: at the first row of that moment, and at the first row of the key.
Rows of equal time never see one another.
"""

from __future__ import annotations

import numpy as np


class Clock:
    """The distinct moments of a log, so that (key, moment) fits in one integer."""

    def __init__(self, time: np.ndarray):
        """time: int64[n] µs, ascending."""
        fresh = np.ones(len(time), bool)
        fresh[1:] = time[1:] != time[:-1]
        self.time = time
        self.moments = time[fresh]
        self.rank = (np.cumsum(fresh, dtype=np.int64) - 1).astype(np.int32)
        """int32[n] which moment a row belongs to"""
        self.span = np.int64(len(self.moments) + 1)

    def rank_of(self, time: np.ndarray) -> np.ndarray:
        """How many distinct moments of the log lie strictly before each time; int64, shape of `time`."""
        return np.searchsorted(self.moments, time, "left")


class History:
    """The rows of a log by one kind of key."""

    def __init__(self, keys: np.ndarray, clock: Clock):
        """keys: int64[n] or int64[n, T], the key or keys of each row of the log, -1 for none."""
        self.clock = clock
        width = keys.shape[1] if keys.ndim == 2 else 1
        flat = keys.ravel()
        places = np.int64(max(len(flat), 1))
        self.top = int(flat.max(initial=-1))
        self.groups = None
        events = np.flatnonzero(flat >= 0)
        key = flat[events]
        if self.top >= 2**62 // max(int(clock.span), int(places)):
            self.groups, key = np.unique(key, return_inverse=True)
        # sorting (key, place) as one number is several times as fast as a stable sort of the keys by index
        key = key * places + events
        key.sort()
        key, events = np.divmod(key, places)
        self.row = (events // width if width > 1 else events).astype(np.int32)
        """int32[m] rows of the log, by key and then time"""
        self.place = key * clock.span + clock.rank[self.row]

    def distinct(self) -> np.ndarray:
        """int64: the keys that occur, ascending."""
        group = self.place // self.clock.span
        fresh = np.ones(len(group), bool)
        fresh[1:] = group[1:] != group[:-1]
        return group[fresh] if self.groups is None else self.groups

    def view(self, keys: np.ndarray, time: np.ndarray | np.int64) -> View:
        """What was counted strictly before `time` for `keys`.

        keys: int64[q] or int64[q, T], the counters of whose T keys are added up; -1 has none. time: int64[q] µs, or
        one moment for all.
        """
        return View(self, keys, np.broadcast_to(np.asarray(time, np.int64), len(keys)))

    def held(self, keys: np.ndarray) -> np.ndarray:
        """The keys as `place` holds them, -1 for those that cannot occur."""
        keys = np.where(keys > self.top, -1, keys)
        if self.groups is None or not len(self.groups):
            return keys
        at = np.minimum(np.searchsorted(self.groups, keys), len(self.groups) - 1)
        return np.where(self.groups[at] == keys, at, -1)


class View:
    """Counters of q questions to a history; every method gives an array [q]."""

    def __init__(self, history: History, keys: np.ndarray, time: np.ndarray):
        self.history, self.time, self.width = history, time, keys.shape[1] if keys.ndim == 2 else 1
        self.keys = history.held(keys.ravel())
        ranks = self._ranks(time)
        wanted = np.where(self.keys >= 0, self.keys, 0) * history.clock.span + ranks
        # sorted questions walk through memory once; and within a key the past of a later moment reaches further, so
        # that one order serves every search
        self.order = np.argsort(wanted)
        wanted = wanted[self.order]
        self.end = self._found(np.searchsorted(history.place, wanted))
        # questions of one key share its first event
        wanted -= wanted % history.clock.span
        fresh = np.ones(len(wanted), bool)
        fresh[1:] = wanted[1:] != wanted[:-1]
        first = np.searchsorted(history.place, wanted[fresh])
        self.start = self._found(np.repeat(first, np.diff(np.append(np.flatnonzero(fresh), len(wanted)))))
        self._low: dict[int, np.ndarray] = {}

    def _found(self, ordered: np.ndarray) -> np.ndarray:
        """int32: places in the order of the questions again, 0 where there is no key."""
        out = np.empty(len(ordered), np.int32)
        out[self.order] = ordered
        out[self.keys < 0] = 0
        return out

    def _at(self, time: np.ndarray) -> np.ndarray:
        """int32: the first event of each key at or after a moment; moments ascend with `order` within a key."""
        wanted = np.where(self.keys >= 0, self.keys, 0) * self.history.clock.span + self._ranks(time)
        return self._found(np.searchsorted(self.history.place, wanted[self.order]))

    def _ranks(self, time: np.ndarray) -> np.ndarray:
        ranks = self.history.clock.rank_of(time)
        return np.repeat(ranks, self.width) if self.width > 1 else ranks

    def _pool(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, self.width).sum(axis=1) if self.width > 1 else values

    def _between(self, values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        running = np.zeros(len(self.history.row) + 1, np.int32 if values.dtype == bool else np.float64)
        np.cumsum(values[self.history.row], out=running[1:])
        return self._pool(running[high] - running[low])

    def shown(self) -> np.ndarray:
        """How many rows."""
        return self._pool(self.end - self.start)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum of a column of the log, [n] Boolean or float."""
        return self._between(values, self.start, self.end)

    def window(self, values: np.ndarray | None, width: int) -> np.ndarray:
        """The sum of a column (None: the number of rows) over the last `width` µs, its far end included."""
        if width not in self._low:
            self._low[width] = self._at(self.time - width)
        low = self._low[width]
        return self._pool(self.end - low) if values is None else self._between(values, low, self.end)

    def since(self, start: np.ndarray) -> np.ndarray:
        """How many rows at or after the moments `start`, int64[q] µs."""
        return self._pool(np.maximum(self.end - self._at(start), 0))

    def latest(self, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Sum of a column over the last `count` rows, and how many rows these are."""
        low = np.maximum(self.start, self.end - count)
        return self._between(values, low, self.end), self._pool(self.end - low)

    def last(self, mask: np.ndarray | None = None) -> np.ndarray:
        """int64 µs of the last row (where `mask` holds), 0 for none."""
        row = self.history.row
        if not len(row):
            return np.zeros(len(self.time), np.int64)
        at = self.end.astype(np.int64) - 1
        if mask is not None:
            held = np.maximum.accumulate(np.where(mask[row], np.arange(len(row), dtype=np.int32), np.int32(-1)))
            at = np.where(at >= 0, held[at], -1)
        time = np.where(at >= self.start, self.history.clock.time[row[np.maximum(at, 0)]], 0)
        time[self.end == self.start] = 0
        return time.reshape(-1, self.width).max(axis=1) if self.width > 1 else time

    def first(self) -> np.ndarray:
        """int64 µs of the first row, 0 for none."""
        row = self.history.row
        if not len(row):
            return np.zeros(len(self.time), np.int64)
        time = self.history.clock.time[row[np.minimum(self.start, len(row) - 1)]]
        return np.where(self.end > self.start, time, 0)

    def decayed(self, mask: np.ndarray, half_life: int) -> np.ndarray:
        """Rows where `mask` holds, each weighing 2^(−age / half-life)."""
        row, time = self.history.row, self.history.clock.time
        if not len(row):
            return np.zeros(len(self.time))
        when = time[row]
        group = self.history.place // self.history.clock.span
        keep = np.zeros(len(row))
        same = group[1:] == group[:-1]
        keep[1:][same] = np.exp2(-(when[1:] - when[:-1])[same] / half_life)
        weight = _running_decay(mask[row].astype(np.float64), keep)
        at = np.maximum(self.end - 1, 0)
        asked = np.repeat(self.time, self.width) if self.width > 1 else self.time
        now = weight[at] * np.exp2(-np.maximum(asked - when[at], 0) / half_life)
        return self._pool(np.where(self.end > self.start, now, 0.0))


def _running_decay(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """x[i] = keep[i]·x[i−1] + values[i] by doubling: no factor above 1, so nothing overflows or cancels."""
    step = 1
    values, keep = values.copy(), keep.copy()
    while step < len(values) and keep[step:].any():
        values[step:] += keep[step:] * values[:-step]
        keep[step:] *= keep[:-step].copy()
        step *= 2
    return values
