"""A table of exposures and outcomes from elsewhere, made into one row a user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError, nearest
from recsys_cli.experiments.analysis import ARMS, require

if TYPE_CHECKING:
    import polars as pl

    from recsys_cli.experiments.config import ExperimentConfig

EXPOSURES = "exposures"
"""Column that every log has: its number of rows for a user."""
_FORMATS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Outcomes:
    """One row a user."""

    arm: np.ndarray
    """int8[U], 0 control, 1 treatment"""
    columns: dict[str, np.ndarray]
    """column → float64[U]: outcomes summed over a user's rows, covariates averaged"""
    rows: int
    """rows of the log"""
    crossovers: int
    """users who were in both arms, left out"""


def read_outcomes(path: str | Path, config: ExperimentConfig) -> Outcomes:
    """Read a log (CSV, TSV, Parquet or JSON lines) with `user_id`, `variant` and the metrics' columns.

    Raises DataError, naming row and column, where it cannot be read, a column is missing or holds text,
    nulls, NaN or infinities, a variant is unknown, an arm is empty, or too many users were in both arms.
    """
    path = Path(path)
    frame = _read(path)
    for column in ("user_id", "variant"):
        require(frame.columns, column, str(path))
    if not frame.height:
        raise DataError(f"{path} holds no rows", "bring a log with at least one row a user")
    for column in ("user_id", "variant"):
        if frame[column].null_count():
            raise DataError(f"{path} row {int(frame[column].is_null().arg_max()) + 1}: {column} is empty")
    outcomes, covariates = _wanted(frame, config, path)
    arm = _arms(frame["variant"], config, path)
    _, user = np.unique(frame["user_id"].to_numpy(), return_inverse=True)
    n = int(user.max()) + 1
    count = np.bincount(user, minlength=n).astype(float)
    treated = np.bincount(user, weights=arm, minlength=n)
    both = (treated > 0) & (treated < count)
    if both.mean() > config.max_crossovers:
        raise DataError(
            f"{path}: {int(both.sum()):,} of {n:,} users ({both.mean():.1%}) are in both arms",
            f"at most {config.max_crossovers:.1%} may be (max_crossovers); mend the assignment or the log",
        )
    columns = {EXPOSURES: count}
    for name in outcomes:
        columns[name] = np.bincount(user, weights=_numbers(frame, name, path), minlength=n)
    for name in covariates:
        columns[name] = np.bincount(user, weights=_numbers(frame, name, path), minlength=n) / count
    side = (treated > 0).astype(np.int8)[~both]
    for a, name in enumerate(ARMS):
        if not (side == a).any():
            raise DataError(f"{path}: nobody is in the {name} arm", "both variants must be in the log")
    return Outcomes(side, {k: v[~both] for k, v in columns.items()}, frame.height, int(both.sum()))


def _read(path: Path) -> pl.DataFrame:
    import polars as pl

    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    kind = next((f for f in _FORMATS if name.endswith(f)), None)
    if kind is None:
        raise DataError(f"{path}: a log ends in one of {', '.join(_FORMATS)}", "convert it, or rename it to what it is")
    try:
        if kind == ".parquet":
            return pl.read_parquet(path, hive_partitioning=False)
        if kind in (".csv", ".tsv"):
            separator = "\t" if kind == ".tsv" else ","
            return pl.read_csv(path, separator=separator, infer_schema_length=None)
        return pl.read_ndjson(path, infer_schema_length=None)
    except FileNotFoundError:
        raise DataError(f"no file {path}", "check the path given with --log") from None
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty", "bring a log with at least one row a user") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0]}", "is it whole, and of that kind?"
        ) from None


def _wanted(frame: pl.DataFrame, config: ExperimentConfig, path: Path) -> tuple[list[str], list[str]]:
    """Columns to sum and columns to average; covariates that the log lacks are done without."""
    outcomes: list[str] = []
    covariates: list[str] = []
    for metric in config.measured:
        for column in (metric.numerator, metric.denominator):
            if column is not None and column != EXPOSURES and column not in outcomes:
                require(frame.columns, column, f"{path}, metric {metric.name}")
                outcomes.append(column)
        for column in (metric.covariate, metric.denominator_covariate):
            if column is not None and column in frame.columns and column not in covariates:
                covariates.append(column)
    return outcomes, covariates


def _numbers(frame: pl.DataFrame, name: str, path: Path) -> np.ndarray:
    import polars as pl

    column = frame[name]
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise DataError(
            f"{path}: column {name!r} holds {column.dtype}, not numbers", "outcomes must be numbers or Booleans"
        )
    if column.null_count():
        raise DataError(
            f"{path} row {int(column.is_null().arg_max()) + 1}: {name} is empty", "write 0 where nothing happened"
        )
    values = column.cast(pl.Float64).to_numpy()
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"{path} row {int(bad.argmax()) + 1}: {name} is {values[bad.argmax()]}", "outcomes must be finite"
        )
    return values


def _arms(variants: pl.Series, config: ExperimentConfig, path: Path) -> np.ndarray:
    """int8[n] arm of each row."""
    import polars as pl

    names = [config.variants.get(arm, arm) for arm in ARMS]
    given = variants.cast(pl.String)
    unknown = ~given.is_in(names)
    if unknown.any():
        word = given[int(unknown.arg_max())]
        close = nearest(word, names)
        raise DataError(
            f"{path} row {int(unknown.arg_max()) + 1}: unknown variant {word!r} ({int(unknown.sum()):,} such rows)",
            f"did you mean {close!r}?"
            if close
            else f"the arms are {names[0]!r} and {names[1]!r}; `variants` in the "
            "experiment file gives them other names",
        )
    return (given == names[1]).to_numpy().astype(np.int8)
