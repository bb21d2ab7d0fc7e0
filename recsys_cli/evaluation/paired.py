"""Two systems on the same users: what differs, whether beyond noise, and what could have been seen at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_cli.evaluation.day_intervals import UserDays
from recsys_cli.evaluation.intervals import FEWEST, bootstrap_means, differing

ALPHA = 0.05
"""Chance of calling two equal systems different that is accepted, for the metric that is spoken of."""
POWER = 0.8
"""Chance with which the smallest detectable difference would be found."""


def compare(
    first: np.ndarray, second: np.ndarray, names: list[str], *, resamples: int = 1000, seed: int = 0,
    days: UserDays | None = None,
) -> dict[str, dict[str, Any]]:
    """Each metric: second − first, user by user.

    first, second: float64[U, M], NaN where a user has no figure. Gives "first", "second" (means over users who have
    both), "value" with "low" and "high" (bootstrap-t), "p" (paired t-test: Smucker et al., CIKM 2007), "detectable"
    (the smallest true difference found with 80 % chance at 5 %), "users" who have both and "differ" of them. Where
    fewer than ten rows have another figure there is neither interval nor test. days: the rows are days of
    users, and what differs from day to day counts. `correct` adds "p_holm" and "verdict".
    """
    from scipy.stats import t as student

    less = second - first
    if days is None:
        value, low, high = bootstrap_means(less, resamples=resamples, seed=seed)
    else:
        value, low, high = days.intervals(less, np.zeros(len(names), bool))
    both = np.isfinite(less)
    n = both.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(both, less - value, 0.0)
        error = np.sqrt((centred**2).sum(axis=0) / (n * (n - 1.0)))
        p = 2 * student.sf(np.abs(value) / error, np.maximum(n - 1, 1))
        freedom = np.maximum(n - 1, 1)
        if days is not None:
            _, error, freedom = days.errors(less)
            p = 2 * student.sf(np.abs(value) / error, freedom)
        means = [np.where(both, side, 0.0).sum(axis=0) / n for side in (first, second)]
        reach = student.ppf(1 - ALPHA / 2, freedom) + student.ppf(POWER, freedom)
        if days is not None:  # means over users, not over rows
            means = [days.errors(np.where(both, side, np.nan))[0] for side in (first, second)]
    enough = (differing(less) >= FEWEST) & (error > 0)
    differ = (both & (less != 0)).sum(axis=0)
    if days is not None:
        n, differ = (
            np.array([len(np.unique(days.user[rows[:, m]])) for m in range(less.shape[1])])
            for rows in (both, both & (less != 0))
        )
    out = {}
    for m, name in enumerate(names):
        row = {
            "first": float(means[0][m]), "second": float(means[1][m]),
            "value": float(value[m]), "low": float(low[m]), "high": float(high[m]), "p": None, "p_holm": None,
            "detectable": None, "users": int(n[m]), "differ": int(differ[m]), "verdict": "too few differ",
        }
        if enough[m]:
            row |= {
                "p": float(p[m]), "detectable": float(reach[m] * error[m]),
            }
        out[name] = row
    return out


def correct(comparisons: list[dict[str, dict[str, Any]]], primary: str | None) -> None:
    """Add "p_holm" and "verdict" to every metric of comparisons with one system.

    The metric that is spoken of, `primary`, was named before anything was seen: Holm's correction is for the number of
    comparisons alone. The others are corrected for all of them in all comparisons. "verdict": "higher" or "lower" where
    `p_holm` is below 5 %, else "tie"; "too few differ" without a test.
    """
    families: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for tests in comparisons:
        for name, row in tests.items():
            if row["p"] is not None:
                families[name == primary].append(row)
    for family in families.values():
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
            row["verdict"] = "tie" if p >= ALPHA else "higher" if row["value"] > 0 else "lower"


def holm(p: list[float]) -> list[float]:
    """p-values corrected for their number by Holm (Scandinavian Journal of Statistics 1979)."""
    order = np.argsort(p)
    out, most = [0.0] * len(p), 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[at]))
        out[at] = most
    return out


def sentence(metric: str, row: dict[str, Any], first: str, second: str) -> str:
    """One metric of a comparison in words that may be quoted."""
    figures = f"{row['second']:.4f} against {row['first']:.4f}"
    if row["verdict"] == "too few differ":
        if not row["differ"]:
            return f"{second} and {first} are the same by {metric}: no user of {row['users']:,} differs."
        return (
            f"{second} cannot be told from {first} by {metric}: {figures}, and {row['differ']:,} of {row['users']:,} "
            "users differ, too few to test."
        )
    span = f"{row['value']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
    p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"
    if row["verdict"] == "tie":
        return (
            f"{second} ties with {first} by {metric}: {figures}, {span}, within noise ({p}); on these {row['users']:,} "
            f"users a difference of {row['detectable']:.4f} would have been found with 80 % chance."
        )
    word = "above" if row["verdict"] == "higher" else "below"
    return f"{second} is {word} {first} by {metric}: {figures}, {span}, {p} over {row['users']:,} users."


def changed(first: np.ndarray, second: np.ndarray, most: int = 10) -> list[tuple[int, float]]:
    """(place, second − first) of the users whose figure changes most, the largest change first."""
    less = np.nan_to_num(second - first)
    order = np.argsort(-np.abs(less), kind="stable")[:most]
    return [(int(at), float(less[at])) for at in order if less[at]]
