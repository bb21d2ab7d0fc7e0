"""Why a ranker scored a case as it did: the score as a sum over features.

Exact for the linear light ranker and for trees; for networks by integrated gradients, whose sum misses the score by
an error that is measured. Loads the checkpoint of a run, and torch for networks; nothing here is used in serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import UsageError, nearest
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.light import standardise
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.sides import SIZES

if TYPE_CHECKING:
    import torch

    from recsys_cli.data.behaviour import Entities
    from recsys_cli.ranking.ensemble import EnsembleRanker
    from recsys_cli.ranking.heavy import HeavyRanker
    from recsys_cli.ranking.light import LightRanker
    from recsys_cli.ranking.networks import HeavyNetwork
    from recsys_cli.ranking.trees import TreeRanker

DWELL = "dwell"
STEPS = (64, 256, 1024, 4096)
"""Points of the path that are tried until the sum is close enough."""
CLOSE = 1e-3
"""Close enough: this share of what there is to explain, and not below that many log-odds."""


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
    ranker: HeavyRanker | TreeRanker | EnsembleRanker,
    values: np.ndarray,
    action: str,
    entities: Entities | None = None,
) -> Attribution:
    """values: float32[F] raw features of one case. action: a task of the ranker, or "dwell". entities: its one row,
    for networks with ids or histories.

    Raises UsageError where the ranker has no such head.
    """
    heads = (*ranker.tasks, *((DWELL,) if ranker.dwell else ()))
    if action not in heads:
        close = nearest(action, heads)
        hint = f"did you mean {close!r}?" if close else f"it has {', '.join(heads)}"
        raise UsageError(f"the heavy ranker has no head for {action!r}", hint)
    values = np.ascontiguousarray(values, np.float32)[None]
    correction = Calibration() if action == DWELL else ranker.calibration.get(action, Calibration())
    method, baseline, base, parts, score = _explained(ranker, values[0], action, entities)
    # the affine part of a calibration is part of the score
    base, parts = correction.scale * base + correction.shift, correction.scale * parts
    score = correction.scale * score + correction.shift
    prediction = float(ranker.predict(values, entities)[action][0])
    if action == DWELL:
        return Attribution(
            method, baseline, "ln(1 + seconds)", ranker.names, parts, base, score, None, prediction,
        )
    return Attribution(
        method, baseline, "log-odds", ranker.names, parts, base, score,
        float(correction.curve(np.array([sigmoid(np.float64(base))], np.float32))[0]), prediction,
        bool(correction.knots),
    )


def _explained(
    ranker: HeavyRanker | TreeRanker | EnsembleRanker, values: np.ndarray, action: str, entities: Entities | None
) -> tuple[str, str, float, np.ndarray, float]:
    """(method, baseline, base, contributions, score) of a ranker before calibration."""
    if hasattr(ranker, "models"):
        return _trees(ranker, values, action, entities)
    if not hasattr(ranker, "trees"):
        return _network(ranker, values, action, entities)
    if action == DWELL:
        return _network(ranker.network, values, action, entities)
    found = [(weight, _explained(part, values, action, entities)) for weight, part in ranker.parts]
    methods, baselines = (" and ".join(f[i] for _, f in found) for i in range(2))
    return methods, baselines, *(sum(weight * f[i] for weight, f in found) for i in (2, 3, 4))


def _trees(
    ranker: TreeRanker, values: np.ndarray, action: str, entities: Entities | None
) -> tuple[str, str, float, np.ndarray, float]:
    """TreeSHAP over the paths of the trees (Lundberg et al., Nature Machine Intelligence 2020), mean over bags."""
    import lightgbm

    slope, shift = ranker.line(action)
    parts, score = [], []
    for text in ranker.models[ranker.model_of(action)]:
        booster = lightgbm.Booster(model_str=text)
        parts.append(booster.predict(values[None], pred_contrib=True)[0])
        score.append(booster.predict(values[None], raw_score=True)[0])
    mean = np.mean(parts, axis=0)
    return (
        "exact: TreeSHAP", "the mean over the training rows, as the trees saw them", slope * float(mean[-1]) + shift,
        slope * mean[:-1], slope * float(np.mean(score)) + shift,
    )


def _network(
    ranker: HeavyRanker, values: np.ndarray, action: str, entities: Entities | None
) -> tuple[str, str, float, np.ndarray, float]:
    """Integrated gradients (Sundararajan et al., ICML 2017) from the mean training row, mean over networks.

    Ids and histories stay as they are along the path: what they do is part of the score at the baseline.

    The path runs in the space behind normalisation and embedding lookup, where a category has a place too; what the
    dimensions of an embedding contribute is added up.
    """
    import torch

    network = ranker.network.cpu().eval()
    x = torch.from_numpy(values)[None]
    numbers, codes = network.members[0].input.prepare(x)
    side = ranker.spec.side
    sides = None if side is None else {k: torch.from_numpy(a) for k, a in side.arrays(entities).items()}
    for steps in STEPS:
        found = [_along_path(m, numbers, codes, sides, ranker, action, steps) for m in network.members]
        base, parts, score = (np.mean([f[i] for f in found], axis=0) for i in range(3))
        if abs(score - base - parts.sum()) <= CLOSE * max(abs(score - base), 1):
            break
    return (
        f"integrated gradients, {steps} steps", "numbers at their means over the training rows, categories unknown",
        float(base), parts, float(score),
    )


def _along_path(
    member: HeavyNetwork, numbers: torch.Tensor, codes: torch.Tensor | None, sides: dict[str, torch.Tensor] | None,
    ranker: HeavyRanker, action: str, steps: int,
) -> tuple[float, np.ndarray, float]:
    """Output at the baseline, contribution of each feature float64[F], output at the case."""
    import torch

    spec = ranker.spec
    unknown = None if codes is None else member.input.offsets[None].to(codes.dtype)
    with torch.no_grad():
        start = member.input(torch.zeros_like(numbers), unknown)[0]
        end = member.input(numbers, codes)[0]
    # midpoints of equal steps: the error falls with their square
    share = (torch.arange(steps, dtype=torch.float32)[:, None] + 0.5) / steps
    path = torch.cat([start, end, start + share * (end - start)]).requires_grad_()

    def along(_module, _given, out):
        return (path, *out[1:])

    handle = member.input.register_forward_hook(along)
    try:
        rows = len(path)
        logits, mean, *_ = member.raw(
            numbers.expand(rows, -1), None if codes is None else codes.expand(rows, -1),
            None if sides is None else {k: a.expand(rows) if SIZES[k] == "rows" else a for k, a in sides.items()},
        )
    finally:
        handle.remove()
    out = mean if action == DWELL else logits[:, ranker.tasks.index(action)]
    (gradient,) = torch.autograd.grad(out[2:].sum(), path)
    parts = ((end - start)[0] * gradient[2:].mean(dim=0)).double().numpy()
    contributions = np.zeros(len(ranker.names))
    n = len(spec.numeric)
    contributions[spec.numeric] = parts[:n]
    if spec.categorical:
        contributions[spec.categorical] = parts[n:].reshape(len(spec.categorical), -1).sum(axis=1)
    value = out.detach().numpy()
    return float(value[0]), contributions, float(value[1])
