"""Slates of many users as files: shards, or batches of one file, made by tasks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from recsys_cli.answers.export import Rows, Written, shard_bounds, write_rows, write_slates
from recsys_cli.distributed.engines import shared_engine

if TYPE_CHECKING:
    from recsys_cli.answers.export import Advance, RowFormat
    from recsys_cli.cluster import Cluster
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.progress import Progress

Span = tuple[int, int]
"""First user of a task, and the one after its last."""


def write_slates_by_tasks(
    cluster: Cluster,
    engine: RecommendationEngine,
    ids: Sequence[int | str] | None,
    target: Path | BinaryIO,
    kind: RowFormat,
    *,
    shards: int = 1,
    fallback: bool = True,
    raw: bool = False,
    progress: Progress,
    **asked: Any,
) -> Written:
    """Write the same files as `RecommendationEngine.write_slates`, to the byte, with the work done on the cluster.

    With several shards a task makes a file, which this process writes to the folder; into one file this process writes
    the rows that tasks make batch by batch. What is published is published here, whole or not at all.
    """
    users = engine.users_of(ids, fallback=fallback)
    given = shared_engine(engine, cluster), cluster.share((ids, users, asked))
    if shards > 1:
        done = cluster.map(_shard, shard_bounds(len(users), shards), *given, kind, raw)

        def write(stream: BinaryIO, start: int, stop: int, advance: Advance) -> Written:
            content, written = next(done)
            stream.write(content)
            advance(written.users)
            return written
    else:
        size = engine.pipeline.batch_size
        spans = [(start, min(start + size, len(users))) for start in range(0, max(len(users), 1), size)]
        made = cluster.map(_rows, spans, *given)

        def write(stream: BinaryIO, start: int, stop: int, advance: Advance) -> Written:
            return write_rows(stream, (part for parts in made for part in parts), kind, raw=raw, advance=advance)

    return write_slates(write, len(users), target, kind, shards=shards, progress=progress)


Asked = tuple[Sequence[int | str] | None, np.ndarray, dict[str, Any]]


def _rows(engine: RecommendationEngine, asked: Asked, span: Span) -> list[Rows]:
    return list(_made(engine, asked, span))


def _shard(
    engine: RecommendationEngine, asked: Asked, kind: RowFormat, raw: bool, span: Span
) -> tuple[bytes, Written]:
    stream = io.BytesIO()
    written = write_rows(stream, _made(engine, asked, span), kind, raw=raw)
    return stream.getvalue(), written


def _made(engine: RecommendationEngine, asked: Asked, span: Span) -> Iterator[Rows]:
    ids, users, options = asked
    return engine.slate_rows(ids, users[slice(*span)], span[0], **options)
