"""Group-sequential boundaries by spending α (Lan and DeMets, Biometrika 1983).

The boundary of each look leaves just so much error as the spending function allows up to its share of the information;
the probabilities are found by numerical integration over the paths that stayed inside (Armitage, McPherson and Rowe,
JRSS A 1969). Looks need not be equally far apart, nor their number be known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

_GRID = 401
_WIDEST = 8.0
"""Boundary in standard errors of looks that may spend nothing."""


def spent(information: np.ndarray, alpha: float, shape: str = "obrien_fleming") -> np.ndarray:
    """α that may be spent up to each share of the information in (0, 1].

    shape: "obrien_fleming" is strict early on and costs next to nothing at the end, "pocock" the other way round.
    """
    t = np.clip(np.asarray(information, float), 1e-12, 1.0)
    if shape == "obrien_fleming":
        return 4 * ndtr(-ndtri(1 - alpha / 4) / np.sqrt(t))
    if shape == "pocock":
        return alpha * np.log1p((np.e - 1) * t)
    raise ValueError(f"no spending function {shape!r}; there are obrien_fleming and pocock")


def boundaries(information: Sequence[float], alpha: float, shape: str = "obrien_fleming") -> np.ndarray:
    """float64[K] absolute z beyond which each look is significant.

    information: rising shares of what the last planned look will know, in (0, 1].
    """
    t = np.asarray(information, float)
    if not len(t) or (np.diff(t) <= 0).any() or t[0] <= 0 or t[-1] > 1 + 1e-9:
        raise ValueError("shares of information must rise from above 0 to at most 1")
    budget = np.diff(np.concatenate([[0.0], spent(t, alpha, shape)]))
    out = np.empty(len(t))
    grid = density = None
    for k, at in enumerate(t):
        root = np.sqrt(at)
        if density is None:
            out[k] = min(float(-ndtri(budget[0] / 2)) if budget[0] > 1e-15 else _WIDEST, _WIDEST)
            grid = np.linspace(-out[k] * root, out[k] * root, _GRID)
            density = np.exp(-grid**2 / (2 * at)) / np.sqrt(2 * np.pi * at)
            continue
        step = np.sqrt(at - t[k - 1])
        weights = density * _simpson(grid)

        def crossed(z: float, grid=grid, weights=weights, step=step, root=root) -> float:
            return float(2 * weights @ ndtr(-(z * root - grid) / step))

        low, high = 0.0, _WIDEST
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if crossed(middle) > budget[k] else (low, middle)
        out[k] = (low + high) / 2
        new = np.linspace(-out[k] * root, out[k] * root, _GRID)
        density = np.exp(-((new[:, None] - grid[None]) ** 2) / (2 * step**2)) @ weights / (np.sqrt(2 * np.pi) * step)
        grid = new
    return out


def _simpson(grid: np.ndarray) -> np.ndarray:
    weights = np.ones(len(grid))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return weights * (grid[1] - grid[0]) / 3
