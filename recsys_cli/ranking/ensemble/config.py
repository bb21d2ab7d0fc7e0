"""Settings of a network and trees as one heavy ranker."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys_cli.ranking.heavy_config import HeavyConfig, refuse_common, with_common
from recsys_cli.ranking.networks.kinds import NETWORKS, SharedBottomConfig
from recsys_cli.ranking.trees.config import LightGbmConfig

Network = reduce(or_, NETWORKS.values())


class EnsembleConfig(HeavyConfig):
    """A network and LightGBM's trees; the weighted mean of their log-odds, calibrated as one. Dwell time is the
    network's."""

    kind: Literal["ensemble"] = "ensemble"
    network: Annotated[Network, Field(discriminator="kind")] = SharedBottomConfig()
    """The network, by kind. What every heavy ranker takes (min_positives, calibration, …) is set beside it."""
    trees: LightGbmConfig = LightGbmConfig()
    """The trees."""
    trees_share: float = Field(0.5, gt=0, lt=1)
    """Weight of the trees' log-odds; the network has the rest."""

    @model_validator(mode="after")
    def _common_settings_beside_the_parts(self) -> EnsembleConfig:
        for name, part in (("network", self.network), ("trees", self.trees)):
            refuse_common(part, name, "the whole ensemble")
        return self

    def part(self, name: Literal["network", "trees"]) -> HeavyConfig:
        """Settings of a part with those of the whole in place."""
        return with_common(getattr(self, name), self, dwell=self.dwell and name == "network")
