"""Welch's test, and intervals of differences and of lifts that say the same as the p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from recsys_cli.experiments.statistics.estimates import Estimate


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval; NaN where there is none."""

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")

    def as_dict(self) -> dict[str, float]:
        return {"value": float(self.value), "low": float(self.low), "high": float(self.high)}


@dataclass(frozen=True)
class TestResult:
    """What a test says of treatment against control."""

    __test__ = False
    method: str
    """welch, permutation, fisher or harrell_davis"""
    difference: Interval
    lift: Interval
    """in parts of the control; NaN where the control is not clearly above zero"""
    p_value: float
    """two-sided; below α exactly where the intervals leave out no effect"""
    standard_error: float
    """of the difference"""


def welch(control: Estimate, treatment: Estimate, alpha: float) -> TestResult:
    """Welch's unequal-variances t-test with the degrees of freedom of Satterthwaite (Biometrika 1947)."""
    error = float(np.sqrt(control.variance + treatment.variance))
    freedom = degrees_of_freedom(control, treatment)
    gap = float(treatment.value - control.value)
    p = float(2 * stdtr(freedom, -abs(gap / error)))
    reach = float(stdtrit(freedom, 1 - alpha / 2))
    return TestResult(
        "welch",
        Interval(gap, gap - reach * error, gap + reach * error),
        ratio_interval(control, treatment, -reach, reach),
        p,
        error,
    )


def degrees_of_freedom(control: Estimate, treatment: Estimate) -> float:
    """Of the difference of two means of unequal variance (Welch, Biometrika 1947)."""
    a, b = float(control.variance), float(treatment.variance)
    return (a + b) ** 2 / (a * a / (control.count - 1) + b * b / (treatment.count - 1))


def ratio_interval(control: Estimate, treatment: Estimate, low: float, high: float) -> Interval:
    """Interval of treatment/control − 1 (Fieller, JRSS B 1954), which leaves out 0 where that of the difference does.

    low, high: quantiles of the studentised difference between which it lies in 1 − α of all cases. NaN where the
    control's own interval reaches zero, so that a ratio to it has no bounds.
    """
    c, t = float(control.value), float(treatment.value)
    widest = max(abs(low), abs(high))
    if not c > 0 or widest**2 * control.variance >= c * c:
        return Interval()

    def root(quantile: float) -> float:
        # (t − ρc)² = q²(var_t + ρ² var_c): the side on which t − ρc has the sign of the quantile
        square = quantile**2
        a = c * c - square * control.variance
        inner = max(square * (t * t * control.variance + c * c * treatment.variance
                              - square * control.variance * treatment.variance), 0.0)
        return float((t * c - np.sign(quantile) * np.sqrt(inner)) / a)

    return Interval(t / c - 1, root(high) - 1, root(low) - 1)
