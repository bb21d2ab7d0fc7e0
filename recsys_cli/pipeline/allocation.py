"""Slots of a slate given to groups of candidates: which group each slot is for, and who takes it."""

from __future__ import annotations

from collections.abc import Callable

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


def allot(candidates: Candidates, groups: np.ndarray, n_groups: int, length: int, need: Need) -> Candidates:
    """Slot after slot the first candidate of the group that it is for, the first of all where that has none left; what
    is not among the first `length` follows in its old order.

    groups: int[B, K] in [0, n_groups), or NONE.
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


class Guaranteed(Selector):
    """Lifts the best of some items where a slate would have less than their share; one that has enough stays as it
    is."""

    reads = ("utility",)
    before = "diversity"

    def __init__(self, config: StageConfig, share: float, favoured: Callable[[State], np.ndarray]):
        """share: of the slate, rounded down. favoured: bool[n_items] of a state, the items that it is for."""
        super().__init__(config)
        self._share = share
        self._favoured = PerState(favoured)

    def enabled(self, query: Query) -> bool:
        return self._share > 0

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        groups = np.where(candidates.filled & self._favoured(query.state)[candidates.items], 0, NONE)
        return allot(candidates, groups, 1, query.size + RESERVE, at_least(np.array([self._share])))
