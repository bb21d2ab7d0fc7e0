"""What an earlier experiment left behind: whether its variants were dealt out evenly and change the effect.

People who lived with a variant yesterday may behave otherwise today. Independent assignment spreads them evenly over
the arms, and then the comparison stays right on average; where it did not, or where the effect is another one for them,
this says so (Kohavi, Tang and Xu 2020, chapter 8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import chdtrc

from recsys_cli.experiments.assignment import OUTSIDE, assign_units
from recsys_cli.experiments.checks import SRM_ALPHA, check
from recsys_cli.experiments.segments import Segment, by_segment
from recsys_cli.experiments.statistics.multiplicity import holm

if TYPE_CHECKING:
    import polars as pl

    from recsys_cli.experiments.config import ExperimentConfig
    from recsys_cli.experiments.metric_config import MetricConfig
    from recsys_cli.experiments.registry import Started

MOST = 20
"""Earlier experiments that are looked at, the latest ones."""
NOBODY = "no variant"


def variants_before(earlier: Sequence[Started], ids: pl.Series | None) -> dict[str, Segment]:
    """Experiment → the variant that each user was in, by the assignment. Experiments on clusters, or for users of some
    attributes, are left out: who was in them is not known from an id."""
    if ids is None:
        return {}
    found = {}
    for started in earlier:
        config = started.config
        if config.unit == "cluster" or config.targeting or len(found) == MOST:
            continue
        arm = assign_units(config, ids.to_list())
        names = (*(each.name for each in config.arms), NOBODY)
        found[config.key] = Segment(names, np.where(arm == OUTSIDE, len(config.arms), arm))
    return found


def carry_over(
    metric: MetricConfig,
    users: Mapping[str, np.ndarray],
    arm: np.ndarray,
    earlier: Mapping[str, Segment],
    config: ExperimentConfig,
) -> list[dict[str, Any]]:
    """A finding for each earlier experiment. Variants that were dealt out unevenly void the result; a primary metric
    whose effect hangs on the earlier variant is told."""
    uneven = {name: _uneven(segment, arm, len(config.arms)) for name, segment in earlier.items()}
    groups = by_segment(metric, users, arm, earlier, config)
    differs: dict[str, float] = {}
    for group in groups:
        p = group["p_value"] if np.isfinite(group["p_value"]) else 1.0
        # several variants are compared with the control: each has its own chance of a false alarm
        differs[group["column"]] = min(differs.get(group["column"], 1.0), p * (len(config.arms) - 1), 1.0)
    found = []
    first = holm(np.array(list(uneven.values()))) if uneven else ()
    second = dict(zip(differs, holm(np.array(list(differs.values()))), strict=True)) if differs else {}
    for name, p in zip(uneven, first, strict=True):
        if p < SRM_ALPHA:
            told = f"users of the variants of {name} came to the arms in different shares"
            found.append(check("carry-over", False, told, voids=True, p_value=float(p)))
        elif second.get(name, 1.0) < SRM_ALPHA:
            told = f"the effect on {metric.name} differs by the variant that users had in {name}"
            found.append(check("carry-over", False, told, p_value=float(second[name])))
    if not found and earlier:
        told = f"the variants of {', '.join(earlier)} are spread evenly, and the effect does not hang on them"
        found.append(check("carry-over", True, told))
    return found


def _uneven(segment: Segment, arm: np.ndarray, arms: int) -> float:
    """p-value of the independence of the variants of both experiments (Pearson's chi-square)."""
    kinds = len(segment.names)
    table = np.bincount(segment.code * arms + arm, minlength=kinds * arms).reshape(kinds, arms).astype(float)
    table = table[table.sum(axis=1) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    if len(table) < 2:
        return 1.0
    return float(chdtrc((len(table) - 1) * (arms - 1), ((table - expected) ** 2 / expected).sum()))
