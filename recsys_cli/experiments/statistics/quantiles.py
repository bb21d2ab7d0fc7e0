"""Quantiles over users, by the estimator of Harrell and Davis (Biometrika 1982): the mean of all bootstrap samples.

The quantile of a bootstrap sample of n users is the user of rank ⌈n·Beta⌉; its mean weights the ordered users by a Beta
distribution, without drawing. Its error follows from what each user adds to it (the infinitesimal jackknife). Only the
users near the quantile say anything about it: the t distribution has as many degrees of freedom as there are of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, betaln, stdtr, stdtrit

from recsys_cli.experiments.statistics.estimates import Estimate
from recsys_cli.experiments.statistics.welch import Interval, TestResult, ratio_interval

FEW_BEYOND = 10
"""Users who must lie beyond the quantile in each arm."""
_REACH = 10.0
"""Standard deviations of the rank beyond which a user's weight is nothing."""
_FEW_AT_AN_EDGE = 200
"""Users of an arm below which a quantile beside a crowd of equal values is not compared."""
_CROWD = 0.3
"""Share of all users who have one value."""


@dataclass(frozen=True)
class Quantile:
    """A quantile of one arm."""

    estimate: Estimate
    near: float
    """users whose values it rests on: 1/Σw² of their weights"""


def enough_for_quantile(count: int, share: float) -> bool:
    """Whether enough of `count` values lie beyond the quantile `share`, on its thinner side, to estimate it."""
    return count * min(share, 1 - share) >= FEW_BEYOND


def beside_a_crowd(values: np.ndarray, share: float, counts: tuple[int, int]) -> bool:
    """Whether the quantile lies at the edge of a value that three tenths of all users share, within reach of chance.

    There it is one value or another rather than something with an error. values: float64[n] of both arms.
    """
    few = min(counts)
    if few >= _FEW_AT_AN_EDGE:
        return False
    reach = 2 * np.sqrt(share * (1 - share) / few)
    near = np.quantile(values, [max(share - reach, 0.0), share, min(share + reach, 1.0)])
    return near[0] < near[-1] and any((values == value).mean() >= _CROWD for value in near)


def quantile_of(values: np.ndarray, share: float) -> Quantile:
    """values: float64[n] a value a user, n ≥ 2."""
    ordered, n = np.sort(values), len(values)
    a, b = share * (n + 1), (1 - share) * (n + 1)
    spread = _REACH * np.sqrt(n * share * (1 - share))
    first, last = max(int(share * n - spread), 0), min(int(share * n + spread) + 1, n)
    edges = np.arange(first, last + 1) / n
    weight = np.diff(betainc(a, b, edges))
    weight /= weight.sum()
    window = ordered[first:last]
    # density of the weights at the steps between two users of the window, times the height of the step
    steps = edges[1:-1]
    log_density = (a - 1) * np.log(steps) + (b - 1) * np.log1p(-steps) - betaln(a, b)
    heights = np.diff(window) * np.exp(log_density)
    below = np.append(np.cumsum(heights[::-1])[::-1], 0.0)
    added = np.concatenate([below[:1], below, below[-1:]]) - float(heights @ steps)
    times = np.concatenate([[first], np.ones(len(window)), [n - last]])
    variance = float(times @ added**2) / (n * (n - 1))
    return Quantile(Estimate(float(weight @ window), variance, n), float(1 / (weight**2).sum()))


def quantile_test(control: Quantile, treatment: Quantile, alpha: float) -> TestResult:
    """Difference of two quantiles; p-value and intervals say the same. The errors must not both be 0."""
    sides = (control, treatment)
    value = [float(side.estimate.value) for side in sides]
    variance = [float(side.estimate.variance) for side in sides]
    error = float(np.sqrt(sum(variance)))
    freedom = error**4 / sum(v * v / max(side.near - 1, 1.0) for v, side in zip(variance, sides, strict=True))
    gap, reach = value[1] - value[0], float(stdtrit(freedom, 1 - alpha / 2))
    return TestResult(
        "harrell_davis",
        Interval(gap, gap - reach * error, gap + reach * error),
        ratio_interval(control.estimate, treatment.estimate, -reach, reach),
        float(2 * stdtr(freedom, -abs(gap / error))),
        error,
    )
