"""What a policy does to people, creators and the variety of what is seen, from the rows of some days."""

from __future__ import annotations

import numpy as np


def gini(income: np.ndarray) -> float:
    """Inequality of n incomes, 0 where all are equal, towards 1 where one has all."""
    ordered = np.sort(np.asarray(income, float))
    total, n = ordered.sum(), len(ordered)
    if total <= 0:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def bubble_depth(user: np.ndarray, topic: np.ndarray, n_users: int, topics: int) -> np.ndarray:
    """float64[n_users] 1 less the entropy of the topics that a person saw over the largest that so many impressions
    can have; 0 for a person who saw as many topics as could be, 1 for one who saw one alone, NaN below 2 impressions.

    user, topic: int[m], an impression each.
    """
    counts = np.bincount(user.astype(np.int64) * topics + topic, minlength=n_users * topics).reshape(n_users, topics)
    total = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = counts / total[:, None]
        entropy = -np.where(p > 0, p * np.log(p), 0).sum(axis=1)
        out = 1 - entropy / np.log(np.minimum(total, topics))
    return np.where(total > 1, out, np.nan)


def paired(a: np.ndarray, b: np.ndarray, alpha: float) -> dict[str, float]:
    """Mean of b − a over people in both, with an interval by the normal distribution; NaN where nobody is."""
    from scipy.stats import norm

    gap = (b - a)[np.isfinite(a) & np.isfinite(b)]
    return _interval(float(gap.mean()), gap.var(ddof=1) / len(gap), alpha, norm) if len(gap) > 1 else _unknown()


def apart(a: np.ndarray, b: np.ndarray, alpha: float) -> dict[str, float]:
    """The same of different people."""
    from scipy.stats import norm

    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if min(len(a), len(b)) < 2:
        return _unknown()
    return _interval(float(b.mean() - a.mean()), a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b), alpha, norm)


def _interval(value: float, variance: float, alpha: float, norm) -> dict[str, float]:
    reach = float(norm.ppf(1 - alpha / 2) * np.sqrt(variance))
    return {"value": value, "low": value - reach, "high": value + reach}


def _unknown() -> dict[str, float]:
    return dict.fromkeys(("value", "low", "high"), float("nan"))


def resampled_gini(
    user: np.ndarray, author: np.ndarray, n_users: int, n_authors: int, weights: np.ndarray, among: np.ndarray
) -> np.ndarray:
    """float64[resamples] Gini of the authors' impressions where people count by weights float64[resamples, n_users].

    user, author: int[m], an impression each. among: bool[n_authors] authors who count, also those without any.
    """
    return np.array([gini(np.bincount(author, w[user], minlength=n_authors)[among]) for w in weights])
