"""What users did before an experiment, as a baseline for its plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.experiments.clusters import clusters_of
from recsys_cli.experiments.compare import UNITS, require
from recsys_cli.experiments.daily import DailyOutcomes
from recsys_cli.experiments.log_file import MICROSECONDS_A_DAY, moments_of, numbers, read_log
from recsys_cli.experiments.outcomes import EXPOSURES, codes_of
from recsys_cli.experiments.plan import Baseline

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.experiments.config import ExperimentConfig


def baseline_of_log(path: Path, config: ExperimentConfig) -> Baseline:
    """The primary metric in a log with `timestamp` or `day`; variants, if it has any, are taken together."""
    metric = next(m for m in config.metrics if m.name == config.deciding)
    unit = "cluster_id" if config.unit == "cluster" else "user_id"
    frame = read_log(path, {unit, "timestamp", "day", *metric.outcomes, *metric.before})
    require(frame.columns, unit, str(path))
    for column in metric.outcomes:
        if column != EXPOSURES:
            require(frame.columns, column, str(path))
    time = moments_of(frame, str(path))
    if time is None:
        raise DataError(f"{path} has no days to plan with", "bring a column `timestamp` or `day`")
    user, ids = codes_of(frame[unit])
    day = time // MICROSECONDS_A_DAY
    rows = {c: np.ones(len(user)) if c == EXPOSURES else numbers(frame, c, str(path)) for c in metric.outcomes}
    daily = DailyOutcomes.of(user, day - day.min() + 1, rows, len(ids))
    fixed = {}
    for column in metric.before:
        if column in frame.columns:
            fixed[column] = np.bincount(user, weights=numbers(frame, column, str(path))) / np.bincount(user)
    return Baseline.of_daily(metric, daily, fixed, str(path))


def baseline_of_dataset(dataset: Dataset, config: ExperimentConfig) -> Baseline:
    """The primary metric in the last days of a dataset, with the days before them as covariate.

    Raises DataError where the dataset does not hold what the metric counts, or no days before.
    """
    metric = next(m for m in config.metrics if m.name == config.deciding)
    log, days = dataset.log, config.days
    end = int(log.time[-1]) + 1
    start = end - days * MICROSECONDS_A_DAY
    if start <= int(log.time[0]):
        raise DataError(f"{dataset.path} holds fewer than {days} days", "lower `days`, or plan with --mean and --sd")
    now, past = log.window(start, end), log.window(start - 14 * MICROSECONDS_A_DAY, start)
    rows = _counted(now, list(metric.outcomes), str(dataset.path))
    unit_of = clusters_of(dataset) if config.unit == "cluster" else np.arange(len(dataset.user_ids))
    user, inverse = np.unique(unit_of[now.user], return_inverse=True)
    daily = DailyOutcomes.of(inverse, (now.time - start) // MICROSECONDS_A_DAY + 1, rows, len(user))
    fixed = {UNITS: np.bincount(unit_of)[user].astype(float)} if config.unit == "cluster" else {}
    names = {c: c.removeprefix("before_") for c in metric.before}
    for column, values in _counted(past, list(names.values()), str(dataset.path)).items():
        sums = np.bincount(unit_of[past.user], weights=values, minlength=int(unit_of.max()) + 1)
        fixed |= {before: sums[user] for before, name in names.items() if name == column}
    return Baseline.of_daily(metric, daily, fixed, str(dataset.path))


def _counted(log: Log, columns: list[str], where: str) -> dict[str, np.ndarray]:
    """What each row of a log adds to a column of outcomes."""
    known = {"impressions": np.ones(len(log))} | {a: done.astype(float) for a, done in log.actions.items()}
    known["engagement"] = sum((known[a] for a in log.positive_actions), np.zeros(len(log)))
    known["interactions"], known["negative"] = log.positive.astype(float), log.negative.astype(float)
    if log.dwell is not None:
        known["dwell"] = np.nan_to_num(log.dwell).astype(float)
    if log.session is not None:
        known["sessions"] = _first(log.session)
    width = int(log.time[-1] // MICROSECONDS_A_DAY) + 1 if len(log) else 1
    known["days_active"] = _first(log.user.astype(np.int64) * width + log.time // MICROSECONDS_A_DAY)
    for column in columns:
        require(known, column, f"{where}, what a log of impressions counts")
    return {c: known[c] for c in columns}


def _first(labels: np.ndarray) -> np.ndarray:
    """float64[n] 1 at the first row of each label."""
    out = np.zeros(len(labels))
    out[np.unique(labels, return_index=True)[1]] = 1.0
    return out
