"""The registry of stages: what each is made of, in the usual order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from recsys_cli.pipeline.bundle import Bundle
from recsys_cli.pipeline.config import PipelineConfig, SourcingConfig
from recsys_cli.pipeline.exploration.explore import Explore
from recsys_cli.pipeline.exploration.newcomers import BoostNewcomers
from recsys_cli.pipeline.filters import Blocked, Fresh, LastChecks, Own, Policy, Published, Seen, prefilters
from recsys_cli.pipeline.order import HEAVY, Order
from recsys_cli.pipeline.promoted import Promote, PromotedItems
from recsys_cli.pipeline.scoring import HeavyRanking, Hydrate, LightRanking, Predictions, RelevanceRanking, Utility
from recsys_cli.pipeline.selection import Caps, Select
from recsys_cli.pipeline.sourcing import Fallback, Sourcing, budgets
from recsys_cli.pipeline.stage import Filter, Stage
from recsys_cli.pipeline.utility import multipliers
from recsys_cli.safety.policy import SafetyRules


@dataclass
class Setup:
    """What stages are made of."""

    config: PipelineConfig
    bundle: Bundle
    order: Order
    filters: list[Filter] = field(default_factory=list)
    """those of the pipeline that everything has to pass, whenever it comes"""

    @cached_property
    def sourcing(self) -> SourcingConfig:
        """The settings of sourcing, with an open number of candidates settled."""
        config = self.config.sourcing
        if config.candidates != "auto":
            return config
        return config.model_copy(update={"candidates": self.bundle.candidates})

    @cached_property
    def prefilters(self) -> dict[type[Filter], Filter]:
        """The built-in filters that the settings ask for, by class."""
        return {type(stage): stage for stage in prefilters(self.config.filters, self.bundle.repeats)}

    @cached_property
    def rules(self) -> SafetyRules | None:
        """The safety rules that can act; None where none can."""
        return SafetyRules.of(self.config.safety, self.bundle.catalogue, self.bundle.safety)

    @property
    def explores(self) -> bool:
        """Whether slots of the slate are explored."""
        exploration = self.config.exploration
        rates = [exploration.epsilon, *(exploration.users.epsilon.values() if exploration.users else ())]
        return exploration.enabled and (any(rates) or exploration.cold_start.enabled)

    @property
    def picks_deep(self) -> bool:
        """Whether a stage behind the caps picks from all candidates, and not only from slate and reserve."""
        return self.explores or self.config.promoted.attribute is not None

    @property
    def capped(self) -> bool:
        """Whether the caps of the slate are kept."""
        diversity = self.config.diversity
        return diversity.enabled is True or (diversity.enabled == "auto" and (self.order.caps or diversity.stated))


class Entry(NamedTuple):
    """One stage of the registry."""

    kind: type[Stage]
    make: Callable[[Setup], Stage | None]
    """None where the settings or the run do without it"""


def _filter(kind: type[Filter]) -> Entry:
    return Entry(kind, lambda s: s.prefilters.get(kind))


def _utility(s: Setup) -> Utility:
    of_users = multipliers(s.config.utility, s.bundle)
    return Utility(s.config.utility, s.config.heavy, of_users, s.order, s.bundle.proposed_weights)


def _explore(s: Setup) -> Explore | None:
    return Explore(s.config.exploration, s.bundle.catalogue) if s.explores else None


def _promoted(s: Setup, kind: type[PromotedItems] | type[Promote]) -> PromotedItems | Promote | None:
    return None if s.config.promoted.attribute is None else kind(s.config.promoted, s.bundle.catalogue)


def _newcomers(s: Setup) -> BoostNewcomers | None:
    exploration = s.config.exploration
    boosted = exploration.boost.items > 1 or exploration.boost.authors > 1
    return BoostNewcomers(exploration.boost) if exploration.enabled and boosted else None


def _predictions(s: Setup) -> Predictions | None:
    """What is listed has its predictions and is measured, whatever ordered it."""
    able = s.bundle.heavy is not None and s.config.heavy.enabled
    if HEAVY in s.order.orders or not (able or s.bundle.measuring):
        return None
    # a source that this pipeline does not ask is nothing to its slates
    asked = None if able else frozenset(budgets(s.sourcing, s.bundle.retrievers, s.bundle.configured))
    return Predictions(s.config.heavy, asked)


STAGES: dict[str, Entry] = {
    entry.kind.name: entry
    for entry in (
        Entry(Sourcing, lambda s: Sourcing(s.sourcing, s.bundle.retrievers, s.bundle.bits, s.bundle.configured)),
        Entry(PromotedItems, lambda s: _promoted(s, PromotedItems)),
        *map(_filter, (Published, Fresh, Own, Blocked, Seen)),
        Entry(Fallback, lambda s: Fallback(s.sourcing, s.bundle.retrievers, s.bundle.bits, s.filters)),
        Entry(Hydrate, lambda s: Hydrate()),
        Entry(LightRanking, lambda s: LightRanking(s.config.light, s.order)),
        Entry(RelevanceRanking, lambda s: RelevanceRanking() if s.order.related else None),
        Entry(HeavyRanking, lambda s: HeavyRanking(s.config.heavy) if HEAVY in s.order.orders else None),
        Entry(Policy, lambda s: None if s.rules is None else Policy(s.rules)),
        Entry(Utility, _utility),
        Entry(BoostNewcomers, _newcomers),
        Entry(Caps, lambda s: Caps(s.config.diversity, s.config.reserve, s.picks_deep) if s.capped else None),
        Entry(Explore, _explore),
        Entry(Promote, lambda s: _promoted(s, Promote)),
        Entry(LastChecks, lambda s: LastChecks(s.filters, s.rules)),
        Entry(Select, lambda s: Select()),
        Entry(Predictions, _predictions),
    )
}
"""Name → entry, in the usual order; `added.STAGE_KINDS` has the kinds of which settings can add more."""
