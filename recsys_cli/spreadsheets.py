"""Texts that a spreadsheet would run as formulas when it opens a CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

RUN = r"^[=+\-@\t\r]"
"""How a cell begins that is run (OWASP, CSV injection)."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with an apostrophe before each text that begins like a formula; texts that are numbers stay."""
    import polars as pl

    texts = pl.col(pl.String)
    run = texts.str.contains(RUN) & ~texts.str.contains(NUMBER)
    return frame.with_columns(pl.when(run).then(pl.lit("'") + texts).otherwise(texts).name.keep())
