"""The rows of a table of vectors that are closest in angle to others."""

from __future__ import annotations

import numpy as np

from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.topk import topk
from recsys_cli.retrieval.vectors.products import product, unit

CELLS_AT_ONCE = 4_000_000


def nearest_rows(
    vectors: np.ndarray,
    known: np.ndarray,
    own: np.ndarray,
    table: np.ndarray,
    listed: np.ndarray,
    k: int,
    ids: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of a table closest in angle to each vector, without its own; vectors of length 0 are near nothing.

    vectors: float32[B, D], known: bool[B]. own: int32[B] id to leave out. table: float32[n, D], listed: bool[n].
    ids: int32[n] of the table's rows, by default their positions. Returns ids int32[B, k] (-1 filler) and cosines
    float32[B, k] (-inf filler).
    """
    out, scores = np.full((len(vectors), k), -1, np.int32), np.full((len(vectors), k), -np.inf, np.float32)
    ids = np.arange(len(table), dtype=np.int32) if ids is None else ids
    directions = unit(table)
    listed = listed & (directions != 0).any(axis=1)
    rows = np.flatnonzero(known & (vectors != 0).any(axis=1))
    for part in chunks(np.full(len(rows), len(table) + k), CELLS_AT_ONCE):
        at = rows[part]
        cosine = np.array(product(unit(vectors[at]), directions.T))
        cosine[:, ~listed] = -np.inf
        cosine[own[at][:, None] == ids] = -np.inf
        found, scores[at] = topk(cosine, k)
        out[at] = np.where(found >= 0, np.append(ids, np.int32(-1))[found], -1)
    return out, scores
