"""The log of a dataset, read one column after the other and in batches, so that beside the log itself only one column
of it stands in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import polars as pl

from recsys_cli.data.log import Log
from recsys_cli.data.log_columns import LogColumns
from recsys_cli.data.schema import DatasetManifest
from recsys_cli.data.vocabulary import Vocabularies, Vocabulary, lookup
from recsys_cli.errors import DataError

BATCH = 1 << 17
"""Rows read at a time."""


class Impressions(Vocabularies, Protocol):
    """What a log is read from: a dataset."""

    manifest: DatasetManifest

    @property
    def categories(self) -> dict[str, list[str]]: ...

    @property
    def context_columns(self) -> dict[str, str]: ...

    def rows_of(self, name: str) -> int: ...

    def batches(self, name: str, columns: list[str] | None = None, rows: int = BATCH) -> Iterator[pl.DataFrame]: ...


def read_log(dataset: Impressions, batch: int = BATCH) -> Log:
    """Every impression, ordered by time (ties by user, then as they came).

    batch: rows read at a time; nothing depends on it but memory. Raises DataError where the table is not what the
    manifest says, names unknown users or items, or holds numbers that are not finite.
    """
    m, columns = dataset.manifest, _Columns(dataset, batch)
    user = columns.positions("user_id", dataset.user_ids, "users")
    item = columns.positions("item_id", dataset.item_ids, "items")
    time = columns.read("timestamp", LogColumns.moments, np.int64)
    columns.order = order_of(time, user)

    def numbers(name: str, dtype: type[np.generic], missing: float) -> np.ndarray | None:
        return columns.read(name, lambda rows: rows.numbers(name, dtype, missing), dtype)

    return Log(
        user=columns.in_order(user),
        item=columns.in_order(item),
        time=columns.in_order(time),
        actions={a: columns.read(a, lambda rows, a=a: rows.action(a), np.bool_) for a in m.actions},
        positive_actions=tuple(a for a, info in m.actions.items() if info.polarity == "positive"),
        negative_actions=tuple(a for a, info in m.actions.items() if info.polarity == "negative"),
        dwell=numbers("dwell_seconds", np.float32, float("nan")),
        surface=columns.read("surface", lambda rows: rows.codes("surface"), np.int16),
        device=columns.read("device", lambda rows: rows.codes("device"), np.int16),
        position=numbers("position", np.int16, -1),
        request=columns.groups("request_id"),
        session=columns.groups("session_id"),
        propensity=numbers("propensity", np.float32, float("nan")),
        part=columns.read("split", LogColumns.part, np.int8),
        context={name: columns.context(name) for name in dataset.context_columns},
    )


def bytes_of_log(manifest: DatasetManifest) -> int:
    """Memory that `read_log` takes at its peak, about, by the manifest alone."""
    known = {"user_id": 4, "item_id": 4, "timestamp": 8, "position": 2, "surface": 2, "device": 2, "request_id": 8,
             "session_id": 8, "propensity": 4, "dwell_seconds": 4, "split": 1, "source": 0}
    table = manifest.tables["impressions"]
    each = sum(known.get(c, 1 if c in manifest.actions else 4) for c in table.columns)
    # whether a row is an interaction, the order and one more column while it is put in order
    return table.rows * (each + 2 + 12)


def order_of(time: np.ndarray, user: np.ndarray) -> np.ndarray | None:
    """int[n] rows by time, ties by user and then as they came; None where they stand so already."""
    step = np.flatnonzero(time[1:] <= time[:-1])
    if not ((time[step + 1] < time[step]) | (user[step + 1] < user[step])).any():
        return None
    order = np.lexsort((user, time))
    return order.astype(np.int32) if len(order) < 2**31 else order


class _Columns:
    """Reads columns of the impressions, each in batches into one array."""

    def __init__(self, dataset: Impressions, batch: int):
        self._dataset, self._batch = dataset, batch
        self._rows = dataset.rows_of("impressions")
        self._held = dataset.manifest.tables["impressions"].columns
        self.order: np.ndarray | None = None
        """in which `read` gives the rows; None for that of the file"""

    def in_order(self, column: np.ndarray) -> np.ndarray:
        return column if self.order is None else column[self.order]

    def read(
        self, name: str, make: Callable[[LogColumns], np.ndarray], dtype: type[np.generic]
    ) -> np.ndarray | None:
        """What `make` gives of each batch of a column, in the order of the log; None where there is none."""
        if name not in self._held:
            return None
        out, at = np.empty(self._rows, dtype), 0
        for frame in self._dataset.batches("impressions", [name], self._batch):
            out[at : at + frame.height] = make(LogColumns(frame, self._dataset.categories))
            at += frame.height
        return self.in_order(out)

    def positions(self, name: str, vocabulary: Vocabulary, table: str) -> np.ndarray:
        """int32[n] positions of ids; raises DataError where one is unknown."""
        out = self.read(name, lambda rows: lookup(vocabulary, rows.frame[name]), np.int32)
        if len(out) and out.min() < 0:
            row = int((out < 0).argmax())
            value, before = None, 0
            for frame in self._dataset.batches("impressions", [name], self._batch):
                if before <= row < before + frame.height:
                    value = frame[name][row - before]
                before += frame.height
            raise DataError(
                f"impressions.parquet row {row + 1:,}: {name} {value!r} is not in {table}.parquet",
                "run `recsys data validate` for all of them, then import the dataset again",
            )
        return out

    def groups(self, name: str) -> np.ndarray | None:
        """int64[n], equal for the rows of one request or session, -1 unknown."""
        if "string" not in self._held.get(name, ""):
            return self.read(name, lambda rows: rows.numbered(name), np.int64)
        known, fresh = pl.Series(dtype=pl.String), []
        for frame in self._dataset.batches("impressions", [name], self._batch):
            fresh.append(frame[name].cast(pl.String).drop_nulls().unique())
            if sum(map(len, fresh)) > max(len(known), self._batch):
                known, fresh = pl.concat([known, *fresh]).unique(), []
        known = pl.concat([known, *fresh]).unique().sort()
        return self.read(name, lambda rows: rows.ranks(name, known), np.int64)

    def context(self, name: str) -> np.ndarray:
        """A further column, see `LogColumns.context`; raises DataError for numbers that are not finite."""
        dtype = np.int32 if f"impression.{name}" in self._dataset.categories else np.float32
        values = self.read(name, lambda rows: rows.context(name), dtype)
        if dtype is np.float32 and np.isinf(values).any():
            raise DataError(
                f"impressions.parquet: column {name!r} holds {int(np.isinf(values).sum()):,} numbers that are not "
                "finite",
                "write null where a number is unknown, and import the dataset again",
            )
        return values
