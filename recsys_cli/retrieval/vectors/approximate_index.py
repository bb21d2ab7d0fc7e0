"""The approximate nearest-neighbour index of large catalogues: inverted lists of int8 codes, re-scored exactly.

Vectors are assigned to cells by spherical k-means (an inverted file: Jégou, Douze and Schmid, TPAMI 2011), kept
there as one byte a dimension, and the best of the cells nearest to a query are scored again with the vectors
themselves. Unlike a graph, inverted lists take items in and let them go without being built again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.errors import ArtifactError
from recsys_cli.retrieval.topk import topk

INDEX_VERSION = 1
FILE = "index.bin"
LARGE = 200_000
"""Catalogues of more items than this are searched by the approximate index; smaller ones exactly."""
TARGET = 0.988
"""Recall of the exact best `DEPTH` that the number of cells looked at is chosen for, on a sample of queries."""
DEPTH = 100
SAMPLE = 200
"""Queries on which recall and time are measured."""
REFINE = 2
"""Codes fetched for each item wanted, to be scored again."""
TRAIN_PER_CELL = 40
ROWS_AT_ONCE = 65_536
EXACT_MS = 2.5e-7
"""Milliseconds of an exact product for each number of the vectors, where nobody has measured it."""


@dataclass(frozen=True)
class Choosable:
    """Items that may be found, a bit each."""

    bits: np.ndarray
    """uint8[⌈n / 8⌉], the first item in the lowest bit"""
    n: int
    count: int

    @classmethod
    def of(cls, allowed: np.ndarray) -> Choosable:
        """From bool[n]."""
        return cls(np.packbits(allowed, bitorder="little"), len(allowed), int(np.count_nonzero(allowed)))

    def without(self, items: np.ndarray) -> Choosable:
        """But for some items, int[m]."""
        items = items[items < self.n]
        bits = self.bits.copy()
        np.bitwise_and.at(bits, items >> 3, ~np.left_shift(1, items & 7).astype(np.uint8))
        return Choosable(bits, self.n, self.count)


@dataclass
class ApproximateIndex:
    """Inner-product search over `vectors` float32[n, D], which stay where they are (they may be a memory map)."""

    vectors: np.ndarray
    lists: Any
    """faiss.IndexIVFScalarQuantizer with item positions as ids"""
    cells: int
    """inverted lists looked at for a query"""
    report: dict[str, Any] = field(default_factory=dict)
    """what the build measured: recall, ms, items, and so on"""

    @classmethod
    def build(
        cls,
        vectors: np.ndarray,
        known: np.ndarray,
        queries: np.ndarray | None = None,
        *,
        seed: int = 0,
        target: float = TARGET,
    ) -> ApproximateIndex:
        """Index the rows of float32[n, D] where `known` bool[n] holds.

        queries: float32[Q, D] on which the number of cells is chosen; a sample of the vectors by default.
        """
        import faiss

        started = time.perf_counter()
        rng = np.random.default_rng(seed)
        ids = np.flatnonzero(known)
        dim, cells = vectors.shape[1], max(1, min(int(2 * np.sqrt(len(ids))), len(ids) // TRAIN_PER_CELL))
        lists = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        lists.by_residual = False
        lists.cp.spherical, lists.cp.niter, lists.cp.seed = True, 8, seed & 0x7FFFFFFF
        lists.cp.max_points_per_centroid = TRAIN_PER_CELL
        sample = np.sort(rng.choice(ids, min(len(ids), TRAIN_PER_CELL * cells), replace=False))
        lists.train(_rows(vectors, sample))
        for start in range(0, len(ids), ROWS_AT_ONCE):
            part = ids[start : start + ROWS_AT_ONCE]
            lists.add_with_ids(_rows(vectors, part), part)
        out = cls(vectors, lists, cells)
        if queries is None or not len(queries):
            queries = _rows(vectors, np.sort(rng.choice(ids, min(len(ids), SAMPLE), replace=False)))
        queries = np.ascontiguousarray(queries[rng.permutation(len(queries))[:SAMPLE]], np.float32)
        build_seconds = time.perf_counter() - started
        out._choose(queries, ids, target)
        out.report |= {
            "kind": "inverted lists, int8, re-scored exactly", "items": len(ids), "dim": dim, "lists": cells,
            "build_seconds": round(build_seconds, 2),
        }  # fmt: skip
        return out

    def _choose(self, queries: np.ndarray, ids: np.ndarray, target: float) -> None:
        """The fewest cells that reach the target, growing by half; recall and time of a query go into the report."""
        depth = min(DEPTH, len(ids))
        exact = exact_best(self.vectors, ids, queries, depth)
        most, self.cells = self.lists.nlist, min(8, self.lists.nlist)
        while True:
            start = time.perf_counter()
            found = [self.search(q[None], depth)[0] for q in queries]
            ms = (time.perf_counter() - start) * 1e3 / max(len(queries), 1)
            recall = recall_of(np.concatenate(found), exact)
            self.report = {"cells": self.cells, f"recall@{DEPTH}": round(recall, 4), "ms_per_query": round(ms, 3)}
            if recall >= target or self.cells >= most:
                break
            self.cells = min(self.cells + -(-self.cells // 2), most)
        start = time.perf_counter()
        for query in queries:
            self.vectors @ query
        self.report["exact_ms_per_query"] = round((time.perf_counter() - start) * 1e3 / max(len(queries), 1), 3)

    def pays(self, choosable: int, k: int) -> bool:
        """Whether it finds the best k of so many items sooner than their exact product with one user does, as both
        were measured when it was built."""
        exact = self.report.get("exact_ms_per_query", EXACT_MS * self.vectors.size) / max(len(self.vectors), 1)
        mine = self.report.get("ms_per_query", 0.0) * self._cells(choosable, k) / max(self.cells, 1)
        return mine < exact * choosable

    def _cells(self, choosable: int, k: int) -> float:
        """Inverted lists to look at for the best k of so many items."""
        # deeper lists are filled from more cells, though not in proportion: what is near lies together
        cells = np.ceil(self.cells * max(1.0, k / DEPTH) ** 0.75)
        share = choosable / max(self.lists.ntotal, 1)
        return np.ceil(cells / max(share, 1e-3)) if share < 1 else cells

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | Choosable | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best k items of each query float32[B, D] by inner product, best first.

        allowed: items that may be found, bool[n] or ready for use; all by default. Returns items int32[B, k] (-1
        filler) and scores float32[B, k] (-inf filler).
        """
        import faiss

        wanted = min(max(REFINE * k, 1), max(self.lists.ntotal, 1))
        if isinstance(allowed, np.ndarray):
            allowed = Choosable.of(allowed)
        count = self.lists.ntotal if allowed is None else allowed.count
        parameters = {"nprobe": min(self.lists.nlist, int(self._cells(count, k)))}
        if allowed is not None:
            parameters["sel"] = faiss.IDSelectorBitmap(allowed.n, faiss.swig_ptr(allowed.bits))
        queries = np.ascontiguousarray(queries, np.float32)
        _, found = self.lists.search(queries, wanted, params=faiss.SearchParametersIVF(**parameters))
        scores = np.empty(found.shape, np.float32)
        for row, (query, items) in enumerate(zip(queries, found, strict=True)):
            scores[row] = self.vectors[np.maximum(items, 0)] @ query
        scores[found < 0] = -np.inf
        at, best = topk(scores, k)
        items = np.take_along_axis(found, np.maximum(at, 0), axis=1).astype(np.int32)
        items[at < 0] = -1
        return items, best

    def extend(self, vectors: np.ndarray, known: np.ndarray) -> None:
        """Take in the rows that `vectors` float32[m, D] has beyond those held; the others must be as they were."""
        first = len(self.vectors)
        more = first + np.flatnonzero(known[first:])
        self.vectors = vectors
        if len(more):
            self.lists.add_with_ids(_rows(vectors, more), more)

    def remove(self, items: np.ndarray) -> int:
        """Let items go; returns how many were held."""
        return int(self.lists.remove_ids(np.ascontiguousarray(items, np.int64)))

    def save(self, folder: Path) -> None:
        """Write the lists, without the vectors."""
        import faiss

        held = {"version": INDEX_VERSION, "cells": self.cells, "rows": len(self.vectors), "report": self.report}
        save_arrays(folder / FILE, {"lists": faiss.serialize_index(self.lists)}, held)

    @classmethod
    def load(cls, folder: Path, vectors: np.ndarray) -> ApproximateIndex:
        """Raises ArtifactError where the file is damaged, of another version or of other vectors."""
        path, hint = folder / FILE, "train again, or use another run"
        arrays, meta = load_arrays(path)
        if meta.get("version") != INDEX_VERSION:
            raise ArtifactError(
                f"{path} is an index of version {meta.get('version')}, this program reads {INDEX_VERSION}", hint
            )
        import faiss

        try:
            lists = faiss.deserialize_index(np.array(arrays["lists"]))
            dim = lists.d
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:100]
            raise ArtifactError(f"{path} cannot be read by faiss {faiss.__version__}: {reason}", hint) from None
        if meta["rows"] != len(vectors) or dim != vectors.shape[1]:
            raise ArtifactError(
                f"{path} indexes {meta['rows']:,} vectors of {dim}, the source has {len(vectors):,} of "
                f"{vectors.shape[1]}",
                hint,
            )
        return cls(vectors, lists, int(meta["cells"]), meta["report"])


def exact_best(vectors: np.ndarray, ids: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """int32[Q, k] the exact best among the rows `ids`, in blocks, so that a memory map is read once."""
    best = np.full((len(queries), k), -1, np.int32)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        part = ids[start : start + ROWS_AT_ONCE]
        at, values = topk(queries @ _rows(vectors, part).T, k)
        both = np.concatenate([scores, values], axis=1)
        items = np.concatenate([best, np.append(part, -1)[at].astype(np.int32)], axis=1)
        order, scores = topk(both, k)
        best = np.where(order >= 0, np.take_along_axis(items, np.maximum(order, 0), axis=1), -1)
    return best


def recall_of(found: np.ndarray, exact: np.ndarray) -> float:
    """Mean share of each row of `exact` that stands in the same row of `found`; both int32[Q, k], -1 empty."""
    held = exact >= 0
    n = np.int64(max(int(exact.max(initial=0)), int(found.max(initial=0)))) + 1
    rows = np.arange(len(exact))[:, None] * n
    hit = np.isin((rows + exact)[held], (rows + found)[found >= 0])
    return float(hit.mean()) if len(hit) else 1.0


def _rows(vectors: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors[at], np.float32)
