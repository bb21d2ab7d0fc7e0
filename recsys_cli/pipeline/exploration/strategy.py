"""What a strategy of exploration is, and the chance that each candidate is the best of those left."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.exploration.feedback import Learned
from recsys_cli.pipeline.query import Query
from recsys_cli.retrieval.memo import PerState

GRID = 48
"""Points at which the distributions of Thompson sampling are evaluated."""
CELLS_AT_ONCE = 2_000_000
"""Cells of the grid in memory at once."""


class Chances:
    """How probably each candidate of some users takes the next explored slot, while slots are filled.

    `columns` says which candidates may be drawn; each answer of `next` is a distribution over them.
    """

    def __init__(self, columns: np.ndarray):
        """columns: int64[B, M] slots of the candidates, -1 filler."""
        self.columns = columns
        self.left = columns >= 0

    def next(self) -> np.ndarray:
        """float64[B, M] distribution over what is left; a row of zeros where nothing is."""
        return _normal(self._weights() * self.left)

    def place(self, column: np.ndarray) -> None:
        """Take out the candidates of these slots, int64[B]."""
        self.left &= self.columns != column[:, None]

    def _weights(self) -> np.ndarray:
        """float64[B, M] not negative, some above 0 among what is left of each row."""
        raise NotImplementedError


class Even(Chances):
    """Each as probable as another."""

    def _weights(self) -> np.ndarray:
        return self.left.astype(np.float64)


class Best(Chances):
    """The one with the highest index for certain."""

    def __init__(self, columns: np.ndarray, index: np.ndarray):
        super().__init__(columns)
        self._index = index

    def _weights(self) -> np.ndarray:
        out = np.zeros(self.left.shape)
        if out.size:
            best = np.where(self.left, self._index, -np.inf).argmax(axis=1)
            out[np.arange(len(out)), best] = 1
        return out


class Drawn(Chances):
    """The one with the highest draw from its own distribution: P(i is best) = ∫ f_i(x) ∏_{j ≠ i} F_j(x) dx.

    The integral is a sum over a grid. What is drawn is drawn from the numbers of this sum, so that they are the exact
    probabilities of what is shown, however fine the grid is.
    """

    def __init__(self, columns: np.ndarray, low: np.ndarray, high: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]):
        """low, high: float64[B] range of the grid. cdf: float64[B, G] points → float64[B, M, G] P(draw ≤ point)."""
        super().__init__(columns)
        steps = np.linspace(0, 1, GRID + 1)
        points = low[:, None] + (high - low)[:, None] * steps
        below = np.clip(cdf(points), 1e-12, 1.0)
        # mass of each cell, and the logarithm of the chance to be below its middle
        self._mass = np.maximum(np.diff(below, axis=2), 0) + 1e-15
        self._log = np.log((below[..., 1:] + below[..., :-1]) / 2)
        self._total = (self._log * self.left[..., None]).sum(axis=1)

    def _weights(self) -> np.ndarray:
        return (self._mass * np.exp(self._total[:, None] - self._log)).sum(axis=2)

    def place(self, column: np.ndarray) -> None:
        gone = self.left & (self.columns == column[:, None])
        row, at = np.nonzero(gone)
        self._total[row] -= self._log[row, at]
        super().place(column)


class Strategy:
    """How explored slots are filled. Write `chances`, and say what is learned from in the docstring."""

    name: ClassVar[str]

    def __init__(self, config: ExplorationConfig):
        self.config = config
        self.learned = PerState(Learned)

    def chances(self, query: Query, candidates: Candidates) -> Chances:
        """The distribution over candidates with which an explored slot is filled, to be asked slot by slot."""
        raise NotImplementedError

    def pool(self, promise: np.ndarray, filled: np.ndarray) -> np.ndarray:
        """int64[B, M] the `pool` candidates that promise most (float[B, K]), -1 filler."""
        ranked = np.argsort(np.where(filled, -promise, np.inf), axis=1, kind="stable")[:, : self.config.pool]
        return np.where(np.take_along_axis(filled, ranked, axis=1), ranked, -1)


def normal_draws(columns: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> Drawn:
    """Chances by draws from normal distributions; mean, sd: float64[B, M] of `columns`."""
    from scipy.special import ndtr

    sd = np.maximum(sd, 1e-9)
    low, high = _range(columns, mean, sd)

    def cdf(points: np.ndarray) -> np.ndarray:
        return ndtr((points[:, None, :] - mean[..., None]) / sd[..., None])

    return Drawn(columns, low, high, cdf)


def _range(columns: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range of a grid that holds all draws which can win."""
    held = columns >= 0
    if not columns.size:
        return np.zeros(len(columns)), np.ones(len(columns))
    top = np.where(held, mean + 4 * sd, -np.inf).max(axis=1)
    bottom = np.where(held, mean - 4 * sd, np.inf).min(axis=1)
    top, bottom = np.where(np.isfinite(top), top, 1.0), np.where(np.isfinite(bottom), bottom, 0.0)
    return bottom, np.maximum(top, bottom + 1e-9)


def _normal(weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def picked(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """values[B, K] at columns int64[B, M]; those of fillers mean nothing."""
    return np.take_along_axis(values, np.maximum(columns, 0), axis=1)
