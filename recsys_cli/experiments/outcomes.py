"""A table of exposures and outcomes from anywhere, made into one row a unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError, did_you_mean
from recsys_cli.experiments.compare import UNITS, averaged, require
from recsys_cli.experiments.daily import DailyOutcomes
from recsys_cli.experiments.log_file import MICROSECONDS_A_DAY, has_calendar, moments_of, numbers, read_log
from recsys_cli.experiments.segments import Segment

if TYPE_CHECKING:
    import polars as pl

    from recsys_cli.experiments.config import ExperimentConfig

EXPOSURES = "exposures"
"""Column that every log has: rows of a user, or those that are marked as `exposed`."""
NAMED = 5
"""Users in several variants who are named."""
MOST_SEGMENTS = 50


@dataclass(frozen=True)
class Outcomes:
    """One row a unit."""

    arm: np.ndarray
    """int8[U] place among the variants, 0 control"""
    columns: dict[str, np.ndarray]
    """column → float64[U]: outcomes summed over a unit's rows, covariates averaged over a user's"""
    rows: int
    """rows of the log"""
    crossovers: int
    """users who were in several variants, left out"""
    named: tuple[str, ...] = ()
    """the first of them"""
    left_out: dict[str, int] = field(default_factory=dict)
    """reason → rows that count for nothing"""
    daily: DailyOutcomes | None = None
    first_weekday: int | None = None
    segments: dict[str, Segment] = field(default_factory=dict)
    unknown: dict[str, np.ndarray] = field(default_factory=dict)
    """covariate → bool[U], where it was missing"""
    earlier: dict[str, Segment] = field(default_factory=dict)
    """earlier experiment → the variant that each unit was in"""
    ids: pl.Series | None = None
    """of the users; None where the units are clusters"""


def read_outcomes(
    path: str | Path, config: ExperimentConfig, *, start: datetime | None = None, assigned: bool = False
) -> Outcomes:
    """Read a log (CSV, TSV, Parquet or JSON lines) with `user_id`, `variant` and the metrics' columns, or the folder of
    the events of a server.

    start: rows from before are left out and counted. assigned: the log has no variants, they are those of the
    assignment. Raises DataError, naming row and column, where it cannot be read, a column is missing or holds text,
    nulls, NaN or infinities, a variant is unknown, an arm is empty, or too many users were in several variants.
    """
    if Path(path).is_dir():
        from recsys_cli.serving.outcomes import read_event_log

        called = {arm.name: arm.called for arm in config.arms}
        frame = read_event_log(path, config.key, called, {*config.segments, *config.targeting})
    else:
        frame = read_log(Path(path), _used(config))
    return outcomes_of(frame, config, str(path), start=start, assigned=assigned)


def _used(config: ExperimentConfig) -> set[str]:
    columns = {"user_id", "variant", "experiment", "timestamp", "day", "exposed", "cluster_id"}
    columns |= {c for m in config.metrics for c in (*m.outcomes, *m.before)}
    return columns | set(config.segments) | set(config.targeting) | set(config.earlier)


def outcomes_of(
    frame: pl.DataFrame, config: ExperimentConfig, where: str, *, start: datetime | None = None, assigned: bool = False
) -> Outcomes:
    """As `read_outcomes`, of a table; where: what messages call it."""
    if not frame.height:
        raise DataError(f"{where} holds no rows", "bring a log with at least one row a user")
    total = frame.height
    for column in ("user_id", *(() if assigned else ("variant",)), *(("cluster_id",) if _clusters(config) else ())):
        require(frame.columns, column, where)
        _filled(frame, column, where)
    frame, left_out = _of_experiment(frame, config, where)
    arm = _assigned(frame, config) if assigned else _arms(frame["variant"], config, where)
    outcomes, covariates = _wanted(frame, config, where)
    values = {name: numbers(frame, name, where) for name in outcomes}
    values |= {name: numbers(frame, name, where, unknown=True) for name in covariates if name not in values}
    time = moments_of(frame, where)
    user, ids = codes_of(frame["user_id"])
    keep = arm >= 0
    if not keep.all():
        left_out["of users who take no part"] = int((~keep).sum())
    keep = _exposed(frame, user, len(ids), time, start, keep, left_out, where)
    if not keep.any():
        told = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise DataError(f"{where}: nobody was exposed; of {total:,} rows {told}", "check the log, and its clock")
    shown = numbers(frame, "exposed", where) if "exposed" in frame.columns else np.ones(frame.height)
    parts = ({c: values[c] for c in names} for names in (outcomes, covariates))
    table = _Rows(user, arm, time, keep, shown, *parts)
    return _by_unit(frame, table, ids, config, total, left_out, where)


def _clusters(config: ExperimentConfig) -> bool:
    return config.unit == "cluster"


def _filled(frame: pl.DataFrame, column: str, where: str) -> None:
    import polars as pl

    empty = frame[column].is_null()
    if frame[column].dtype == pl.String:
        empty |= frame[column] == ""
    if empty.any():
        raise DataError(f"{where} row {int(empty.arg_max()) + 1}: {column} is empty")


def _of_experiment(frame: pl.DataFrame, config: ExperimentConfig, where: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows of this experiment, where the log says of which they are."""
    import polars as pl

    if "experiment" not in frame.columns:
        return frame, {}
    mine = frame.filter(pl.col("experiment").cast(pl.String) == config.key)
    if not mine.height:
        others = frame["experiment"].cast(pl.String).unique().sort().to_list()[:5]
        raise DataError(
            f"{where} holds no rows of experiment {config.key}, but of {', '.join(map(str, others))}",
            "check the log, and the experiment's name and version",
        )
    other = frame.height - mine.height
    return mine, {"of other experiments": other} if other else {}


def codes_of(column: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """int64[n] place of each value among the distinct ones in order, and these."""
    distinct = column.unique().sort()
    places = column.to_frame("v").join(
        distinct.to_frame("v").with_row_index("at"), on="v", how="left", maintain_order="left"
    )
    return places["at"].to_numpy().astype(np.int64), distinct


@dataclass(frozen=True)
class _Rows:
    """Columns of a log, row by row."""

    user: np.ndarray
    arm: np.ndarray
    time: np.ndarray | None
    keep: np.ndarray
    exposures: np.ndarray
    """float64[n] 1 where a row is an exposure: all of them, where the log does not say"""
    outcomes: dict[str, np.ndarray]
    covariates: dict[str, np.ndarray]


def _exposed(
    frame: pl.DataFrame,
    user: np.ndarray,
    users: int,
    time: np.ndarray | None,
    start: datetime | None,
    keep: np.ndarray,
    left_out: dict[str, int],
    where: str,
) -> np.ndarray:
    """bool[n] rows that count: from the start on, not from the future, and not before the user's first exposure."""
    if time is None:
        return keep
    keep = keep.copy()

    def drop(mask: np.ndarray, reason: str) -> None:
        mask = mask & keep
        if mask.any():
            left_out[reason] = int(mask.sum())
            keep[mask] = False

    if start is not None:
        drop(time < int(start.timestamp() * 1e6), "before the experiment started")
    if "timestamp" in frame.columns:
        drop(time > int(datetime.now().timestamp() * 1e6) + MICROSECONDS_A_DAY, "from the future")
    if "exposed" in frame.columns:
        shown = (numbers(frame, "exposed", where) > 0) & keep
        first = np.full(users, np.iinfo(np.int64).max)
        np.minimum.at(first, user[shown], time[shown])
        drop(first[user] == np.iinfo(np.int64).max, "of users who were never exposed")
        drop(time < first[user], "before the user's first exposure")
    return keep


def _by_unit(
    frame: pl.DataFrame, rows: _Rows, ids: pl.Series, config: ExperimentConfig, total: int, left_out: dict, where: str
) -> Outcomes:
    n, k = len(ids), len(config.arms)
    kept = np.flatnonzero(rows.keep)
    whole = len(kept) == len(rows.keep)
    user, arm = (rows.user, rows.arm) if whole else (rows.user[kept], rows.arm[kept])

    def of_rows(values: np.ndarray) -> np.ndarray:
        return values if whole else values[kept]

    count = np.bincount(user, minlength=n)
    seen = np.bincount(user * k + arm, minlength=n * k).reshape(n, k) > 0
    both, there = seen.sum(axis=1) > 1, count > 0
    share = both.sum() / there.sum()
    named = tuple(map(str, ids.filter(_mask(both)).head(NAMED).to_list()))
    if share > config.max_crossovers:
        raise DataError(
            f"{where}: {int(both.sum()):,} of {int(there.sum()):,} users ({share:.1%}) are in both arms"
            if k == 2
            else f"{where}: {int(both.sum()):,} of {int(there.sum()):,} users ({share:.1%}) are in several variants",
            f"{', '.join(named)}{' …' if both.sum() > len(named) else ''}; at most {config.max_crossovers:.1%} may be "
            "(max_crossovers); mend the assignment or the log",
        )
    columns = {EXPOSURES: np.bincount(user, weights=of_rows(rows.exposures), minlength=n)}
    for name, values in rows.outcomes.items():
        columns[name] = np.bincount(user, weights=of_rows(values), minlength=n)
    unknown = {}
    for name, values in rows.covariates.items():
        # a column may be one metric's outcome, summed, and another's covariate, averaged
        own = averaged(name) if name in columns else name
        columns[own], unknown[name] = _averages(user, of_rows(values), n)
    takes = there & ~both
    place = np.full(n, -1)
    place[takes] = np.arange(int(takes.sum()))
    side = seen.argmax(axis=1).astype(np.int8)[takes]
    columns = {c: v[takes] for c, v in columns.items()}
    unknown = {c: v[takes] for c, v in unknown.items() if v[takes].any()}
    segments = {c: _segment(frame, c, rows.user, takes, f"{where}, segments") for c in config.segments}
    earlier = {c: _segment(frame, c, rows.user, takes, f"{where}, earlier") for c in config.earlier}
    daily, weekday = _daily(frame, rows, of_rows, user, place, len(side), config)
    out = Outcomes(
        side, columns, total, int(both.sum()), named, left_out, daily, weekday, segments, unknown, earlier,
        ids.filter(_mask(takes)),
    )
    if _clusters(config):
        out = _by_cluster(out, frame, rows.user, takes, where)
    for a, each in enumerate(config.arms):
        if not (out.arm == a).any():
            raise DataError(f"{where}: nobody is in the {each.name} arm", "every variant must be in the log")
    return out


def _mask(values: np.ndarray) -> pl.Series:
    import polars as pl

    return pl.Series(values)


def _averages(user: np.ndarray, values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """float64[n] mean of what is known of each user, that of all where nothing is, and bool[n] where that was."""
    known = ~np.isnan(values)
    if not known.all():
        user, values = user[known], values[known]
    times = np.bincount(user, minlength=n)
    sums = np.bincount(user, weights=values, minlength=n)
    lacking = times == 0
    mean = np.divide(sums, times, out=np.zeros(n), where=~lacking)
    return np.where(lacking, mean[~lacking].mean() if not lacking.all() else 0.0, mean), lacking


def _first_of_users(user: np.ndarray, n: int) -> np.ndarray:
    """int64[n] first row of each user."""
    first = np.zeros(n, np.int64)
    first[user[::-1]] = np.arange(len(user))[::-1]
    return first


def _segment(frame: pl.DataFrame, column: str, user: np.ndarray, takes: np.ndarray, where: str) -> Segment:
    """What a user's first row says of a column."""
    import polars as pl

    require(frame.columns, column, where)
    values = frame[column].cast(pl.String)[_first_of_users(user, len(takes))].filter(pl.Series(takes))
    codes, names = codes_of(values.fill_null("unknown"))
    if len(names) > MOST_SEGMENTS:
        raise DataError(
            f"{where}: {column} has {len(names):,} values, too many for segments", f"at most {MOST_SEGMENTS} are told"
        )
    return Segment(tuple(names.to_list()), codes)


def _daily(
    frame: pl.DataFrame, rows: _Rows, of_rows, user: np.ndarray, place: np.ndarray, units: int, config: ExperimentConfig
) -> tuple[DailyOutcomes | None, int | None]:
    """What every unit did on every day, of the primary metric and the guardrails."""
    if rows.time is None:
        return None, None
    day = of_rows(rows.time) // MICROSECONDS_A_DAY
    first = int(day.min())
    # 1970-01-01 was a Thursday
    weekday = (first + 3) % 7 if has_calendar(frame) else None
    watched = {config.deciding, *config.guardrails}
    wanted = {c for m in config.metrics if m.name in watched for c in m.outcomes}
    columns = {EXPOSURES: of_rows(rows.exposures)} | {c: of_rows(v) for c, v in rows.outcomes.items()}
    chosen = {c: v for c, v in columns.items() if c in wanted}
    return DailyOutcomes.of(place[user], day - first + 1, chosen, units), weekday


def _by_cluster(out: Outcomes, frame: pl.DataFrame, user: np.ndarray, takes: np.ndarray, where: str) -> Outcomes:
    """Users of one cluster as one unit: everything summed, `units` counts them."""
    import polars as pl

    ids = frame["cluster_id"].cast(pl.String)[_first_of_users(user, len(takes))].filter(pl.Series(takes))
    cluster, names = codes_of(ids)
    n = len(names)
    size = np.bincount(cluster, minlength=n).astype(float)
    treated = np.bincount(cluster, weights=out.arm, minlength=n) / size
    mixed = treated != treated.round()
    if mixed.any() or (out.arm != treated[cluster]).any():
        split = int((np.bincount(cluster, weights=out.arm != treated[cluster].round(), minlength=n) > 0).sum())
        raise DataError(
            f"{where}: {max(split, int(mixed.sum())):,} of {n:,} clusters are in several variants",
            "an experiment on clusters assigns each of them whole",
        )
    columns = {c: np.bincount(cluster, weights=v, minlength=n) for c, v in out.columns.items()} | {UNITS: size}
    return Outcomes(
        treated.astype(np.int8), columns, out.rows, out.crossovers, out.named, out.left_out, None, None, {}, {}
    )


def _wanted(frame: pl.DataFrame, config: ExperimentConfig, where: str) -> tuple[list[str], list[str]]:
    """Columns to sum and columns to average; covariates that the log lacks are done without."""
    outcomes: list[str] = []
    covariates: list[str] = []
    for metric in config.metrics:
        for column in metric.outcomes:
            if column != EXPOSURES and column not in outcomes:
                require(frame.columns, column, f"{where}, metric {metric.name}")
                outcomes.append(column)
        for column in metric.before:
            if column in frame.columns and column not in covariates:
                covariates.append(column)
    return outcomes, covariates


def _assigned(frame: pl.DataFrame, config: ExperimentConfig) -> np.ndarray:
    from recsys_cli.experiments.assignment import assign_units

    attributes = {c: frame[c].to_list() for c in config.targeting if c in frame.columns}
    clusters = frame["cluster_id"].to_numpy() if _clusters(config) else None
    return assign_units(config, frame["user_id"].to_numpy(), clusters=clusters, attributes=attributes)


def _arms(variants: pl.Series, config: ExperimentConfig, where: str) -> np.ndarray:
    """int8[n] variant of each row."""
    import polars as pl

    names = [arm.called for arm in config.arms]
    given = variants.cast(pl.String)
    if {n.lower() for n in names} <= {"true", "false"}:
        # true, True and TRUE are one value, however the log and the experiment write it
        names, given = [n.lower() for n in names], given.str.to_lowercase()
    place = given.replace_strict({n: i for i, n in enumerate(names)}, default=None, return_dtype=pl.Int8)
    if place.null_count():
        unknown = place.is_null()
        word = given[int(unknown.arg_max())]
        raise DataError(
            f"{where} row {int(unknown.arg_max()) + 1}: unknown variant {word!r} ({int(unknown.sum()):,} such rows)",
            did_you_mean(
                word,
                names,
                f"the variants are {', '.join(map(repr, names))}; `variants` in the experiment file gives them other "
                "names",
            ),
        )
    return place.to_numpy()
