"""Batches of users: cut where memory says so, each user once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def chunks(costs: np.ndarray, limit: int) -> Iterator[slice]:
    """Consecutive slices whose costs sum to at most `limit` (a single costlier element stands alone)."""
    if len(costs) == 1:
        yield slice(0, 1)
        return
    start, total = 0, np.cumsum(costs)
    while start < len(total):
        base = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, base + limit, "right")), start + 1)
        yield slice(start, stop)
        start = stop


def unique_users(users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(each user once, place of every row's user among them); one user alone costs no sort."""
    users = np.asarray(users)
    if len(users) == 1:
        return users, np.zeros(1, np.int64)
    return np.unique(users, return_inverse=True)
