"""Every user's slate as Parquet, in shards, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.files import atomic_dir, atomic_file
from recsys_cli.pipeline.explain import notices
from recsys_cli.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from recsys_cli.engine import RecommendationEngine


def write_all(
    engine: RecommendationEngine,
    path: Path,
    *,
    shards: int = 1,
    n: int | None = None,
    context: dict[str, Any] | None = None,
    progress: Progress,
) -> int:
    """Write the slates of all users to one file, or to a folder `part-*.parquet` of several; returns the rows.

    Columns: user_id, rank, item_id, author_id, score, sources (list), explored, fallback, p_<action>,
    dwell_seconds. Whole or not at all.
    """
    users = len(engine.bundle.user_ids)
    bounds = np.linspace(0, users, shards + 1).astype(int)
    with progress.step("recommend to all users", total=users) as bar:
        if shards == 1:
            with atomic_file(path) as temporary:
                return _write(temporary, _tables(engine, 0, users, n, context, bar))
        with atomic_dir(path) as folder:
            return sum(
                _write(folder / f"part-{s:05d}.parquet", _tables(engine, bounds[s], bounds[s + 1], n, context, bar))
                for s in range(shards)
            )


def _tables(engine: RecommendationEngine, start: int, stop: int, n: int | None, context, bar) -> Iterator[pa.Table]:
    size = engine.pipeline.batch_size
    for low in range(start, max(stop, start + 1), size):
        users = np.arange(low, min(low + size, stop), dtype=np.int32)
        yield _table(engine, users, n, context)
        bar.advance(len(users))


def _table(engine: RecommendationEngine, users: np.ndarray, n: int | None, context) -> pa.Table:
    import pyarrow as pa

    batch = engine.slates(users, n, engine.context(context, len(users)))
    filled = batch.items >= 0
    row, slot = np.nonzero(filled)
    items = batch.items[filled]
    bits = batch.sources[filled]
    names = engine.source_names
    held = (bits[:, None] >> np.arange(len(names), dtype=np.uint32)) & 1
    place, source = np.nonzero(held)
    offsets = np.searchsorted(place, np.arange(len(items) + 1)).astype(np.int32)
    authors = engine.state.catalogue.item_author[items]
    scores = {k: v[filled] for k, v in batch.scores.items()}
    columns = {
        "user_id": engine.bundle.user_ids.external(users[row]),
        "rank": (slot + 1).astype(np.int32),
        "item_id": engine.bundle.item_ids.external(items),
        "author_id": engine.bundle.author_ids.external(authors),
        "score": scores.get("utility", scores.get("light")),
        "sources": pa.ListArray.from_arrays(pa.array(offsets), pa.array(names).take(pa.array(source))),
        "explored": scores.get("explored", np.zeros(len(items), np.float32)) > 0,
        "interstitial": pa.array(_notices(engine, scores.get("interstitial"), len(items)), pa.string()),
        "fallback": pa.array([batch.fallback[r] for r in row], pa.string()),
        **{n: s for n, s in scores.items() if n.startswith("p_")},
    }
    if "dwell" in scores:
        columns["dwell_seconds"] = scores["dwell"]
    ids = {True: pa.string(), False: pa.int64()}
    for column, vocabulary in (("user_id", "user_ids"), ("item_id", "item_ids"), ("author_id", "author_ids")):
        columns[column] = pa.array(columns[column], ids[getattr(engine.bundle, vocabulary).is_text])
    return pa.table(columns)


def _notices(engine: RecommendationEngine, bits: np.ndarray | None, n: int) -> list[str]:
    """Names of the rules that put a notice before each item, joined by semicolons."""
    held = np.zeros(n, np.int64) if bits is None else bits.astype(np.int64)
    distinct, place = np.unique(held, return_inverse=True)
    names = [";".join(notices(engine, int(b))) for b in distinct]
    return [names[p] for p in place]


def _write(path: Path, tables: Iterator[pa.Table]) -> int:
    import pyarrow.parquet as pq

    writer, rows = None, 0
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows
