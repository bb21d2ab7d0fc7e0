"""Intervals that also cover what differs from day to day: clusters of users and of days at once.

A window of some days is a draw of days: a holiday or a piece of news moves everybody's figures on its day. Intervals
over users alone hold for these very days. Two-way clusters (Cameron, Gelbach and Miller, "Robust Inference with
Multiway Clustering", JBES 2011) count both: the variance over users plus that over days less that of both together,
with Student's quantile of the fewer of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST_DAYS = 5
"""Days below which nothing can be said of other days."""


@dataclass(frozen=True)
class UserDays:
    """Which user and which day each of R rows is of; a user's figure is the mean over their days."""

    user: np.ndarray
    """int64[R] from 0"""
    day: np.ndarray
    """int64[R] from 0"""

    @property
    def days(self) -> int:
        """How many different days the rows are of."""
        return int(self.day.max(initial=-1)) + 1

    def errors(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means over users of the means over their days, standard errors, and degrees of freedom, each float64[M].

        values: float64[R, M], NaN left out. NaN errors where fewer than `FEWEST_DAYS` days or two users have figures.
        """
        known = np.isfinite(values)
        users = int(self.user.max(initial=-1)) + 1
        held = _sums(known.astype(float), self.user, users)
        n = (held > 0).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = np.where(known, 1 / (held[self.user] * n), 0.0)
            mean = (weight * np.where(known, values, 0.0)).sum(axis=0) / (n > 0)
            off = weight * np.where(known, values - mean, 0.0)
            by_user, by_day = _sums(off, self.user, users), _sums(off, self.day, self.days)
            days = (_sums(known.astype(float), self.day, self.days) > 0).sum(axis=0)
            of_users = (by_user**2).sum(axis=0) * n / (n - 1)
            of_days = (by_day**2).sum(axis=0) * days / (days - 1)
            both = of_users + of_days - (off**2).sum(axis=0)
            error = np.sqrt(np.maximum(both, np.maximum(of_users, of_days)))
        enough = (days >= FEWEST_DAYS) & (n > 1)
        return mean, np.where(enough, error, np.nan), np.maximum(np.minimum(n, days) - 1.0, 1.0)

    def intervals(
        self, values: np.ndarray, unit: np.ndarray, confidence: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, low and high of each column; columns of `unit`, bool[M], stay within 0 and 1. NaN where unknown."""
        from scipy.stats import t as student

        mean, error, freedom = self.errors(values)
        reach = np.where(error > 0, student.ppf((1 + confidence) / 2, freedom) * error, np.nan)
        low, high = mean - reach, mean + reach
        return mean, np.where(unit, np.maximum(low, 0), low), np.where(unit, np.minimum(high, 1), high)


def _sums(values: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """float64[n, M] sums of rows by group."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(n))
    ordered = np.concatenate([values[order], np.zeros((1, values.shape[1]))])
    out = np.add.reduceat(ordered, starts, axis=0)
    out[np.bincount(group, minlength=n) == 0] = 0
    return out
