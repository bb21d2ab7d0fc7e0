"""Weights of the sources that proposed an item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import Rescaler
from recsys_cli.pipeline.stage import StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class SourceWeightsConfig(StageConfig):
    """The utility is multiplied by the largest weight of the sources that proposed an item."""

    kind: Literal["source_weights"] = "source_weights"
    weights: dict[str, Annotated[float, Field(ge=0, le=10)]] = {}
    """Source → weight."""
    others: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Weight of sources that are not named."""


class SourceWeights(Rescaler):
    """Trusts some sources more than others, whatever the rankers say."""

    config_type = SourceWeightsConfig
    config: SourceWeightsConfig
    _weights = np.ones(0, np.float32)

    def prepare(self, bundle: Bundle) -> str | None:
        from recsys_cli.retrieval.registry import default_retrieval

        known = {*bundle.bits, *default_retrieval()}  # one that this run was trained without is no mistake
        for name in self.config.weights:
            if name not in known:
                hint = did_you_mean(name, known, f"there are: {', '.join(bundle.bits)}")
                raise ConfigError(f"pipeline.stages.{self.name}.weights: there is no source {name!r}", hint)
        weights = [self.config.weights.get(name, self.config.others) for name in bundle.bits]
        self._weights = np.array(weights, np.float32)
        return None

    def enabled(self, query: Query) -> bool:
        return bool(self.config.weights)

    def factors(self, query: Query, candidates: Candidates) -> np.ndarray:
        out = np.zeros(candidates.items.shape, np.float32)
        for bit, weight in enumerate(self._weights):
            proposed = (candidates.sources >> np.uint32(bit)) & np.uint32(1)
            out = np.maximum(out, np.where(proposed, weight, np.float32(0)))
        return np.where(candidates.sources > 0, out, np.float32(self.config.others))
