"""The effect day by day: what is known by each day, what each day brought alone, and when it may be decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, ndtri

from recsys_cli.experiments.compare import UNITS, averaged, metric_columns
from recsys_cli.experiments.statistics import confidence_sequence
from recsys_cli.experiments.statistics.boundaries import boundaries
from recsys_cli.experiments.statistics.estimates import Adjustment, Estimate, Moments, estimate
from recsys_cli.experiments.statistics.shrinkage import shrink
from recsys_cli.experiments.statistics.welch import ratio_interval

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig
    from recsys_cli.experiments.metric_config import MetricConfig

FEW = 2
"""Units of an arm below which a day tells nothing."""


@dataclass(frozen=True)
class DailyOutcomes:
    """What every unit did on every day."""

    unit: np.ndarray
    """int[R] place among the units"""
    day: np.ndarray
    """int[R] day from 1 on, rising"""
    columns: dict[str, np.ndarray]
    """column → float64[R] sums of that unit on that day"""
    entered: np.ndarray
    """int[U] day on which a unit first counts"""

    @classmethod
    def of(cls, unit: np.ndarray, day: np.ndarray, columns: dict[str, np.ndarray], units: int) -> DailyOutcomes:
        """From rows: unit int[n] (-1 counts for nothing), day int[n] from 1 on, columns float64[n] to be summed."""
        span = int(day.max()) + 1
        good = unit >= 0
        if not good.all():
            unit, day, columns = unit[good], day[good], {c: v[good] for c, v in columns.items()}
        key = day * units + unit
        if units * span <= 4 * len(key) + 1_000_000:
            there = np.flatnonzero(np.bincount(key, minlength=units * span))
            places = np.zeros(units * span, np.int64)
            places[there] = np.arange(len(there))
            at = places[key]
        else:
            there, at = np.unique(key, return_inverse=True)
        sums = {c: np.bincount(at, weights=v, minlength=len(there)) for c, v in columns.items()}
        entered = np.full(units, span)
        np.minimum.at(entered, there % units, there // units)
        return cls(there % units, there // units, sums, entered)

    @property
    def days(self) -> np.ndarray:
        """The days that there are, rising."""
        return np.unique(self.day)

    def sums(self, upto: bool) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """For each day the sums of all units, float64[U]: up to the end of it, or of the day alone."""
        n, totals = len(self.entered), {name: np.zeros(len(self.entered)) for name in self.columns}
        days = self.days
        starts = np.searchsorted(self.day, np.append(days, days[-1] + 1)) if len(days) else []
        for number, day in enumerate(days):
            rows = slice(starts[number], starts[number + 1])
            alone = {c: np.bincount(self.unit[rows], weights=v[rows], minlength=n) for c, v in self.columns.items()}
            if not upto:
                yield int(day), alone
                continue
            for name, values in alone.items():
                totals[name] = totals[name] + values
            yield int(day), dict(totals)


@dataclass(frozen=True)
class Effect:
    """An effect in parts of the control's value, or as a difference where that is not above zero."""

    value: float
    error: float
    """standard error"""
    null_error: float
    """standard error if there were no effect: what a test of that takes"""
    relative: bool
    control: Estimate
    treatment: Estimate

    def interval(self, reach: float) -> tuple[float, float]:
        """Everything that is not further than `reach` standard errors away: it leaves out zero where the test does."""
        if self.relative:
            found = ratio_interval(self.control, self.treatment, -reach, reach)
            if np.isfinite(found.low):
                return found.low, found.high
        return self.value - reach * self.null_error, self.value + reach * self.null_error


def effect_of(control: Estimate, treatment: Estimate) -> Effect:
    """The effect with its standard error, by the delta method where it is relative."""
    c, t = float(control.value), float(treatment.value)
    scale, ratio = (c, t / c) if c > 0 else (1.0, 1.0)
    error = float(np.sqrt(treatment.variance + ratio**2 * control.variance) / scale)
    null_error = float(np.sqrt(treatment.variance + control.variance) / scale)
    return Effect((t - c) / scale, error, null_error, c > 0, control, treatment)


def follow(
    metric: MetricConfig,
    daily: DailyOutcomes,
    fixed: dict[str, np.ndarray],
    arm: np.ndarray,
    treatment: int,
    config: ExperimentConfig,
) -> list[dict[str, Any]]:
    """One row a day: the effect of everything up to then with its interval of that day, its always-valid band, the
    boundary that spends α, and the effect of the day alone.

    fixed: columns of the units that do not change with the days, as covariates. Days on which an arm has fewer than
    `min_users` units are left out. Quantiles are not followed.
    """
    if metric.quantile is not None:
        return []
    rows = []
    for (day, sums), (_, alone) in zip(daily.sums(True), daily.sums(False), strict=True):
        present = daily.entered <= day
        effect = _effect(metric, sums | fixed, arm, treatment, present, config.min_users)
        if effect is not None and effect.error > 0:
            today = _effect(metric, alone, arm, treatment, present, config.min_users)
            rows.append({"day": day, "effect": effect, "today": today if today and today.error > 0 else None})
    return _bands(rows, config)


def _effect(
    metric: MetricConfig, columns: dict, arm: np.ndarray, treatment: int, present: np.ndarray, least: int
) -> Effect | None:
    if any(c not in columns for c in metric.outcomes):
        columns = columns | {c: np.zeros(len(arm)) for c in metric.outcomes if c not in columns}
    there = np.flatnonzero(present & ((arm == 0) | (arm == treatment)))
    masks = [arm[there] == side for side in (0, treatment)]
    if min(int(m.sum()) for m in masks) < max(least, FEW):
        return None
    needed = {*metric.outcomes, *metric.covariates, *map(averaged, metric.covariates), UNITS}
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = metric_columns(metric, {c: columns[c][there] for c in needed if c in columns})
        sides = [Moments.of(whole.values[:, m]) for m in masks]
        if not all(side.mean[1] for side in sides):
            return None
        adjustment = Adjustment.of(sides[0] + sides[1]) if whole.covariate else Adjustment()
        found = effect_of(*(estimate(side, adjustment) for side in sides))
    return found if np.isfinite(found.value) and np.isfinite(found.error) else None


def _bands(rows: list[dict[str, Any]], config: ExperimentConfig) -> list[dict[str, Any]]:
    """The rows with intervals for one look and for any number of looks."""
    # an effect is relative on all days or on none, so that they can be told together
    relative = all(row["effect"].relative for row in rows)
    rows = [row for row in rows if row["effect"].relative == relative]
    if not rows:
        return []
    days = np.array([row["day"] for row in rows])
    values = np.array([row["effect"].value for row in rows])
    errors = np.array([row["effect"].null_error for row in rows])
    planned = planned_error(config, errors[0], information_at(config, int(days[0])))
    always = confidence_sequence.reach(errors, planned, _alpha_of_variant(config)) / errors
    p_always = confidence_sequence.p_value(values, errors, planned)
    bound = _bounds(config, days)
    z = float(ndtri(1 - config.alpha / 2))
    once = [row["effect"].interval(z) for row in rows]
    ever = [row["effect"].interval(float(k)) for row, k in zip(rows, always, strict=True)]
    return [
        {
            "day": int(days[i]),
            "relative": relative,
            "value": float(values[i]),
            "low": once[i][0],
            "high": once[i][1],
            "always_low": ever[i][0],
            "always_high": ever[i][1],
            "p_value": float(2 * ndtr(-abs(values[i] / errors[i]))),
            "always_p_value": float(p_always[i]),
            "z": float(values[i] / errors[i]),
            "boundary": float(bound[i]),
            "day_alone": row["today"].value if (row := rows[i])["today"] else None,
            "day_alone_error": row["today"].error if row["today"] else None,
        }
        for i in range(len(rows))
    ]


def planned_error(config: ExperimentConfig, first: float, information: float) -> float:
    """Standard error at which the always-valid band is narrowest: the one that finds the planned effect, else the one
    that the first look leads to expect of the last day."""
    if config.planned_effect is not None:
        return config.planned_effect / (confidence_sequence.factor(config.alpha) + float(ndtri(config.power)))
    return first * float(np.sqrt(min(information, 1.0)))


def _alpha_of_variant(config: ExperimentConfig) -> float:
    """Every variant has its part of α, so that looking at several is as safe as at one."""
    return config.alpha / (len(config.arms) - 1)


def information_at(config: ExperimentConfig, day: int) -> float:
    """Share of the planned information that the end of a day has, by days and the ramp's shares of the users."""
    shares = np.cumsum([config.traffic_of(d) for d in range(1, max(day, config.days) + 1)])
    planned = shares[config.days - 1]
    return float(shares[day - 1] / planned) if planned > 0 else day / config.days


def _bounds(config: ExperimentConfig, days: np.ndarray) -> np.ndarray:
    """z of the group-sequential boundary on each day; after the planned end that of the end stays."""
    shares = np.array([information_at(config, int(day)) for day in days])
    looks = np.unique(np.minimum(shares, 1.0))
    looks = looks[looks > 0]
    if not len(looks):
        return np.full(len(days), np.inf)
    found = _boundaries(tuple(looks.tolist()), _alpha_of_variant(config))
    place = np.searchsorted(looks, np.minimum(shares, 1.0))
    return np.where(shares > 0, found[np.minimum(place, len(looks) - 1)], np.inf)


@lru_cache(maxsize=8)
def _boundaries(looks: tuple[float, ...], alpha: float) -> np.ndarray:
    return boundaries(looks, alpha)


def novelty(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Whether the effect of single days grows or fades with the logarithm of the day; None under four days.

    Least squares weighted by the days' errors. Days share users, whose correlation is left out: the p-value is a hint.
    """
    days = [r for r in rows if r["day_alone"] is not None]
    if len(days) < 4:
        return None
    x = np.log([r["day"] for r in days])
    y, error = (np.array([r[name] for r in days]) for name in ("day_alone", "day_alone_error"))
    weight = 1 / error**2
    centre = weight @ x / weight.sum()
    inner = float(weight @ (x - centre) ** 2)
    slope = float(weight @ ((x - centre) * (y - weight @ y / weight.sum())) / inner)
    p = float(2 * ndtr(-abs(slope) * np.sqrt(inner)))
    return {"slope_per_e_fold": slope, "p_value": p, "first_day": float(y[0]), "last_day": float(y[-1])}


def weekdays(rows: list[dict[str, Any]], first_weekday: int | None) -> dict[str, Any] | None:
    """Effects of the days of the week and whether they differ (Cochran's Q); None under two weeks.

    first_weekday: of day 1, 0 for Monday; None where the log has day numbers only, which then begin the week.
    """
    days = [r for r in rows if r["day_alone"] is not None]
    if len(days) < 14:
        return None
    number = (np.array([r["day"] for r in days]) - 1 + (first_weekday or 0)) % 7
    y, error = (np.array([r[name] for r in days]) for name in ("day_alone", "day_alone_error"))
    weight = 1 / error**2
    there = np.unique(number)
    total = np.array([weight[number == d].sum() for d in there])
    effect = np.array([(weight * y)[number == d].sum() for d in there]) / total
    found = shrink(effect, 1 / np.sqrt(total))
    names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    label = names if first_weekday is not None else tuple(f"day {d + 1} of 7" for d in range(7))
    return {"p_value": found.p_value, "effects": {label[d]: float(e) for d, e in zip(there, effect, strict=True)}}
