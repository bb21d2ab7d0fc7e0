"""Thompson sampling with a Beta posterior (Thompson, Biometrika 1933; Chapelle and Li, NIPS 2011)."""

from __future__ import annotations

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.exploration.lift import Lift, candidate_rates
from recsys_cli.pipeline.exploration.strategy import Chances, Drawn, Strategy, picked
from recsys_cli.pipeline.query import Query
from recsys_cli.retrieval.memo import PerState


class Thompson(Strategy):
    """A slot goes to the highest draw of m × q ÷ expected, q drawn from the Beta posterior of the item's rate; see
    `lift.Lift`. The prior is what the rates of the catalogue's items are like."""

    name = "thompson"

    def __init__(self, config: ExplorationConfig):
        super().__init__(config)
        self._lift = PerState(lambda state: Lift.of(self.learned(state)))

    def chances(self, query: Query, candidates: Candidates) -> Chances:
        from scipy.special import betainc

        lift, filled = self._lift(query.state), candidates.filled
        rates = candidate_rates(self.learned(query.state), candidates.scores["utility"], filled)
        items = candidates.items
        scale = rates / lift.expected[items]
        mean = lift.taken[items] / lift.shown[items]
        # a narrower posterior stands on more impressions
        shown = lift.shown[items] / self.config.confidence**2
        sd = np.sqrt(mean * (1 - mean) / (shown + 1))
        columns = self.pool(scale * (mean + 2 * sd), filled)
        scale, mean, sd, shown = (picked(values, columns) for values in (scale, mean, sd, shown))
        a, b = mean * shown, (1 - mean) * shown
        held = columns >= 0
        top = np.where(held, scale * np.minimum(mean + 6 * sd, 1), 0).max(axis=1, initial=1e-9)

        def cdf(points: np.ndarray) -> np.ndarray:
            at = np.clip(points[:, None, :] / scale[..., None], 0, 1)
            return betainc(a[..., None], b[..., None], at)

        return Drawn(columns, np.zeros(len(columns)), top, cdf)
