"""Why a ranker scored a case as it did: the score as a sum over features.

Exact for the linear light ranker and for trees; for networks by integrated gradients, whose sum misses the score by
an error that is measured. Loads the checkpoint of a run, and torch for networks; nothing here is used in serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import UsageError, did_you_mean
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.standardise import standardise

if TYPE_CHECKING:
    from recsys_cli.data.behaviour import Entities
    from recsys_cli.ranking.light import LightRanker
    from recsys_cli.ranking.trained import TrainedRanker

DWELL = "dwell"


@dataclass(frozen=True)
class Attribution:
    """base + Σ contributions = score, up to `error`."""

    method: str
    baseline: str
    """the case that `base` belongs to, in words"""
    unit: str
    """log-odds, or ln(1 + seconds) for dwell"""
    names: tuple[str, ...]
    contributions: np.ndarray
    """float64[F], one a name"""
    base: float
    score: float
    """as served, before a calibration curve where there is one"""
    base_prediction: float | None
    """the probability at the baseline; None for dwell"""
    prediction: float
    """what the ranker predicts: a probability, or seconds"""
    curve: bool = False
    """whether a curve turns the score into `prediction` after the log-odds"""

    @property
    def error(self) -> float:
        """score − base − Σ contributions."""
        return float(self.score - self.base - self.contributions.sum())


def explain_light(ranker: LightRanker, values: np.ndarray) -> Attribution:
    """values: float32[C], the raw features `ranker.names` of one case."""
    z = standardise(np.asarray(values, np.float32)[None], np.array(ranker.logged), ranker.mean, ranker.std)[0]
    parts = z.astype(np.float64) * np.array(ranker.weights)
    score = float(ranker.intercept + parts.sum())
    return Attribution(
        "exact: weight × standardised feature", "every feature at its mean over the training rows", "log-odds",
        ranker.names, parts, ranker.intercept, score, float(sigmoid(np.float64(ranker.intercept))),
        float(ranker.predict(np.asarray(values, np.float32)[None])[0]),
    )


def explain_heavy(
    ranker: TrainedRanker, values: np.ndarray, action: str, entities: Entities | None = None
) -> Attribution:
    """values: float32[F] raw features of one case. action: a task of the ranker, or "dwell". entities: its one row,
    for networks with ids or histories.

    Raises UsageError where the ranker has no such head.
    """
    heads = (*ranker.tasks, *((DWELL,) if ranker.dwell else ()))
    if action not in heads:
        hint = did_you_mean(action, heads, f"it has {', '.join(heads)}")
        raise UsageError(f"the heavy ranker has no head for {action!r}", hint)
    values = np.ascontiguousarray(values, np.float32)[None]
    correction = Calibration() if action == DWELL else ranker.correction(action)
    method, baseline, base, parts, score = ranker.explain(values[0], action, entities)
    # the affine part of a calibration is part of the score
    base, parts = correction.scale * base + correction.shift, correction.scale * parts
    score = correction.scale * score + correction.shift
    prediction = float(ranker.predict(values, entities)[action][0])
    unit, before = "ln(1 + seconds)", None
    if action != DWELL:
        unit, before = "log-odds", float(correction.curve(np.array([sigmoid(np.float64(base))], np.float32))[0])
    return Attribution(
        method, baseline, unit, ranker.names, parts, base, score, before, prediction, bool(correction.knots)
    )
