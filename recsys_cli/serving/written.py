"""Candidates that were made before: the slates that `recsys recommend --all` wrote, in the place of pools."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import DataError
from recsys_cli.serving.pooling import Pool
from recsys_cli.serving.workers import Job

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

NEEDED = ("user_id", "rank", "item_id", "score")


class WrittenSlates:
    """Slates of a Parquet file or folder, by user. Gives pools as a worker does."""

    def __init__(self, path: str | Path, bundle: Bundle):
        """Raises DataError where the file cannot be read or lacks a column."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        try:
            table = parquet.read_table(path, columns=list(NEEDED))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError(
                f"serving.slates: {path} cannot be read: {str(error).splitlines()[0]}",
                "write it with `recsys recommend --all -n 300 --output slates.parquet`",
            ) from None
        users = bundle.user_ids.positions(table["user_id"].to_numpy())
        items = bundle.item_ids.positions(table["item_id"].to_numpy())
        held = np.flatnonzero((users >= 0) & (items >= 0))
        order = held[np.lexsort((table["rank"].to_numpy()[held], users[held]))]
        n = len(bundle.user_ids)
        self._items = Ragged.group(users[order], items[order].astype(np.int32), n)
        self._scores = Ragged.group(users[order], table["score"].to_numpy()[order].astype(np.float32), n)

    def submit(self, jobs: list[Job]) -> Future[list[Pool]]:
        """As `Worker.submit`; what nobody wrote a slate for gets an empty pool."""
        future: Future[list[Pool]] = Future()
        future.set_result([self._pool(job) for job in jobs])
        return future

    def _pool(self, job: Job) -> Pool:
        mine = self._items[job.user] if job.user >= 0 else self._items.values[:0]
        scores = self._scores[job.user] if job.user >= 0 else self._scores.values[:0]
        return Pool(mine, np.zeros(len(mine), np.uint32), {"utility": scores})
