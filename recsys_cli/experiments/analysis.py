"""From a table of users to a verdict: effects with intervals, the split check, what could have been seen.

Statistics are those of tea-tasting: Welch's test of means, the delta method for ratios with the user as
the unit (Deng, Knoblich and Lu, KDD 2018) and CUPED where a covariate from before the experiment exists
(Deng, Xu, Kohavi and Walker, WSDM 2013).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig, MetricConfig

SRM_ALPHA = 0.001
"""A split this unlikely did not come out as planned (Fabijan et al., KDD 2019)."""
ARMS = ("control", "treatment")


def analyse(users: Mapping[str, np.ndarray], arm: np.ndarray, config: ExperimentConfig) -> dict[str, Any]:
    """Compare the arms on every metric of the experiment.

    users: column → float[U], one row a user. arm: int[U], 0 control, 1 treatment. A covariate that is not
    among the columns is left out. Returns "users", "split", "metrics" and "verdict" (`recsys docs experiments`).
    Raises DataError where a column is missing or an arm has too few users.
    """
    counts = [int((arm == a).sum()) for a in (0, 1)]
    for name, count in zip(ARMS, counts, strict=True):
        if count < config.min_users:
            raise DataError(
                f"experiment {config.name}: the {name} arm has {count:,} users, min_users is {config.min_users:,}",
                "bring more users, change the split, or lower min_users",
            )
    rows = [compare(metric, users, arm, config.alpha, config.power) for metric in config.measured]
    _adjust(rows, config.alpha)
    split = split_check(counts, (config.split.control, config.split.treatment))
    return {
        "users": dict(zip(ARMS, counts, strict=True)),
        "split": split,
        "metrics": rows,
        "verdict": verdict(rows, split, config),
    }


def compare(
    metric: MetricConfig, users: Mapping[str, np.ndarray], arm: np.ndarray, alpha: float = 0.05, power: float = 0.8
) -> dict[str, Any]:
    """One metric in both arms: means, difference and relative lift with intervals, p-value, what was detectable."""
    from tea_tasting import RatioOfMeans

    names = [metric.numerator, metric.denominator]
    covariates = [metric.covariate, metric.denominator_covariate]
    if metric.covariate not in users or (metric.denominator_covariate or metric.covariate) not in users:
        covariates = [None, None]
    columns = [c for c in (*names, *covariates) if c is not None]
    for column in columns:
        require(users, column, f"metric {metric.name}")
    sides = [_aggregates(users, arm == a, columns) for a in (0, 1)]
    raw = [side.mean(names[0]) / (side.mean(names[1]) or np.nan) for side in sides]
    row = {
        "metric": metric.name,
        "goal": metric.goal,
        "unit": "user" if metric.denominator is None else "ratio",
        "control": raw[0],
        "treatment": raw[1],
        "control_raw": raw[0],
        "treatment_raw": raw[1],
        "difference": {"value": raw[1] - raw[0], "low": np.nan, "high": np.nan},
        "lift": {"value": np.nan, "low": np.nan, "high": np.nan},
        "p_value": np.nan,
        "covariate": None,
        "covariate_left_out": None,
        "variance_reduction": None,
        "detectable_lift": np.nan,
    }
    if not all(np.isfinite(raw)):
        return row
    spread = [side.ratio_var(*names) for side in sides]
    if max(spread) <= 1e-15 * max(max(r * r for r in raw), 1e-300):
        # nobody differs from anybody: there is no noise to test against
        row["p_value"] = 1.0 if raw[0] == raw[1] else np.nan
        return row
    options = {"confidence_level": 1 - alpha}
    test = RatioOfMeans(*names, **options)
    result = test.analyze_aggregates(*sides)
    if covariates[0] is not None and _explains_all(sides, names, covariates):
        row["covariate_left_out"] = (
            f"{covariates[0]} explains {names[0]} whole: it was not measured before the experiment"
        )
    elif covariates[0] is not None and (sides[0] + sides[1]).ratio_var(*covariates) > 0:
        test = RatioOfMeans(*names, *covariates, **options)
        plain, result = result, test.analyze_aggregates(*sides)
        # the error enters squared, and the interval is in proportion to it
        shrunk = (result.effect_size_ci_upper - result.effect_size) / (plain.effect_size_ci_upper - plain.effect_size)
        row["covariate"], row["variance_reduction"] = covariates[0], float(1 - shrunk**2)
    row |= {
        "control": float(result.control),
        "treatment": float(result.treatment),
        "p_value": float(result.pvalue),
        "difference": _side(result, "effect_size"),
        # a ratio to nothing, or to a loss, says nothing: there the difference is what counts
        "lift": _side(result, "rel_effect_size") if min(result.control, raw[0]) > 0 else row["lift"],
    }
    row["detectable_lift"] = _detectable(row["difference"], row["control"], alpha, power)
    return row


def _explains_all(sides, names: list, covariates: list) -> bool:
    """Whether nothing of the metric varies beside its covariate, but for rounding."""
    both = sides[0] + sides[1]
    spread, other = both.ratio_var(*names), both.ratio_var(*covariates)
    shared = both.ratio_cov(*names, *covariates)
    return bool(spread > 0 and other > 0 and shared**2 >= (1 - 1e-9) * spread * other)


def _aggregates(users: Mapping[str, np.ndarray], mask: np.ndarray, columns: Sequence[str]):
    from tea_tasting.aggr import Aggregates

    unique = list(dict.fromkeys(columns))
    values = np.stack([np.asarray(users[c], float)[mask] for c in unique])
    cov = np.atleast_2d(np.cov(values))
    return Aggregates(
        count_=int(mask.sum()),
        mean_={c: float(values[i].mean()) for i, c in enumerate(unique)},
        var_={c: float(cov[i, i]) for i, c in enumerate(unique)},
        cov_={(a, b): float(cov[i, j]) for i, a in enumerate(unique) for j, b in enumerate(unique) if a < b},
    )


def _side(result, name: str) -> dict[str, float]:
    return {
        "value": float(getattr(result, name)),
        "low": float(getattr(result, f"{name}_ci_lower")),
        "high": float(getattr(result, f"{name}_ci_upper")),
    }


def _detectable(difference: dict[str, float], control: float, alpha: float, power: float) -> float:
    """The smallest relative effect that a two-sided test finds with the wanted power, from the error of this one."""
    from scipy.stats import norm

    error = (difference["high"] - difference["value"]) / norm.isf(alpha / 2)
    return float((norm.isf(alpha / 2) + norm.ppf(power)) * error / control) if control > 0 else float("nan")


def _adjust(rows: list[dict], alpha: float) -> None:
    """Add p-values adjusted for testing several metrics (Benjamini and Hochberg, JRSS B 1995)."""
    from scipy.stats import false_discovery_control

    known = [row for row in rows if np.isfinite(row["p_value"])]
    adjusted = false_discovery_control([row["p_value"] for row in known]) if known else []
    for row in rows:
        row |= {"p_adjusted": float("nan"), "significant": False}
    for row, p in zip(known, adjusted, strict=True):
        row |= {"p_adjusted": float(p), "significant": bool(p < alpha)}


def split_check(counts: Sequence[int], shares: Sequence[float]) -> dict[str, Any]:
    """Chi-square test of the split: did users come out as planned? A sample-ratio mismatch voids the rest."""
    from scipy.stats import chisquare

    expected = np.sum(counts) * np.asarray(shares, float) / np.sum(shares)
    result = chisquare(counts, expected)
    return {
        "planned": dict(zip(ARMS, (np.asarray(shares, float) / np.sum(shares)).tolist(), strict=True)),
        "actual": dict(zip(ARMS, (np.asarray(counts) / np.sum(counts)).tolist(), strict=True)),
        "chi_square": float(result.statistic),
        "p_value": float(result.pvalue),
        "passed": bool(result.pvalue >= SRM_ALPHA),
    }


def verdict(rows: list[dict], split: dict, config: ExperimentConfig) -> str:
    """What came out, in a sentence or two."""
    if not split["passed"]:
        return (
            f"The split did not come out as planned (p = {split['p_value']:.2g}): something drops or moves users, and "
            "no figure here can be trusted until that is found."
        )
    row = next(r for r in rows if r["metric"] == config.deciding)
    name, p = row["metric"], row["p_value"]
    level = f"{1 - config.alpha:.0%}"
    if not np.isfinite(p):
        text = f"{name} cannot be compared: it does not vary or has nothing to divide by."
    elif p < config.alpha:
        value, low, high = (change(row, side) for side in ("value", "low", "high"))
        text = (
            f"Treatment is {'better' if _good(row) else 'worse'}: {name} {value} ({level} interval {low} to {high}, "
            f"p = {p:.2g})."
        )
    else:
        text = f"No difference in {name} could be shown ({change(row, 'value')}, p = {p:.2g})"
        seen = row["detectable_lift"]
        text += (
            f"; with so many users a change of {seen:.1%} would be found {config.power:.0%} of the time."
            if np.isfinite(seen)
            else "."
        )
    others = [r for r in rows if r["significant"] and r is not row]
    if others:
        named = [f"{r['metric']} {change(r, 'value')} ({'good' if _good(r) else 'bad'})" for r in others]
        text += f" Also significant after adjusting for several metrics: {', '.join(named)}."
    return text


def has_lift(row: dict) -> bool:
    """Whether the change of a metric can be told in parts of the control, its interval too."""
    return all(np.isfinite(v) for v in row["lift"].values())


def change(row: dict, side: str) -> str:
    """The lift of a metric as per cent, or its difference where the control gives nothing to divide by."""
    difference = row["difference"][side]
    if has_lift(row):
        return f"{row['lift'][side]:+.1%}"
    return f"{difference:+.4g}" if np.isfinite(difference) else "–"


def _good(row: dict) -> bool:
    return (row["difference"]["value"] > 0) == (row["goal"] == "up")


def require(columns, wanted: str, what: str) -> None:
    """Raises DataError naming the nearest column where one is missing."""
    if wanted not in columns:
        raise DataError(
            f"{what}: no column {wanted!r}", did_you_mean(wanted, columns, f"columns: {', '.join(columns)}")
        )
