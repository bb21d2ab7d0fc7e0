"""Users by any attribute: each segment's figures, the worst one, and whether its gap is beyond noise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl

from recsys_cli.errors import UsageError, did_you_mean
from recsys_cli.evaluation.intervals import FEWEST, bootstrap_means
from recsys_cli.evaluation.paired import holm

BINS = 5
"""Segments that a column of many numbers is cut into, of about as many users each."""
MOST = 12
"""Segments of one attribute; the rarest values beyond are put together."""


def labels_of(column: pl.Series) -> tuple[np.ndarray, str | None]:
    """object[U] the segment of each user, and a remark where values were put together; unknown ones are "unknown"."""
    values = column
    distinct = values.drop_nulls().n_unique()
    if values.dtype.is_numeric() and distinct > MOST:
        return _binned(values.cast(pl.Float64)), f"{column.name}: {distinct:,} numbers, cut into {BINS} ranges"
    if values.dtype.is_temporal() and distinct > MOST:
        years = values.dt.year()
        if years.n_unique() > MOST or years.n_unique() < 2:
            return _binned(values.cast(pl.Int64).cast(pl.Float64)), f"{column.name}: moments, cut into {BINS} ranges"
        values = years
    text = values.cast(pl.String).fill_null("unknown")
    remark = None
    if text.n_unique() > MOST:
        kept = text.value_counts(sort=True)[column.name][: MOST - 1]
        remark = f"{column.name}: {distinct:,} values, the {MOST - 1} commonest and the others"
        text = pl.select(pl.when(text.is_in(kept.implode())).then(text).otherwise(pl.lit("others"))).to_series()
    return np.array(text.to_list(), object), remark


def _binned(values: pl.Series) -> np.ndarray:
    numbers = values.fill_null(np.nan).to_numpy()
    known = np.isfinite(numbers)
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, max(len(edges) - 2, 0))
    names = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges)] or [f"{edges[0]:g}"]
    return np.array([names[p] if k else "unknown" for p, k in zip(place, known, strict=True)], object)


def check(names: list[str], users: pl.DataFrame | None) -> None:
    """Raises UsageError for a segment that is no attribute of users."""
    known = [c for c in users.columns if c != "user"] if users is not None else []
    for name in names:
        if name not in known:
            told = f"known attributes: {', '.join(known)}" if known else "no attributes of users are known"
            raise UsageError(f"no attribute {name!r} of users", did_you_mean(name, known, told))


def by_segment(
    labels: np.ndarray, values: np.ndarray, names: list[str], unit: np.ndarray, *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Each segment: "segment", "users", "metrics" (name → value with interval) and "gap" of each metric.

    labels: object[U]. values: float64[U, M]. "gap" is the mean of everybody else less that of the segment, with its
    interval and `p`, Welch's t-test corrected by Holm over the segments; none where either side has fewer than ten
    users who differ from the rest, for then there is no verdict.
    """
    segments = sorted(set(labels.tolist()))
    out = []
    tests: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    for at, segment in enumerate(segments):
        mine = labels == segment
        figures = bootstrap_means(values[mine], resamples=resamples, seed=seed, unit=unit)
        metrics = {
            name: {"value": float(v), "low": float(a), "high": float(b)}
            for name, v, a, b in zip(names, *figures, strict=True)
        }
        gaps = {}
        if len(segments) > 1:
            for m, name in enumerate(names):
                gaps[name] = gap = _gap(values[mine, m], values[~mine, m])
                if gap["p"] is not None:
                    tests[name].append((at, gap["p"]))
        out.append({"segment": segment, "users": int(mine.sum()), "metrics": metrics, "gap": gaps})
    for name, found in tests.items():
        for (at, _), p in zip(found, holm([p for _, p in found]), strict=True):
            out[at]["gap"][name]["p"] = p
    return out


def _gap(mine: np.ndarray, others: np.ndarray) -> dict[str, float | None]:
    """Mean of the others less mine by Welch's interval; no interval and no p where either side is too few."""
    from scipy.stats import t as student

    mine, others = mine[np.isfinite(mine)], others[np.isfinite(others)]
    if not len(mine) or not len(others):
        return {"value": None, "low": None, "high": None, "p": None}
    value = float(others.mean() - mine.mean())
    if min(len(mine), len(others)) < FEWEST or (mine.min() == mine.max() and others.min() == others.max()):
        return {"value": value, "low": None, "high": None, "p": None}
    parts = [side.var(ddof=1) / len(side) for side in (mine, others)]
    error, n = np.sqrt(sum(parts)), [len(mine) - 1, len(others) - 1]
    freedom = sum(parts) ** 2 / sum(p**2 / m for p, m in zip(parts, n, strict=True))
    reach = student.ppf(0.975, freedom) * error
    p = 2 * student.sf(abs(value) / error, freedom)
    return {"value": value, "low": value - reach, "high": value + reach, "p": float(p)}


def worst(segments: list[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """The segment furthest below the others in a metric where more is better, and whether that is beyond noise."""
    known = [s for s in segments if s["gap"].get(metric, {}).get("p") is not None]
    if not known:
        return None
    lowest = max(known, key=lambda s: s["gap"][metric]["value"])
    gap = lowest["gap"][metric]
    return {"segment": lowest["segment"], "users": lowest["users"], **gap, "beyond_noise": gap["p"] < 0.05}
