"""The stages that the rules of a pipeline need."""

from __future__ import annotations

from recsys_cli.pipeline.rules.boost import RuleBoost, RuleBoostConfig
from recsys_cli.pipeline.rules.compiled import RuleStage
from recsys_cli.pipeline.rules.config import BusinessRule
from recsys_cli.pipeline.rules.filter import RuleFilter, RuleFilterConfig
from recsys_cli.pipeline.rules.place import RulePlace, RulePlaceConfig
from recsys_cli.pipeline.stage import StageConfig

RULE_KINDS: dict[str, type[RuleStage]] = {
    "rules_filter": RuleFilter, "rules_boost": RuleBoost, "rules_place": RulePlace,
}


def rule_stages(rules: dict[str, BusinessRule]) -> dict[str, StageConfig]:
    """Name of a stage → its settings, of those that some rule needs."""
    configs = (RuleFilterConfig(rules=rules), RuleBoostConfig(rules=rules), RulePlaceConfig(rules=rules))
    needed = {c.kind: {rule.then for rule in rules.values()} & set(RULE_KINDS[c.kind].does) for c in configs}
    # contradictions are looked for by the filter, which stands wherever there are several rules
    return {c.kind: c for c in configs if needed[c.kind] or (c.kind == "rules_filter" and len(rules) > 1)}
