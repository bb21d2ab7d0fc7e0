"""Sparse scores: lists of (place, item, weight), where `place` is a row of the batch of users."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.ragged import Ragged
from recsys_cli.retrieval.topk import falling

WIDE = 10
"""Items for each pair of one place up to which a row of all is filled."""


def sum_pairs(
    places: np.ndarray, items: np.ndarray, weights: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up the weights of equal (place, item) pairs.

    Returns (places int64[m], items int32[m], totals float32[m]) ordered by place, then item.
    """
    width = max(n_items, 1)
    if len(places) and n_items <= WIDE * len(places) and not places.any():
        # of one user: a row of all items is filled sooner than the pairs are sorted
        found = np.flatnonzero(np.bincount(items, minlength=n_items))
        totals = np.bincount(items, weights, n_items)[found].astype(np.float32)
        return np.zeros(len(found), np.int64), found.astype(np.int32), totals
    unique, at = np.unique(places * np.int64(width) + items, return_inverse=True)
    totals = np.bincount(at, weights=weights, minlength=len(unique)).astype(np.float32)
    return unique // width, (unique % width).astype(np.int32), totals


def best_pairs(
    places: np.ndarray, items: np.ndarray, scores: np.ndarray, batch: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best pairs of each place, best first; ties keep the order in which they came.

    Returns items int32[batch, k] (-1 filler) and scores float32[batch, k] (-inf filler).
    """
    out = np.full((batch, k), -1, np.int32)
    values = np.full((batch, k), -np.inf, np.float32)
    if not len(places):
        return out, values
    scores = scores.astype(np.float32, copy=False)
    if batch == 1 and len(scores) > 4 * k:
        likely = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
        places, items, scores = places[likely], items[likely], scores[likely]
    count = np.bincount(places, minlength=batch)
    order = np.argsort(places, kind="stable") if (places[1:] < places[:-1]).any() else None
    stop = np.cumsum(count)
    # one place after the other: a sort of one's own proposals stays in the cache
    for place in np.flatnonzero(count):
        mine: slice | np.ndarray = slice(stop[place] - count[place], stop[place])
        mine = mine if order is None else order[mine]
        own = scores[mine]
        best = falling(own)[:k]
        out[place, : len(best)], values[place, : len(best)] = items[mine][best], own[best]
    return out, values


def find_pairs(
    index: Ragged, rows: np.ndarray, places: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where each pair (rows[places[i]], wanted[i]) stands in an index with ascending rows.

    Returns (found bool[m], at int64[m]): `at` points into `index.values` where found.
    """
    rows = np.asarray(rows)
    if len(rows) == 1 and rows[0] >= 0:
        first = index.offsets[rows[0]]
        held = index.values[first : index.offsets[rows[0] + 1]]
        if not len(held):
            return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int64)
        near = np.minimum(held.searchsorted(wanted), len(held) - 1)
        return held.take(near) == wanted, near + first
    held_places, held = index.take(rows)
    if not len(held):
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int64)
    width = np.int64(max(int(held.max()), int(wanted.max(initial=0)))) + 1
    keys = held_places * width + held
    sought = places * width + wanted
    near = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
    count = np.bincount(held_places, minlength=len(rows))
    start = index.offsets[np.maximum(rows, 0)] - (np.cumsum(count) - count)
    return keys[near] == sought, near + start[places]


def pair_values(
    index: Ragged, values: Ragged, rows: np.ndarray, places: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """float32[m] value that stands beside each pair, 0 where there is none; see `find_pairs`."""
    found, at = find_pairs(index, rows, places, wanted)
    out = np.zeros(len(wanted), np.float32)
    out[found] = values.values[at[found]]
    return out


def without_pairs(
    index: Ragged, rows: np.ndarray, places: np.ndarray, items: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The given (place, item, score) without the pairs that the index holds."""
    if len(rows) == 1 and len(items):  # a request for one user must not pay for a search
        held = index[int(rows[0])] if rows[0] >= 0 else index.values[:0]
        known = np.zeros(max(int(items.max()), int(held.max(initial=0))) + 1, bool)
        known[held] = True
        keep = ~known[items]
        return places[keep], items[keep], scores[keep]
    keep = ~find_pairs(index, rows, places, items)[0]
    return places[keep], items[keep], scores[keep]
