"""k-DPP: a slate drawn from a determinantal point process of its size (Kulesza and Taskar, ICML 2011)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.diversity.dpp import SPANNED, Residuals
from recsys_cli.pipeline.diversity.varied import Varied, VariedConfig
from recsys_cli.pipeline.query import Query


class KDppConfig(VariedConfig):
    """k-DPP: a slate is drawn with a probability in proportion to the determinant of its kernel, in which the most
    relevant and varied are the likeliest; another one with each request."""

    kind: Literal["k_dpp"] = "k_dpp"


class KDpp(Varied):
    """Draws sets of the size of the slate and its reserve, the kernel being that of `Dpp`; what is drawn stands in the
    order of relevance. Where the vectors span less than a slate, the rest is filled by relevance."""

    config_type = KDppConfig
    config: KDppConfig

    def draws(self, query: Query, candidates: Candidates, picks: int) -> np.ndarray:
        return query.uniform(picks + candidates.items.shape[1], purpose=5)

    def choose(self, relevance: np.ndarray, vectors: np.ndarray, picks: int, draws: np.ndarray) -> np.ndarray:
        weight = np.exp((1 - self.config.diversity) / (2 * self.config.diversity) * (relevance - relevance.max()))
        drawn = np.sort(sample_k_dpp(vectors.astype(np.float64) * weight[:, None], picks, draws))
        rest = np.setdiff1d(np.arange(len(relevance)), drawn, assume_unique=True)
        return np.concatenate([drawn, rest[: picks - len(drawn)]])


def sample_k_dpp(features: np.ndarray, k: int, draws: np.ndarray) -> np.ndarray:
    """int64[min(k, rank)] places, drawn with probability ∝ det of the rows and columns of `features @ features.T`.

    features: float64[n, D]; the eigenvectors come from the D × D matrix where that is smaller. draws: uniform in
    [0, 1), at least as many as min(n, D) + k.
    """
    n, d = features.shape
    if d < n:
        values, dual = np.linalg.eigh(features.T @ features)
        held = values > SPANNED * max(values.max(initial=0.0), 1e-300)
        values, vectors = values[held], features @ dual[:, held] / np.sqrt(values[held])
    else:
        values, vectors = np.linalg.eigh(features @ features.T)
        held = values > SPANNED * max(values.max(initial=0.0), 1e-300)
        values, vectors = values[held], vectors[:, held]
    k = min(k, len(values))
    if not k:
        return np.zeros(0, np.int64)
    kept = _elementary_choice(values / values.max(), k, draws[k:])
    return _draw_projection(vectors[:, kept], draws[:k])


def _elementary_choice(values: np.ndarray, k: int, draws: np.ndarray) -> np.ndarray:
    """bool[m] with k True: eigenvectors kept with probability ∝ the product of their values."""
    m = len(values)
    table = np.full((k + 1, m + 1), -np.inf)  # log of the elementary symmetric polynomials
    table[0] = 0.0
    logs = np.log(values)
    for count in range(1, m + 1):
        table[1:, count] = np.logaddexp(table[1:, count - 1], logs[count - 1] + table[:-1, count - 1])
    kept, size = np.zeros(m, bool), k
    for count in range(m, 0, -1):
        if not size:
            break
        if np.log(max(draws[count - 1], 1e-300)) < logs[count - 1] + table[size - 1, count - 1] - table[size, count]:
            kept[count - 1] = True
            size -= 1
    return kept


def _draw_projection(vectors: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Places drawn from the projection whose orthonormal columns are given, float64[n, k]: each in turn with a
    probability in proportion to what of its row lies outside the span of those drawn."""
    chosen = np.empty(vectors.shape[1], np.int64)
    residuals = Residuals(vectors, len(chosen))
    residuals.left = np.einsum("nd,nd->n", vectors, vectors)
    for slot, draw in enumerate(draws):
        mass = np.where(residuals.left > SPANNED * 1e-3, residuals.left, 0.0)
        mass[chosen[:slot]] = 0
        total = np.cumsum(mass)
        chosen[slot] = min(int(np.searchsorted(total, draw * total[-1], side="right")), len(mass) - 1)
        residuals.take(int(chosen[slot]), within=SPANNED * 1e-3)
    return chosen
