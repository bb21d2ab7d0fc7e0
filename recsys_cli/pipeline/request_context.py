"""The context of a request, from the names that people use."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys_cli.errors import UsageError, did_you_mean
from recsys_cli.features.context import Context


def context_of(
    values: Mapping[str, Any] | None, columns: Mapping[str, str], names_of: Mapping[str, list[str]], now: int, rows: int
) -> Context:
    """A request's context from names: `surface`, `device` (as in the data), `time` (ISO 8601), and the further
    columns of impressions that are features.

    columns: of those to their kind, as the spec of features has them. names_of: as the catalogue has them. now: µs,
    where no time is named. rows: users of the request. Raises UsageError for what is not there.
    """
    codes, more = {}, {}
    for key, value in (values or {}).items():
        if key == "time":
            now = _parse_time(value)
        elif columns.get(key) == "number":
            more[key] = np.full(rows, _parse_number(key, value), np.float32)
        elif key in ("surface", "device", *columns):
            names = names_of.get(f"impression.{key}" if key in columns else key, [])
            if str(value) not in names:
                hint = did_you_mean(str(value), names, f"known: {', '.join(names) or 'none in this dataset'}")
                raise UsageError(f"context {key}={value!r} is not in the data", hint)
            code = names.index(str(value))
            if key in columns:
                more[key] = np.full(rows, code, np.int32)
            else:
                codes[key] = np.full(rows, code, np.int16)
        else:
            known = ", ".join(("surface", "device", "time", *columns))
            raise UsageError(f"unknown context key {key!r}", f"known keys: {known}")
    return Context(now=now, **codes, more=more)


def _parse_number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise UsageError(f"context {key}={value!r} is not a number", f"write it as {key}=1.5")
    return number


def _parse_time(value: Any) -> int:
    try:
        moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise UsageError(f"context time={value!r} is not a time", "write it as 2026-01-31T18:00:00") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp() * 1_000_000)
