"""What a column holds: ids, numbers, moments, truth values, texts or lists, told from its first rows."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from recsys_cli.data.importer.convert import FALSE_WORDS, TRUE_WORDS
from recsys_cli.data.importer.guess.look import Doubt
from recsys_cli.data.importer.guess.names import roles_of
from recsys_cli.data.importer.ids import says_missing
from recsys_cli.data.importer.mapping import Column
from recsys_cli.data.importer.times import convert_time
from recsys_cli.data.importer.values import Bounds, Target, Value, numeric

EARLIEST = dt.date(1990, 1, 1)
FORMATS = (
    "iso",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%Y%m%d%H%M%S",
    "%Y%m%d",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d/%m/%Y",
    "%m-%d-%Y",
    "%d-%m-%Y %H:%M:%S",
    "%d-%m-%Y %H:%M",
    "%d-%m-%Y",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%m %d, %Y",
    "%B %d, %Y",
)
_UNITS = ("s", "ms", "us", "ns")


@dataclass
class Profile:
    """One source column."""

    name: str
    kind: str
    """integer, decimal, bool, time, text, words, list, objects or empty"""
    rows: int
    unique: int
    known: int
    """rows that have a value"""
    values: pl.Series = field(repr=False)
    """its distinct values as text"""
    low: float | None = None
    high: float | None = None
    time: dict[str, str] | None = None
    """how its moments are written: `unit` or `format`"""
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def distinct(self) -> bool:
        """Whether hardly two rows share a value, as in a table of things."""
        return self.known > 0 and self.unique >= 0.98 * self.known and self.known >= 0.98 * self.rows


def profile(series: pl.Series) -> Profile:
    """Look at a column."""
    name, rows = series.name, len(series)
    if isinstance(series.dtype, pl.List | pl.Array):
        inner = series.explode().drop_nulls()
        nested = isinstance(series.dtype.inner, pl.Struct)
        if inner.dtype == pl.String and len(inner):
            nested = nested or inner.head(100).str.starts_with("{").all()
        kind = "objects" if nested else "list"
        return Profile(name, kind, rows, rows, rows - series.null_count(), pl.Series(name, [], pl.String))
    if isinstance(series.dtype, pl.Struct) or series.dtype in (pl.Binary, pl.Object):
        return Profile(name, "record", rows, rows, rows - series.null_count(), pl.Series(name, [], pl.String))
    text = series.cast(pl.String)
    text = text.to_frame("t").select(pl.when(~says_missing(pl.col("t"))).then(pl.col("t"))).to_series()
    unique = text.drop_nulls().unique(maintain_order=True)
    out = Profile(name, "text", rows, len(unique), rows - text.null_count(), unique.rename(name))
    if not len(unique):
        out.kind = "empty"
        return out
    if series.dtype.is_temporal():
        out.kind, out.time = "time", {}
        return out
    if series.dtype == pl.Boolean:
        out.kind = "bool"
        return out
    _numbers_or_text(out, series if series.dtype.is_numeric() else text)
    return out


def _numbers_or_text(out: Profile, series: pl.Series) -> None:
    unique = out.values
    numbers = unique.str.strip_chars().cast(pl.Float64, strict=False)
    lower = unique.str.strip_chars().str.to_lowercase()
    if lower.is_in(TRUE_WORDS + FALSE_WORDS).all() and out.unique == 2:
        out.kind = "bool"
    elif numbers.null_count() == 0:
        out.low, out.high = float(numbers.min()), float(numbers.max())
        out.kind = "integer" if (numbers == numbers.round(0)).all() else "decimal"
        _numeric_time(out, series)
    else:
        first = unique.head(200)
        if first.str.strip_chars().str.contains(r"^[\[{(].*[\]})]$").mean() > 0.9:
            out.kind = "objects" if first.str.contains(r"^\s*[\[]?\s*\{").mean() > 0.5 else "list"
            return
        _written_time(out)
        if out.kind == "text" and first.str.contains(r"\S\s+\S").mean() > 0.5:
            out.kind = "words"


def _numeric_time(out: Profile, series: pl.Series) -> None:
    """Numbers since 1970, or days written as numbers."""
    speaks = "time" in roles_of(out.name) or "created" in roles_of(out.name)
    if out.kind == "integer" and out.low >= 19_900_101 and out.high <= 20_991_231 and speaks and _reads(out, "%Y%m%d"):
        out.kind, out.time = "time", {"format": "%Y%m%d"}
        return
    now = dt.datetime.now(dt.UTC).timestamp() + 86_400
    start = dt.datetime(1990, 1, 1, tzinfo=dt.UTC).timestamp()
    for n, unit in enumerate(_UNITS):
        if not (start * 1000**n <= out.low and out.high <= now * 1000**n):
            continue
        # ids of ten digits look like seconds: without a name that says so they must lie close together
        close = out.high - out.low < 0.35 * (now - start) * 1000**n and out.low > 8e8 * 1000**n
        if speaks or close:
            out.kind, out.time = "time", {"unit": unit}
        return


def _written_time(out: Profile) -> None:
    if not out.values.head(50).str.contains(r"\d").all():
        return
    fits = [form for form in FORMATS if _reads(out, form)]
    if not fits:
        return
    form = fits[0]
    other = next((f for f in fits[1:] if f.replace("%d", "%m", 1) != f and _swapped(f) == form), None)
    if other is not None:
        form = _in_order(out, form, other)
    out.kind, out.time = "time", {"format": form}


def _swapped(form: str) -> str:
    return form.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")


def _in_order(out: Profile, form: str, other: str) -> str:
    """Of two forms that both read the moments the one under which they are in order; else a doubt."""
    sorted_under = [f for f in (form, other) if _moments(out.values, f).is_sorted()]
    if len(sorted_under) == 1:
        out.doubts.append(Doubt(f"{out.name} is read as {sorted_under[0]}, under which its rows are in order"))
        return sorted_under[0]
    first = out.values[0]
    out.doubts.append(
        Doubt(f"{out.name}: {first!r} can be {form} or {other}, day and month are not told apart", "timestamp", True)
    )
    return form


def _moments(values: pl.Series, form: str, unit: str | None = None) -> pl.Series:
    spec = Column(column=[values.name], format=form)
    out = Value(pl.col(values.name), pl.col(values.name))
    target = Target("timestamp", "timestamp", spec)
    convert_time(out, target, pl.String(), "timestamp", Bounds.of(EARLIEST, 1), 0)
    bad = [check.fill_null(False) for check, _ in out.checks]
    return values.to_frame().select(pl.when(~pl.any_horizontal(bad)).then(out.value).alias("t")).to_series()


def _reads(out: Profile, form: str) -> bool:
    """Whether (nearly) every value is a moment of a form, within bounds."""
    first = out.values.head(20)
    if _moments(first, form).null_count() > 1:
        return False
    values = out.values.head(2000)
    return _moments(values, form).null_count() <= 0.01 * len(values)


def numbers_of(series: pl.Series) -> pl.Series:
    """A column as Float64, null where it holds no number."""
    return series.to_frame("n").select(numeric(pl.col("n"), series.dtype)).to_series()


def sample_of(out: Profile) -> Any:
    """Its first value, for messages."""
    return out.values[0] if len(out.values) else None


def looks_labelled(series: pl.Series) -> bool:
    """Whether a text column holds items with labels between blanks, such as `N3-1 N4-0`."""
    if series.dtype != pl.String:
        return False
    known = series.drop_nulls().head(500)
    known = known.filter(known != "")
    pattern = re.compile(r"\S+-[01](\s+\S+-[01])*\s*")
    return len(known) > 0 and all(pattern.fullmatch(v) for v in known) and any(" " in v.strip() for v in known)
