"""One metric in two arms: which test it takes, the effect with its interval, and what could have been seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import DataError, did_you_mean
from recsys_cli.experiments.statistics.estimates import Adjustment, Estimate, Moments, directions, estimate, spread
from recsys_cli.experiments.statistics.fisher import few_events, fisher_test
from recsys_cli.experiments.statistics.permutation import LARGEST, needs_permutation, permutation_test
from recsys_cli.experiments.statistics.power import detectable_lift
from recsys_cli.experiments.statistics.quantiles import beside_a_crowd, enough_for_quantile, quantile_of, quantile_test
from recsys_cli.experiments.statistics.welch import TestResult, welch

if TYPE_CHECKING:
    from recsys_cli.experiments.metric_config import MetricConfig

UNITS = "units"
"""Column that counts the users of a unit; one where the unit is a user."""


FORETOLD = " foretold"
"""End of the name of a covariate that is a model's prediction (`prediction.py`)."""


def averaged(column: str) -> str:
    """Name under which a covariate stands that is another metric's outcome as well."""
    return f"{column} (averaged)"


def covariate_of(users: Mapping[str, np.ndarray], column: str) -> np.ndarray | None:
    """float64[n] of a covariate, None where it is not known."""
    found = users.get(averaged(column), users.get(column))
    return None if found is None else np.asarray(found, float)


@dataclass(frozen=True)
class MetricColumns:
    """A metric of all users as numbers."""

    values: np.ndarray
    """float64[4, n] numerator, denominator and their covariates; ones where there is none"""
    covariate: str | None
    left_out: str | None
    """why a covariate is not used"""


def metric_columns(metric: MetricConfig, users: Mapping[str, np.ndarray]) -> MetricColumns:
    """The columns of a metric. Raises DataError where one is missing; covariates that are missing are done without."""
    for column in metric.outcomes:
        require(users, column, f"metric {metric.name}")
    y = np.asarray(users[metric.numerator], float)
    if metric.at_least is not None:
        y = (y >= metric.at_least).astype(float)
    one = np.ones(len(y)) if UNITS not in users else np.asarray(users[UNITS], float)
    x = one if metric.denominator is None else np.asarray(users[metric.denominator], float)
    known = [covariate_of(users, c) for c in metric.covariates]
    if not known or any(c is None for c in known):
        return MetricColumns(np.stack([y, x, np.zeros(len(y)), np.ones(len(y))]), None, None)
    values = np.stack([y, x, known[0], known[1] if len(known) > 1 else one])
    moments = Moments.of(values)
    if not (moments.mean[3] > 0 and np.isfinite(moments.mean).all() and moments.mean[1] != 0):
        return MetricColumns(np.stack([y, x, np.zeros(len(y)), np.ones(len(y))]), None, None)
    own, before, shared = spread(moments)
    if own > 0 and before > 0 and shared**2 >= (1 - 1e-9) * own * before:
        told = f"{metric.covariate} explains {metric.numerator} whole: it was not measured before the experiment"
        return MetricColumns(np.stack([y, x, np.zeros(len(y)), np.ones(len(y))]), None, told)
    return MetricColumns(values, metric.covariate if before > 0 else None, None)


def compare(
    metric: MetricConfig,
    users: Mapping[str, np.ndarray],
    arm: np.ndarray,
    alpha: float = 0.05,
    power: float = 0.8,
    treatment: int = 1,
) -> dict[str, Any]:
    """One metric in the control (arm 0) and one variant: means, difference and lift with intervals, p-value.

    Fields as in `recsys docs experiments`. Where the arms cannot be compared p_value is NaN and `refused` says why.
    """
    columns = metric_columns(metric, users)
    control, treated = arm == 0, arm == treatment
    chosen = control | treated
    values = columns.values if chosen.all() else columns.values[:, chosen]
    mask = treated[chosen]
    row = _empty(metric, columns)
    if metric.quantile is not None:
        return _quantile(row, metric.quantile, values[0], mask, alpha)
    sides = [Moments.of(values[:, m]) for m in (~mask, mask)]
    plain = [estimate(side, Adjustment()) for side in sides]
    row |= {"control_raw": float(plain[0].value), "treatment_raw": float(plain[1].value)}
    row |= {"control": row["control_raw"], "treatment": row["treatment_raw"]}
    row["difference"]["value"] = row["treatment_raw"] - row["control_raw"]
    if not all(np.isfinite(e.value) for e in plain):
        return row | {"refused": "there is nothing to divide by"}
    # no more than rounding of the values
    still = [e.variance * e.count <= 1e-15 * max(float(e.value) ** 2, 1e-300) for e in plain]
    if all(still):
        same = bool(np.isclose(row["control"], row["treatment"], rtol=1e-12, atol=0))
        return row | {"p_value": 1.0 if same else np.nan, "refused": None if same else "nobody differs from anybody"}
    result, estimates = _test(values, mask, sides, alpha, still, row)
    if result is None:
        return row | {"refused": "one arm does not vary, and there are too many users to permute"}
    if row["covariate"] is not None:
        shrunk = sum(e.variance for e in estimates) / sum(e.variance for e in plain)
        row["variance_reduction"] = float(1 - shrunk)
    return row | _fields(result, estimates) | {"detectable_lift": _detectable(estimates, alpha, power)}


def _test(
    values: np.ndarray, mask: np.ndarray, sides: list[Moments], alpha: float, still: list[bool], row: dict
) -> tuple[TestResult | None, list[Estimate]]:
    """The test that the numbers allow; None where there is none."""
    counts = (int((~mask).sum()), int(mask.sum()))
    y, x = values[0], values[1]
    if (x == 1).all() and ((y == 0) | (y == 1)).all():
        events = (int(y[~mask].sum()), int(y[mask].sum()))
        if few_events(events, counts) or any(still):
            if row["covariate"] is not None:
                row |= {"covariate": None, "covariate_left_out": f"{row['metric']}: too few events to adjust them"}
            return fisher_test(events, counts, alpha), [estimate(side, Adjustment()) for side in sides]
    both = sides[0] + sides[1]
    adjustment = Adjustment.of(both) if row["covariate"] is not None else Adjustment()
    estimates = [estimate(side, adjustment) for side in sides]
    if any(still) or needs_permutation(linear(values, both, adjustment), counts):
        if len(mask) <= LARGEST:
            return permutation_test(values, mask, adjustment, alpha), estimates
        if any(still):
            return None, estimates
    return welch(*estimates, alpha), estimates


def linear(values: np.ndarray, moments: Moments, adjustment: Adjustment) -> np.ndarray:
    """float64[n] what each unit adds to the metric, to first order; its mean is zero."""
    metric, covariate = directions(moments.mean)
    return (metric - adjustment.theta * covariate) @ values


def _empty(metric: MetricConfig, columns: MetricColumns) -> dict[str, Any]:
    nothing = {"value": np.nan, "low": np.nan, "high": np.nan}
    kind = "quantile" if metric.quantile is not None else "share" if metric.at_least is not None else "user"
    return {
        "metric": metric.name,
        "goal": metric.goal,
        "unit": kind if metric.denominator is None else "ratio",
        "method": None,
        "control": np.nan,
        "treatment": np.nan,
        "control_raw": np.nan,
        "treatment_raw": np.nan,
        "difference": dict(nothing),
        "lift": dict(nothing),
        "p_value": np.nan,
        "standard_error": np.nan,
        "refused": None,
        "covariate": columns.covariate,
        "covariate_left_out": columns.left_out,
        "variance_reduction": None,
        "detectable_lift": np.nan,
    }


def _fields(result: TestResult, estimates: list[Estimate]) -> dict[str, Any]:
    control, treatment = (float(e.value) for e in estimates)
    # a ratio to nothing, or to a loss, says nothing: there the difference is what counts
    lift = result.lift.as_dict() if control > 0 else {"value": np.nan, "low": np.nan, "high": np.nan}
    return {
        "method": result.method,
        "control": control,
        "treatment": treatment,
        "difference": result.difference.as_dict(),
        "lift": lift,
        "p_value": float(result.p_value),
        "standard_error": result.standard_error,
    }


def _quantile(row: dict, share: float, values: np.ndarray, mask: np.ndarray, alpha: float) -> dict[str, Any]:
    arms = values[~mask], values[mask]
    counts = (len(arms[0]), len(arms[1]))
    if not all(enough_for_quantile(count, share) for count in counts):
        return row | {"refused": f"too few users beyond the quantile {share:g}"}
    if beside_a_crowd(values, share, counts):
        return row | {"refused": f"the quantile {share:g} lies beside a value that many users share, in a small arm"}
    sides = [quantile_of(arm, share) for arm in arms]
    first, second = (float(side.estimate.value) for side in sides)
    row = row | {"control": first, "treatment": second, "control_raw": first, "treatment_raw": second}
    row["difference"]["value"] = second - first
    if not any(side.estimate.variance > 0 for side in sides):
        same = bool(np.isclose(first, second, rtol=1e-12, atol=0))
        return row | {"p_value": 1.0 if same else np.nan, "refused": None if same else "nobody differs from anybody"}
    result = quantile_test(*sides, alpha)
    return row | _fields(result, [side.estimate for side in sides])


def _detectable(estimates: list[Estimate], alpha: float, power: float) -> float:
    """The smallest relative effect that a two-sided test finds with the wanted power; NaN over nothing or a loss."""
    control, treatment = estimates
    if not control.value > 0:
        return float("nan")
    # the spread of both arms, as it is without the effect
    scaled = treatment.variance * (control.value / treatment.value) ** 2 if treatment.value > 0 else treatment.variance
    units = (control.variance * control.count**2 + scaled * treatment.count**2) / (control.count + treatment.count)
    return detectable_lift(float(np.sqrt(units) / control.value), control.count, treatment.count, alpha, power)


def require(columns, wanted: str, what: str) -> None:
    """Raises DataError naming the nearest column where one is missing."""
    if wanted not in columns:
        raise DataError(
            f"{what}: no column {wanted!r}", did_you_mean(wanted, columns, f"columns: {', '.join(columns)}")
        )


def has_lift(row: dict) -> bool:
    """Whether the change of a metric can be told in parts of the control, its interval too."""
    return all(np.isfinite(v) for v in row["lift"].values())


def change(row: dict, side: str) -> str:
    """The lift of a metric as per cent, or its difference where the control gives nothing to divide by."""
    difference = row["difference"][side]
    if has_lift(row):
        return f"{row['lift'][side]:+.1%}"
    return f"{difference:+.4g}" if np.isfinite(difference) else "–"


def is_good(row: dict) -> bool:
    """Whether a difference goes in the direction that its metric wants."""
    return (row["difference"]["value"] > 0) == (row["goal"] == "up")
