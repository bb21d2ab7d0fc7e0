"""The rules that leave items out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rules.compiled import RulesConfig, RuleStage, compiled, contradictions
from recsys_cli.pipeline.stage import Filter

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class RuleFilterConfig(RulesConfig):
    """Leaves out what the rules `filter`."""

    kind: Literal["rules_filter"] = "rules_filter"


class RuleFilter(RuleStage, Filter):
    """Leaves out every item that one of the rules holds for; what comes later passes it as well."""

    config_type = RuleFilterConfig
    config: RuleFilterConfig
    does = ("filter",)

    def prepare(self, bundle: Bundle) -> str | None:
        self.notes = contradictions(compiled(self.config.rules, bundle), bundle)
        return super().prepare(bundle)

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        out = candidates.filled.copy()
        for rule in self.rules:
            out &= ~rule.holds(query, candidates)
        return out
