"""Can the figures be trusted? Each check says what it looked at, whether it passed, and what follows if not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import bdtrc, chdtrc

from recsys_cli.experiments.compare import UNITS, compare, covariate_of
from recsys_cli.experiments.metric_config import MetricConfig
from recsys_cli.experiments.statistics.multiplicity import holm

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig

SRM_ALPHA = 0.001
"""A split this unlikely did not come out as planned (Fabijan et al., KDD 2019)."""
WINSOR = 0.001
"""Share of the largest values that the check of outliers pulls in."""


def split_check(
    counts: Sequence[int], shares: Sequence[float], names: Sequence[str] = ("control", "treatment")
) -> dict[str, Any]:
    """Chi-square test of the split: did users come out as planned? A sample-ratio mismatch voids the rest."""
    planned = np.asarray(shares, float) / np.sum(shares)
    expected = np.sum(counts) * planned
    statistic = float(((np.asarray(counts) - expected) ** 2 / expected).sum())
    p = float(chdtrc(len(counts) - 1, statistic))
    return {
        "planned": dict(zip(names, planned.tolist(), strict=True)),
        "actual": dict(zip(names, (np.asarray(counts) / np.sum(counts)).tolist(), strict=True)),
        "chi_square": statistic,
        "p_value": p,
        "passed": bool(p >= SRM_ALPHA),
    }


def check(name: str, passed: bool, told: str, *, voids: bool = False, p_value: float | None = None) -> dict[str, Any]:
    """A finding. voids: whether failing makes every figure untrustworthy."""
    return {"check": name, "passed": bool(passed), "voids": voids and not passed, "told": told, "p_value": p_value}


def split_finding(split: dict[str, Any]) -> dict[str, Any]:
    """The check of whether users came to the arms in the shares that were planned; a failed one voids the rest."""
    parts = ", ".join(f"{n} {split['actual'][n]:.2%} of {split['planned'][n]:.2%}" for n in split["planned"])
    return check("split", split["passed"], f"users came out as {parts}", voids=True, p_value=split["p_value"])


def balance(
    users: Mapping[str, np.ndarray], arm: np.ndarray, config: ExperimentConfig
) -> dict[str, Any] | None:
    """Did the arms differ before the experiment began? They cannot by its effect: the assignment, or what an earlier
    experiment left behind, is at fault. None without figures from before."""
    named = dict.fromkeys(c for m in config.metrics for c in m.predictors or m.covariates)
    columns = {c: known for c in named if (known := covariate_of(users, c)) is not None}
    size = {UNITS: users[UNITS]} if UNITS in users else {}

    def p_value(column: str, known: np.ndarray, k: int) -> float:
        metric = MetricConfig(name=column, numerator=column)
        return compare(metric, {column: known, **size}, arm, treatment=k)["p_value"]

    tests = [
        (column, name, p_value(column, known, k))
        for column, known in columns.items()
        for k, name in enumerate([a.name for a in config.arms[1:]], 1)
    ]
    if not tests:
        return None
    p = holm(np.array([t[2] for t in tests]))
    if not np.isfinite(p).any():
        return None
    worst = int(np.nanargmin(p))
    column, name, _ = tests[worst]
    passed = p[worst] >= SRM_ALPHA
    told = f"of {len(columns)} from before the experiment, none differs between the arms"
    if not passed:
        told = f"{column} differed between control and {name} before the experiment began"
    return check("pre-period balance", passed, told, voids=True, p_value=float(p[worst]))


def missing(unknown: Mapping[str, np.ndarray], arm: np.ndarray, names: Sequence[str]) -> dict[str, Any] | None:
    """Is a covariate missing more often in one variant? unknown: column → bool[U]. None where nothing is missing."""
    found = []
    for column, mask in unknown.items():
        lacking = np.bincount(arm, weights=mask, minlength=len(names))
        total = np.bincount(arm, minlength=len(names))
        share = lacking.sum() / total.sum()
        if 0 < share < 1:
            statistic = float(((lacking - total * share) ** 2 / (total * share * (1 - share))).sum())
            found.append((float(chdtrc(len(names) - 1, statistic)), column, lacking / total))
    if not found:
        return None
    p, column, parts = min(found, key=lambda f: f[0])
    told = ", ".join(f"{name} {part:.2%}" for name, part in zip(names, parts, strict=True))
    return check("missing data", p >= SRM_ALPHA, f"{column} is unknown of {told}", voids=True, p_value=p)


def outliers(
    metric: MetricConfig,
    users: Mapping[str, np.ndarray],
    arm: np.ndarray,
    rows: Sequence[dict],
    config: ExperimentConfig,
) -> dict[str, Any] | None:
    """Does the outcome hang on the largest thousandth of the users? Asked of means; None for other metrics."""
    if metric.quantile is not None or metric.at_least is not None or metric.denominator is not None:
        return None
    values = np.asarray(users[metric.numerator], float)
    cut = float(np.quantile(values, 1 - WINSOR))
    if not (values > cut).any():
        return None
    tamed = {**users, metric.numerator: np.minimum(values, cut)}
    changed = []
    for k, row in enumerate(rows, 1):
        other = compare(metric, tamed, arm, config.alpha, config.power, treatment=k)
        one, two = (r["p_value"] < config.alpha for r in (row, other))
        turned = one and two and row["difference"]["value"] * other["difference"]["value"] < 0
        if one != two or turned:
            changed.append(f"{config.arms[k].name} (p = {row['p_value']:.2g}, without them {other['p_value']:.2g})")
    told = f"the largest {WINSOR:.1%} of users, above {cut:.4g}, do not change the outcome"
    if changed:
        told = f"the largest {WINSOR:.1%} of users, above {cut:.4g}, decide the outcome of {', '.join(changed)}"
    return check("outliers", not changed, told)


def same_pipeline_twice(
    metric: MetricConfig,
    users: Mapping[str, np.ndarray],
    arm: np.ndarray,
    config: ExperimentConfig,
    times: int,
    seed: int,
) -> dict[str, Any]:
    """A/A: the arms dealt out anew `times` times, in which nothing may be found more often than α says."""
    rng = np.random.default_rng(seed)
    found = sum(
        compare(metric, users, rng.permutation(arm), config.alpha, config.power)["p_value"] < config.alpha
        for _ in range(times)
    )
    # binomial chance of so many or more
    p = float(bdtrc(found - 1, times, config.alpha)) if found else 1.0
    told = f"{found:,} of {times:,} random splits of these users are significant ({found / times:.1%})"
    return check("A/A", p >= SRM_ALPHA, told, voids=True, p_value=p)


def crossovers(count: int, users: int) -> dict[str, Any]:
    """Users in more than one variant, who are left out."""
    if not count:
        return check("one variant a user", True, "nobody was in two variants")
    share = count / max(users + count, 1)
    return check("one variant a user", False, f"{count:,} users ({share:.2%}) were in two variants and are left out")
