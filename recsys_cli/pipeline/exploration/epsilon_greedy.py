"""ε-greedy: an explored slot goes to a uniform draw (Sutton and Barto, 2018, section 2.2)."""

from __future__ import annotations

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.strategy import Chances, Even, Strategy
from recsys_cli.pipeline.query import Query


class EpsilonGreedy(Strategy):
    """Every candidate that is left is as probable as another. Learns nothing."""

    name = "epsilon_greedy"

    def chances(self, query: Query, candidates: Candidates) -> Chances:
        columns = np.broadcast_to(np.arange(candidates.items.shape[1]), candidates.items.shape)
        return Even(np.where(candidates.filled, columns, -1))
