"""Intervals that may be looked at as often as one likes: asymptotic confidence sequences.

The mixture of a normal over effects turns the likelihood ratio into a martingale under no effect (Robbins, 1970;
Johari, Koomen, Pekelis and Walsh, Operations Research 2022; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of
Statistics 2024). An effect that leaves the interval on any day is significant at α over the whole of the time.
"""

from __future__ import annotations

import numpy as np

TIGHTEST = 9.0
"""Mixture variance times information at the moment where the interval shall be narrowest; about the best at α = 5 %."""


def reach(error: np.ndarray | float, planned_error: float, alpha: float) -> np.ndarray | float:
    """Half width of the interval at each look.

    error: standard error at the look. planned_error: that of the moment at which the interval shall be narrowest,
    known before the experiment.
    """
    ratio = TIGHTEST * (planned_error / np.asarray(error, float)) ** 2
    return np.asarray(error, float) * np.sqrt((1 + 1 / ratio) * np.log((1 + ratio) / alpha**2))


def p_value(effect: np.ndarray, error: np.ndarray, planned_error: float) -> np.ndarray:
    """Always-valid p-value at each look: the smallest so far of 1 / mixture likelihood ratio."""
    ratio = TIGHTEST * (planned_error / np.asarray(error, float)) ** 2
    z = np.asarray(effect, float) / np.asarray(error, float)
    logs = 0.5 * np.log1p(ratio) - 0.5 * z**2 * ratio / (1 + ratio)
    return np.minimum.accumulate(np.minimum(np.exp(np.minimum(logs, 0.0)), 1.0))


def factor(alpha: float) -> float:
    """Half width at the planned moment in standard errors."""
    return float(reach(1.0, 1.0, alpha))
