"""Thompson sampling of a linear model over features of user and item (Agrawal and Goyal, ICML 2013)."""

from __future__ import annotations

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.exploration.linear_model import LinearModel, beliefs
from recsys_cli.pipeline.exploration.strategy import Chances, Strategy, normal_draws, picked
from recsys_cli.pipeline.query import Query
from recsys_cli.retrieval.memo import PerState


class LinearThompson(Strategy):
    """A slot goes to the highest draw of x · θ. Each candidate is drawn from its own marginal of the posterior, and not
    all from one θ, so that the probability of what is shown can be told exactly."""

    name = "linear_thompson"

    def __init__(self, config: ExplorationConfig):
        super().__init__(config)
        self._model = PerState(lambda state: LinearModel.of(self.learned(state), config.l2))

    def chances(self, query: Query, candidates: Candidates) -> Chances:
        mean, sd = beliefs(self._model(query.state), self.learned(query.state), query, candidates)
        sd = self.config.confidence * sd
        columns = self.pool(mean + 2 * sd, candidates.filled)
        return normal_draws(columns, picked(mean, columns), picked(sd, columns))
