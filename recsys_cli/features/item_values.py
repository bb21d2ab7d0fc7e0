"""What follows from an item alone, kept from the first request that meets the item on."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np

from recsys_cli.arrays import distinct

MOST_BYTES = 2**28
"""Kept at most; where the values of all items do not fit, items share places."""

TOGETHER = 16
"""Items whose values are worked out at once, or a multiple."""


class ItemValues:
    """float32[W] of each item, worked out when the item is first asked for; several threads may ask at once."""

    def __init__(self, rows: int, width: int, compute: Callable[[np.ndarray], np.ndarray], most: int = MOST_BYTES):
        """rows: items and one more, for the unknown. compute: int[m] items, -1 unknown → float32[m, width]. most: bytes
        that are kept."""
        self._unknown, self._compute, self._lock = rows - 1, compute, Lock()
        self._slots = min(rows, max(most // (4 * width), 1))
        self._whole = self._slots == rows
        # pages of an array that was not written are not there: memory grows with the items that were met
        self._values = np.empty((self._slots, width), np.float32)
        self._held = np.full(self._slots, -1, np.int32)

    def take(self, items: np.ndarray) -> np.ndarray:
        """float32[..., W] of items int[...]; -1 is the unknown one."""
        who = np.where(items < 0, self._unknown, items)
        slots = who if self._whole else who % self._slots
        with self._lock:
            met = self._held.take(slots) == who
            if not met.all():
                self._meet(distinct(who[~met]))
                lost = np.nonzero(self._held.take(slots) != who)  # of several in one place the last one stays
                out = self._values.take(slots, axis=0)
                if len(lost[0]):
                    out[lost] = self._of(who[lost])
                return out
            return self._values.take(slots, axis=0)

    def _meet(self, new: np.ndarray) -> None:
        at = new % self._slots
        self._values[at] = self._of(new)
        self._held[at] = new

    def _of(self, who: np.ndarray) -> np.ndarray:
        """Always of a multiple of `TOGETHER` items: a product of few rows rounds in another way than one of many, and
        what is kept of an item must not depend on those that were met with it."""
        filled = np.resize(who, -(-len(who) // TOGETHER) * TOGETHER)
        return self._compute(np.where(filled == self._unknown, -1, filled).astype(np.int32))[: len(who)]
