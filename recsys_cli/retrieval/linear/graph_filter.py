"""A filter on the user–item graph: co-occurrence together with its leading singular space. Nothing is trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from recsys_cli.progress import Progress
from recsys_cli.retrieval.history_weighting import HistoryConfig
from recsys_cli.retrieval.linear.item_filter import ItemFilter, ItemMap, leading_space, strongest
from recsys_cli.retrieval.linear.low_rank import map_of_sum

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ROWS_AT_ONCE = 1_000
Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class GraphFilterConfig(HistoryConfig):
    """Graph filter: normalised co-occurrence and the leading singular space (Shen et al., CIKM 2021)."""

    kind: Literal["graph_filter"] = "graph_filter"
    renamed: ClassVar[dict[str, str]] = {"factors": "dim"}
    user_exponent: NonNegativeFloat = 0.35
    """Power of a user's number of items by which the user's edges are divided."""
    item_exponent: NonNegativeFloat = 0.5
    """Power of an item's number of users by which the item's edges are divided before the singular space is
    found."""
    query_exponent: float = 0.75
    """Power of an item's number of users by which its co-occurrence is divided where it stands in a history."""
    answer_exponent: float = 0.2
    """Likewise where the item is a candidate; lower favours popular items."""
    dim: NonNegativeInt = 256
    """Leading singular vectors; 0 leaves the co-occurrence alone."""
    low_pass: float = 0.35
    """Weight of the ideal low-pass filter, the projection on those vectors, beside the co-occurrence."""
    sharpening: float = 0.425
    """Share of the blurring that is taken off again in the leading space, so that what most people have in common
    does not drown what is particular."""
    low_pass_query_exponent: float = 0.25
    """Power of an item's number of users by which the leading space divides its history."""
    low_pass_answer_exponent: float = 0.35
    """Power of an item's number of users by which the leading space multiplies its answer."""
    neighbours: PositiveInt | None = 1000
    """Strongest co-occurrences kept for each item; null keeps all. In a catalogue of more than 20,000 items, the 500
    strongest once the leading space is added."""


class GraphFilter(ItemFilter):
    """B = D^−q Xᵀ E^−2u X D^−a + D^−p V (α − h Σ²) Vᵀ D^r.

    X is users × items, E and D the numbers of edges of users and of items; Σ and V are the leading singular values
    and right vectors of E^−u X D^−i. The first term is the linear filter, a blurring step, and α V Vᵀ the ideal
    low-pass filter, both of GF-CF (Shen et al., CIKM 2021) but with an exponent of its own for each side. Taking
    h Σ² off again is the sharpening of BSPM (Choi et al., SIGIR 2023), kept within the leading space, where what
    all have in common lies and where it costs nothing.
    """

    config_type: ClassVar = GraphFilterConfig
    config: GraphFilterConfig

    @classmethod
    def alternatives(cls, config: GraphFilterConfig) -> list[GraphFilterConfig]:
        tried = (
            {"dim": 64},
            {"user_exponent": 0.45, "query_exponent": 0.65, "sharpening": 0.55},
            {"user_exponent": 0.5, "query_exponent": 0.5, "answer_exponent": 0.4},
        )
        return [config.model_copy(update=update) for update in tried]

    def learn(self, touched: csr_matrix, progress: Progress, seed: int) -> ItemMap:
        from scipy.sparse import diags_array

        c = self.config
        users, items = degrees(touched)
        edges = (diags_array(powered(users, -c.user_exponent)) @ touched).tocsr()
        known = items > 0
        query, answer = powered(items, -c.query_exponent), powered(items, -c.answer_exponent)
        sparse = co_occurrence(edges, query, answer, c.neighbours)
        if not c.dim:
            return ItemMap.from_parts(sparse, known)
        sigma, vectors = leading_space((edges @ diags_array(powered(items, -c.item_exponent))).tocsr(), c.dim, seed)
        passed = np.float32(c.low_pass) - np.float32(c.sharpening) * sigma**2
        return map_of_sum(
            sparse,
            vectors * powered(items, -c.low_pass_query_exponent)[:, None],
            vectors * powered(items, c.low_pass_answer_exponent)[:, None] * passed,
            known,
            c.neighbours,
        )


def degrees(touched: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """(interactions of each user, of each item), float32."""
    return (
        np.diff(touched.indptr).astype(np.float32),
        np.bincount(touched.indices, minlength=touched.shape[1]).astype(np.float32),
    )


def powered(numbers: np.ndarray, exponent: float) -> np.ndarray:
    """numbers ** exponent, 0 where the number is 0."""
    return np.where(numbers > 0, np.maximum(numbers, 1) ** np.float32(exponent), 0).astype(np.float32)


def co_occurrence(
    edges: csr_matrix,
    query: np.ndarray,
    answer: np.ndarray,
    neighbours: int | None,
    *,
    diagonal: bool = True,
    measure: Measure | None = None,
) -> csr_matrix:
    """diag(query) Eᵀ E diag(answer) of E users × items, cut to the strongest of each row.

    Made in blocks of rows, several at a time, so that the whole product never stands in memory unless it is kept.
    Without `diagonal` an item's product with itself is left out. measure: makes float32[m] likenesses of the
    products, from (int rows[m], int columns[m], float32 products[m]).
    """
    from scipy.sparse import diags_array, vstack

    left = (diags_array(query) @ edges.T).tocsr()
    right = (edges @ diags_array(answer)).tocsr()

    def block_at(start: int) -> csr_matrix:
        block = (left[start : start + ROWS_AT_ONCE] @ right).tocsr()
        if measure is not None or not diagonal:
            rows = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
            if measure is not None:
                block.data = measure(rows, block.indices, block.data).astype(np.float32)
            if not diagonal:
                block.data[rows == block.indices] = 0
            block.eliminate_zeros()
        return strongest(block, neighbours)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return vstack(list(pool.map(block_at, range(0, left.shape[0], ROWS_AT_ONCE))), format="csr")
