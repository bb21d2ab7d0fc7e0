"""From a table of users to a decision: trust checks, effects with intervals, beliefs, segments, days, verdict.

Means are compared by Welch's test, ratios by the delta method with the user as the unit, both with CUPED where a
covariate from before the experiment exists (CUPAC where a model of several foretells the outcome); by permutation or
Fisher's exact test where an arm is too small for that, quantiles by Harrell and Davis (`statistics/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.experiments import checks
from recsys_cli.experiments.carry_over import carry_over
from recsys_cli.experiments.compare import compare, has_lift
from recsys_cli.experiments.daily import DailyOutcomes, follow, novelty, weekdays
from recsys_cli.experiments.prediction import with_predictions
from recsys_cli.experiments.segments import Segment, by_segment
from recsys_cli.experiments.statistics.bayes import posterior
from recsys_cli.experiments.statistics.multiplicity import benjamini_hochberg, holm
from recsys_cli.experiments.verdict import Progress, decide, sentence

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig
    from recsys_cli.experiments.metric_config import MetricConfig


@dataclass(frozen=True)
class Evidence:
    """What is known of an experiment beside one row a unit."""

    daily: DailyOutcomes | None = None
    first_weekday: int | None = None
    """of day 1, 0 for Monday"""
    segments: Mapping[str, Segment] = field(default_factory=dict)
    unknown: Mapping[str, np.ndarray] = field(default_factory=dict)
    """covariate → bool[U], where it was missing"""
    earlier: Mapping[str, Segment] = field(default_factory=dict)
    """earlier experiment → the variant that each unit was in"""
    crossovers: int = 0
    """users in several variants, left out"""
    aa: int = 0
    """random splits for the A/A check"""
    seed: int = 0
    warnings: tuple[str, ...] = ()


def analyse(
    users: Mapping[str, np.ndarray], arm: np.ndarray, config: ExperimentConfig, evidence: Evidence | None = None
) -> dict[str, Any]:
    """Compare every variant with the control on every metric of the experiment.

    users: column → float[U], one row a unit. arm: int[U], 0 control. A covariate that is not among the columns is
    left out. Fields of the result: `recsys docs experiments`. Raises DataError where a column is missing or an arm
    has too few units.
    """
    evidence = evidence or Evidence()
    users, config = with_predictions(users, config)
    names = [a.name for a in config.arms]
    counts = np.bincount(arm, minlength=len(names)).tolist()
    for name, count in zip(names, counts, strict=True):
        if count < config.min_users:
            raise DataError(
                f"experiment {config.name}: the {name} arm has {count:,} {config.unit}s, min_users is "
                f"{config.min_users:,}",
                "bring more of them, change the split, or lower min_users",
            )
    rows = [
        {"variant": name, **compare(metric, users, arm, config.alpha, config.power, k)}
        for metric in config.metrics
        for k, name in enumerate(names[1:], 1)
    ]
    day_rows = _followed(users, arm, config, evidence)
    last = evidence.daily.days[-1:].tolist() if evidence.daily is not None else []
    progress = Progress(last[0] if last else None, config.days)
    _correct(rows, config)
    _sequential(rows, day_rows, progress, config)
    split = checks.split_check(counts, [a.share for a in config.arms], names)
    findings = _checks(users, arm, rows, split, config, evidence)
    beliefs = _beliefs(rows, users, arm, config)
    decision = decide(rows, findings, beliefs, progress, config)
    return {
        "users": dict(zip(names, counts, strict=True)),
        "unit": config.unit,
        "day": progress.day,
        "split": split,
        "checks": findings,
        "metrics": rows,
        "beliefs": beliefs,
        "effects_by_day": [r for (metric, _), series in day_rows.items() if metric == config.deciding for r in series],
        "novelty": {v: found for (m, v), s in day_rows.items() if m == config.deciding and (found := novelty(s))},
        "weekdays": {
            v: found
            for (m, v), s in day_rows.items()
            if m == config.deciding and (found := weekdays(s, evidence.first_weekday))
        },
        "segments": by_segment(_primary(config), users, arm, evidence.segments, config),
        "decision": decision,
        "verdict": sentence(decision, rows, config),
    }


def _primary(config: ExperimentConfig) -> MetricConfig:
    return next(m for m in config.metrics if m.name == config.deciding)


def _followed(
    users: Mapping[str, np.ndarray], arm: np.ndarray, config: ExperimentConfig, evidence: Evidence
) -> dict[tuple[str, str], list[dict]]:
    """(metric, variant) → its rows by day, of the primary metric and the guardrails."""
    if evidence.daily is None:
        return {}
    summed = set(evidence.daily.columns)
    fixed = {name: values for name, values in users.items() if name not in summed}
    out = {}
    for metric in config.metrics:
        if metric.name != config.deciding and metric.name not in config.guardrails:
            continue
        if any(c not in summed and c not in fixed for c in metric.outcomes):
            continue
        for k, variant in enumerate(config.arms[1:], 1):
            series = follow(metric, evidence.daily, fixed, arm, k, config)
            out[metric.name, variant.name] = [{"variant": variant.name, **row} for row in series]
    return out


def _correct(rows: list[dict], config: ExperimentConfig) -> None:
    """Corrected p-values: over all metrics and variants, and over the variants alone for the primary metric."""
    correct = holm if config.correction == "holm" else benjamini_hochberg
    corrected = correct(np.array([row["p_value"] for row in rows]))
    for row, p in zip(rows, corrected, strict=True):
        row |= {"p_adjusted": float(p), "significant": bool(p < config.alpha), "sequential": None}
    primary = [row for row in rows if row["metric"] == config.deciding]
    for row in rows:
        row["decided"] = bool(row["p_value"] < config.alpha)
    for row, p in zip(primary, holm(np.array([row["p_value"] for row in primary])), strict=True):
        row["decided"] = bool(p < config.alpha)


def _sequential(rows: list[dict], by_day: dict, progress: Progress, config: ExperimentConfig) -> None:
    """Decide by what allows looking every day, where the experiment stops by that."""
    variants = len(config.arms) - 1
    for row in rows:
        series = by_day.get((row["metric"], row["variant"]), [])
        if series:
            last = series[-1]
            row["sequential"] = {
                "p_value": last["always_p_value"],
                "low": last["always_low"],
                "high": last["always_high"],
                "relative": last["relative"],
                "z": last["z"],
                "boundary": last["boundary"],
            }
        if config.stop == "fixed":
            # a fixed length is decided at its end alone
            row["decided"] = row["decided"] and progress.over
        elif row["method"] != "welch" or not series:
            row["decided"] = row["decided"] and progress.over and not series
        elif config.stop == "always_valid":
            row["decided"] = series[-1]["always_p_value"] < config.alpha / variants
        else:
            row["decided"] = any(abs(day["z"]) >= day["boundary"] for day in series)


def _checks(
    users: Mapping[str, np.ndarray],
    arm: np.ndarray,
    rows: list[dict],
    split: dict,
    config: ExperimentConfig,
    evidence: Evidence,
) -> list[dict[str, Any]]:
    primary = [row for row in rows if row["metric"] == config.deciding]
    found = [
        checks.split_finding(split),
        checks.crossovers(evidence.crossovers, len(arm)),
        checks.balance(users, arm, config),
        checks.missing(evidence.unknown, arm, [a.name for a in config.arms]),
        checks.outliers(_primary(config), users, arm, primary, config),
    ]
    found += carry_over(_primary(config), users, arm, evidence.earlier, config)
    if evidence.aa:
        found.append(checks.same_pipeline_twice(_primary(config), users, arm, config, evidence.aa, evidence.seed))
    for method, told in (
        ("permutation", "an arm is too small for the skew or rarity of {}: permutation tests are taken"),
        ("fisher", "{} has few events: Fisher's exact test is taken"),
    ):
        names = dict.fromkeys(row["metric"] for row in rows if row["method"] == method)
        if names:
            found.append(checks.check("small arms", False, told.format(", ".join(names))))
    found += [checks.check("set-up", False, told) for told in evidence.warnings]
    return [f for f in found if f is not None]


def _beliefs(
    rows: list[dict], users: Mapping[str, np.ndarray], arm: np.ndarray, config: ExperimentConfig
) -> list[dict[str, Any]]:
    """Posterior of the primary metric: each variant's probability to be the best and its expected loss.

    The control is as certain as the first comparison says, each variant as its own; empty where nothing is known.
    """
    primary = [row for row in rows if row["metric"] == config.deciding]
    if not all(np.isfinite(row["p_value"]) and row["method"] is not None for row in primary):
        return []
    names, metric = [a.name for a in config.arms], _primary(config)
    events = None
    if metric.denominator is None and any(row["method"] == "fisher" for row in primary):
        values = np.asarray(users[metric.numerator], float)
        hit = values >= metric.at_least if metric.at_least is not None else values > 0
        events = [(int(hit[arm == k].sum()), int((arm == k).sum())) for k in range(len(names))]
    # differences to the control: its own error is part of each of them
    values = [0.0] + [row["difference"]["value"] for row in primary]
    errors = [0.0] + [row["standard_error"] for row in primary]
    found = posterior(values, errors, primary[0]["goal"], events)
    scale = primary[0]["control"] if primary[0]["control"] > 0 and all(has_lift(r) for r in primary) else None
    return [
        {"variant": name, **b, "relative_loss": b["expected_loss"] / scale if scale else None}
        for name, b in zip(names, found, strict=True)
    ]
