"""Bayesian linear regression of what an impression is worth, from the counters of feedback."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.feedback import Learned, Line
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
        """The prior has the mean that the ranking is right (`Learned.line`), and the precision l2 in every column."""
        line = learned.line("reward") or Line(0.0, 1.0)
        prior = np.zeros(WIDTH)
        prior[NUMBERS.index("one")], prior[NUMBERS.index("utility")] = line.base, line.slope
        feedback, n = learned.state.feedback, learned.moments["n"]
        gram, moment = feedback.get("gram", np.zeros((WIDTH, WIDTH))), feedback.get("moment", np.zeros(WIDTH))
        precision = gram + l2 * np.eye(WIDTH)
        mean = np.linalg.solve(precision, moment + l2 * prior)
        rest = learned.moments["reward2"] - 2 * mean @ moment + mean @ gram @ mean
        noise = max(rest / n, 1e-6) if n else 1.0
        # precision = L Lᵀ, so that xᵀ precision⁻¹ x = ‖L⁻¹ x‖²
        lower = np.linalg.cholesky(precision)
        return cls(mean, np.linalg.inv(lower).T * np.sqrt(noise))


def beliefs(model: LinearModel, query: Query, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """float64[B, K] mean and standard deviation of what each candidate is worth."""
    x = linear_features(query.state, query.users, candidates.items, candidates.scores["utility"])
    # a sum over columns gives each row the same whatever its company; a matrix product may not
    mean = np.einsum("bkf,f->bk", x, model.mean, optimize=False)
    sd = np.sqrt((np.einsum("bkf,fg->bkg", x, model.root, optimize=False) ** 2).sum(axis=2))
    return mean, sd
