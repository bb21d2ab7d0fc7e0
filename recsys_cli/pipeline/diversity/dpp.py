"""Determinantal point process: the greedy most probable slate (Chen, Zhang and Zhou, NeurIPS 2018)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from recsys_cli.pipeline.diversity.varied import Varied, VariedConfig

SPANNED = 1e-5
"""Share of an item's squared length outside the span of those above, below which it counts as wholly within."""


class DppConfig(VariedConfig):
    """Determinantal point process: slot after slot what raises (1 − diversity) · sum of relevance + diversity · log
    determinant of the similarities most."""

    kind: Literal["dpp"] = "dpp"


class Dpp(Varied):
    """The slate as a whole is varied: the volume that its vectors span counts, not pairs of items alone.

    The weight of relevance is the θ of the paper, 1 − diversity: the kernel is
    exp(θ/(2(1−θ)) · relevance) · cosine similarity · exp(θ/(2(1−θ)) · relevance).
    """

    config_type = DppConfig
    config: DppConfig

    def choose(self, relevance: np.ndarray, vectors: np.ndarray, picks: int, draws: np.ndarray) -> np.ndarray:
        return greedy_map(relevance, vectors, picks, self.config.diversity)


class Residuals:
    """How much of each vector lies outside the span of the chosen ones, squared: an incremental Cholesky
    factorisation, O(n · (D + chosen)) a choice."""

    def __init__(self, vectors: np.ndarray, picks: int):
        """vectors: float[n, D], in whose precision all is done; those of length zero count as of length one and at a
        right angle to all others."""
        self.vectors = vectors
        self.left = np.einsum("nd,nd->n", vectors, vectors)
        self.left[self.left == 0] = 1
        self._rows = np.empty((picks, len(vectors)), vectors.dtype)
        self._taken = 0

    def take(self, at: int, within: float = SPANNED) -> None:
        """Count an item among the chosen. within: what is left of it, below which it changes nothing."""
        if self.left[at] > within:
            rows = self._rows[: self._taken]
            row = self.vectors @ self.vectors[at] - rows[:, at] @ rows
            row /= np.sqrt(self.left[at])
            self._rows[self._taken] = row  # copied: it is squared below
            self._taken += 1
            self.left -= np.multiply(row, row, out=row)
            np.maximum(self.left, within, out=self.left)


def greedy_map(relevance: np.ndarray, vectors: np.ndarray, picks: int, diversity: float) -> np.ndarray:
    """int64[picks]; equal gains go to the earlier candidate. What lies within the span of those above comes behind
    what does not, by relevance."""
    # divided by the weight of diversity, the logarithm stands alone
    base = ((1 - diversity) / diversity * relevance).astype(vectors.dtype)
    residuals = Residuals(vectors, picks)
    chosen, gain = np.empty(picks, np.int64), np.empty_like(base)
    for slot in range(picks):
        np.log(residuals.left, out=gain)
        gain += base
        at = chosen[slot] = int(gain.argmax())
        base[at] = -np.inf
        residuals.take(at)
    return chosen
