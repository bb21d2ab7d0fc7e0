"""A permutation test of the studentised difference, for arms in which the normal approximation is not to be trusted.

Under no effect every way of dealing the users out to the arms is equally likely, so the p-value is right whatever the
skew and however few the users (Janssen, Statistics & Probability Letters 1997; Chung and Romano, Annals of Statistics
2013). The interval takes its quantiles from the same permutations, and therefore says the same as the p-value.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from recsys_cli.experiments.statistics.estimates import Adjustment, Estimate, Moments, estimate
from recsys_cli.experiments.statistics.welch import Interval, TestResult, ratio_interval

PERMUTATIONS = 2499
LARGEST = 100_000
"""Users beyond which the permutations would take minutes."""
_CACHED = 10_000_000
_CHUNK = 4_000_000
"""Users times permutations that are dealt at once."""
SKEW_OF_STATISTIC = 0.1
"""Skewness of the difference of means beyond which Welch's test is off by more than a quarter of a point at 5 %."""
FEW_UNITS = 30
FEW_VALUES = 10
"""Units of an arm that are expected to differ from the commonest value, below which its spread is not known."""


def needs_permutation(linear: np.ndarray, counts: tuple[int, int]) -> bool:
    """Whether the smaller arm is too small for the skew or the rarity of a metric.

    linear: float64[n] contributions of all users to the metric. It asks only both arms together, so that the choice
    itself says nothing about the arms.
    """
    n = len(linear)
    if min(counts) < FEW_UNITS:
        return True
    centred = linear - linear.mean()
    second = float((centred**2).mean())
    if second <= 0:
        return False
    if (1 - _times_of_commonest(linear) / n) * min(counts) < FEW_VALUES:
        return True
    skew = float((centred**3).mean()) / second**1.5
    a, b = counts
    return abs(skew) * abs(1 / a**2 - 1 / b**2) / (1 / a + 1 / b) ** 1.5 > SKEW_OF_STATISTIC


def _times_of_commonest(values: np.ndarray) -> int:
    """How often the commonest value is there, where it is more than half of all; else how often the median is."""
    middle = np.partition(values, len(values) // 2)[len(values) // 2]
    return int((values == middle).sum())


def permutation_test(
    columns: np.ndarray, treated: np.ndarray, adjustment: Adjustment, alpha: float, permutations: int = PERMUTATIONS
) -> TestResult:
    """columns: float64[4, n] as in `Moments`. treated: bool[n]. The same data give the same p-value.

    The p-value is twice the smaller tail, with the arms as they are counted among the permutations.
    """
    control, treatment = (estimate(Moments.of(columns[:, side]), adjustment) for side in (~treated, treated))
    error = float(np.sqrt(control.variance + treatment.variance))
    gap = float(treatment.value - control.value)
    seen = gap / error
    dealt = np.concatenate(list(_statistics(columns, int(treated.sum()), adjustment, permutations)))
    dealt.sort()
    # arms that cannot be told from the observed ones, but for rounding, count on both sides
    margin = 1e-9 * max(1.0, abs(seen))
    above = permutations - np.searchsorted(dealt, seen - margin, side="left")
    below = np.searchsorted(dealt, seen + margin, side="right")
    p = min(1.0, 2 * (1 + min(above, below)) / (permutations + 1))
    # the largest rank whose tail is still significant
    rank = max(int(np.ceil(alpha / 2 * (permutations + 1) - 1e-9)) - 1, 1)
    low, high = float(dealt[rank - 1]) - margin, float(dealt[permutations - rank]) + margin
    difference = Interval(gap, gap - high * error, gap - low * error)
    # an arm without variance bounds no ratio
    varies = control.variance > 0 and treatment.variance > 0
    lift = ratio_interval(control, treatment, low, high) if varies else Interval()
    return TestResult("permutation", difference, lift, float(p), error)


def _statistics(columns: np.ndarray, treated: int, adjustment: Adjustment, permutations: int) -> Iterator[np.ndarray]:
    """Studentised differences of permuted arms, in chunks."""
    n = columns.shape[1]
    centre = columns.mean(axis=1)
    rows = columns - centre[:, None]
    products = np.concatenate([rows, (rows[:, None] * rows[None]).reshape(16, n)])
    used = np.flatnonzero(products.any(axis=1))
    total = products.sum(axis=1)
    flip = treated > n - treated
    small = n - treated if flip else treated
    for picks in _deals(n, small, permutations):
        sums = np.zeros((len(picks), 20))
        if small * 4 < n:
            for column in used:
                sums[:, column] = products[column][picks].sum(axis=1)
        else:
            sums[:, used] = _by_mask(picks, products[used], n)
        first = _estimate_of_sums(sums, small, centre, adjustment)
        rest = _estimate_of_sums(total - sums, n - small, centre, adjustment)
        control, treatment = (first, rest) if flip else (rest, first)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (treatment.value - control.value) / np.sqrt(control.variance + treatment.variance)
        yield np.nan_to_num(t, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _by_mask(picks: np.ndarray, products: np.ndarray, n: int) -> np.ndarray:
    mask = np.zeros((len(picks), n))
    np.put_along_axis(mask, picks, 1.0, axis=1)
    return mask @ products.T


def _estimate_of_sums(sums: np.ndarray, count: int, centre: np.ndarray, adjustment: Adjustment) -> Estimate:
    mean = sums[:, :4] / count
    second = sums[:, 4:].reshape(-1, 4, 4) / count
    cov = (second - mean[:, :, None] * mean[:, None, :]) * (count / (count - 1))
    return estimate(Moments(count, mean + centre, cov), adjustment)


def _deals(n: int, picked: int, permutations: int) -> Iterator[np.ndarray]:
    """int32[b, picked] members of the smaller arm, in chunks of permutations."""
    if n * permutations <= _CACHED:
        yield _deal(n, picked, permutations, 0)
        return
    size = max(1, _CHUNK // n)
    for start in range(0, permutations, size):
        yield _deal.__wrapped__(n, picked, min(size, permutations - start), start)


@lru_cache(maxsize=2)
def _deal(n: int, picked: int, permutations: int, seed: int) -> np.ndarray:
    keys = np.random.default_rng([20_111, n, picked, seed]).random((permutations, n), dtype=np.float32)
    return np.argpartition(keys, picked, axis=1)[:, :picked].astype(np.int32)
