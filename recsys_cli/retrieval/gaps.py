"""Sums over pairs of events of one user, by how many places lie between them: what order-aware sources are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.ragged import Ragged, expand, offsets_of
from recsys_cli.retrieval.base import chunks

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from recsys_cli.progress import Progress
    from recsys_cli.retrieval.base import Window

PAIRS_AT_ONCE = 4_000_000
"""Pairs of events held at a time; a block has at least one item, and all pairs that begin with it."""


def ordered_histories(window: Window, progress: Progress, name: str) -> Ragged:
    """int32 items of all interactions by user, oldest first; events of one moment stay in the order of their rows.

    Says once where no user has two moments, since the order is then that of the rows alone.
    """
    users, items, times = window.interactions
    if len(times) and (times[1:] < times[:-1]).any():
        order = np.argsort(times, kind="stable")
        users, items, times = users[order], items[order], times[order]
    moments = Ragged.group(users, times, window.catalogue.n_users)
    if len(times) and (moments.lengths > 1).any():
        same = np.diff(moments.values) == 0
        same[moments.offsets[1:-1][(moments.offsets[1:-1] > 0) & (moments.offsets[1:-1] < len(times))] - 1] = True
        if same.all():
            progress.message(f"{name}: all events of a user are at one moment; their order is that of the rows")
    return Ragged.group(users, items, window.catalogue.n_users)


def gap_sums(histories: Ragged, weights: np.ndarray, first: int, n_items: int) -> Iterator[tuple[int, csr_matrix]]:
    """M[i, j] = Σ over pairs of events (i, then j, g places later, of one user) of the weight of g, in blocks of rows.

    histories: int32 items by user, oldest first. weights: float64[gaps, rests]: row r is of the gap `first` + r, and
    the column is the number of events of the user after the pair's first, the last column for that many and more.
    first: 0, so that an event makes a pair with itself, or more. Yields (first row, csr float64[rows, n_items]), rows
    in order, columns within a row in none. Memory: PAIRS_AT_ONCE pairs, or those of one item where they are more.
    """
    from scipy.sparse import csr_matrix

    items = histories.values
    rest = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(items))
    pairs = np.clip(rest - (first - 1), 0, len(weights))
    by_item = Ragged.group(items, np.arange(len(items)), n_items)
    cost = np.bincount(items, weights=pairs, minlength=n_items).astype(np.int64)
    for block in chunks(cost, PAIRS_AT_ONCE):
        low, high = by_item.offsets[block.start], by_item.offsets[block.stop]
        at = by_item.values[low:high]
        count = pairs[at]
        places, columns = expand(at + first, count, items)
        gap = np.arange(len(places)) - np.repeat(np.cumsum(count) - count, count)
        column = np.minimum(rest[at], weights.shape[1] - 1)
        pair_weights = weights[gap, column[places]] if weights.shape[1] > 1 else weights[gap, 0]
        later = csr_matrix((pair_weights, columns, offsets_of(count)), shape=(len(at), n_items))
        offsets = by_item.offsets[block.start : block.stop + 1] - low
        own = csr_matrix((np.ones(len(at)), np.arange(len(at)), offsets), shape=(block.stop - block.start, len(at)))
        yield block.start, own @ later


def decayed(decay: float, places: int) -> np.ndarray:
    """float64[places]: 1, decay, decay², …"""
    return np.power(float(decay), np.arange(places))
