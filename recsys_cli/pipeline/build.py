"""The stages of a pipeline from its configuration, in the order of the seven steps."""

from __future__ import annotations

from recsys_cli.pipeline.bundle import Bundle
from recsys_cli.pipeline.candidates import Stage
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.filters import Safety, prefilters
from recsys_cli.pipeline.scoring import HeavyRanking, Hydrate, LightRanking, Utility
from recsys_cli.pipeline.selection import Caps, Explore, Select
from recsys_cli.pipeline.sourcing import Fallback, Sourcing
from recsys_cli.pipeline.utility import multipliers


def build_stages(config: PipelineConfig, bundle: Bundle) -> list[Stage]:
    """Sources, filters, light ranking, hydration, heavy ranking, utility, exploration, caps, safety,
    selection; raises ConfigError where the configuration names a source or an attribute that is not defined, and
    DataError where a file of personal weights is not one."""
    filters = prefilters(config.filters)
    stages: list[Stage] = [
        Sourcing(config.sourcing, bundle.retrievers, bundle.bits, bundle.configured),
        *filters,
        Fallback(config.sourcing, bundle.retrievers, bundle.bits, filters),
        Hydrate(),
        LightRanking(config.light),
        HeavyRanking(config.heavy),
        Utility(config.utility, config.heavy, config.safety, multipliers(config.utility, bundle)),
    ]
    if config.exploration.enabled and config.exploration.epsilon > 0:
        stages.append(Explore(config.exploration))
    if config.diversity.enabled:
        stages.append(Caps(config.diversity, config.reserve))
    if config.safety.enabled and bundle.catalogue.item_safety:
        stages.append(Safety(config.safety))
    stages.append(Select())
    return stages
