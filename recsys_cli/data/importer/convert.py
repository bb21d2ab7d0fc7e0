"""Raw rows to our columns: each value converted, each row that cannot be refused with the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import polars as pl

from recsys_cli.data.importer.batches import LINE
from recsys_cli.data.importer.ids import convert_id
from recsys_cli.data.importer.lists import listed
from recsys_cli.data.importer.mapping import Column
from recsys_cli.data.importer.times import convert_time
from recsys_cli.data.importer.values import Bounds, IdsAreText, Target, Value, number, numeric
from recsys_cli.data.schema import SAFETY_COLUMNS, SECOND
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


@dataclass(frozen=True)
class Warned:
    """Something that did not refuse its row: how often, and where first."""

    text: str
    count: int
    line: int
    value: str | None


def convert(
    frame: pl.DataFrame,
    targets: list[Target],
    nulls: list[str],
    bounds: Bounds,
    *,
    where: str,
    order_start: int = ORDER_START,
) -> tuple[pl.DataFrame, pl.DataFrame, list[Warned]]:
    """(rows in our columns with `LINE`, refused rows as line, reason, value, what was counted and kept).

    where: the file, for messages. Raises DataError where a source column is missing, ConfigError where the
    mapping does not fit the type of the column, IdsAreText where ids guessed to be integers are not.
    """
    frame, targets = _composed(frame, targets)
    built = [(t, _build(t, frame, nulls, bounds, where, order_start)) for t in targets]
    built = [(t, v) for t, v in built if v is not None]
    checks = [(bad, reason, v.raw) for t, v in built if not t.lenient for bad, reason in v.checks]
    kept = [(bad, f"{reason}: left unknown", v.raw) for t, v in built if t.lenient for bad, reason in v.checks]
    kept += [(bad, text, v.raw) for _, v in built for bad, text in v.warnings]
    for t, v in built:
        if t.lenient and v.checks:
            v.value = pl.when(~pl.any_horizontal(bad.fill_null(False) for bad, _ in v.checks)).then(v.value)
    texts = [(t, v) for t, v in built if v.no_integer is not None]
    out = frame.select(
        *(v.value.alias(t.name) for t, v in built),
        LINE,
        *(bad.fill_null(False).alias(f"__check{n}") for n, (bad, _, _) in enumerate(checks)),
        *(bad.fill_null(False).alias(f"__kept{n}") for n, (bad, _, _) in enumerate(kept)),
        *(v.no_integer.fill_null(False).alias(f"__text{n}") for n, (_, v) in enumerate(texts)),
    )
    for n, (t, v) in enumerate(texts):
        if out[f"__text{n}"].any():
            line, value = frame.filter(out[f"__text{n}"]).select(LINE, v.raw.alias("raw")).row(0)
            raise IdsAreText(t.name, f"{where} line {line} holds {value!r}")
    warned = [
        _warned(frame, out[f"__kept{n}"], text, raw)
        for n, (_, text, raw) in enumerate(kept)
        if out[f"__kept{n}"].any()
    ]
    good, bad_rows = _apart(frame, out, checks)
    return good.drop([c for c in good.columns if c.startswith(("__check", "__kept", "__text"))]), bad_rows, warned


def _warned(frame: pl.DataFrame, hit: pl.Series, text: str, raw: pl.Expr) -> Warned:
    line, value = frame.lazy().filter(hit).select(LINE, raw.alias("raw")).first().collect().row(0)
    return Warned(text, int(hit.sum()), line, value)


def _apart(frame: pl.DataFrame, out: pl.DataFrame, checks: list) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows that pass every check, the others as line, reason, value)."""
    names = [f"__check{n}" for n in range(len(checks))]
    refused = out.select(pl.any_horizontal(names)).to_series() if names else None
    if refused is None or not refused.any():
        return out, refusals()
    hit = frame.with_columns(out.select(names)).filter(refused)
    reason = pl.coalesce(pl.when(pl.col(n)).then(pl.lit(text)) for n, (_, text, _) in zip(names, checks, strict=True))
    value = pl.coalesce(pl.when(pl.col(n)).then(raw) for n, (_, _, raw) in zip(names, checks, strict=True))
    return out.filter(~refused), hit.select(
        pl.col(LINE).alias("line"), reason.alias("reason"), value.alias("value")
    )


def _composed(frame: pl.DataFrame, targets: list[Target]) -> tuple[pl.DataFrame, list[Target]]:
    """Ids made of several columns or of the row's number as a column of their own."""
    out = []
    for t in targets:
        if t.spec.compose is None and not t.spec.row_number:
            out.append(t)
            continue
        name = f"__made_{t.name}"
        if t.spec.row_number:
            made = pl.col(LINE)
        else:
            # a bar within a value must not make two users one
            texts = (pl.col(c).cast(pl.String).fill_null("") for c in t.spec.compose)
            made = pl.concat_str([x.str.replace_all("|", r"\|", literal=True) for x in texts], separator="|")
        frame = frame.with_columns(made.alias(name))
        spec = t.spec.model_copy(update={"column": [name], "compose": None, "row_number": False})
        out.append(replace(t, spec=spec))
    return frame, out


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
    for name in spec.compose or ():
        if name not in columns:
            close = nearest(name, columns)
            raise DataError(
                f"{where} has no column {name!r} (for {what})",
                f"is it {close!r}?" if close else f"its columns: {', '.join(columns)}",
            )
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
) -> Value | None:
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
    out = Value(raw, shown)
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
        numbers = [n for n in map(number, nulls) if n is not None]
        whole = [int(n) for n in nulls if re.fullmatch(r"-?\d{1,18}", n)]
        if dtype.is_integer() and whole:
            return pl.when(raw.cast(pl.Int64, strict=False).is_in(whole).fill_null(False).not_()).then(raw), dtype
        if numbers and not dtype.is_integer():
            return pl.when(raw.cast(pl.Float64).is_in(numbers).fill_null(False).not_()).then(raw), dtype
    return raw, dtype


def _id(out: Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    convert_id(out, t, dtype, label)


def _float(out: Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw = out.value
    value = numeric(raw, dtype)
    wrong = value.is_null() | value.is_nan() | value.is_infinite()
    if t.attribute and dtype.is_float():
        # a column of floats has no other way to say "unknown"
        wrong = value.is_null() | value.is_infinite()
        value = value.fill_nan(None)
    out.checks.append((raw.is_not_null() & wrong, f"{label} is not a number"))
    out.value = value * t.spec.scale if t.spec.scale != 1 else value
    _range(out, t, label)


def _int(out: Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw = out.value
    number = numeric(raw, dtype)
    whole = pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False))
    # an integer of many digits is not exact as a float
    exact = raw.str.strip_chars() if dtype == pl.String else raw
    out.value = pl.coalesce(exact.cast(pl.Int64, strict=False), whole) if not dtype.is_float() else whole
    out.checks.append((raw.is_not_null() & out.value.is_null(), f"{label} is not an integer"))
    _range(out, t, label)


def _range(out: Value, t: Target, label: str) -> None:
    if t.attribute:
        return
    if t.name == "propensity":
        out.checks.append(((out.value <= 0) | (out.value > 1), f"{label} lies outside 0 (excluded) to 1"))
    elif t.name in RANGES:
        low, high, text = RANGES[t.name]
        out.checks.append(((out.value < low) | (out.value > high), f"{label} {text}"))


def _bool(out: Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw, spec = out.value, t.spec
    if spec.thresholds:
        number = numeric(raw, dtype)
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
        out.value = _is_one_of(raw, dtype, spec.is_in)
    elif dtype == pl.Boolean:
        out.value = raw
    elif dtype == pl.String:
        word = raw.str.strip_chars().str.to_lowercase()
        out.value = pl.when(word.is_in(TRUE_WORDS)).then(True).when(word.is_in(FALSE_WORDS)).then(False)
        out.checks.append((raw.is_not_null() & out.value.is_null(), f"{label} is neither true nor false"))
    else:
        out.value = raw == 1
        out.checks.append((~((raw == 0) | (raw == 1)), f"{label} is neither 0 nor 1"))
    if not t.attribute:
        out.value = out.value.fill_null(bool(spec.default))


def _is_one_of(raw: pl.Expr, dtype: pl.DataType, listed: list) -> pl.Expr:
    """Whether a value is one of those listed: texts as they are written, numbers and truth by what they mean."""
    truths = [v for v in listed if isinstance(v, bool)]
    numbers = [float(v) for v in listed if isinstance(v, int | float) and not isinstance(v, bool)]
    texts = [v for v in listed if isinstance(v, str)]
    if dtype.is_numeric():
        numbers += [n for n in map(number, texts) if n is not None]
        return raw.cast(pl.Float64).is_in([*numbers, *map(float, truths)])
    if dtype == pl.Boolean:
        words = [v.strip().lower() for v in texts] + [str(int(n)) for n in numbers]
        truths += [t for words_of, t in ((TRUE_WORDS, True), (FALSE_WORDS, False)) if set(words_of) & set(words)]
        return raw.is_in(truths)
    raw = raw.cast(pl.String)
    known = raw.is_in(texts)
    if numbers:
        known = known | raw.str.strip_chars().cast(pl.Float64, strict=False).is_in(numbers)
    if truths:
        known = known | raw.str.to_lowercase().is_in([str(t).lower() for t in truths])
    return known


def _text(out: Value, t: Target, dtype: pl.DataType, *_) -> None:
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


def _list(out: Value, t: Target, dtype: pl.DataType, *_) -> None:
    value, separator = out.value, t.spec.separator
    if dtype.is_nested():
        value = value.list.eval(pl.element().cast(pl.String))
    else:
        value = value.cast(pl.String).map_batches(lambda s: listed(s, separator), return_dtype=pl.List(pl.String))
    value = value.list.eval(pl.element().filter(pl.element().is_not_null() & (pl.element() != "")))
    if t.spec.replace:
        value = value.list.eval(pl.element().replace(t.spec.replace))
    out.value = value


def _vector(out: Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
    raw, value = out.value, out.value
    if not dtype.is_nested():
        value = value.cast(pl.String).map_batches(
            lambda s: listed(s, t.spec.separator or ","), return_dtype=pl.List(pl.String)
        )
    out.value = value.cast(pl.List(pl.Float32), strict=False)
    bad = out.value.list.eval(pl.element().is_null() | ~pl.element().is_finite()).list.any()
    out.checks.append((raw.is_not_null() & bad, f"{label} is not a list of numbers"))


def _auto(out: Value, t: Target, dtype: pl.DataType, label: str, *_) -> None:
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
    "timestamp": convert_time,
    "float": _float,
    "int": _int,
    "bool": _bool,
    "text": _text,
    "category": _text,
    "list": _list,
    "vector": _vector,
    "auto": _auto,
}
