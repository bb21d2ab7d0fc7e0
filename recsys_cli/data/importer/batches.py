"""What a reader hands over: rows of one file with their places, and the lines that are no rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

LINE = "__line"
"""Column of batches: 1-based line of a text file, 1-based row of a Parquet file."""

Bad = tuple[int, str, str]
"""(line, reason, text) of what could not be read."""


@dataclass
class Batch:
    """Rows of one file. `frame` has the source columns and `LINE`; `bad` are (line, reason, text)."""

    file: Path
    frame: pl.DataFrame
    bad: list[Bad] = field(default_factory=list)
    bytes_read: int = 0
    """Of the file as it lies on the disk, since the batch before."""
    notes: list[str] = field(default_factory=list)
    """What was recognised about the file without having been said, to be told once."""
    passed_over: int = 0
    """Rows that `where` does not take, since the batch before."""
