"""The low-rank part of an item-by-item map of a large catalogue, added into the cells of its sparse part."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.retrieval.linear.item_filter import ItemMap, strongest

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LARGE_ITEMS = 20_000
"""Items up to which the low-rank part is kept as it is: a product with all items then takes few milliseconds."""
KEPT = 500
"""Cells of greatest magnitude kept of each row beyond."""
ROWS_AT_ONCE = 1_000


def map_of_sum(
    sparse: csr_matrix, query: np.ndarray, answer: np.ndarray, known: np.ndarray, neighbours: int | None
) -> ItemMap:
    """The map S + Q·Aᵀ; in a catalogue of more than LARGE_ITEMS a sparse one that comes near it (see `folded`).

    neighbours: cells kept in a row of S; None says that all are wanted, and S + Q·Aᵀ is kept as it is.
    """
    if neighbours is None or sparse.shape[0] <= LARGE_ITEMS:
        return ItemMap.from_parts(sparse, known, query, answer)
    return ItemMap.from_parts(folded(sparse, query, answer, min(neighbours, KEPT)), known)


def folded(sparse: csr_matrix, query: np.ndarray, answer: np.ndarray, k: int) -> csr_matrix:
    """The cells of S + Q·Aᵀ where S has one, cut to the k of greatest magnitude of each row.

    sparse: scipy matrix [n, n]; query, answer: float32[n, D]. Where two items never come together, the low-rank part
    has next to nothing to correct; a request then adds up short rows, whatever D, in place of a product with n items.
    """
    from scipy.sparse import csr_matrix, vstack

    def block_at(start: int) -> csr_matrix:
        stop = min(start + ROWS_AT_ONCE, sparse.shape[0])
        bounds = sparse.indptr[start : stop + 1]
        columns, values = sparse.indices[bounds[0] : bounds[-1]], sparse.data[bounds[0] : bounds[-1]].copy()
        bounds = bounds - bounds[0]
        for row in range(stop - start):
            mine = slice(bounds[row], bounds[row + 1])
            values[mine] += answer[columns[mine]] @ query[start + row]
        return strongest(csr_matrix((values, columns, bounds), shape=(stop - start, sparse.shape[1])), k)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return vstack(list(pool.map(block_at, range(0, sparse.shape[0], ROWS_AT_ONCE))), format="csr")
