"""p-values corrected for how many there are; NaN stays NaN and counts for nothing."""

from __future__ import annotations

import numpy as np


def holm(p_values: np.ndarray) -> np.ndarray:
    """Step-down correction that keeps the chance of any false finding at α (Holm, Scand. J. Statistics 1979)."""
    return _step(p_values, lambda p: np.maximum.accumulate(p * np.arange(len(p), 0, -1)))


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Step-up correction that keeps the share of false findings at α (Benjamini and Hochberg, JRSS B 1995)."""
    return _step(
        p_values, lambda p: np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    )


def _step(p_values: np.ndarray, correct) -> np.ndarray:
    p = np.asarray(p_values, float)
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    out[order] = np.minimum(correct(p[order]), 1.0)
    return out
