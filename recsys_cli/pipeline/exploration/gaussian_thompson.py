"""Thompson sampling with a normal posterior of what an item is worth (Agrawal and Goyal, AISTATS 2013)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.exploration.feedback import Learned, Line
from recsys_cli.pipeline.exploration.strategy import Chances, Strategy, normal_draws, picked
from recsys_cli.pipeline.query import Query
from recsys_cli.retrieval.memo import PerState


class Worth(NamedTuple):
    """How much more an item is worth than the ranking says; float64[n_items]."""

    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, learned: Learned) -> Worth:
        """Normal posterior of each item's mean residual; the noise of one impression and the spread of items are those
        of the impressions with feedback (method of moments), half of the reward's variance each where there are few.
        """
        line, m = learned.line("reward"), learned.moments
        shown, reward, utility = (learned.counter(name) for name in ("shown", "reward", "utility"))
        line = line or Line(0.0, 1.0)
        residual = reward - line.base * shown - line.slope * utility
        n = max(m["n"], 1.0)
        square = (
            m["reward2"] + line.slope**2 * m["utility2"] + n * line.base**2
            - 2 * line.slope * m["utility_reward"] - 2 * line.base * m["reward"]
            + 2 * line.base * line.slope * m["utility"]
        )
        noise = max(square / n, 1e-6) if m["n"] else 1.0
        often = shown >= 2
        spread = noise / 2
        if often.sum() >= 30:
            between = (residual[often] / shown[often]) ** 2 - noise / shown[often]
            spread = float(np.clip(np.average(between, weights=shown[often]), noise / 1000, noise))
        # impressions of before there was feedback make an item known, as having gone as expected
        seen = np.maximum(learned.state.impressions, shown)
        return cls(spread * residual / (noise + seen * spread), np.sqrt(spread * noise / (noise + seen * spread)))


class GaussianThompson(Strategy):
    """A slot goes to the highest draw of the expected utility plus the residual of the item."""

    name = "gaussian_thompson"

    def __init__(self, config: ExplorationConfig):
        super().__init__(config)
        self._worth = PerState(lambda state: Worth.of(self.learned(state)))

    def chances(self, query: Query, candidates: Candidates) -> Chances:
        worth, filled = self._worth(query.state), candidates.filled
        expected = self.learned(query.state).expected("reward", candidates.scores["utility"], filled)
        mean, sd = expected + worth.mean[candidates.items], self.config.confidence * worth.sd[candidates.items]
        columns = self.pool(mean + 2 * sd, filled)
        return normal_draws(columns, picked(mean, columns), picked(sd, columns))
