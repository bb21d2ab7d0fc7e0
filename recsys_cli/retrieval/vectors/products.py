"""Products of vectors with matrices, and vectors of unit length."""

from __future__ import annotations

from functools import cache

import numpy as np

SMALL_MATRIX = 1_000_000
"""Cells of a matrix that is multiplied by one row after the other."""


def product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """rows @ matrix, to the last bit the same for one row alone as for that row among others.

    A matrix that the cache holds is multiplied by one row after the other: that is what one row alone costs least.
    Of larger ones BLAS reads a block for many rows at once. It has kernels of their own, which add up in another order,
    for a single row and, on some processors, for some places of a block of rows (`_layout`): filler rows keep them
    from being chosen.
    """
    if not len(rows) or not matrix.size:
        return rows @ matrix
    if matrix.size <= SMALL_MATRIX:
        return np.matmul(rows[:, None, :], matrix)[:, 0]
    block, used = _layout()
    blocks = max(-(-len(rows) // used), -(-2 // block))
    if block == 1 and len(rows) == blocks:
        return rows @ matrix
    filled = np.zeros((blocks, block, rows.shape[1]), rows.dtype)
    whole, rest = divmod(len(rows), used)
    filled[:whole, :used] = rows[: whole * used].reshape(whole, used, rows.shape[1])
    if rest:
        filled[whole, :rest] = rows[whole * used :]
    out = (filled.reshape(blocks * block, -1) @ matrix).reshape(blocks, block, matrix.shape[1])[:, :used]
    return out.reshape(-1, matrix.shape[1])[: len(rows)]


@cache
def _layout() -> tuple[int, int]:
    """(rows of a block, rows of it that count): the first so many places of every block, in a product of whole blocks,
    are added up in one order by this machine's BLAS. Found by multiplying one row in many places; (1, 1) where the
    place makes no difference."""
    rng = np.random.default_rng(0)
    row, matrix = rng.standard_normal((1, 64), np.float32), rng.standard_normal((512, 64), np.float32).T
    products = [np.repeat(row, n * 48, axis=0) @ matrix for n in (1, 2, 3)]
    found, best = (1, 1), 0.0
    for block in (1, 2, 4, 8, 12, 16, 24, 48):
        same = np.concatenate([(p == products[0][0]).all(axis=1) for p in products]).reshape(-1, block).all(axis=0)
        used = block if same.all() else int(np.argmin(same))
        if used / block > best:
            found, best = (block, used), used / block
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of float32[n, D] divided by their length; those of length 0 stay 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
