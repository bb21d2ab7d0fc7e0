"""A dataset from tables in memory: polars, pandas or Arrow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from recsys_cli.data.importer.convert import ORDER_START
from recsys_cli.data.schema import COLUMNS, SECOND
from recsys_cli.data.writer import write_dataset
from recsys_cli.errors import DataError, did_you_mean, nearest


def write_frames(
    path: str | os.PathLike,
    frames: Mapping[str, Any],
    actions: Mapping[str, str],
    *,
    name: str,
    authors_are_users: bool,
) -> None:
    """Write a dataset folder from tables in memory; see `Dataset.from_frames`."""
    for table in frames:
        if table not in COLUMNS:
            raise DataError(
                f"no table is called {table!r}", did_you_mean(table, COLUMNS, ", ".join(COLUMNS))
            )
    tables = {table: _as_polars(rows, table) for table, rows in frames.items()}
    log = tables.get("impressions")
    if log is None or not log.height:
        raise DataError("there are no impressions", "give a table `impressions` with user_id and item_id")
    for column in ("user_id", "item_id"):
        if column not in log.columns:
            close = nearest(column, log.columns)
            hint = f"is it {close!r}?" if close else f"its columns: {', '.join(log.columns)}"
            raise DataError(f"impressions have no column {column!r}", hint)
        if log[column].null_count():
            raise DataError(f"impressions row {int(log[column].is_null().arg_max()) + 1}: {column} is missing")
    has_time = "timestamp" in log.columns
    if not has_time:
        place = pl.int_range(pl.len(), dtype=pl.Int64).over("user_id") * SECOND + ORDER_START
        log = log.with_columns(place.cast(pl.Datetime("us", "UTC")).alias("timestamp"))
    elif not log["timestamp"].dtype.is_temporal():
        raise DataError(
            f"impressions: timestamp is of type {log['timestamp'].dtype}, not a moment",
            "convert it, for example with pl.from_epoch or pandas.to_datetime",
        )
    tables["impressions"] = log
    for table, column in (("users", "user_id"), ("items", "item_id")):
        known = tables.get(table)
        if known is None:
            tables[table] = log.select(pl.col(column).unique().sort())
            continue
        strange = log.filter(~pl.col(column).is_in(known[column].implode()))
        if strange.height:
            raise DataError(
                f"impressions name {column} {strange[column][0]!r}, which {table} do not hold "
                f"({strange.height:,} such rows)",
                f"add it to {table}, or leave the table out",
            )
    context = set(log.columns) - set(COLUMNS["impressions"]) - set(actions)
    write_dataset(
        path,
        name,
        tables,
        actions,
        origin={"kind": "frames"},
        has_time=has_time,
        authors_are_users=authors_are_users,
        context=context,
    )


def _as_polars(rows: Any, table: str) -> pl.DataFrame:
    """Rows with plain ids: floats that are whole become integers, as pandas makes them of integers with gaps."""
    if isinstance(rows, pl.DataFrame):
        frame = rows
    elif isinstance(rows, pa.Table):
        frame = pl.from_arrow(rows)
    elif type(rows).__module__.partition(".")[0] == "pandas":
        frame = pl.from_arrow(pa.Table.from_pandas(rows, preserve_index=False))
    else:
        raise DataError(f"{table}: {type(rows).__name__} is no table", "give a polars, pandas or Arrow table")
    for column, (kind, _) in COLUMNS[table].items():
        if kind != "id" or column not in frame.columns:
            continue
        ids = frame[column]
        if ids.dtype.is_float():
            known = ids.fill_nan(None)
            if not (known.drop_nulls() == known.drop_nulls().round(0)).all() or (known.abs() > 2**53).any():
                raise DataError(
                    f"{table}: {column} holds floats that are no whole ids", "make integers or texts of them"
                )
            frame = frame.with_columns(known.cast(pl.Int64))
        elif ids.dtype in (pl.Categorical, pl.UInt64) or isinstance(ids.dtype, pl.Enum):
            frame = frame.with_columns(ids.cast(pl.String))
    return frame
