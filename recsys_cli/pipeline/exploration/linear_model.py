"""Bayesian linear regression of whether an impression is taken, from the counters of feedback."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.feedback import Learned
from recsys_cli.pipeline.exploration.linear_features import NUMBERS, WIDTH, linear_features
from recsys_cli.pipeline.query import Query


class LinearModel(NamedTuple):
    """Normal posterior of the coefficients."""

    mean: np.ndarray
    """float64[WIDTH]"""
    root: np.ndarray
    """float64[WIDTH, WIDTH]; ‖x · root‖ is the standard deviation of x · coefficients"""

    @classmethod
    def of(cls, learned: Learned, l2: float) -> LinearModel:
        """The prior says that the rate is what the ranking expects (1 for that column, 0 for others), with the
        precision l2 in every column, in impressions."""
        feedback, one = learned.state.feedback, NUMBERS.index("one")
        prior = np.zeros(WIDTH)
        prior[NUMBERS.index("expected")] = 1
        gram, moment = feedback.get("gram", np.zeros((WIDTH, WIDTH))), feedback.get("moment", np.zeros(WIDTH))
        precision = gram + l2 * np.eye(WIDTH)
        mean = np.linalg.solve(precision, moment + l2 * prior)
        # rewards are 0 and 1, so that their squares sum to what they do
        rest = moment[one] - 2 * mean @ moment + mean @ gram @ mean
        noise = max(rest / gram[one, one], 1e-4) if gram[one, one] else learned.base_rate * (1 - learned.base_rate)
        # precision = L Lᵀ, so that xᵀ precision⁻¹ x = ‖L⁻¹ x‖²
        lower = np.linalg.cholesky(precision)
        return cls(mean, np.linalg.inv(lower).T * np.sqrt(noise))


def beliefs(
    model: LinearModel, learned: Learned, query: Query, candidates: Candidates
) -> tuple[np.ndarray, np.ndarray]:
    """float64[B, K] mean and standard deviation of the rate at which each candidate is taken."""
    expected = learned.expected("taken", candidates.scores["utility"], candidates.filled)
    x = linear_features(query.state, query.users, candidates.items, expected)
    # a sum over columns gives each row the same whatever its company; a matrix product may not
    mean = np.einsum("bkf,f->bk", x, model.mean, optimize=False)
    sd = np.sqrt((np.einsum("bkf,fg->bkg", x, model.root, optimize=False) ** 2).sum(axis=2))
    return mean, sd
