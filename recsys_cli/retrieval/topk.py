"""The best items of rows of scores."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.ragged import Ragged

SAMPLED = 1_024
"""Columns of a long row by which the score is guessed that its best ones have at least."""


def shown_columns(seen: Ragged, users: np.ndarray, columns: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) pairs of what users were shown, for `topk` to leave out.

    users: int[B], a row each. columns: int[n_items] column of each item, -1 where it has none; or how many items, from
    the first on, are columns themselves.
    """
    rows, shown = seen.take(users)
    if isinstance(columns, int):
        inside = shown < columns
        return rows[inside], shown[inside]
    at = columns[shown]
    return rows[at >= 0], at[at >= 0]


def topk(
    scores: np.ndarray, k: int, seen: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Best k columns of each row, best first; ties go to the lower column.

    scores: float32[B, N] (overwritten where `seen` says so), -inf marks what may not be chosen.
    seen: (row, column) pairs to leave out. Returns items int32[B, k] (-1 filler) and scores float32[B, k].
    """
    if seen is not None:
        scores[seen] = -np.inf
    items = np.full((len(scores), k), -1, np.int32)
    values = np.full((len(scores), k), -np.inf, np.float32)
    for row, out, best in zip(scores, items, values, strict=True):
        columns = best_columns(row, k)
        out[: len(columns)], best[: len(columns)] = columns, row[columns]
    return items, values


def best_columns(row: np.ndarray, k: int) -> np.ndarray:
    """int64[at most k] columns of the greatest scores of float32[N], best first; ties go to the lower column.

    -inf marks what may not be chosen.
    """
    columns = _likely(row, k)
    mine = row[columns]
    if len(mine) > 2 * k:
        likely = np.flatnonzero(mine >= np.partition(mine, len(mine) - k)[len(mine) - k])
        columns, mine = columns[likely], mine[likely]
    return columns[falling(mine)[:k]]


def falling(scores: np.ndarray) -> np.ndarray:
    """int64[n] places of float32[n] from the greatest to the least; of equal ones the first comes first.

    The bits of a float order like a sign-magnitude integer: with the place below them one sort of whole numbers does,
    which takes a fraction of the time of a stable sort of the floats.
    """
    bits = np.ascontiguousarray(scores).view(np.int32).astype(np.int64)
    keys = np.where(bits >= 0, -bits, bits & 0x7FFFFFFF) << 32
    keys |= np.arange(len(keys))
    keys.sort()
    keys &= 0xFFFFFFFF
    return keys


def _likely(row: np.ndarray, k: int) -> np.ndarray:
    """Columns, ascending, among which the best k are; none of them -inf.

    A look at a few columns tells a score that somewhat more than k have. Where it does not, all that may be chosen are
    looked at: what may not goes first, for a partition of many equal numbers takes several times as long.
    """
    step = len(row) // max(SAMPLED, 4 * k)
    if step > 1:
        sample = row[::step]
        sample = sample[sample > -np.inf]
        expected = k / step
        above = int(expected + 3 * np.sqrt(expected)) + 2
        if above < len(sample):
            least = np.partition(sample, len(sample) - above)[len(sample) - above]
            columns = np.flatnonzero(row >= least)
            if k <= len(columns) <= len(row) // 2:
                return columns
    return np.flatnonzero(row > -np.inf)
