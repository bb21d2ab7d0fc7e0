"""How far two distributions over the same bins lie apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def aligned(reference: Mapping[str, float], now: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Counts of two histograms over the bins of both, in one order."""
    bins = sorted({*reference, *now})
    return (
        np.array([reference.get(b, 0.0) for b in bins], float), np.array([now.get(b, 0.0) for b in bins], float)
    )


def _shares(counts: np.ndarray) -> np.ndarray:
    # half a row in every bin: an empty one would be infinitely far away (Jeffreys' prior)
    return (counts + 0.5) / (counts.sum() + 0.5 * len(counts))


def population_stability_index(reference: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Σ (q − p) ln(q / p) over bins (Siddiqi, Credit Risk Scorecards, 2006); NaN where either holds nothing.

    Below 0.1 is taken for no change, above 0.25 for a large one.
    """
    first, second = aligned(reference, now)
    if not first.sum() or not second.sum():
        return float("nan")
    p, q = _shares(first), _shares(second)
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(reference: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Jensen–Shannon divergence in bits, 0 for equal distributions, 1 for disjoint ones (Lin, IEEE Transactions on
    Information Theory 1991); NaN where either holds nothing."""
    first, second = aligned(reference, now)
    if not first.sum() or not second.sum():
        return float("nan")
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2

    def entropy(x: np.ndarray) -> float:
        return float(-(x[x > 0] * np.log2(x[x > 0])).sum())

    return max(entropy(middle) - (entropy(p) + entropy(q)) / 2, 0.0)
