"""Figures of days from their counts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import polars as pl

from recsys_cli.live.drift import jensen_shannon, population_stability_index
from recsys_cli.live.rollup import Day, Described, counts_of_shown

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset

BEFORE_DAYS = 7
"""Days that a change is told against."""
TRAINING_DAYS = 28
"""Days at the end of the training data that drift is told against."""
COMMONEST = 20
"""Bins of a feature that are told apart; rarer ones share one, but for those that have become frequent."""
FREQUENT = 0.05
"""Share of a day from which a bin is told apart however rare it was."""
FIGURES = (
    "shown", "users", "requests", "served", "bots", "click_through_rate", "click_through_rate_change",
    "positive_rate", "negative_rate", "dwell_seconds", "coverage", "fallback_share", "psi.max",
)
"""Figures that every day may have, beside rate.ACTION, source.NAME, psi.FEATURE, js.FEATURE and calibration.ACTION."""

Figures = dict[str, float]
"""Name → value; a figure that the day cannot tell is not there."""


def reference_of(dataset: Dataset, described: Described, days: int = TRAINING_DAYS) -> Day:
    """Counts of the last days of the training data, by which drift is told."""
    log = dataset.table("impressions")
    if dataset.manifest.has_time:
        log = log.filter(pl.col("timestamp") > pl.col("timestamp").max() - dt.timedelta(days=days))
    return counts_of_shown(log, described)


def histograms(counts: Day) -> dict[str, dict[str, float]]:
    """Feature → bin → rows."""
    out: dict[str, dict[str, float]] = {}
    for (what, key), value in counts.items():
        if what.startswith("bin."):
            out.setdefault(what[4:], {})[key] = value
    return out


def figures_of(day: Day, reference: Day | None = None) -> Figures:
    """The figures of one day alone."""
    def count(what: str, key: str = "") -> float:
        return day.get((what, key), 0.0)

    out: Figures = {name: count(name) for name in ("shown", "users", "requests", "served", "bots")}
    shown = count("shown")
    if shown:
        clicks = count("action", "click") if ("action", "click") in day else count("positive")
        out |= {"click_through_rate": clicks / shown, "positive_rate": count("positive") / shown}
        out["negative_rate"] = count("negative") / shown
        out |= {f"rate.{key}": value / shown for (what, key), value in day.items() if what == "action"}
    if count("dwell_rows"):
        out["dwell_seconds"] = count("dwell_sum") / count("dwell_rows")
    if count("served") and count("catalogue"):
        out["coverage"] = count("served_items") / count("catalogue")
    if count("sourced"):
        out["fallback_share"] = count("fallback") / count("sourced")
        out |= {f"source.{key}": v / count("sourced") for (what, key), v in day.items() if what == "source"}
    for (what, key), predicted in day.items():
        if what == "predicted" and predicted > 0:
            out[f"calibration.{key}"] = count("observed", key) / predicted
    return out | (_drift(day, reference) if reference is not None else {})


def _drift(day: Day, reference: Day) -> Figures:
    now, before = histograms(day), histograms(reference)
    out: Figures = {}
    for feature in sorted(now.keys() & before.keys()):
        kept = sorted(before[feature], key=before[feature].get, reverse=True)[:COMMONEST]
        often = FREQUENT * sum(now[feature].values())
        kept += [b for b, n in now[feature].items() if n >= often and b not in kept]
        first, second = (_gathered(h[feature], kept) for h in (before, now))
        out[f"psi.{feature}"] = population_stability_index(first, second)
        out[f"js.{feature}"] = jensen_shannon(first, second)
    features = [v for name, v in out.items() if name.startswith("psi.")]
    if features:
        out["psi.max"] = max(features)
    return out


def _gathered(bins: Mapping[str, float], kept: Iterable[str]) -> dict[str, float]:
    out = {b: bins.get(b, 0.0) for b in kept}
    other = sum(bins.values()) - sum(out.values())
    return out | ({"(other)": other} if other else {})


def daily_figures(days: Mapping[dt.date, Day], reference: Day | None = None) -> dict[dt.date, Figures]:
    """The figures of all days, with the days between them on which nothing happened, and what changes told against
    the days before."""
    if not days:
        return {}
    out: dict[dt.date, Figures] = {}
    first, last = min(days), max(days)
    for n in range((last - first).days + 1):
        day = first + dt.timedelta(days=n)
        figures = figures_of(days.get(day, {}), reference)
        before = [
            days[d] for b in range(1, BEFORE_DAYS + 1) if (d := day - dt.timedelta(days=b)) in days
        ]
        shown = sum(d.get(("shown", ""), 0.0) for d in before)
        rate = figures_of(_sum(before)).get("click_through_rate", 0.0) if shown else 0.0
        if rate and "click_through_rate" in figures:
            figures["click_through_rate_change"] = figures["click_through_rate"] / rate - 1
        out[day] = figures
    return out


def _sum(days: Iterable[Day]) -> Day:
    out: Day = {}
    for day in days:
        for key, value in day.items():
            out[key] = out.get(key, 0.0) + value
    return out


def period_figures(days: Iterable[Day], reference: Day | None = None) -> Figures:
    """The figures of several days together; people and coverage, which do not add up, are means over the days."""
    listed = list(days)
    out = figures_of(_sum(listed), reference)
    single = [figures_of(day) for day in listed]
    for name in ("users", "coverage"):
        values = [f[name] for f in single if name in f]
        if values:
            out[name] = sum(values) / len(values)
    return out
