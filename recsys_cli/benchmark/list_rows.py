"""Lists of several systems for the same users as rows of a table: figures, intervals and differences."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys_cli.benchmark.splits import ListTask
from recsys_cli.benchmark.suite_config import Task
from recsys_cli.errors import RecsysError
from recsys_cli.evaluation import ranking_metrics
from recsys_cli.evaluation.intervals import bootstrap_means

PARTS = ("source", "baseline")
"""Groups of which the best is what a list is compared with."""


@dataclass
class Row:
    """One system: its lists, or why it has none."""

    name: str
    group: str
    """"funnel", "order" (another order of its candidates), "source", "baseline" or "peer" """
    items: np.ndarray | None = None
    """int32[U, k] positions of the task"""
    fit_seconds: float | None = None
    rank_seconds: float | None = None
    request_ms: float | None = None
    """median milliseconds of one user's list"""
    peak_memory_mib: float | None = None
    error: str | None = None
    absent: bool = False
    """whether `error` says that the system cannot be had here, which is no failure"""
    more: dict = field(default_factory=dict)
    """what else the result keeps"""


def measured(rows: list[Row], task: ListTask, settings: Task, *, resamples: int, seed: int) -> list[dict]:
    """The rows as documents: every figure with the 95 % interval of a bootstrap over users, and the difference of the
    first to that of the best part and, for peers, that of the funnel's to it, user by user.

    The best part is the source or baseline of highest mean; it has no difference itself.
    """
    k, names = settings.k, [f"{m}@{settings.k}" for m in settings.metrics]
    there = [row for row in rows if row.items is not None]
    by_user = {}
    for row in there:
        hit, count = ranking_metrics.hits(task.unseen(row.items, k), task.wanted), task.wanted.lengths
        by_user[row.name] = {n: ranking_metrics.ACCURACY[m](hit, count, k)
                             for m, n in zip(settings.metrics, names, strict=True)}
    best = best_part(there, {name: float(figures[names[0]].mean()) for name, figures in by_user.items()})
    columns = {(row.name, n): by_user[row.name][n] for row in there for n in names}
    if best is not None:
        columns |= {
            (row.name, "to_best"): by_user[row.name][names[0]] - by_user[best][names[0]]
            for row in there if row.name != best
        }
    funnel = next((row.name for row in there if row.group == "funnel"), None)
    if funnel is not None:
        columns |= {
            (row.name, "funnel_less"): by_user[funnel][names[0]] - by_user[row.name][names[0]]
            for row in there if row.group == "peer"
        }
    found = {}
    if columns:
        unit = np.array([name not in ("to_best", "funnel_less") for _, name in columns])
        means = bootstrap_means(np.stack(list(columns.values()), axis=1), resamples=resamples, seed=seed, unit=unit)
        found = {key: _interval(*figures) for key, *figures in zip(columns, *means, strict=True)}
    return [_document(row, {n: found[row.name, n] for n in names if (row.name, n) in found},
                      found.get((row.name, "to_best")), row.name == best, found.get((row.name, "funnel_less")))
            for row in rows]


def best_part(rows: list[Row], means: dict[str, float]) -> str | None:
    """The source or baseline of highest mean; None where there is neither."""
    parts = [row.name for row in rows if row.group in PARTS]
    return max(parts, key=means.__getitem__, default=None)


def _interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": float(value), "low": float(low), "high": float(high)}


def _document(row: Row, figures: dict, to_best: dict | None, best: bool, funnel_less: dict | None) -> dict:
    out = {
        "name": row.name, "group": row.group, "figures": figures, "to_best": to_best, "best_part": best,
        "fit_seconds": row.fit_seconds, "rank_seconds": row.rank_seconds, "request_ms": row.request_ms,
        "peak_memory_mib": row.peak_memory_mib, **row.more,
    }
    if funnel_less is not None:
        out["funnel_less"] = funnel_less
    if row.error is not None:
        out["absent" if row.absent else "error"] = row.error
    return out


def reason(error: Exception) -> str:
    """One line on why a row or a task has no figures."""
    if isinstance(error, RecsysError):
        return "; ".join(str(error).splitlines())
    return f"{type(error).__name__}: {error}".splitlines()[0]
