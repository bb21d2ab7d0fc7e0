"""The rows of a log for off-policy estimation: read, checked, coded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError, did_you_mean
from recsys_cli.experiments.log_file import numbers, read_log
from recsys_cli.off_policy.config import LogColumns

if TYPE_CHECKING:
    import polars as pl

ABOVE_ONE = 1e-6
"""By how much rounding may lift a propensity above 1."""


@dataclass(frozen=True)
class LogTable:
    """A log as columns that are coded, in the order of its rows."""

    where: str
    frame: pl.DataFrame
    """item, and where the log has them position, user, request and the contexts; ids are texts"""
    reward: np.ndarray
    """float64[n]"""
    propensity: np.ndarray | None
    """float64[n]; None where the log tells none"""
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.reward)

    def has(self, name: str) -> bool:
        return name in self.frame.columns

    def column(self, name: str, what: str) -> np.ndarray:
        """float64[n] of a further column of numbers. Raises DataError."""
        if name not in self.frame.columns:
            raise DataError(f"{self.where} has no column {name!r}", f"{what} must stand in the log")
        return numbers(self.frame, name, self.where)


def load_log(path: Path, columns: LogColumns, further: tuple[str, ...] = (), judged: bool = True) -> LogTable:
    """Read a log. further: other columns that are used. judged: False where only what was shown is asked, not what it
    earned. Raises DataError naming the column or row that is wrong."""
    import polars as pl

    named = {
        "item": columns.item, "position": columns.position, "user": columns.user, "request": columns.request,
    }
    named |= {f"context {c}": c for c in columns.contexts}
    rewards = columns.reward if isinstance(columns.reward, dict) else {columns.reward: 1.0}
    wanted = {*filter(None, named.values()), *rewards, *further, *filter(None, [columns.propensity])}
    frame = read_log(path, wanted)
    where = str(path)
    if not frame.height:
        raise DataError(f"{where} has no rows", "bring a log with at least one impression")
    chosen = columns.model_fields_set
    for what, name in {**named, "propensity": columns.propensity}.items():
        optional = what in ("position", "user", "request", "propensity") and what not in chosen
        if name is not None and name not in frame.columns and not optional:
            _lacking(frame, name, what, where)
    if judged:
        for name in rewards:
            if name not in frame.columns:
                _lacking(frame, name, "reward", where)
        reward = sum(worth * numbers(frame, name, where) for name, worth in rewards.items())
    else:
        reward = np.zeros(frame.height)
    propensity = None
    if judged and columns.propensity in frame.columns:
        propensity = _propensities(frame, columns.propensity, where)
    kept = {k.removeprefix("context "): n for k, n in named.items() if n is not None and n in frame.columns}
    parts = [pl.col(n).cast(pl.String).alias(k) for k, n in kept.items()]
    parts += [pl.col(n) for n in further if n in frame.columns and n not in kept]
    table = LogTable(where, frame.select(parts), np.asarray(reward, float), propensity)
    return _without_gaps(table, list(kept))


def _lacking(frame: pl.DataFrame, name: str, what: str, where: str) -> None:
    hint = did_you_mean(name, frame.columns, f"its columns: {', '.join(frame.columns[:12])}")
    key = "contexts" if what.startswith("context") else what
    raise DataError(f"{where} has no column {name!r} (log.{key})", hint)


def _propensities(frame: pl.DataFrame, name: str, where: str) -> np.ndarray:
    p = numbers(frame, name, where, unknown=True)
    bad = (p <= 0) | (p > 1 + ABOVE_ONE)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{where} row {row + 1}: {name} is {p[row]:g} ({int(bad.sum()):,} such rows)",
            "a propensity lies above 0 and at most at 1; set log.propensity: null to estimate it instead",
        )
    if np.isnan(p).all():
        raise DataError(f"{where}: {name} is empty", "set log.propensity: null to estimate it instead")
    return np.minimum(p, 1.0)


def _without_gaps(table: LogTable, ids: list[str]) -> LogTable:
    """The rows that tell what was shown, where, and how probably; the others are counted."""
    import polars as pl

    left_out, keep = {}, np.ones(len(table), bool)
    for name in ids:
        gap = table.frame[name].is_null().to_numpy()
        if gap.any():
            left_out[f"without {name}"] = int(gap.sum())
            keep &= ~gap
    if table.propensity is not None and np.isnan(table.propensity).any():
        left_out["without propensity"] = int(np.isnan(table.propensity).sum())
        keep &= ~np.isnan(table.propensity)
    if not left_out:
        return table
    if not keep.any():
        told = ", ".join(f"{n:,} {reason}" for reason, n in left_out.items())
        raise DataError(f"{table.where}: no row is whole ({told})", "check the columns named in `log`")
    p = table.propensity
    return LogTable(table.where, table.frame.filter(pl.Series(keep)), table.reward[keep],
                    None if p is None else p[keep], left_out)


def coded(values: pl.Series, known: pl.Series | None = None) -> tuple[np.ndarray, pl.Series]:
    """(int32[n] codes, the values by code): ascending, or the places in `known`, -1 for what it lacks."""
    import polars as pl

    if known is None:
        known = values.unique().sort()
    table = pl.DataFrame({"value": known}).with_row_index("code")
    codes = pl.DataFrame({"value": values}).join(table, on="value", how="left", maintain_order="left")["code"]
    return codes.cast(pl.Int32).fill_null(-1).to_numpy(), known


def positions_of(table: LogTable) -> tuple[np.ndarray, list[str]]:
    """(int16[n] position from 0, its names); all 0 where the log has none. Raises DataError for what is no number."""
    import polars as pl

    if not table.has("position"):
        return np.zeros(len(table), np.int16), ["0"]
    column = table.frame["position"]
    distinct = column.unique()
    number = distinct.cast(pl.Float64, strict=False)
    if number.null_count():
        wrong = distinct.filter(number.is_null())[0]
        raise DataError(f"{table.where}: position {wrong!r} is not a number", "name the column in log.position")
    ordered = distinct.gather(number.arg_sort())
    if len(ordered) > 1000:
        raise DataError(f"{table.where}: {len(ordered):,} different positions", "name the column in log.position")
    codes, _ = coded(column, ordered)
    return codes.astype(np.int16), ordered.to_list()
