"""Quantiles over users, compared by the bootstrap.

Drawing n users with replacement and taking the r-th smallest is drawing its rank: ⌈n·Beta(r, n − r + 1)⌉ of the sorted
sample. So many thousand bootstrap samples cost as many random numbers, whatever the number of users. Between two users
the value is interpolated, for the steps of the sample would make the test too careful.
"""

from __future__ import annotations

import numpy as np

from recsys_cli.experiments.statistics.welch import Interval, TestResult

SAMPLES = 20_000
FEW_BEYOND = 10
"""Users who must lie beyond the quantile in each arm."""


def enough_for_quantile(count: int, share: float) -> bool:
    """Whether enough of `count` values lie beyond the quantile `share`, on its thinner side, to estimate it."""
    return count * min(share, 1 - share) >= FEW_BEYOND


def quantile_test(control: np.ndarray, treatment: np.ndarray, share: float, alpha: float) -> TestResult:
    """Percentile bootstrap of the difference of the quantiles `share` (Efron and Tibshirani 1993).

    control, treatment: a value a user. The p-value is twice the share of samples on the other side of zero.
    """
    values, draws = [], []
    for arm, users in enumerate((control, treatment)):
        ordered = np.sort(users)
        n = len(ordered)
        rank = min(max(int(np.ceil(share * n)), 1), n)
        values.append(float(ordered[rank - 1]))
        beta = np.random.default_rng([7, arm, n]).beta(rank, n - rank + 1, SAMPLES)
        draws.append(np.interp(n * beta - 0.5, np.arange(n), ordered))
    gaps = np.sort(draws[1] - draws[0])
    rank = max(int(np.floor(alpha / 2 * (SAMPLES + 1))), 1)
    difference = Interval(values[1] - values[0], gaps[rank - 1], gaps[SAMPLES - rank])
    p = min(1.0, 2 * (1 + min(int((gaps <= 0).sum()), int((gaps >= 0).sum()))) / (SAMPLES + 1))
    lift = Interval()
    if np.partition(draws[0], rank - 1)[rank - 1] > 0:
        ratios = np.sort(np.divide(draws[1], draws[0], out=np.full(SAMPLES, np.inf), where=draws[0] > 0)) - 1
        lift = Interval(values[1] / values[0] - 1, ratios[rank - 1], ratios[SAMPLES - rank])
    return TestResult("bootstrap", difference, lift, float(p), float(np.std(gaps, ddof=1)))
