"""How many users an effect needs, and which effect so many users show.

A relative lift X multiplies the spread of the treatment as well, so that
X = (z₁ + z₂) · cv · √(1/n_c + (1 + X)²/n_t), with cv the metric's standard deviation over its mean.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri


def detectable_lift(
    cv: float, control: float, treatment: float, alpha: float, power: float, critical: float | None = None
) -> float:
    """The smallest relative effect found with probability `power`; infinity where none is.

    cv: coefficient of variation of a user (of the linearised ratio). control, treatment: users. critical: z beyond
    which a difference counts, by default that of a two-sided test at alpha.
    """
    z = (ndtri(1 - alpha / 2) if critical is None else critical) + ndtri(power)
    a = (z * cv) ** 2
    # X² = a/n_c + a(1 + X)²/n_t
    square, linear, constant = 1 - a / treatment, -2 * a / treatment, -(a / control + a / treatment)
    if square <= 0:
        return float("inf")
    return float((-linear + np.sqrt(linear**2 - 4 * square * constant)) / (2 * square))


def power_of(cv: float, control: float, treatment: float, lift: float, critical: float) -> float:
    """Probability that a two-sided test finds a relative effect."""
    error = cv * np.sqrt(1 / control + (1 + lift) ** 2 / treatment)
    return float(ndtr(abs(lift) / error - critical) + ndtr(-abs(lift) / error - critical))


def users_needed(
    cv: float, lift: float, share: float, alpha: float, power: float, critical: float | None = None
) -> int:
    """Users of both arms together. share: part of them in the treatment."""
    z = (ndtri(1 - alpha / 2) if critical is None else critical) + ndtri(power)
    return int(np.ceil((z * cv / lift) ** 2 * (1 / (1 - share) + (1 + lift) ** 2 / share)))
