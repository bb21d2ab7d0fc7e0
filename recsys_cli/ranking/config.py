"""Settings of all rankers. Cheap to import: no torch, no numpy."""

from __future__ import annotations

from typing import Literal

from recsys_cli.config import Section
from recsys_cli.ranking.light_config import LightRankerConfig
from recsys_cli.ranking.networks.kinds import SharedBottomConfig
from recsys_cli.ranking.registry import HeavyRankerConfig
from recsys_cli.ranking.relevance_config import RelevanceConfig
from recsys_cli.ranking.trees.config import BaselineConfig


class RankingConfig(Section):
    """Light and heavy ranking."""

    light: LightRankerConfig = LightRankerConfig()
    heavy: HeavyRankerConfig = SharedBottomConfig()
    """The heavy ranker, by kind."""
    precision: Literal["float32", "int8"] = "float32"
    """How the heavy network is served; int8 is smaller and faster, and training states what it costs in ROC-AUC."""
    baseline: BaselineConfig = BaselineConfig()
    relevance: RelevanceConfig = RelevanceConfig()
    choose: str = "auto"
    """What orders the lists: "auto" takes what is best on the validation window among every source, "merge", "fusion",
    "light", "relevance" and "heavy"; or one of these."""
