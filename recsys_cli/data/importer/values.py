"""What one of our columns is filled with: its kind, its expression, and the checks that rows must pass."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

import polars as pl

from recsys_cli.data.importer.mapping import Column
from recsys_cli.data.schema import SECOND, ColumnKind
from recsys_cli.errors import RecsysError

TIME = pl.Datetime("us", "UTC")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """One of our columns: what it is called, of what kind, and how it is filled."""

    name: str
    kind: ColumnKind | None
    """None for an attribute whose type is recognised at the end"""
    spec: Column
    required: bool = False
    integer: bool = False
    """Whether ids of this column are integers"""
    guessed: bool = False
    """Whether that they are integers was told from the first rows alone"""
    attribute: bool = False
    lenient: bool = False
    """Whether a value that cannot be read is left unknown and counted, instead of refusing its row"""


@dataclass(frozen=True)
class Bounds:
    """Moments that a timestamp may have, µs."""

    earliest: int
    latest: int

    @classmethod
    def of(cls, earliest: dt.date, future_days: float) -> Bounds:
        first = dt.datetime(earliest.year, earliest.month, earliest.day, tzinfo=dt.UTC)
        last = dt.datetime.now(dt.UTC) + dt.timedelta(days=future_days)
        return cls(int(first.timestamp()) * SECOND, int(last.timestamp()) * SECOND)


@dataclass
class Value:
    """An expression for our column, the checks that refuse a row, and what is worth a warning."""

    value: pl.Expr
    raw: pl.Expr
    """as text, to show"""
    checks: list[tuple[pl.Expr, str]] = field(default_factory=list)
    warnings: list[tuple[pl.Expr, str]] = field(default_factory=list)
    no_integer: pl.Expr | None = None
    """where an id that was guessed to be an integer is none"""


class IdsAreText(RecsysError):
    """Ids that the first rows showed as integers are text after all: the import begins again with them as text."""

    def __init__(self, column: str, place: str):
        super().__init__(f"{column} is not always an integer: {place}")
        self.column = column
        self.place = place


def number(text: str) -> float | None:
    """The number that a text spells, None where it spells none."""
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def numeric(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Float64, null where it is no number."""
    return (raw.str.strip_chars() if dtype == pl.String else raw).cast(pl.Float64, strict=False)
