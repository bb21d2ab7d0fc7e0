"""The best items of rows of scores."""

from __future__ import annotations

import numpy as np

MANY_CLOSED = 0.2
"""Share of the places of -inf from which on they are told apart: selection among equal numbers takes ten times as
long."""
CLOSED = np.float32(-1e38)
"""Above every number that stands for -inf then, and below every score."""


def topk(
    scores: np.ndarray, k: int, seen: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Best k columns of each row, best first; among those chosen, ties go to the lower column.

    scores: float32[B, N] (overwritten where `seen` says so), -inf marks what may not be chosen.
    seen: (row, column) pairs to leave out. Returns items int32[B, k] (-1 filler) and scores float32[B, k].
    """
    if seen is not None:
        scores[seen] = -np.inf
    b, n = scores.shape
    width = min(k, n)
    if width < n:
        part = np.argpartition(_told_apart(scores), n - width, axis=1)[:, n - width :]
    else:
        part = np.broadcast_to(np.arange(n), (b, n)).copy()
    values = np.take_along_axis(scores, part, axis=1)
    order = np.lexsort((part, -values), axis=1)
    items = np.take_along_axis(part, order, axis=1).astype(np.int32)
    values = np.take_along_axis(values, order, axis=1).astype(np.float32)
    items[~np.isfinite(values)] = -1
    if width < k:
        items = np.pad(items, ((0, 0), (0, k - width)), constant_values=-1)
        values = np.pad(values, ((0, 0), (0, k - width)), constant_values=-np.inf)
    return items, values


def _told_apart(scores: np.ndarray) -> np.ndarray:
    """The scores, where many of them are -inf with numbers in place of these that are no score and differ along a
    row."""
    closed = np.isneginf(scores)
    if closed.mean() < MANY_CLOSED:
        return scores
    numbers = np.random.default_rng(0).uniform(2, 3, scores.shape[1]).astype(np.float32) * CLOSED
    return np.where(closed, numbers, scores)
