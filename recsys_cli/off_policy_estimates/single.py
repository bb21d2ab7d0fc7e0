"""Estimators of the mean reward of an impression, had another policy chosen what to show.

Each gives what every row contributes; the estimate is Σ value / Σ weight (`Contributions`). w is the row's ratio of
the judged policy's probability to the logging policy's, r its reward, q the reward model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys_cli.off_policy_estimates.reward_model import Foretold

EVERY = (
    "ips", "clipped_ips", "self_normalised_ips", "direct_method", "doubly_robust", "switch_doubly_robust"
)
MODELLED = ("direct_method", "doubly_robust", "switch_doubly_robust")
"""Those that need the policy's whole distribution, and a reward model."""


class Contributions(NamedTuple):
    """float64[n] twice."""

    value: np.ndarray
    weight: np.ndarray

    @property
    def estimate(self) -> float:
        total = self.weight.sum()
        return float(self.value.sum() / total) if total > 0 else float("nan")


def _mean(value: np.ndarray) -> Contributions:
    return Contributions(value, np.ones(len(value)))


def importance(of_policy: np.ndarray, logged: np.ndarray, smallest: float = 0.0) -> np.ndarray:
    """float64[n] ratio of the judged policy's chance of what was shown to the logging policy's.

    smallest: chances of the log below count as this much, which bounds a row's weight at the price of some bias.
    """
    return of_policy / np.maximum(np.asarray(logged, float), smallest)


def ips(w: np.ndarray, r: np.ndarray) -> Contributions:
    """Inverse propensity scoring (Horvitz and Thompson, 1952): w r."""
    return _mean(w * r)


def clipped_ips(w: np.ndarray, r: np.ndarray, most: float) -> Contributions:
    """Weights cut at `most` (Ionides, 2008): less variance, some bias towards 0."""
    return _mean(np.minimum(w, most) * r)


def self_normalised_ips(w: np.ndarray, r: np.ndarray) -> Contributions:
    """Σ w r / Σ w (Swaminathan and Joachims, NeurIPS 2015)."""
    return Contributions(w * r, w)


def direct_method(q: Foretold) -> Contributions:
    """The reward model alone: as right as the model."""
    return _mean(q.of_policy)


def doubly_robust(w: np.ndarray, r: np.ndarray, q: Foretold) -> Contributions:
    """The reward model, corrected by what it missed (Dudík et al., ICML 2011)."""
    return _mean(q.of_policy + w * (r - q.logged))


def switch_doubly_robust(w: np.ndarray, r: np.ndarray, q: Foretold, most: float) -> Contributions:
    """Doubly robust where the weight is at most `most`, the model alone beyond (Wang et al., ICML 2017)."""
    return _mean(q.of_policy + np.where(w <= most, w * (r - q.logged), 0.0))
