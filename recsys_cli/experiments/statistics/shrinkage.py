"""Effects of several segments: how much they differ beyond chance, and what to believe of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc


@dataclass(frozen=True)
class Shrunk:
    """Random-effects summary."""

    effects: np.ndarray
    """float64[S] drawn towards the mean by what chance explains"""
    errors: np.ndarray
    """float64[S] standard errors of these"""
    mean: float
    """effect over all segments"""
    between: float
    """variance of the true effects"""
    q: float
    """Cochran's statistic of differing effects"""
    p_value: float
    """of no difference between segments"""


def shrink(effects: np.ndarray, errors: np.ndarray) -> Shrunk:
    """Empirical Bayes over segments (DerSimonian and Laird, Controlled Clinical Trials 1986).

    effects, errors: float64[S] estimate and standard error of each segment, errors above 0, S ≥ 1.
    """
    weight = 1 / errors**2
    mean = float(weight @ effects / weight.sum())
    q = float(weight @ (effects - mean) ** 2)
    freedom = len(effects) - 1
    scale = weight.sum() - (weight**2).sum() / weight.sum()
    between = max(0.0, (q - freedom) / scale) if freedom else 0.0
    pooled = 1 / (errors**2 + between)
    mean = float(pooled @ effects / pooled.sum())
    share = between / (between + errors**2)
    # what is left of a segment's own error, and that of the mean to which the rest is drawn
    error = np.sqrt(share * errors**2 + (1 - share) ** 2 / pooled.sum())
    p = float(chdtrc(freedom, q)) if freedom else float("nan")
    return Shrunk(share * effects + (1 - share) * mean, error, mean, between, q, p)
