"""Takes back a part of what popularity alone gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import Rescaler
from recsys_cli.pipeline.stage import StageConfig
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.data.state import State


class PopularityCorrectionConfig(StageConfig):
    """The utility is multiplied by ((mean interactions of an item + 1) ÷ (its interactions + 1))^exponent."""

    kind: Literal["popularity_correction"] = "popularity_correction"
    popularity_exponent: Annotated[float, Field(ge=0, le=2)] = 0.1
    """How much is taken back: 0 nothing, 1 all that would be in proportion to popularity."""


class PopularityCorrection(Rescaler):
    """Divides the utility by a power of an item's popularity, as inverse propensities do where what is popular is what
    gets seen (Steck, RecSys 2011)."""

    config_type = PopularityCorrectionConfig
    config: PopularityCorrectionConfig

    def __init__(self, config: PopularityCorrectionConfig):
        super().__init__(config)
        self._factors = PerState(self._of_state)

    def enabled(self, query: Query) -> bool:
        return self.config.popularity_exponent > 0

    def factors(self, query: Query, candidates: Candidates) -> np.ndarray:
        return self._factors(query.state)[candidates.items]

    def _of_state(self, state: State) -> np.ndarray:
        count = state.interactions.astype(np.float64)
        mean = count.mean() if len(count) else 0.0
        return (((mean + 1) / (count + 1)) ** self.config.popularity_exponent).astype(np.float32)
