"""Calibrated recommendations: a slate's topics in the shares that they have in the user's own history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.diversity.taste import taste, topic_shares
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import chosen_first, slot_relevance
from recsys_cli.pipeline.stage import Selector, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

RESERVE = 10
"""Further items chosen behind the slate."""
SMOOTHING = 0.01
"""Share of the user's own distribution mixed into that of the slate, so that its logarithm is finite (α of the
paper)."""


class CalibrationConfig(StageConfig):
    """Slot after slot what raises (1 − calibration) · mean relevance − calibration · divergence of the slate's topics
    from the user's most."""

    kind: Literal["calibration"] = "calibration"
    calibration: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Weight of the Kullback-Leibler divergence, that of relevance being the rest; 0 leaves the order as it is."""


class Calibration(Selector):
    """Greedy calibration (Steck, RecSys 2018). Somebody without a history of topics keeps the order."""

    config_type = CalibrationConfig
    config: CalibrationConfig
    reads = ("utility",)
    before = "diversity"

    def prepare(self, bundle: Bundle) -> str | None:
        return None if len(bundle.catalogue.item_topics.values) else "needs topics of the items"

    def enabled(self, query: Query) -> bool:
        return self.config.calibration > 0

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        catalogue = query.state.catalogue
        own = taste(query.state, query.users, catalogue.n_topics)
        relevance, picks = slot_relevance(candidates), query.size + RESERVE
        chosen = []
        for row, slots in enumerate(map(np.flatnonzero, candidates.filled)):
            mine = np.flatnonzero(own[row])
            if len(mine) and len(slots):
                topics = topic_shares(catalogue.item_topics, catalogue.n_topics, candidates.items[row, slots])[:, mine]
                part = relevance[row, slots], topics, own[row, mine]
                slots = slots[calibrated(*part, min(picks, len(slots)), self.config.calibration)]
            chosen.append(slots)
        return chosen_first(candidates, chosen)


def calibrated(
    relevance: np.ndarray, topics: np.ndarray, own: np.ndarray, picks: int, calibration: float
) -> np.ndarray:
    """int64[picks] places, best first; equal gains go to the earlier candidate.

    relevance: float64[n]. topics: float32[n, T] shares of each candidate's topics. own: float64[T], above 0, sums to 1.
    The terms of the divergence that do not change are left out of the comparison.
    """
    chosen, taken = np.empty(picks, np.int64), np.zeros(len(relevance), bool)
    total, summed = np.zeros(len(own)), 0.0
    own32, shares = own.astype(np.float32), topics * np.float32(1 - SMOOTHING)
    for slot in range(picks):
        mixed = (shares + ((1 - SMOOTHING) * total).astype(np.float32)) / np.float32(slot + 1)
        closeness = np.log(mixed + np.float32(SMOOTHING) * own32) @ own32
        gain = (1 - calibration) * (summed + relevance) / (slot + 1) + calibration * closeness
        gain[taken] = -np.inf
        at = chosen[slot] = gain.argmax()
        taken[at] = True
        total += topics[at]
        summed += relevance[at]
    return chosen
