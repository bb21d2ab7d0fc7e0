"""A table of exposures and outcomes from elsewhere, made into one row a user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError, did_you_mean
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
    import polars as pl

    path = Path(path)
    frame = _read(path)
    if not frame.height:
        raise DataError(f"{path} holds no rows", "bring a log with at least one row a user")
    for column in ("user_id", "variant"):
        require(frame.columns, column, str(path))
        empty = frame[column].is_null() | (frame[column].cast(pl.String) == "")
        if empty.any():
            raise DataError(f"{path} row {int(empty.arg_max()) + 1}: {column} is empty")
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
    """The rows of a log; ids and variants stay the text that they were written as."""
    import polars as pl

    from recsys_cli.data.importer.batches import LINE
    from recsys_cli.data.importer.mapping import Source
    from recsys_cli.data.importer.readers import read

    name = path.name.lower()
    for packed in (".gz", ".zst", ".bz2", ".xz", ".zip"):
        name = name.removesuffix(packed)
    if not name.endswith(_FORMATS):
        raise DataError(f"{path}: a log ends in one of {', '.join(_FORMATS)}", "convert it, or rename it to what it is")
    if not path.is_file():
        raise DataError(f"no file {path}", "check the path given with --log")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty", "bring a log with at least one row a user")
    try:
        batches = list(read(Source(files=str(path)), path))
    except DataError as error:
        hint = "save it as UTF-8" if "encoding" in (error.hint or "") else "is it whole, and of that kind?"
        raise DataError(error.message, hint) from None
    bad = [b for batch in batches for b in batch.bad]
    if bad:
        line, reason, _ = bad[0]
        raise DataError(
            f"{path} cannot be read: line {line}: {reason} ({len(bad):,} such lines)", "is it whole, and of that kind?"
        )
    frames = [b.frame.drop(LINE) for b in batches if b.frame.height]
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


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
    if column.dtype == pl.String:
        column = _as_numbers(column, name, path)
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


def _as_numbers(column: pl.Series, name: str, path: Path) -> pl.Series:
    """Texts as numbers or truth values; empty ones stay unknown."""
    import polars as pl

    text = column.str.strip_chars().str.to_lowercase()
    text = text.to_frame("t").select(pl.when(pl.col("t") != "").then(pl.col("t"))).to_series()
    truth = text.replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
    numbers = text.cast(pl.Float64, strict=False).fill_null(truth)
    wrong = text.is_not_null() & numbers.is_null()
    if wrong.any():
        row = int(wrong.arg_max())
        raise DataError(
            f"{path} row {row + 1}: {name} is {column[row]!r}, not a number ({int(wrong.sum()):,} such rows)",
            "outcomes must be numbers or Booleans",
        )
    return numbers


def _arms(variants: pl.Series, config: ExperimentConfig, path: Path) -> np.ndarray:
    """int8[n] arm of each row."""
    import polars as pl

    names = [config.variants.get(arm, arm) for arm in ARMS]
    given = variants.cast(pl.String)
    truths = {n.lower() for n in names} <= {"true", "false"}
    if truths:  # true, True and TRUE are one value, however the log and the experiment write it
        names, given = [n.lower() for n in names], given.str.to_lowercase()
    unknown = ~given.is_in(names)
    if unknown.any():
        word = given[int(unknown.arg_max())]
        raise DataError(
            f"{path} row {int(unknown.arg_max()) + 1}: unknown variant {word!r} ({int(unknown.sum()):,} such rows)",
            did_you_mean(
                word, names,
                f"the arms are {names[0]!r} and {names[1]!r}; `variants` in the experiment file gives them other names",
            ),
        )
    return (given == names[1]).to_numpy().astype(np.int8)
