"""Sums over pairs of events of one user, by how many places lie between them: what order-aware sources are made of."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.ragged import Ragged, offsets_of, positions
from recsys_cli.retrieval.batches import chunks

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from recsys_cli.progress import Progress
    from recsys_cli.retrieval.base import Window

PAIRS_AT_ONCE = 1_000_000
"""Pairs of events that a thread holds; a block has at least one item, and all pairs that begin with it."""
MOST_THREADS = 8
"""Each holds 40 bytes for a pair and 8 more for a table of weights."""


def ordered_histories(window: Window, progress: Progress, name: str) -> tuple[Ragged, np.ndarray]:
    """int32 items of all interactions by user, oldest first, and int64 moments (µs) beside them; events of one moment
    stay in the order of their rows.

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
    return Ragged.group(users, items, window.catalogue.n_users), moments.values


def gap_sums(
    histories: Ragged, tables: Sequence[np.ndarray], first: int, n_items: int, scale: np.ndarray | None = None,
    times: np.ndarray | None = None, half_life: float = np.inf,
) -> Iterator[tuple[int, list[csr_matrix]]]:
    """M[i, j] = Σ over pairs of events (i, then j, g places later, of one user) of the weight of g, in blocks of rows.

    histories: int32 items by user, oldest first. tables: one or more float64[gaps, rests] of the same number of gaps,
    each of which makes a matrix: row r is of the gap `first` + r, and the column is the number of events of the user
    after the pair's first, the last column for that many and more. first: 0, so that an event makes a pair with
    itself, or more. scale: float64[users] by which the weights of a user's pairs are multiplied. times: int64 moments
    beside the events, by which a weight is halved for every `half_life` between the two of a pair. Yields (first row,
    one csr float64[rows, n_items] a table), rows in order, columns within a row in none. Blocks are made by several
    threads, each block by one, so that their number changes no bit.
    """
    items = histories.values
    rest = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(items))
    pairs = np.clip(rest - (first - 1), 0, len(tables[0]))
    by_item = Ragged.group(items, np.arange(len(items)), n_items)
    cost = np.bincount(items, weights=pairs, minlength=n_items).astype(np.int64)
    each = np.ones(len(items)) if scale is None else scale[histories.rows]

    def block_at(block: slice) -> tuple[int, list[csr_matrix]]:
        from scipy.sparse import csr_matrix

        low, high = by_item.offsets[block.start], by_item.offsets[block.stop]
        at = by_item.values[low:high]
        count, shape = pairs[at], (block.stop - block.start, len(at))
        places, second = positions(at + first, count)
        columns = items[second]
        gap = np.arange(len(places)) - np.repeat(np.cumsum(count) - count, count)
        offsets = by_item.offsets[block.start : block.stop + 1] - low
        faded = None if times is None else np.exp2((times[at][places] - times[second]) / half_life)
        own, to = csr_matrix((each[at], np.arange(len(at)), offsets), shape=shape), offsets_of(count)
        out = []
        for weights in tables:
            column = np.minimum(rest[at], weights.shape[1] - 1)
            values = weights[gap, column[places]] if weights.shape[1] > 1 else weights[gap, 0]
            values = values if faded is None else values * faded
            out.append(own @ csr_matrix((values, columns, to), shape=(len(at), n_items)))
        return block.start, out

    threads, waiting = min(os.cpu_count() or 1, MOST_THREADS), deque()
    with ThreadPoolExecutor(threads) as pool:
        for block in chunks(cost, PAIRS_AT_ONCE):
            waiting.append(pool.submit(block_at, block))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def decayed(decay: float, places: int) -> np.ndarray:
    """float64[places]: 1, decay, decay², …"""
    return np.power(float(decay), np.arange(places))
