"""LinUCB: the upper bound of a linear model over features of user and item (Li et al., WWW 2010)."""

from __future__ import annotations

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.exploration.linear_model import LinearModel, beliefs
from recsys_cli.pipeline.exploration.strategy import Best, Chances, Strategy, picked
from recsys_cli.pipeline.query import Query
from recsys_cli.retrieval.memo import PerState


class LinUcb(Strategy):
    """index = x · θ + confidence × standard deviation of x · θ, with one θ for all items."""

    name = "lin_ucb"

    def __init__(self, config: ExplorationConfig):
        super().__init__(config)
        self._model = PerState(lambda state: LinearModel.of(self.learned(state), config.l2))

    def chances(self, query: Query, candidates: Candidates) -> Chances:
        mean, sd = beliefs(self._model(query.state), self.learned(query.state), query, candidates)
        index = mean + self.config.confidence * sd
        columns = self.pool(index, candidates.filled)
        return Best(columns, picked(index, columns))
