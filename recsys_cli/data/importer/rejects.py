"""Rows that were refused: all of them in `rejects.parquet`, their counts and first examples for the summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_cli.errors import DataError

SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("value", pa.string()),
    ]
)
"""`line` is the 1-based line of a text file or row of a Parquet file; `value` the text or key at fault."""


@dataclass
class Reason:
    """One reason in one table: how many rows, and where the first of them stands."""

    table: str
    reason: str
    count: int
    file: str
    line: int
    value: str | None


class Rejects:
    """Collects refused rows into a Parquet file, which is made at the first of them."""

    def __init__(self, path: Path):
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._reasons: dict[tuple[str, str], Reason] = {}
        self.read: dict[str, int] = {}
        """Table → rows read, refused ones included."""

    def add(self, table: str, file: Path, bad: pl.DataFrame) -> None:
        """bad: line, reason, value."""
        if bad.height == 0:
            return
        rows = bad.select(
            pl.lit(table).alias("table"),
            pl.lit(file.name).alias("file"),
            "line",
            "reason",
            pl.col("value").str.slice(0, 500),
        )
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, SCHEMA, compression="zstd")
        self._writer.write_table(rows.to_arrow().cast(SCHEMA))
        groups = rows.group_by("reason", maintain_order=True).agg(
            pl.len(), pl.col("line").first(), pl.col("value").first()
        )
        for reason, count, line, value in groups.iter_rows():
            entry = self._reasons.setdefault(
                (table, reason), Reason(table, reason, 0, file.name, line, value)
            )
            entry.count += count

    def count(self, table: str) -> int:
        return sum(r.count for r in self._reasons.values() if r.table == table)

    @property
    def reasons(self) -> list[Reason]:
        """Most frequent first."""
        return sorted(self._reasons.values(), key=lambda r: -r.count)

    def require_few(self, name: str, max_share: float) -> None:
        """Raises DataError where a table lost more than `max_share` of its rows."""
        for table, rows in self.read.items():
            count = self.count(table)
            if count > max_share * rows:
                worst = next(r for r in self.reasons if r.table == table)
                raise DataError(
                    f"{name}: {count:,} of {rows:,} rows of {table} refused, more than max_reject_share "
                    f"{max_share:g}; nothing was written",
                    f"mostly: {worst.reason} ({worst.count:,} rows, first {worst.file} line {worst.line}"
                    f"{f': {worst.value!r}' if worst.value is not None else ''})",
                )

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
