"""How well and how fast the approximate index finds, on vectors in clusters; one core.

    python tests/speed/index.py [items] [dimensions]

Prints recall against the exact best 100, milliseconds a query, seconds of building and bytes. Exits with 1 where
recall is below 0.98 or a query takes more than 2 ms.
"""

from __future__ import annotations

import sys
import time

import faiss
import numpy as np

from recsys_cli.retrieval.vectors.approximate_index import ApproximateIndex, exact_best, recall_of

K, QUERIES = 100, 500
RECALL, MILLISECONDS = 0.98, 2.0


def clustered(n: int, dim: int, clusters: int, rng: np.random.Generator, centres: np.ndarray | None = None):
    """Unit vectors around centres that themselves lie in a space of lower dimension, as learned ones do."""
    if centres is None:
        low = rng.standard_normal((clusters, dim // 4)) @ rng.standard_normal((dim // 4, dim))
        centres = (low / np.linalg.norm(low, axis=1, keepdims=True)).astype(np.float32)
    share = rng.dirichlet(np.full(len(centres), 0.5))
    out = centres[rng.choice(len(centres), n, p=share)]
    out = out + rng.standard_normal((n, dim), np.float32) * np.float32(0.6 / np.sqrt(dim))
    return out / np.linalg.norm(out, axis=1, keepdims=True), centres


def main(items: int = 1_000_000, dim: int = 128) -> int:
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    vectors, centres = clustered(items, dim, max(items // 200, 10), rng)
    queries, _ = clustered(2 * QUERIES, dim, 0, rng, centres)
    start = time.perf_counter()
    index = ApproximateIndex.build(vectors, np.ones(items, bool), queries[:QUERIES])
    seconds = time.perf_counter() - start
    unseen = queries[QUERIES:]
    exact = exact_best(vectors, np.arange(items), unseen, K)
    found, times = [], []
    for query in unseen:
        start = time.perf_counter()
        found.append(index.search(query[None], K)[0])
        times.append(time.perf_counter() - start)
    recall, ms = recall_of(np.concatenate(found), exact), np.array(times) * 1e3
    size = faiss.serialize_index(index.lists).nbytes
    print(f"{items:,} items of {dim} dimensions, {index.lists.nlist:,} lists, {index.cells} looked at")
    print(
        f"recall@{K} {recall:.4f} · {np.median(ms):.2f} ms a query "
        f"(mean {ms.mean():.2f}, p95 {np.quantile(ms, 0.95):.2f})"
    )
    print(f"built in {seconds:.1f} s · {size / 2**20:,.0f} MiB beside the vectors · at build {index.report}")
    return 0 if recall >= RECALL and np.median(ms) <= MILLISECONDS else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
