"""Intervals of an estimate: a bootstrap over units, and an empirical Bernstein bound."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from recsys_cli.off_policy_estimates.rows import spread
from recsys_cli.off_policy_estimates.single import Contributions

GROUPS = 2_000
"""Units are drawn one by one up to so many, beyond in as many even groups."""
RESAMPLES = 1_000


class Interval(NamedTuple):
    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low


def grouped(unit: np.ndarray) -> tuple[np.ndarray, int]:
    """(int64[n] group of each row, number of groups)."""
    n = int(unit.max(initial=-1)) + 1
    return (unit, n) if n <= GROUPS else (spread(unit, GROUPS), GROUPS)


def sums(parts: Contributions, group: np.ndarray, n: int) -> Contributions:
    """Contributions summed by group: float64[n] twice."""
    return Contributions(np.bincount(group, parts.value, minlength=n), np.bincount(group, parts.weight, minlength=n))


def standard_error(by_group: Contributions) -> float:
    """Of Σ value / Σ weight, by its linear approximation over groups."""
    value, weight = by_group
    n, total = len(value), weight.sum()
    if n < 2 or total <= 0:
        return float("nan")
    residual = value - value.sum() / total * weight
    return float(np.sqrt(n / (n - 1) * (residual @ residual)) / total)


@lru_cache(maxsize=2)
def _counts(n: int, seed: int) -> np.ndarray:
    """float64[RESAMPLES, n] how often each group is drawn, the same for all estimators."""
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    drawn += np.arange(RESAMPLES)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n).astype(float)


def bootstrap(by_group: Contributions, alpha: float, seed: int) -> Interval:
    """Studentised bootstrap (Efron and Tibshirani, 1993, chapter 12) over groups of whole units, which follows the
    skewness that large weights bring."""
    value, weight = by_group
    n, estimate, error = len(value), by_group.estimate, standard_error(by_group)
    if n < 2 or not np.isfinite(estimate):
        return Interval(float("nan"), float("nan"))
    if error == 0:
        return Interval(estimate, estimate)
    squares = np.stack([value, weight, value * value, value * weight, weight * weight], axis=1)
    v, w, vv, vw, ww = (_counts(n, seed) @ squares).T
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = v / w
        spread_of = np.sqrt(np.maximum(n / (n - 1) * (vv - 2 * drawn * vw + drawn**2 * ww), 0)) / w
        t = (drawn - estimate) / spread_of
    t = t[np.isfinite(t)]
    if len(t) < RESAMPLES / 2:  # so little was drawn that most resamples hold one value alone
        return Interval(float("nan"), float("nan"))
    high, low = np.quantile(t, [alpha / 2, 1 - alpha / 2])
    return Interval(float(estimate - low * error), float(estimate - high * error))


def empirical_bernstein(by_group: Contributions, alpha: float) -> Interval:
    """Holds at any size, for contributions within the range that was observed (Maurer and Pontil, COLT 2009)."""
    value, weight = by_group
    n, total = len(value), weight.sum()
    if n < 2 or total <= 0:
        return Interval(float("nan"), float("nan"))
    estimate = value.sum() / total
    x = estimate + (value - estimate * weight) * n / total
    told = np.log(4 / alpha)
    reach = float(np.sqrt(2 * x.var(ddof=1) * told / n) + 7 * np.ptp(x) * told / (3 * (n - 1)))
    return Interval(float(estimate - reach), float(estimate + reach))


def slope(estimates: list[float], widths: list[float]) -> int:
    """Place of the estimator that SLOPE chooses (Su, Srinath and Krishnamurthy, ICML 2020).

    estimates: in the order of rising bias. widths: half widths of their intervals. It is the last whose interval meets
    those of all before it; an interval that is wider than one before it is taken as that one.
    """
    widths = np.minimum.accumulate(np.asarray(widths, float))
    low, high = -np.inf, np.inf
    for place, (estimate, width) in enumerate(zip(estimates, widths, strict=True)):
        low, high = max(low, estimate - width), min(high, estimate + width)
        if low > high:
            return place - 1
    return len(estimates) - 1
