"""Counters of the pairs that occurred, found by key: what a snapshot keeps of the counting keys of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys_cli.arrays import find_rows, find_sorted
from recsys_cli.features.keys import CROSS, ItemKeys
from recsys_cli.features.rows import as_slice

FEW_ITEMS = 16
"""Items a user, with fewer of which all pairs are searched for: to lay out a user's pairs would cost more."""


@dataclass(frozen=True)
class PairCounters:
    """Counters of m keys; every other key has zeros."""

    keys: np.ndarray
    """int64[m] ascending"""
    counts: np.ndarray
    """float32[m + 1, C], the last row is of zeros"""
    moments: np.ndarray
    """int64[L, m + 1] µs, likewise"""
    count_names: tuple[str, ...]
    """of the columns of `counts`: "shown", an action, "dwell", …"""
    moment_names: tuple[str, ...]
    """of the rows of `moments`: since_shown, since_positive, …"""

    @classmethod
    def build(cls, keys: np.ndarray, counted: dict[str, np.ndarray]) -> PairCounters:
        """keys: int64[m] ascending. counted: name → [m] counts, or moments (µs) where the name starts with since_."""
        last = {name: v for name, v in counted.items() if name.startswith("since_")}
        columns = {name: v for name, v in counted.items() if name not in last}
        counts = np.zeros((len(keys) + 1, len(columns)), np.float32)
        moments = np.zeros((len(last), len(keys) + 1), np.int64)
        for i, values in enumerate(columns.values()):
            counts[:-1, i] = values
        for i, values in enumerate(last.values()):
            moments[i, :-1] = values
        return cls(keys, counts, moments, tuple(columns), tuple(last))

    @cached_property
    def column(self) -> dict[str, int]:
        """Counter → column of `counts`."""
        return {name: i for i, name in enumerate(self.count_names)}

    def find(
        self, of: ItemKeys, key: str, users: np.ndarray, items: np.ndarray, surface: np.ndarray | None = None,
        time: int | None = None,
    ) -> FoundCounters:
        """Counters of one key for users, items and surfaces of shapes that broadcast, see `ItemKeys.key`."""
        summed = key in ("topic", "user_topic")
        if not key.startswith(("user_", f"user{CROSS}")) or items.size < FEW_ITEMS * users.size:
            at = find_sorted(self.keys, of.key(key, users, items, surface, time))
            return FoundCounters(self, at, summed)
        codes = of.second(key, items, surface, time)
        if codes.ndim < items.ndim or codes.shape[: items.ndim] != items.shape:  # of the moment, which all items share
            codes = np.broadcast_to(codes, items.shape)
        return FoundCounters(self, find_rows(self.keys, users.reshape(-1), of.width(key), codes), summed)

    def of_codes(self, users: np.ndarray, width: int, codes: np.ndarray) -> FoundCounters:
        """Counters of keys user · width + code; users: int[B], codes: int[B, K], -1 for none."""
        return FoundCounters(self, find_rows(self.keys, users, width, codes), False)


class FoundCounters:
    """Counters of the pairs of a batch of requests."""

    def __init__(self, store: PairCounters, at: np.ndarray, summed: bool):
        """at: rows of the store, -1 or its last one where a pair did not occur. summed: its last axis is over keys (an
        item's topics) that are added up."""
        self._store, self._at, self._summed = store, at, summed

    @cached_property
    def counts(self) -> np.ndarray:
        """float32[..., C]"""
        if not self._summed:
            return self._store.counts.take(self._at, axis=0, mode="wrap")
        # numpy sums a short middle axis slowly
        total = self._store.counts.take(self._at[..., 0], axis=0, mode="wrap")
        for t in range(1, self._at.shape[-1]):
            total += self._store.counts.take(self._at[..., t], axis=0, mode="wrap")
        return total

    def count(self, name: str) -> np.ndarray:
        """float32[...]: one counter."""
        return self.counts[..., self._store.column[name]]

    def several(self, names: Sequence[str]) -> np.ndarray:
        """float32[..., len(names)]"""
        return self.counts[..., as_slice([self._store.column[name] for name in names])]

    def moment(self, name: str) -> np.ndarray:
        """int64[...] µs: one of the moments, the latest of several keys; 0 never."""
        found = self._store.moments[self._store.moment_names.index(name)].take(self._at, mode="wrap")
        return found.max(axis=-1) if self._summed else found
