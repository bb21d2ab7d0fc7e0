"""Ranked lists to measure: each source alone, and the baselines that need no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recsys_cli.data.log import Log
    from recsys_cli.data.state import State
    from recsys_cli.retrieval.base import Retriever


DEEPEST = 1500
"""Lists up to this long are measured in catalogues of any size."""


class System(NamedTuple):
    """Lists to measure."""

    kind: str
    name: str
    lists: dict[int, np.ndarray]
    """k → int32[U, at least k]: the lists whose first k count, -1 in empty slots"""
    of_others: np.ndarray | None = None
    """int32[V, at least k] lists of people who were there and turned to nothing; None where nobody asks for them"""


def within_catalogue(lengths: Iterable[int], n_items: int) -> tuple[int, ...]:
    """Lengths of lists, ascending, none twice, none longer than the catalogue or, if that is more, DEEPEST."""
    return tuple(sorted({min(length, max(n_items, DEEPEST)) for length in lengths}))


def audience(log: Log, state: State) -> np.ndarray:
    """int64[n_items] different people who interacted with each item before `state.now`."""
    past, n_items = log.window(end=state.now), max(state.catalogue.n_items, 1)
    rows = np.flatnonzero(past.positive)
    pairs = np.unique(past.user[rows].astype(np.int64) * n_items + past.item[rows])
    return np.bincount(pairs % n_items, minlength=state.catalogue.n_items)


def open_popularity(state: State) -> np.ndarray:
    """float64[n_items] interactions so far, NaN for an item that no list can hold because it is published later."""
    return np.where(state.available, state.interactions, np.nan)


def without_seen(state: State, users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """First k of each row that the user had not been shown before `state.now`, int32[B, k], -1 filled.

    users: int32[B]. items: int32[B, J], best first, -1 in empty slots.
    """
    keep = (items >= 0) & ~state.seen.contains(users, items)
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    out = np.where(np.take_along_axis(keep, order, axis=1), np.take_along_axis(items, order, axis=1), -1)
    if out.shape[1] < k:
        out = np.pad(out, ((0, 0), (0, k - out.shape[1])), constant_values=-1)
    return out.astype(np.int32, copy=False)


def depth(state: State, users: np.ndarray, k: int) -> int:
    """How long a list must be so that k unseen items are left in it for each of these users."""
    seen = np.where(users >= 0, state.seen.lengths[np.maximum(users, 0)], 0)
    return int(min(k + seen.max(initial=0), state.catalogue.n_items))


def source_lists(
    retriever: Retriever, state: State, users: np.ndarray, k: int, *, repeats: bool = False
) -> np.ndarray:
    """What one source alone would show, int32[B, k]; what was seen too with `repeats`."""
    if repeats:
        return retriever.retrieve(state, users, k)[0]
    items, _ = retriever.retrieve(state, users, depth(state, users, k))
    return without_seen(state, users, items, k)


class Popularity:
    """The available items by number of interactions before the cutoff; ties go to the lower position."""

    def __init__(self, state: State, *, repeats: bool = False):
        """repeats: whether lists hold what the user was shown before."""
        self._repeats = repeats
        available = np.flatnonzero(state.available)
        order = np.argsort(-state.interactions[available], kind="stable")
        self._state, self._ranked = state, available[order].astype(np.int32)

    def __call__(self, users: np.ndarray, k: int) -> np.ndarray:
        if self._repeats:
            top = np.pad(self._ranked[:k], (0, max(k - len(self._ranked), 0)), constant_values=-1)
            return np.broadcast_to(top, (len(users), k))
        top = self._ranked[: depth(self._state, users, k)]
        return without_seen(self._state, users, np.broadcast_to(top, (len(users), len(top))), k)


class Random:
    """Uniform lists of available items without repetition, the floor that any method must beat."""

    def __init__(self, state: State, seed: int, *, repeats: bool = False):
        """repeats: whether lists hold what the user was shown before."""
        self._repeats = repeats
        self._state, self._rng = state, np.random.default_rng(seed)
        self._available = np.flatnonzero(state.available).astype(np.int32)

    def __call__(self, users: np.ndarray, k: int) -> np.ndarray:
        # a window at a random place of one shuffled ring is a uniform draw for each user, at little cost
        ring = self._rng.permutation(self._available)
        width = min(k if self._repeats else depth(self._state, users, k), len(ring))
        start = self._rng.integers(0, max(len(ring), 1), len(users))
        window = (start[:, None] + np.arange(width)) % max(len(ring), 1)
        if self._repeats:
            return np.pad(ring[window], ((0, 0), (0, k - width)), constant_values=-1)
        return without_seen(self._state, users, ring[window], k)
