"""The stages of a pipeline from its configuration, in the order of the seven steps."""

from __future__ import annotations

from recsys_cli.pipeline.bundle import Bundle
from recsys_cli.pipeline.candidates import Stage
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.filters import LastChecks, Policy, prefilters
from recsys_cli.pipeline.order import HEAVY, Order, resolve_order
from recsys_cli.pipeline.scoring import HeavyRanking, Hydrate, LightRanking, RelevanceRanking, Utility
from recsys_cli.pipeline.selection import Caps, Explore, Select
from recsys_cli.pipeline.sourcing import Fallback, Sourcing
from recsys_cli.pipeline.utility import multipliers
from recsys_cli.safety.policy import SafetyRules


def build_stages(config: PipelineConfig, bundle: Bundle, order: Order | None = None) -> list[Stage]:
    """Sources, filters, light ranking, hydration, heavy ranking, safety policy, utility, exploration, caps, the last
    checks, selection; raises ConfigError where the configuration names a source, a score or an attribute that is not
    there, and DataError where a file of personal weights is not one.

    order: what orders the candidates, in place of what the settings and the run say."""
    order = resolve_order(config, bundle) if order is None else order
    sourcing = config.sourcing
    if sourcing.candidates == "auto":
        sourcing = sourcing.model_copy(update={"candidates": bundle.candidates})
    filters = prefilters(config.filters, bundle.repeats)
    rules = SafetyRules.of(config.safety, bundle.catalogue, bundle.safety)
    stages: list[Stage] = [
        Sourcing(sourcing, bundle.retrievers, bundle.bits, bundle.configured),
        *filters,
        Fallback(sourcing, bundle.retrievers, bundle.bits, filters),
        Hydrate(),
        LightRanking(config.light, order),
        *([RelevanceRanking()] if order.related else []),
        *([HeavyRanking(config.heavy)] if HEAVY in order.orders else []),
        *([] if rules is None else [Policy(rules)]),
        Utility(config.utility, config.heavy, multipliers(config.utility, bundle), order, bundle.proposed_weights),
    ]
    if config.exploration.enabled and config.exploration.epsilon > 0:
        stages.append(Explore(config.exploration))
    if config.diversity.enabled is True or (
        config.diversity.enabled == "auto" and (order.caps or config.diversity.stated)
    ):
        stages.append(Caps(config.diversity, config.reserve))
    stages += [LastChecks(filters, rules), Select()]
    if HEAVY not in order.orders and bundle.heavy is not None and config.heavy.enabled:
        stages.append(HeavyRanking(config.heavy))  # what is listed has its predictions, whatever ordered it
    return stages
