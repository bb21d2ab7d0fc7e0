"""Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from recsys_cli.pipeline.diversity.varied import Varied, VariedConfig


class MmrConfig(VariedConfig):
    """Maximal marginal relevance: each slot goes to the highest (1 − diversity) · relevance − diversity · similarity
    to the most alike of those above."""

    kind: Literal["mmr"] = "mmr"


class Mmr(Varied):
    """Fills slot after slot with what is relevant and unlike everything above it; cosine similarity."""

    config_type = MmrConfig
    config: MmrConfig

    def choose(self, relevance: np.ndarray, vectors: np.ndarray, picks: int, draws: np.ndarray) -> np.ndarray:
        return mmr(relevance, vectors, picks, self.config.diversity)


def mmr(relevance: np.ndarray, vectors: np.ndarray, picks: int, diversity: float) -> np.ndarray:
    """int64[picks]; equal gains go to the earlier candidate. O(picks · n · D)."""
    base = (1 - diversity) * relevance
    chosen = np.empty(picks, np.int64)
    gain, closest = base, None
    for slot in range(picks):
        at = chosen[slot] = gain.argmax()
        base[at] = -np.inf
        alike = vectors @ vectors[at]
        closest = alike if closest is None else np.maximum(closest, alike, out=closest)
        gain = base - diversity * closest
    return chosen
