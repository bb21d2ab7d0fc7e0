"""The effect in parts of the users, drawn together by what chance alone would spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from recsys_cli.experiments.compare import metric_columns
from recsys_cli.experiments.daily import Effect, effect_of
from recsys_cli.experiments.statistics.estimates import Adjustment, Moments, estimate
from recsys_cli.experiments.statistics.shrinkage import shrink

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig
    from recsys_cli.experiments.metric_config import MetricConfig

FEW = 30
"""Units of each arm below which a segment is not told."""


@dataclass(frozen=True)
class Segment:
    """A column by which users are told apart."""

    names: tuple[str, ...]
    code: np.ndarray
    """int[U] place among the names, -1 unknown"""


def by_segment(
    metric: MetricConfig,
    users: Mapping[str, np.ndarray],
    arm: np.ndarray,
    segments: Mapping[str, Segment],
    config: ExperimentConfig,
) -> list[dict[str, Any]]:
    """For each column and variant: effects of its segments, raw and shrunk, and whether they differ.

    Effects are in parts of the control's value (`relative`), or differences where a control is not above zero.
    """
    if metric.quantile is not None:
        return []
    columns = metric_columns(metric, users)
    both = Moments.of(columns.values)
    adjustment = Adjustment.of(both) if columns.covariate else Adjustment()
    out = []
    for column, segment in segments.items():
        for k, variant in enumerate(config.arms[1:], 1):
            found = []
            for code, name in enumerate(segment.names):
                masks = [(arm == side) & (segment.code == code) for side in (0, k)]
                counts = [int(m.sum()) for m in masks]
                if min(counts) < FEW:
                    continue
                sides = [Moments.of(columns.values[:, m]) for m in masks]
                if not all(side.mean[1] for side in sides):
                    continue
                effect = effect_of(*(estimate(side, adjustment) for side in sides))
                if effect.error > 0 and np.isfinite(effect.error):
                    found.append((name, counts, effect))
            relative = all(effect.relative for _, _, effect in found)
            found = [f for f in found if f[2].relative == relative]
            if found:
                out.append(_summary(column, variant.name, found, config.alpha))
    return out


def _summary(column: str, variant: str, found: list[tuple[str, list[int], Effect]], alpha: float) -> dict[str, Any]:
    effects = np.array([effect.value for _, _, effect in found])
    errors = np.array([effect.error for _, _, effect in found])
    shrunk, z = shrink(effects, errors), float(ndtri(1 - alpha / 2))
    return {
        "column": column,
        "variant": variant,
        "relative": found[0][2].relative,
        "p_value": shrunk.p_value,
        "segments": [
            {
                "segment": name,
                "control_users": counts[0],
                "treatment_users": counts[1],
                "value": effect.value,
                "low": effect.value - z * effect.error,
                "high": effect.value + z * effect.error,
                "shrunk": float(shrunk.effects[i]),
                "shrunk_low": float(shrunk.effects[i] - z * shrunk.errors[i]),
                "shrunk_high": float(shrunk.effects[i] + z * shrunk.errors[i]),
            }
            for i, (name, counts, effect) in enumerate(found)
        ],
    }
