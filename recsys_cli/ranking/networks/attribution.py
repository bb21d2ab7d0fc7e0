"""Why a network scored a case as it did: integrated gradients along the path from the mean training row."""

from __future__ import annotations

import numpy as np
import torch

from recsys_cli.data.behaviour import Entities
from recsys_cli.ranking.networks.network import HeavyNetwork, InputSpec, ServedNetwork
from recsys_cli.ranking.serving.side_inputs import SIZES
from recsys_cli.ranking.trained import Explained

STEPS = (64, 256, 1024, 4096)
"""Points of the path that are tried until the sum is close enough."""
CLOSE = 1e-3
"""Close enough: this share of what there is to explain, and not below that many log-odds."""


def integrated_gradients(
    network: ServedNetwork, spec: InputSpec, features: int, values: np.ndarray, task: int | None,
    entities: Entities | None,
) -> Explained:
    """Integrated gradients (Sundararajan et al., ICML 2017) from the mean training row, mean over networks.

    values: float32[features] of one case. task: place of the head, None for dwell time.

    Ids and histories stay as they are along the path: what they do is part of the score at the baseline.

    The path runs in the space behind normalisation and embedding lookup, where a category has a place too; what the
    dimensions of an embedding contribute is added up.
    """
    network = network.cpu().eval()
    x = torch.from_numpy(values)[None]
    numbers, codes = network.members[0].input.prepare(x)
    sides = None if spec.side is None else {k: torch.from_numpy(a) for k, a in spec.side.arrays(entities).items()}
    for steps in STEPS:
        found = [_along_path(m, spec, features, numbers, codes, sides, task, steps) for m in network.members]
        base, parts, score = (np.mean([f[i] for f in found], axis=0) for i in range(3))
        if abs(score - base - parts.sum()) <= CLOSE * max(abs(score - base), 1):
            break
    return (
        f"integrated gradients, {steps} steps", "numbers at their means over the training rows, categories unknown",
        float(base), parts, float(score),
    )


def _along_path(
    member: HeavyNetwork, spec: InputSpec, features: int, numbers: torch.Tensor, codes: torch.Tensor | None,
    sides: dict[str, torch.Tensor] | None, task: int | None, steps: int,
) -> tuple[float, np.ndarray, float]:
    """Output at the baseline, contribution of each feature float64[F], output at the case."""
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
    out = mean if task is None else logits[:, task]
    (gradient,) = torch.autograd.grad(out[2:].sum(), path)
    parts = ((end - start)[0] * gradient[2:].mean(dim=0)).double().numpy()
    contributions = np.zeros(features)
    n = len(spec.numeric)
    contributions[spec.numeric] = parts[:n]
    if spec.categorical:
        contributions[spec.categorical] = parts[n:].reshape(len(spec.categorical), -1).sum(axis=1)
    value = out.detach().numpy()
    return float(value[0]), contributions, float(value[1])
