"""What to believe of the variants: probability to be the best, and what is lost on average by choosing each.

The posterior of a variant's metric is normal about its estimate (the prior is flat), or a Beta where the metric is a
share of users with few events. Draws are quasi-random and the same for the same data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import betaincinv, ndtri

DRAWS = 8192


def posterior(
    values: Sequence[float], errors: Sequence[float], goal: str, events: Sequence[tuple[int, int]] | None = None
) -> list[dict[str, Any]]:
    """For each variant `probability_best` and `expected_loss` (in units of the metric).

    values, errors: estimate and standard error of each variant. goal: up or down. events: (events, users) of each
    variant where Beta(1 + events, 1 + rest) is to stand for the estimate.
    """
    k = len(values)
    uniform = _halton(DRAWS, k)
    if events is not None:
        draws = np.stack([betaincinv(1 + x, 1 + n - x, u) for (x, n), u in zip(events, uniform, strict=True)])
    else:
        draws = np.asarray(values, float)[:, None] + np.asarray(errors, float)[:, None] * ndtri(uniform)
    if goal == "down":
        draws = -draws
    best = draws.max(axis=0)
    share = np.bincount(draws.argmax(axis=0), minlength=k) / DRAWS
    loss = (best - draws).mean(axis=1)
    return [{"probability_best": float(p), "expected_loss": float(lost)} for p, lost in zip(share, loss, strict=True)]


def _halton(n: int, dimensions: int) -> np.ndarray:
    """float64[dimensions, n] points in (0, 1) by radical inverses in prime bases (Halton 1960) from the 65th on."""
    out = np.zeros((dimensions, n))
    primes = [p for p in range(2, 400) if all(p % q for q in range(2, int(p**0.5) + 1))]
    for d in range(dimensions):
        rest, scale = np.arange(64, n + 64), 1.0
        while rest.any():
            scale /= primes[d]
            out[d] += scale * (rest % primes[d])
            rest //= primes[d]
    return out
