"""Raw rows to our columns: each value converted, each row that cannot be refused with the reason."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import polars as pl

from recsys_cli.data.importer.mapping import Column
from recsys_cli.data.importer.readers import LINE
from recsys_cli.data.schema import MICROSECONDS, SAFETY_COLUMNS, SECOND, ColumnKind
from recsys_cli.errors import ConfigError, DataError, nearest

ORDER_START = 946_684_800 * SECOND
"""Where time begins (2000-01-01) in a dataset whose rows have an order but no time: one second a step."""

TRUE_WORDS = ["1", "true", "t", "yes", "y", "1.0"]
FALSE_WORDS = ["0", "false", "f", "no", "n", "0.0"]

RANGES: dict[str, tuple[float, float, str]] = {
    "dwell_seconds": (0, float("inf"), "is negative"),
    "duration_seconds": (0, float("inf"), "is negative"),
    "position": (0, 2**31 - 1, "is negative"),
    "weight": (0, float("inf"), "is negative"),
    **dict.fromkeys(SAFETY_COLUMNS, (0, 1, "lies outside 0 to 1")),
}
TIME = pl.Datetime("us", "UTC")


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
    attribute: bool = False


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
class _Value:
    """An expression for our column and the checks that refuse a row, each with the value to show."""

    value: pl.Expr
    raw: pl.Expr
    checks: list[tuple[pl.Expr, str]] = field(default_factory=list)


def convert(
    frame: pl.DataFrame,
    targets: list[Target],
    nulls: list[str],
    bounds: Bounds,
    *,
    where: str,
    order_start: int = ORDER_START,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows in our columns with `LINE`, refused rows as line, reason, value).

    where: the file, for messages. Raises DataError where a source column is missing, ConfigError where the
    mapping does not fit the type of the column.
    """
    built = [(t, _build(t, frame, nulls, bounds, where, order_start)) for t in targets]
    built = [(t, v) for t, v in built if v is not None]
    checks = [
        (f"__check{n}", bad, reason, v.raw)
        for n, (v, bad, reason) in enumerate((v, bad, reason) for _, v in built for bad, reason in v.checks)
    ]
    out = frame.select(
        *(v.value.alias(t.name) for t, v in built),
        LINE,
        *(bad.fill_null(False).alias(name) for name, bad, _, _ in checks),
    )
    names = [name for name, *_ in checks]
    refused = (
        out.select(pl.any_horizontal(names)).to_series()
        if names
        else pl.repeat(False, out.height, eager=True)
    )
    good = out.drop(names)
    if not refused.any():
        return good, refusals()
    reason = pl.coalesce(pl.when(pl.col(name)).then(pl.lit(text)) for name, _, text, _ in checks)
    value = pl.coalesce(pl.when(pl.col(name)).then(raw) for name, _, _, raw in checks)
    bad_rows = (
        frame.with_columns(out.select(names))
        .filter(refused)
        .select(pl.col(LINE).alias("line"), reason.alias("reason"), value.alias("value"))
    )
    return good.filter(~refused), bad_rows


def refusals(lines=(), reasons=(), values=()) -> pl.DataFrame:
    """Refused rows as a frame: 1-based line or row, reason, and the text or key at fault."""
    return pl.DataFrame(
        {"line": lines, "reason": reasons, "value": values},
        schema={"line": pl.Int64, "reason": pl.String, "value": pl.String},
    )


def source_column(spec: Column, columns: list[str], what: str, where: str) -> str | None:
    """The first of the column's names that the file has; None where it is a constant or optional.

    Raises DataError naming the nearest column.
    """
    if spec.column is None:
        return None
    found = next((c for c in spec.column if c in columns), None)
    if found is None and not spec.optional:
        close = nearest(spec.column[0], columns)
        raise DataError(
            f"{where} has no column {spec.column[0]!r} (for {what})",
            f"is it {close!r}?" if close else f"its columns: {', '.join(columns)}",
        )
    return found


def _build(
    t: Target, frame: pl.DataFrame, nulls, bounds: Bounds, where: str, order_start: int
) -> _Value | None:
    columns = [c for c in frame.columns if c != LINE]
    source = source_column(t.spec, columns, t.name, where)
    if source is None and t.spec.value is None:
        if t.spec.column is None and t.kind == "bool":
            raise ConfigError(
                f"{t.name}: the mapping gives neither `column` nor `value`", "name the source column"
            )
        return None
    if source is None:
        raw: pl.Expr = pl.lit(t.spec.value)
        dtype = pl.select(raw).to_series().dtype
    else:
        raw, dtype = _without_nulls(pl.col(source), frame.schema[source], [*nulls, *t.spec.missing])
    shown = raw.cast(pl.String) if not dtype.is_nested() else pl.lit(None, pl.String)
    out = _Value(raw, shown)
    label = t.name if source in (None, t.name) else f"{t.name} ({source})"
    _CONVERTERS[t.kind or "auto"](out, t, dtype, label, bounds, order_start)
    if t.spec.default is not None and t.kind != "bool":
        out.value = out.value.fill_null(_default(t, label))
    if t.required and t.kind != "bool":
        out.checks.insert(0, (out.raw.is_null(), f"{label} is missing"))
    return out


def _default(t: Target, label: str) -> object:
    """The mapping's default in the type of the column."""
    default = t.spec.default
    if t.kind in ("float", "int") and (
        isinstance(default, str) or (t.kind == "int" and default != int(default))
    ):
        raise ConfigError(f"{label}: default {default!r} does not fit a column of {t.kind}", "give a number")
    if t.kind in ("timestamp", "id", "list", "vector"):
        raise ConfigError(
            f"{label}: a column of this kind takes no `default`", "leave it out: it stays unknown"
        )
    return str(default) if t.kind in ("text", "category") else default


def _without_nulls(raw: pl.Expr, dtype: pl.DataType, nulls: list[str]) -> tuple[pl.Expr, pl.DataType]:
    if dtype == pl.Categorical or isinstance(dtype, pl.Enum):
        raw, dtype = raw.cast(pl.String), pl.String()
    if dtype == pl.Null:
        raw, dtype = raw.cast(pl.String), pl.String()
    if dtype == pl.String and nulls:
        return pl.when(raw.is_in(nulls).not_()).then(raw), dtype
    if dtype.is_numeric():
        numbers = [n for n in map(_number, nulls) if n is not None]
        if numbers:
            return pl.when(raw.cast(pl.Float64).is_in(numbers).not_()).then(raw), dtype
    return raw, dtype


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _numeric(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Float64, null where it is no number."""
    return (
        raw.str.strip_chars().cast(pl.Float64, strict=False)
        if dtype == pl.String
        else raw.cast(pl.Float64, strict=False)
    )


def _id(out: _Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw = out.value
    if not t.integer:
        out.value = raw if dtype == pl.String else raw.cast(pl.String)
        return
    if dtype.is_float():
        out.value = pl.when(raw == raw.round()).then(raw.cast(pl.Int64, strict=False))
    else:
        out.value = (raw.str.strip_chars() if dtype == pl.String else raw).cast(pl.Int64, strict=False)
    out.checks.append((raw.is_not_null() & out.value.is_null(), f"{label} is not an integer"))


def _timestamp(
    out: _Value, t: Target, dtype: pl.DataType, label: str, bounds: Bounds, order_start: int
) -> None:
    raw, spec = out.value, t.spec
    if spec.order:
        out.value = (_numeric(raw, dtype).cast(pl.Int64) * SECOND + order_start).cast(TIME)
        out.checks.append((raw.is_not_null() & out.value.is_null(), f"{label} is not a number"))
        return
    if dtype.is_temporal():
        aware = getattr(dtype, "time_zone", None)
        out.value = (
            raw.dt.convert_time_zone("UTC").cast(TIME)
            if aware
            else _in_zone(raw.cast(pl.Datetime("us")), spec.zone)
        )
        micros = out.value.cast(pl.Int64).cast(pl.Float64)
        unit = None
    elif spec.unit:
        number, factor = _numeric(raw, dtype), MICROSECONDS[spec.unit]
        micros = number * factor
        exact = (
            raw.str.strip_chars().cast(pl.Int64, strict=False)
            if dtype == pl.String
            else (raw.cast(pl.Int64) if dtype.is_integer() else pl.lit(None, pl.Int64))
        )
        exact = exact // 1000 if spec.unit == "ns" else exact * int(factor)
        inside = micros.is_between(bounds.earliest, bounds.latest)
        out.value = (
            pl.when(inside).then(pl.coalesce(exact, micros.round().cast(pl.Int64, strict=False))).cast(TIME)
        )
        out.checks.append(
            (raw.is_not_null() & (number.is_null() | number.is_nan()), f"{label} is not a number")
        )
        unit = spec.unit
    elif spec.format:
        out.value = _written_time(raw.cast(pl.String).str.strip_chars(), spec.format, spec.zone)
        micros = out.value.cast(pl.Int64).cast(pl.Float64)
        out.checks.append(
            (raw.is_not_null() & out.value.is_null(), f"{label} is not a time of the form {spec.format}")
        )
        unit = None
    else:
        raise ConfigError(
            f"the mapping does not say how {label} is written",
            "give `unit` (s, ms, us) for numbers or `format` for text",
        )
    early = dt.datetime.fromtimestamp(bounds.earliest / SECOND, dt.UTC).date()
    guess = f": wrong unit? the mapping says {unit}" if unit else ""
    out.checks.append((micros < bounds.earliest, f"{label} lies before {early}{guess}"))
    out.checks.append((micros > bounds.latest, f"{label} lies in the future{guess}"))


def _in_zone(wall: pl.Expr, zone: str) -> pl.Expr:
    """UTC of wall-clock times; where the clock is turned back the earlier, where it leaps over them null."""
    return wall.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone(
        "UTC"
    )


def _written_time(text: pl.Expr, form: str, zone: str) -> pl.Expr:
    wall = pl.Datetime("us")
    if form != "iso":
        if "%z" in form:
            return text.str.strptime(TIME, form, strict=False)
        return _in_zone(text.str.strptime(wall, form, strict=False), zone)
    text = text.str.replace(" ", "T", literal=True).str.replace(r"Z$", "+00:00")
    zoned = [text.str.strptime(TIME, f, strict=False) for f in ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z")]
    plain = [
        text.str.strptime(wall, f, strict=False)
        for f in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
    ]
    return pl.coalesce(*zoned, *(_in_zone(p, zone) for p in plain))


def _float(out: _Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw = out.value
    value = _numeric(raw, dtype)
    wrong = value.is_null() | value.is_nan() | value.is_infinite()
    if t.attribute and dtype.is_float():
        # a column of floats has no other way to say "unknown"
        wrong = value.is_null() | value.is_infinite()
        value = value.fill_nan(None)
    out.checks.append((raw.is_not_null() & wrong, f"{label} is not a number"))
    out.value = value * t.spec.scale if t.spec.scale != 1 else value
    _range(out, t, label)


def _int(out: _Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw = out.value
    number = _numeric(raw, dtype)
    out.value = pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False))
    out.checks.append((raw.is_not_null() & out.value.is_null(), f"{label} is not an integer"))
    _range(out, t, label)


def _range(out: _Value, t: Target, label: str) -> None:
    if t.attribute:
        return
    if t.name == "propensity":
        out.checks.append(((out.value <= 0) | (out.value > 1), f"{label} lies outside 0 (excluded) to 1"))
    elif t.name in RANGES:
        low, high, text = RANGES[t.name]
        out.checks.append(((out.value < low) | (out.value > high), f"{label} {text}"))


def _bool(out: _Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw, spec = out.value, t.spec
    if spec.thresholds:
        number = _numeric(raw, dtype)
        if spec.default is not None:
            number = pl.when(raw.is_null()).then(pl.lit(float(spec.default))).otherwise(number)
        compare = {"at_least": number.ge, "above": number.gt, "at_most": number.le, "below": number.lt}
        out.value = pl.all_horizontal(compare[name](bound) for name, bound in spec.thresholds.items())
        if spec.default is None:
            out.checks.append((raw.is_null(), f"{label} is missing"))
        out.checks.append(
            (raw.is_not_null() & (number.is_null() | number.is_nan()), f"{label} is not a number")
        )
        return
    if spec.is_in is not None:
        if dtype.is_numeric():
            known = raw.cast(pl.Float64).is_in([float(v) for v in spec.is_in if _number(str(v)) is not None])
        elif dtype == pl.Boolean:
            known = raw.is_in([bool(v) for v in spec.is_in])
        else:
            known = raw.is_in([str(v) for v in spec.is_in])
        out.value = known
    elif dtype == pl.Boolean:
        out.value = raw
    elif dtype == pl.String:
        word = raw.str.strip_chars().str.to_lowercase()
        out.value = pl.when(word.is_in(TRUE_WORDS)).then(True).when(word.is_in(FALSE_WORDS)).then(False)
        out.checks.append((raw.is_not_null() & out.value.is_null(), f"{label} is neither true nor false"))
    else:
        out.value = raw.cast(pl.Float64) == 1
        out.checks.append((~raw.cast(pl.Float64).is_in([0.0, 1.0]), f"{label} is neither 0 nor 1"))
    if not t.attribute:
        out.value = out.value.fill_null(bool(spec.default))


def _text(out: _Value, t: Target, dtype: pl.DataType, *_) -> None:
    value = out.value
    if dtype.is_float():
        whole = (value == value.round()) & value.abs().lt(2**53)
        value = (
            pl.when(whole)
            .then(value.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(value.cast(pl.String))
        )
    elif dtype.is_nested():
        value = value.list.eval(pl.element().cast(pl.String)).list.join(" ")
    else:
        value = value.cast(pl.String)
    out.value = value.replace(t.spec.replace) if t.spec.replace else value


def _list(out: _Value, t: Target, dtype: pl.DataType, *_) -> None:
    value, separator = out.value, t.spec.separator
    if dtype.is_nested():
        value = value.list.eval(pl.element().cast(pl.String))
    else:
        value = value.cast(pl.String)
        value = value.str.split(separator) if separator else pl.concat_list(value)
        value = value.list.eval(pl.element().str.strip_chars())
    value = value.list.eval(pl.element().filter(pl.element().is_not_null() & (pl.element() != "")))
    if t.spec.replace:
        value = value.list.eval(pl.element().replace(t.spec.replace))
    out.value = value


def _vector(out: _Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw, value = out.value, out.value
    if not dtype.is_nested():
        value = value.cast(pl.String).str.strip_chars().str.split(t.spec.separator or ",")
        value = value.list.eval(pl.element().str.strip_chars())
    out.value = value.cast(pl.List(pl.Float32), strict=False)
    bad = out.value.list.eval(pl.element().is_null() | ~pl.element().is_finite()).list.any()
    out.checks.append((raw.is_not_null() & bad, f"{label} is not a list of numbers"))


def _auto(out: _Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else None
    if inner is not None and (inner.is_float() or isinstance(dtype, pl.Array)):
        _vector(out, t, dtype, label)
    elif inner is not None and not inner.is_nested():
        _list(out, t, dtype)
    elif dtype.is_nested() or dtype == pl.Binary or dtype == pl.Object:
        raise ConfigError(
            f"{label}: a column of type {dtype} cannot become an attribute",
            "name it in `leave_out`, or make numbers, text, dates or lists of them of it before",
        )
    elif dtype.is_float():
        out.value = out.value.fill_nan(None)


_CONVERTERS = {
    "id": _id,
    "timestamp": _timestamp,
    "float": _float,
    "int": _int,
    "bool": _bool,
    "text": _text,
    "category": _text,
    "list": _list,
    "vector": _vector,
    "auto": _auto,
}
