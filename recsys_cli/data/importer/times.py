"""Moments: numbers since 1970, written times with and without their zone, typed times; never another than written."""

from __future__ import annotations

import datetime as dt
import re

import polars as pl

from recsys_cli.data.importer.mapping import Column
from recsys_cli.data.importer.values import TIME, Bounds, Target, Value, numeric
from recsys_cli.data.schema import MICROSECONDS, SECOND
from recsys_cli.errors import ConfigError

ZONES = {
    **dict.fromkeys(("UTC", "GMT", "UT", "Z", "WET"), 0),
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
    "CET": 1, "CEST": 2, "WEST": 1, "EET": 2, "EEST": 3, "MSK": 3, "KST": 9, "JST": 9,
}
"""Names of zones that `%Z` reads → hours ahead of UTC: those of RFC 5322 and a few that mean one thing alone."""
_ZONE_NAME = r"\b(" + "|".join(sorted(ZONES, key=len, reverse=True)) + r")\b"
_WALL = pl.Datetime("us")


def convert_time(out: Value, t: Target, dtype: pl.DataType, label: str, bounds: Bounds, order_start: int) -> None:
    """Fill `out` with a moment; raises ConfigError where the mapping does not say how it is written."""
    raw, spec = out.value, t.spec
    if spec.order:
        place = numeric(raw, dtype)
        out.value = (place.cast(pl.Int64, strict=False) * SECOND + order_start).cast(TIME, strict=False)
        out.checks.append((raw.is_not_null() & out.value.is_null(), f"{label} is not a number"))
        out.checks.append((place.abs() > 1e11, f"{label} is too large for an order"))
        return
    unit = None
    if dtype in (pl.Time, pl.Duration):
        raise ConfigError(f"{label}: a column of type {dtype} holds no moments", "give a column with date and time")
    if dtype.is_temporal():
        if getattr(dtype, "time_zone", None):
            out.value = raw.dt.convert_time_zone("UTC").cast(TIME)
        else:
            _take_walls(out, raw.cast(_WALL), spec.zone, label)
        micros = out.value.cast(pl.Int64).cast(pl.Float64)
    elif spec.unit and spec.unit != "ns" and dtype.is_integer():
        _take_whole(out, raw, spec, label, bounds)
        return
    elif spec.unit:
        micros, unit = _numbers(out, raw, dtype, spec, label, bounds), spec.unit
    elif spec.format:
        text = raw.cast(pl.String).str.strip_chars()
        unread = _take_written(out, text, spec.format, spec.zone, label)
        micros = out.value.cast(pl.Int64).cast(pl.Float64)
        out.checks.append((raw.is_not_null() & unread, f"{label} is not a time of the form {spec.format}"))
    else:
        raise ConfigError(
            f"the mapping does not say how {label} is written",
            "give `unit` (s, ms, us) for numbers or `format` for text",
        )
    early = _day(bounds)
    guess = f": wrong unit? the mapping says {unit}" if unit else ""
    out.checks.append((micros < bounds.earliest, f"{label} lies before {early}{guess}"))
    out.checks.append((micros > bounds.latest, f"{label} lies in the future{guess}"))


def _day(bounds: Bounds) -> dt.date:
    return dt.datetime.fromtimestamp(bounds.earliest / SECOND, dt.UTC).date()


def _start(spec: Column) -> int:
    """µs from 1970 to the moment that a number counts from."""
    if spec.since is None:
        return 0
    since = spec.since if spec.since.tzinfo else spec.since.replace(tzinfo=dt.UTC)
    return int(since.timestamp()) * SECOND


def _take_whole(out: Value, raw: pl.Expr, spec: Column, label: str, bounds: Bounds) -> None:
    """Fill `out` from whole numbers of s, ms or µs, without a detour by floats."""
    factor, start = int(MICROSECONDS[spec.unit]), _start(spec)
    low, high = -((start - bounds.earliest) // factor), (bounds.latest - start) // factor
    inside = raw.is_between(low, high)
    out.value = pl.when(inside).then(raw.cast(pl.Int64, strict=False) * factor + start).cast(TIME)
    guess = f": wrong unit? the mapping says {spec.unit}"
    out.checks.append((raw < low, f"{label} lies before {_day(bounds)}{guess}"))
    out.checks.append((raw > high, f"{label} lies in the future{guess}"))


def _numbers(out: Value, raw: pl.Expr, dtype: pl.DataType, spec: Column, label: str, bounds: Bounds) -> pl.Expr:
    """Fill `out` from numbers since 1970 (or `since`); returns them in µs as floats."""
    unit, start = spec.unit, _start(spec)
    amount, factor = numeric(raw, dtype), MICROSECONDS[unit]
    micros = amount * factor + start
    if dtype == pl.String:
        exact = raw.str.strip_chars().cast(pl.Int64, strict=False)
    else:
        exact = raw.cast(pl.Int64, strict=False) if dtype.is_integer() else pl.lit(None, pl.Int64)
    exact = exact // 1000 if unit == "ns" else exact * int(factor)
    inside = micros.is_between(bounds.earliest, bounds.latest)
    whole = pl.coalesce(exact + start, micros.round().cast(pl.Int64, strict=False))
    out.value = pl.when(inside).then(whole).cast(TIME)
    out.checks.append((raw.is_not_null() & (amount.is_null() | amount.is_nan()), f"{label} is not a number"))
    return micros


def _take_walls(out: Value, wall: pl.Expr, zone: str, label: str) -> None:
    """Fill `out` from wall-clock times of a zone.

    Where the clock was turned back the earlier of the two moments is taken, and counted; a time that the clock
    leapt over does not exist, and its row is refused.
    """
    out.value = in_zone(wall, zone)
    if zone != "UTC":
        later = wall.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null").dt.convert_time_zone("UTC")
        out.warnings.append(
            (later != out.value, f"{label} stands twice on the clock of {zone}: the earlier moment is taken")
        )
        out.checks.append((wall.is_not_null() & out.value.is_null(), f"{label} does not exist in {zone}"))


def in_zone(wall: pl.Expr, zone: str) -> pl.Expr:
    """UTC of wall-clock times; where the clock is turned back the earlier, where it leaps over them null."""
    return wall.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _take_written(out: Value, text: pl.Expr, form: str, zone: str, label: str) -> pl.Expr:
    """Fill `out` from written times; returns where they could not be read."""
    if form == "iso":
        zoned, wall = _iso(text)
        _take_walls(out, wall, zone, label)
        out.value = pl.coalesce(zoned, out.value)
        return zoned.is_null() & wall.is_null()
    text, pattern = chrono_pattern(text, form, label)
    if "%Z" in pattern:
        names = text.str.extract(_ZONE_NAME, 1)
        ahead = names.replace_strict(ZONES, default=None, return_dtype=pl.Int64)
        bare = text.str.replace(r"\s*" + _ZONE_NAME, "")
        pattern = re.sub(r"\s*%Z", "", pattern)
        local = _parse(bare, _WALL, pattern)
        out.value = (local - pl.duration(hours=ahead)).dt.replace_time_zone("UTC")
        return out.value.is_null()
    if "%z" in pattern:
        out.value = text.str.replace(r"Z$", "+00:00").str.strptime(TIME, pattern, strict=False)
        return out.value.is_null()
    wall = _parse(text, _WALL, pattern)
    _take_walls(out, wall, zone, label)
    return wall.is_null()


def chrono_pattern(text: pl.Expr, form: str, label: str) -> tuple[pl.Expr, str]:
    """The texts and a pattern of Python's as polars reads it: `%f` is a fraction, hours may stand without minutes.

    Raises ConfigError where `%f` stands behind anything but a point or a comma.
    """
    if ",%f" in form:
        text, form = text.str.replace(r",(\d{1,9})\b", ".${1}"), form.replace(",%f", ".%f")
    form = form.replace(".%f", "%.f")
    if re.search(r"(?<!%)(%%)*%f", form.replace("%.f", "")):
        raise ConfigError(f"{label}: `%f` in {form!r} must follow a point or a comma", 'for example "%H:%M:%S.%f"')
    hours = re.search(r"%[HI](?!.*%[MTRXc+])", form) and not re.search(r"%[MTRXcs]", form)
    if hours:
        text, form = text + " 00", form + " %M"
    return text, form


def _parse(text: pl.Expr, dtype: pl.DataType, pattern: str) -> pl.Expr:
    return text.str.strptime(dtype, pattern, strict=False)


def _iso(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """(moments with a zone of their own in UTC, wall-clock times of the others) of ISO 8601 and its kin."""
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)[ t]\s*(\d)", "${1}T${2}")
    text = text.str.replace(r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)", "${1}-${2}-${3}T${4}:${5}:${6}")
    text = text.str.replace(r"(:\d\d),(\d)", "${1}.${2}").str.replace(r"\s*(?:UTC|GMT|[Zz])$", "+00:00")
    text = text.str.replace(r"(T\S*?)\s*([+-]\d\d)$", "${1}${2}:00")
    text = text.str.replace(r"(T\S*?)\s+([+-]\d\d:?\d\d)$", "${1}${2}")
    zoned = [text.str.strptime(TIME, f, strict=False) for f in ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z")]
    plain = [_parse(text, _WALL, f) for f in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")]
    return pl.coalesce(*zoned), pl.coalesce(*plain)
