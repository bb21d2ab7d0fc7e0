"""Rules of a pipeline with their compiled conditions, as their stages use them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.errors import ConfigError
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rules.attributes import Named, attributes_of
from recsys_cli.pipeline.rules.condition import Node, Scope, compile_condition, holds
from recsys_cli.pipeline.rules.config import BusinessRule, Then
from recsys_cli.pipeline.rules.syntax import ConditionError
from recsys_cli.pipeline.stage import Stage, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

STRONGER = {"filter": 0, "pin": 1, "promote": 2, "bury": 3}
"""What prevails where several rules hold for an item: the lower number. Boosts multiply beside them."""
DOES = {
    "filter": "are left out", "pin": "take their position", "promote": "stand in front", "bury": "stand behind",
}


class RulesConfig(StageConfig):
    """Rules by name, of which a stage takes those whose `then` it carries out."""

    rules: dict[str, BusinessRule] = {}
    """Name → rule."""


@dataclass(frozen=True)
class Compiled:
    """A rule and its condition."""

    name: str
    rule: BusinessRule
    condition: Node

    def holds(self, query: Query, candidates: Candidates) -> np.ndarray:
        """bool[B, K]"""
        return holds(self.condition, Scope(query.state, query.context, query.users, candidates.items))


class RuleStage(Stage):
    """What the stages of rules share: it compiles the rules of its kinds as the pipeline is built."""

    config_type: ClassVar[type[StageConfig]] = RulesConfig
    config: RulesConfig
    does: ClassVar[tuple[Then, ...]] = ()
    """kinds of rules that it carries out"""
    rules: tuple[Compiled, ...] = ()

    def prepare(self, bundle: Bundle) -> str | None:
        mine = {name: rule for name, rule in self.config.rules.items() if rule.then in self.does}
        self.rules = tuple(compiled(mine, bundle))
        return None

    def enabled(self, query: Query) -> bool:
        return bool(self.rules)


def compiled(rules: dict[str, BusinessRule], data: Named) -> list[Compiled]:
    """The rules with their conditions; raises ConfigError that names the rule whose condition this data cannot
    decide."""
    attributes, out = attributes_of(data) if rules else {}, []
    for name, rule in rules.items():
        try:
            out.append(Compiled(name, rule, compile_condition(rule.condition, attributes)))
        except ConditionError as error:
            raise ConfigError(f"pipeline.rules.{name}.if: {error}", error.hint) from None
    return out


def contradictions(rules: list[Compiled], bundle: Bundle) -> tuple[str, ...]:
    """A sentence for each two rules that want different things of the same items of the catalogue, and which prevails.

    Rules that also depend on users or requests are not looked at: whom they meet is known in a request alone.
    """
    of_items = [(c, np.asarray(c.condition.run(Scope(bundle.state)))) for c in rules if c.condition.sides == {"item"}]
    out = []
    for (a, held), (b, too) in product(of_items, of_items):
        first, second = (STRONGER.get(c.rule.then, len(STRONGER)) for c in (a, b))
        both = int((held & too).sum()) if first < second < len(STRONGER) else 0
        if both:
            what = f"{both:,} item{'s' if both > 1 else ''}"
            out.append(
                f"rules {a.name} ({a.rule.then}) and {b.name} ({b.rule.then}) both hold for {what}: "
                f"they {DOES[a.rule.then]}"
            )
    return tuple(out)
