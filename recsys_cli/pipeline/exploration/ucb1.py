"""UCB1: the upper bound of what an item's rate may be (Auer, Cesa-Bianchi and Fischer, Machine Learning 2002)."""

from __future__ import annotations

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.exploration.lift import Lift, candidate_rates
from recsys_cli.pipeline.exploration.strategy import Best, Chances, Strategy, picked
from recsys_cli.pipeline.query import Query
from recsys_cli.retrieval.memo import PerState


class Ucb1(Strategy):
    """index = m × (mean of q + confidence × √(2 ln N ÷ n)) ÷ expected; see `lift.Lift` for m, q and expected.

    n: impressions of the item, those of the prior included; N: of all items together.
    """

    name = "ucb1"

    def __init__(self, config: ExplorationConfig):
        super().__init__(config)
        self._bounds = PerState(lambda state: self._bound(Lift.of(self.learned(state))))

    def _bound(self, lift: Lift) -> np.ndarray:
        """float64[n_items] upper bound of each item's rate over what was expected of it."""
        width = self.config.confidence * np.sqrt(2 * np.log(lift.shown.sum()) / lift.shown)
        return (lift.taken / lift.shown + width) / lift.expected

    def chances(self, query: Query, candidates: Candidates) -> Chances:
        learned = self.learned(query.state)
        rates = candidate_rates(learned, candidates.scores["utility"], candidates.filled)
        index = rates * self._bounds(query.state)[candidates.items]
        columns = self.pool(index, candidates.filled)
        return Best(columns, picked(index, columns))
