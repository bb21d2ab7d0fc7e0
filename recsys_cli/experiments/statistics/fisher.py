"""Fisher's exact test of two shares with few events, and the exact interval that goes with it.

Given the number of events in both arms, how many fall into the treatment is hypergeometric. The p-value is twice the
smaller tail and the interval of the odds ratio inverts the same test (Cornfield 1956), so that both say the same. It is
told as a difference and a lift of the shares which have that odds ratio and the number of events seen.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from recsys_cli.experiments.statistics.welch import Interval, TestResult

FEW_EVENTS = 10
"""Events (or their absence) expected in an arm below which the exact test is taken."""


def few_events(events: tuple[int, int], counts: tuple[int, int]) -> bool:
    """Whether a table of two shares has too small an expected cell for Welch's test."""
    share = sum(events) / sum(counts)
    return min(counts) * min(share, 1 - share) < FEW_EVENTS


def fisher_test(events: tuple[int, int], counts: tuple[int, int], alpha: float) -> TestResult:
    """events, counts: (control, treatment)."""
    (x0, x1), (n0, n1) = events, counts
    total = x0 + x1
    support = np.arange(max(0, total - n0), min(total, n1) + 1)
    weight = _choose(n1, support) + _choose(n0, total - support)

    def tails(log_odds: float) -> tuple[float, float]:
        """P(X ≤ x1), P(X ≥ x1) where the odds ratio is exp(log_odds)."""
        logs = weight + support * log_odds
        mass = np.exp(logs - logs.max())
        mass /= mass.sum()
        return float(mass[support <= x1].sum()), float(mass[support >= x1].sum())

    p = min(1.0, 2 * min(tails(0.0)))
    low = -np.inf if x1 == support[0] else _solve(lambda o: tails(o)[1] - alpha / 2)
    high = np.inf if x1 == support[-1] else _solve(lambda o: alpha / 2 - tails(o)[0])
    ends = [_shares(o, total, n0, n1) for o in (low, high)]
    c, t = x0 / n0, x1 / n1
    gap = Interval(t - c, ends[0][1] - ends[0][0], ends[1][1] - ends[1][0])
    lift = Interval(t / c - 1, *(b / a - 1 for a, b in ends)) if c > 0 and min(a for a, _ in ends) > 0 else Interval()
    error = float(np.sqrt(c * (1 - c) / n0 + t * (1 - t) / n1))
    return TestResult("fisher", gap, lift, p, error)


def _choose(n: int, k: np.ndarray) -> np.ndarray:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _solve(function, low: float = -60.0, high: float = 60.0) -> float:
    """Where a rising function of the log odds ratio is zero."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2


def _shares(log_odds: float, total: int, n0: int, n1: int) -> tuple[float, float]:
    """Shares of both arms with an odds ratio and together so many events."""
    if np.isinf(log_odds):
        first = min(total / n1, 1.0) if log_odds > 0 else max(0.0, (total - n0) / n1)
        return (total - first * n1) / n0, first
    odds = np.exp(log_odds)
    low, high = max(0.0, (total - n1) / n0), min(1.0, total / n0)
    for _ in range(80):
        share = (low + high) / 2
        other = odds * share / (1 - share + odds * share)
        low, high = (share, high) if n0 * share + n1 * other < total else (low, share)
    share = (low + high) / 2
    return share, (total - n0 * share) / n1
