"""Slots of a slate given to groups of candidates: which group each slot is for, and who takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from recsys_cli.data.state import State
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Selector, StageConfig
from recsys_cli.retrieval.memo import PerState

NONE, FIRST = -1, -2
"""Group of a candidate that is in none, and of a slot that is for such; of a slot that is for whoever comes first."""
RESERVE = 10
"""Further slots given out behind the slate, which move up where a later stage takes some out."""
GOLDEN = (5**0.5 - 1) / 2
Need = Callable[[int, np.ndarray], np.ndarray]
"""(slot, counts int64[B, G] of the groups above it) → int[B] the group that the slot is for, NONE or FIRST"""


def allot(
    candidates: Candidates, groups: np.ndarray, n_groups: int, length: int, need: Need, lacked: np.ndarray | None = None
) -> Candidates:
    """Slot after slot the first candidate of the group that it is for, the first of all where that has none left; what
    is not among the first `length` follows in its old order.

    groups: int[B, K] in [0, n_groups), or NONE. lacked: bool[B, n_groups, slots], where it is written down for which of
    the first slots a group had no candidate left.
    """
    b, k = candidates.items.shape
    length = min(length, k)
    rows, free = np.arange(b), candidates.filled.copy()
    counts, order = np.zeros((b, n_groups), np.int64), np.full((b, k), -1, np.int64)
    for slot in range(length):
        wanted = need(slot, counts)
        match = free & (groups == wanted[:, None])
        at = match.argmax(axis=1)
        lacking = ~match[rows, at]
        if lacking.any():
            at = np.where(lacking, free.argmax(axis=1), at)
            if lacked is not None and slot < lacked.shape[2]:
                short = rows[lacking & (wanted >= 0)]
                lacked[short, wanted[short], slot] = True
        some = free[rows, at]
        order[:, slot] = np.where(some, at, -1)
        free[rows, at] = False
        group = groups[rows, at]
        counted = some & (group >= 0)
        counts[rows[counted], group[counted]] += 1
    left = np.argsort(~free, axis=1, kind="stable")[:, : k - length]
    order[:, length:] = np.where(np.take_along_axis(free, left, axis=1), left, -1)
    return candidates.take(order)


def in_shares(targets: np.ndarray) -> Need:
    """Each slot is for the group that is furthest behind its share of the slots so far.

    targets: float64[B, G] that sum to at most one in each row; what is left of a row is for NONE.
    """
    targets = np.concatenate([targets, np.maximum(1 - targets.sum(axis=1, keepdims=True), 0)], axis=1)

    def need(slot: int, counts: np.ndarray) -> np.ndarray:
        given = np.concatenate([counts, slot - counts.sum(axis=1, keepdims=True)], axis=1)
        furthest = (targets * (slot + 1) - given + (targets > 0) * 1e-9).argmax(axis=1)
        return np.where(furthest < counts.shape[1], furthest, NONE)

    return need


def at_least(shares: np.ndarray) -> Need:
    """A slot is for a group only where it would else fall below its share of the slots so far, rounded down.

    shares: float64[G].
    """

    def need(slot: int, counts: np.ndarray) -> np.ndarray:
        behind = (shares * (slot + 1) + 1e-9).astype(np.int64) - counts
        return np.where(behind.max(axis=1) > 0, behind.argmax(axis=1), FIRST)

    return need


def in_expectation(targets: np.ndarray, draws: np.ndarray) -> Need:
    """Every slot is for each group with a probability equal to its target, and a slate holds nearly the target.

    The slots step through [0, 1) by the golden section from a point drawn for each request (a Kronecker sequence), so
    that over requests each group has its share of every position, and thus of exposure, however positions are weighed.

    targets: float64[B, G] that sum to at most one in each row; what is left of a row is for NONE. draws: float64[B].
    """
    edges = np.cumsum(targets, axis=1)

    def need(slot: int, counts: np.ndarray) -> np.ndarray:
        point = (draws + slot * GOLDEN) % 1
        group = (point[:, None] >= edges).sum(axis=1)
        return np.where(group < counts.shape[1], group, NONE)

    return need


def tell_lacks(query: Query, stage: str, short: np.ndarray, names: Sequence[str]) -> None:
    """Say in the answers for which groups there were too few candidates; short: int[B, G] places that each lacks."""
    for group in np.flatnonzero(short.any(axis=0)):
        lacks = short[:, group]
        for places in np.unique(lacks[lacks > 0]).tolist():
            told = f"{places} of {query.size} places for {names[int(group)]} went to others"
            query.tell(f"stage {stage}: too few candidates are left, so that {told}", lacks == places)


def missing(shares: np.ndarray, groups: np.ndarray, size: int, lacked: np.ndarray) -> np.ndarray:
    """int64[B, G] places that each group has less than its share of a slate, rounded down, where it had no candidate
    left.

    shares: float64[B or 1, G]. groups: int[B, K] of the candidates in their new order. lacked: as `allot` writes it.
    """
    first = groups[:, :size]
    got = np.stack([(first == g).sum(axis=1) for g in range(shares.shape[1])], axis=1)
    return np.maximum((shares * size + 1e-9).astype(np.int64) - got, 0) * lacked.any(axis=2)


class Guaranteed(Selector):
    """Lifts the best of some items where a slate would have less than their share; one that has enough stays as it
    is."""

    reads = ("utility",)
    before = "diversity"
    favoured: ClassVar[str] = "what is favoured"
    """what the guaranteed places are for, in words"""

    def __init__(self, config: StageConfig, share: float, favoured: Callable[[State], np.ndarray]):
        """share: of the slate, rounded down. favoured: bool[n_items] of a state, the items that it is for."""
        super().__init__(config)
        self._share = share
        self._favoured = PerState(favoured)

    def enabled(self, query: Query) -> bool:
        return self._share > 0

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        groups = np.where(candidates.filled & self._favoured(query.state)[candidates.items], 0, NONE)
        lacked = np.zeros((len(query), 1, query.size), bool)
        out = allot(candidates, groups, 1, query.size + RESERVE, at_least(np.array([self._share])), lacked)
        if lacked.any():
            there = np.where(out.filled & self._favoured(query.state)[out.items], 0, NONE)
            short = missing(np.array([[self._share]]), there, query.size, lacked)
            tell_lacks(query, self.name, short, (self.favoured,))
        return out
