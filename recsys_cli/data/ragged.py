"""Rows of different lengths as two flat arrays (compressed sparse rows), and the few operations on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.arrays import in_rows

MANY = 16
"""Values a row from which on the row is laid out to be looked up in, and not searched."""


@dataclass(frozen=True)
class Ragged:
    """n rows; row i holds `values[offsets[i]:offsets[i + 1]]`.

    offsets: int64[n + 1]. values: any dtype.
    """

    offsets: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64[n]"""
        return np.diff(self.offsets)

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """int64[B]: how many values some rows hold, 0 for those of -1."""
        known = np.maximum(rows, 0)
        return np.where(rows >= 0, self.offsets[known + 1] - self.offsets[known], 0)

    @property
    def rows(self) -> np.ndarray:
        """int32 row number of each value."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.lengths)

    @classmethod
    def empty(cls, n: int, dtype=np.int32) -> Ragged:
        return cls(np.zeros(n + 1, np.int64), np.zeros(0, dtype))

    @classmethod
    def group(cls, rows: np.ndarray, values: np.ndarray, n: int) -> Ragged:
        """Gather values by their row number; within a row they keep their order. Rows of -1 are left out."""
        keep = rows >= 0
        if not keep.all():
            rows, values = rows[keep], values[keep]
        if n == 1:
            return cls(np.array([0, len(values)], np.int64), values)
        order = np.argsort(rows, kind="stable")
        return cls(offsets_of(np.bincount(rows, minlength=n)), values[order])

    @classmethod
    def sets(cls, rows: np.ndarray, values: np.ndarray, n: int) -> Ragged:
        """As `group` and then `sorted_rows`, of whole numbers from 0 on, in a third of the memory: one array of
        (row, value) as one number is sorted in place. Rows of -1 are left out."""
        width = np.int64(values.max(initial=-1)) + 1
        key = rows.astype(np.int64)
        if not len(rows) or rows.min() < 0:
            keep = rows >= 0
            key, values = key[keep], values[keep]
        if n > 2**62 // max(int(width), 1):
            return cls.group(rows, values, n).sorted_rows()
        key *= width
        key += values
        key.sort()
        first = np.ones(len(key), bool)
        np.not_equal(key[1:], key[:-1], out=first[1:])
        if not first.all():
            key = key[first]
        del first
        offsets = np.searchsorted(key, np.arange(n + 1) * width)
        key %= max(width, 1)
        return cls(offsets, key.astype(values.dtype))

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values of several rows one after the other, with the place in `rows` of each.

        rows: int[B], -1 gives nothing. Returns (places int64[m], values[m]).
        """
        rows = np.asarray(rows)
        if len(rows) == 1:  # a request of one user must not pay for the bookkeeping of a batch
            row = int(rows[0])
            values = self.values[self.offsets[row] : self.offsets[row + 1]].copy() if row >= 0 else self.values[:0]
            return np.zeros(len(values), np.int64), values
        known = np.maximum(rows, 0)
        counts = np.where(rows >= 0, self.offsets[known + 1] - self.offsets[known], 0)
        return expand(self.offsets[known], counts, self.values)

    def last(self, rows: np.ndarray, k: int) -> np.ndarray:
        """[B, k] the last k values of each row, latest first, -1 where there are fewer."""
        rows = np.asarray(rows)
        known = np.maximum(rows, 0)
        end, count = self.offsets[known + 1], np.where(rows >= 0, self.offsets[known + 1] - self.offsets[known], 0)
        if not len(self.values):
            return np.full((len(rows), k), -1, self.values.dtype)
        step = np.arange(k)
        at = np.maximum(end[:, None] - 1 - step, 0)
        return np.where(step < count[:, None], self.values[np.minimum(at, len(self.values) - 1)], -1)

    def contains(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """bool, shape of `values` [B] or [B, K]: whether row `rows[b]` holds the value.

        Values must be ascending within a row (see `sorted_rows`); rows or values of -1 give False.
        """
        rows, values = np.asarray(rows), np.asarray(values)
        if values.ndim == 2 and values.shape[1] >= MANY:
            return in_rows(self.offsets, self.values, rows, values)
        places, held = self.take(rows)
        if not len(held):
            return np.zeros(values.shape, bool)
        # one search over (place, value) keys serves every row at once
        width = np.int64(held.max()) + 2
        keys = places * width + held
        place = np.arange(len(rows)).reshape(-1, *[1] * (values.ndim - 1))
        wanted = place * width + np.clip(values, -1, width - 1)
        at = np.minimum(np.searchsorted(keys, wanted.ravel()), len(keys) - 1).reshape(values.shape)
        return (keys[at] == wanted) & (values >= 0)

    def append(self, more: Ragged) -> Ragged:
        """These rows and then those of another."""
        offsets = np.concatenate([self.offsets, more.offsets[1:] + self.offsets[-1]])
        return Ragged(offsets, np.concatenate([self.values, more.values]))

    def sorted_rows(self, *, unique: bool = True) -> Ragged:
        """The same rows with ascending values, by default each value once."""
        rows = self.rows
        order = np.lexsort((self.values, rows))
        rows, values = rows[order], self.values[order]
        if unique and len(values):
            first = np.ones(len(values), bool)
            first[1:] = (rows[1:] != rows[:-1]) | (values[1:] != values[:-1])
            rows, values = rows[first], values[first]
        return Ragged(offsets_of(np.bincount(rows, minlength=len(self))), values)


def offsets_of(counts: np.ndarray) -> np.ndarray:
    """int64[n + 1] offsets from n counts."""
    out = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=out[1:])
    return out


def expand(starts: np.ndarray, counts: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate `values[starts[i]:starts[i] + counts[i]]`; returns (i of each value, the values)."""
    if len(starts) == 1:
        held = values[starts[0] : starts[0] + counts[0]].copy()
        return np.zeros(len(held), np.int64), held
    places, at = positions(starts, counts)
    return places, values[at]


def positions(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(i, starts[i] + 0 … counts[i] − 1) for one i after the other."""
    if len(starts) == 1:
        return np.zeros(int(counts[0]), np.int64), np.arange(starts[0], starts[0] + counts[0])
    places = np.repeat(np.arange(len(starts)), counts)
    first = np.cumsum(counts) - counts
    return places, np.arange(len(places)) - np.repeat(first, counts) + np.repeat(starts, counts)


def ragged_of(histories: list[np.ndarray]) -> Ragged:
    """Lists of items as one Ragged of int32."""
    offsets = offsets_of(np.array([len(h) for h in histories], np.int64))
    values = np.concatenate([np.asarray(h) for h in histories]) if len(histories) else np.zeros(0)
    return Ragged(offsets, values.astype(np.int32))
