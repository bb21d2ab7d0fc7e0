"""A log of exposures and outcomes from a file: its rows, its numbers, its moments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection

    import polars as pl

_FORMATS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
MICROSECONDS_A_DAY = 86_400_000_000


def read_log(path: Path, wanted: Collection[str]) -> pl.DataFrame:
    """The rows of a log; ids and variants stay the text that they were written as.

    wanted: columns that are used; of a Parquet file no others are read. Raises DataError where it cannot be read.
    """
    name = path.name.lower()
    for packed in (".gz", ".zst", ".bz2", ".xz", ".zip"):
        name = name.removesuffix(packed)
    if not name.endswith(_FORMATS):
        raise DataError(f"{path}: a log ends in one of {', '.join(_FORMATS)}", "convert it, or rename it to what it is")
    if not path.is_file():
        raise DataError(f"no file {path}", "check the path given with --log")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty", "bring a log with at least one row a user")
    return _parquet(path, wanted) if path.name.lower().endswith(".parquet") else _rows(path)


def _parquet(path: Path, wanted: Collection[str]) -> pl.DataFrame:
    import polars as pl

    try:
        scan = pl.scan_parquet(path)
        there = scan.collect_schema().names()
        frame = scan.select([c for c in there if c in wanted]).collect()
        # what is not read is known by name, so that a misspelt column can be told
        return frame.with_columns(pl.lit(None).alias(c) for c in there if c not in wanted) if frame.width else frame
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0]}", "is it whole, and of that kind?"
        ) from None


def _rows(path: Path) -> pl.DataFrame:
    import polars as pl

    from recsys_cli.data.importer.batches import LINE
    from recsys_cli.data.importer.mapping import Source
    from recsys_cli.data.importer.readers import read

    try:
        batches = list(read(Source(files=str(path)), path))
    except DataError as error:
        hint = "save it as UTF-8" if "encoding" in (error.hint or "") else "is it whole, and of that kind?"
        raise DataError(error.message, hint) from None
    bad = [b for batch in batches for b in batch.bad]
    if bad:
        line, reason, _ = bad[0]
        raise DataError(
            f"{path} cannot be read: line {line}: {reason} ({len(bad):,} such lines)", "is it whole, and of that kind?"
        )
    frames = [b.frame.drop(LINE) for b in batches if b.frame.height]
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def numbers(frame: pl.DataFrame, name: str, where: str, *, unknown: bool = False) -> np.ndarray:
    """float64[n] of a column of numbers, Booleans, or texts of either.

    unknown: empty values become NaN instead of being refused. Raises DataError naming the row.
    """
    import polars as pl

    column = frame[name]
    if column.dtype == pl.String:
        column = _as_numbers(column, name, where)
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise DataError(
            f"{where}: column {name!r} holds {column.dtype}, not numbers", "outcomes must be numbers or Booleans"
        )
    if column.null_count() and not unknown:
        raise DataError(
            f"{where} row {int(column.is_null().arg_max()) + 1}: {name} is empty", "write 0 where nothing happened"
        )
    values = column.cast(pl.Float64).to_numpy()
    bad = ~np.isfinite(values)
    if unknown:
        bad &= ~np.isnan(values)
    if bad.any():
        raise DataError(
            f"{where} row {int(bad.argmax()) + 1}: {name} is {values[bad.argmax()]}", "outcomes must be finite"
        )
    return values


def _as_numbers(column: pl.Series, name: str, where: str) -> pl.Series:
    """Texts as numbers or truth values; empty ones stay unknown."""
    import polars as pl

    text = column.str.strip_chars().str.to_lowercase()
    text = text.to_frame("t").select(pl.when(pl.col("t") != "").then(pl.col("t"))).to_series()
    truth = text.replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
    known = text.cast(pl.Float64, strict=False).fill_null(truth)
    wrong = text.is_not_null() & known.is_null()
    if wrong.any():
        row = int(wrong.arg_max())
        raise DataError(
            f"{where} row {row + 1}: {name} is {column[row]!r}, not a number ({int(wrong.sum()):,} such rows)",
            "outcomes must be numbers or Booleans",
        )
    return known


def moments_of(frame: pl.DataFrame, where: str) -> np.ndarray | None:
    """int64[n] microseconds since 1970 of the column `timestamp`, or of `day` in whole days; None without either.

    timestamp: moments, ISO 8601 text, or microseconds. day: whole numbers or dates. Raises DataError naming the row.
    """
    import polars as pl

    if "timestamp" in frame.columns:
        column = frame["timestamp"]
        if column.dtype == pl.String:
            whole = column.cast(pl.Int64, strict=False)
            column = whole if not whole.null_count() else column.str.to_datetime(time_unit="us", strict=False)
        if column.dtype == pl.Datetime:
            # counted since 1970 in UTC, whatever the zone that it is written in
            column = column.dt.timestamp("us")
        elif column.dtype == pl.Date:
            column = column.cast(pl.Int64) * MICROSECONDS_A_DAY
        return _whole(column, frame, "timestamp", "a moment", where)
    if "day" in frame.columns:
        column = frame["day"]
        if column.dtype == pl.String:
            whole = column.cast(pl.Int64, strict=False)
            column = whole if not whole.null_count() else column.str.to_date(strict=False)
        days = column.cast(pl.Int64) if column.dtype == pl.Date else column
        return _whole(days, frame, "day", "a whole number or a date", where) * MICROSECONDS_A_DAY
    return None


def _whole(column: pl.Series, frame: pl.DataFrame, name: str, what: str, where: str) -> np.ndarray:
    import polars as pl

    whole = column.cast(pl.Int64, strict=False) if column.dtype.is_numeric() else pl.Series([None] * len(column))
    if whole.null_count():
        row = int(whole.is_null().arg_max())
        raise DataError(f"{where} row {row + 1}: {name} is {frame[name][row]!r}, not {what}")
    return whole.to_numpy()


def has_calendar(frame: pl.DataFrame) -> bool:
    """Whether the days of a log are those of a calendar, whose weekdays are known."""
    import polars as pl

    if "timestamp" in frame.columns:
        return True
    column = frame["day"]
    written = column.dtype == pl.String and column.cast(pl.Int64, strict=False).null_count() > 0
    return written or column.dtype == pl.Date
