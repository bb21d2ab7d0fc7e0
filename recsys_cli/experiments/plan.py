"""Before an experiment: how many users and days an effect needs, and which effect the planned days show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from recsys_cli.bounds import MAX_NUMBER
from recsys_cli.errors import ConfigError, DataError
from recsys_cli.experiments.compare import metric_columns
from recsys_cli.experiments.daily import information_at
from recsys_cli.experiments.prediction import foretold
from recsys_cli.experiments.statistics import confidence_sequence
from recsys_cli.experiments.statistics.boundaries import boundaries
from recsys_cli.experiments.statistics.estimates import Adjustment, Moments, estimate
from recsys_cli.experiments.statistics.power import detectable_lift, power_of, users_needed

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig
    from recsys_cli.experiments.daily import DailyOutcomes
    from recsys_cli.experiments.metric_config import MetricConfig

EFFECTS = (0.01, 0.02, 0.05, 0.1)
"""Relative effects that are planned for where the experiment names none."""
LONGEST = 365
SMALLEST_GIVEN = 1e-9
"""Smallest mean, deviation and number of users that are taken."""


@dataclass(frozen=True)
class Baseline:
    """What the primary metric is like without an experiment, by the number of days that are looked at."""

    users: np.ndarray
    """float64[D] distinct units within the first d days"""
    mean: np.ndarray
    """float64[D] value of the metric"""
    cv: np.ndarray
    """float64[D] standard deviation of a unit over the value, after the covariate"""
    variance_reduction: float | None
    """what the covariate takes off the variance"""
    source: str

    @classmethod
    def of_numbers(cls, mean: float, deviation: float, users_a_day: float | None) -> Baseline:
        """From a mean and standard deviation of a unit. users_a_day: newcomers of each day; None where unknown.

        Raises ConfigError for numbers that no plan can come of.
        """
        if not mean > 0:
            raise ConfigError(f"a mean of {mean:g}: effects are told in parts of it", "give --mean above 0")
        for option, value in (("--mean", mean), ("--sd", deviation), ("--users-a-day", users_a_day)):
            if value is not None and not SMALLEST_GIVEN <= value <= MAX_NUMBER:
                raise ConfigError(f"{option} {value:g}: nothing can be planned with that",
                                  f"give a number from {SMALLEST_GIVEN:g} to {MAX_NUMBER:g}")
        users = np.array([np.nan if users_a_day is None else users_a_day])
        return cls(users, np.array([mean]), np.array([deviation / mean]), None, "numbers given")

    @classmethod
    def of_daily(
        cls, metric: MetricConfig, daily: DailyOutcomes, fixed: dict[str, np.ndarray], source: str
    ) -> Baseline:
        """From what units did on each day. fixed: covariates of the units. Raises DataError where it has no mean."""
        users, mean, cv, reduction = [], [], [], None
        if metric.predictors:
            *_, (_, whole) = daily.sums(True)
            metric, columns = foretold(metric, whole | fixed)
            fixed = fixed | columns
        for day, sums in daily.sums(True):
            present = daily.entered <= day
            if present.sum() < 2:
                continue
            columns = metric_columns(metric, sums | fixed)
            moments = Moments.of(columns.values[:, present])
            plain = estimate(moments, Adjustment())
            best = estimate(moments, Adjustment.of(moments)) if columns.covariate else plain
            reduction = 1 - float(best.variance / plain.variance) if columns.covariate and plain.variance > 0 else None
            users.append(float(present.sum()))
            mean.append(float(plain.value))
            cv.append(float(np.sqrt(best.variance * best.count) / plain.value) if plain.value > 0 else np.inf)
        if not mean or not np.isfinite(cv[-1]):
            raise DataError(
                f"{source}: {metric.name} has no mean above zero to plan with", "name another `primary`, or other data"
            )
        return cls(np.array(users), np.array(mean), np.array(cv), reduction, source)

    def at(self, days: int) -> tuple[float, float]:
        """(units, coefficient of variation) of so many days; beyond what was seen units go on coming as at the end."""
        seen = len(self.users)
        if days <= seen:
            return float(self.users[days - 1]), float(self.cv[days - 1])
        late = self.users[-1] - self.users[-min(seen, 4)] if seen > 1 else self.users[-1]
        return float(self.users[-1] + (days - seen) * late / max(min(seen, 4) - 1, 1)), float(self.cv[-1])


def critical_value(config: ExperimentConfig) -> float:
    """z beyond which a difference at the end is found, by the way in which the experiment stops."""
    alpha = config.alpha / (len(config.arms) - 1)
    if config.stop == "always_valid":
        return confidence_sequence.factor(alpha)
    if config.stop == "group_sequential":
        return float(boundaries([information_at(config, d) for d in range(1, config.days + 1)], alpha)[-1])
    return float(ndtri(1 - alpha / 2))


def plan(config: ExperimentConfig, baseline: Baseline) -> dict[str, Any]:
    """Users and days for each effect, and the smallest effect of the planned days.

    The control against the variant with the smallest share. Raises ConfigError where the metric is a quantile.
    """
    metric = next(m for m in config.metrics if m.name == config.deciding)
    if metric.quantile is not None:
        raise ConfigError(f"there is no plan for a quantile ({metric.name})", "name a mean or ratio as `primary`")
    z, shares = critical_value(config), [arm.share for arm in config.arms]
    control, treatment = shares[0], min(shares[1:])
    part = treatment / (control + treatment)
    traffic = config.traffic_of() * (1 - config.holdout)
    if config.layer is not None:
        traffic *= config.layer.end - config.layer.start
    effects = (config.planned_effect,) if config.planned_effect else EFFECTS
    rows = []
    for effect in effects:
        users, days = _needed(baseline, effect, part, (control + treatment) * traffic, config, z)
        rows.append(
            {
                "effect": effect,
                "control_users": int(np.ceil(users * (1 - part))),
                "treatment_users": int(np.ceil(users * part)),
                "users": int(np.ceil(users / (control + treatment))),
                "days": days,
            }
        )
    there, cv = baseline.at(config.days)
    known = bool(np.isfinite(there))
    sides = (there * traffic * control, there * traffic * treatment)
    return {
        "experiment": config.name,
        "primary": metric.name,
        "baseline": {
            "source": baseline.source,
            "mean": float(baseline.mean[-1]),
            "cv": cv,
            "variance_reduction": baseline.variance_reduction,
            "adjustment": "CUPAC" if metric.predictors else "CUPED",
        },
        "alpha": config.alpha,
        "power": config.power,
        "stop": config.stop,
        "critical_z": z,
        "shares": {arm.name: arm.share for arm in config.arms},
        "traffic": traffic,
        "effects": rows,
        "planned_days": config.days,
        "users_of_planned_days": round(there * traffic) if known else None,
        "detectable_lift": detectable_lift(cv, *sides, config.alpha, config.power, z) if known else None,
        "power_of_planned_days": [
            {"effect": effect, "power": power_of(cv, *sides, effect, z) if known else None} for effect in effects
        ],
    }


def _needed(
    baseline: Baseline, effect: float, part: float, taken: float, config: ExperimentConfig, z: float
) -> tuple[float, int | None]:
    """Units of control and variant together, and days until they are there; None beyond a year or where unknown."""
    if not np.isfinite(baseline.users[-1]):
        return users_needed(baseline.cv[-1], effect, part, config.alpha, config.power, z), None
    for days in range(1, LONGEST + 1):
        there, cv = baseline.at(days)
        needed = users_needed(cv, effect, part, config.alpha, config.power, z)
        if there * taken >= needed:
            return needed, days
    return needed, None
