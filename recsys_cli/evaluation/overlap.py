"""How alike the lists of two systems are: rank-biased overlap, and the share of the first k in common."""

from __future__ import annotations

import numpy as np

PERSISTENCE = 0.9
"""Chance that a reader goes on to the next place: the first ten weigh 86 % of rank-biased overlap."""


def rank_biased_overlap(first: np.ndarray, second: np.ndarray, persistence: float = PERSISTENCE) -> np.ndarray:
    """Extrapolated rank-biased overlap of two lists a user, float64[B] (Webber, Moffat and Zobel, TOIS 2010, eq. 32).

    first, second: int32[B, K] of one width, best first, -1 behind the end, no item twice in a row. 1 for equal lists, 0
    for lists with nothing in common; lists of different length are read to the end of the shorter one. NaN where a list
    is empty.
    """
    depth = np.arange(1, first.shape[1] + 1)
    common = np.cumsum(_new_in_common(first, second), axis=1)
    length = np.minimum((first >= 0).sum(axis=1), (second >= 0).sum(axis=1))
    agreed = np.where(depth <= length[:, None], common / depth, 0.0)
    weight = (1 - persistence) * persistence ** (depth - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        last = np.where(length > 0, agreed[np.arange(len(first)), np.maximum(length - 1, 0)], np.nan)
    return agreed @ weight + last * persistence**length


def _new_in_common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64[B, K] how many items come to be in both lists at each depth."""
    b, k = first.shape
    if not k:
        return np.zeros((b, 0), np.int64)
    # both lists of a row side by side, ordered by item: equal neighbours are an item and its two places
    both = np.concatenate([first, second], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, axis=1)
    row, at = np.nonzero((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    # an item is in both from the deeper of its two places on
    deeper = np.maximum(order[row, at], order[row, at + 1] - k)
    return np.bincount(row * k + deeper, minlength=b * k).reshape(b, k)


def overlap(first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
    """Share of the first k of one list that is among the first k of the other, float64[B]; NaN where one is empty."""
    common = _new_in_common(first[:, :k], second[:, :k]).sum(axis=1)
    shorter = np.minimum((first[:, :k] >= 0).sum(axis=1), (second[:, :k] >= 0).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(shorter > 0, common / shorter, np.nan)
