"""The rules that act on the utility: boost, bury, and what is to stand in front."""

from __future__ import annotations

from typing import Literal

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import scaled
from recsys_cli.pipeline.rules.compiled import RulesConfig, RuleStage
from recsys_cli.pipeline.rules.place import standings
from recsys_cli.pipeline.stage import Scorer


class RuleBoostConfig(RulesConfig):
    """Multiplies the utility of what the rules `boost`, and moves what they bury, promote or pin to the ends."""

    kind: Literal["rules_boost"] = "rules_boost"


class RuleBoost(RuleStage, Scorer):
    """Boosts multiply. What is promoted or pinned gets a utility just above all others, so that it survives what cuts
    the list, and what is buried one just below."""

    config_type = RuleBoostConfig
    config: RuleBoostConfig
    does = ("boost", "bury", "promote", "pin")
    reads = ("utility",)
    gives = ("utility",)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        factor = np.ones(candidates.items.shape, np.float32)
        for rule in self.rules:
            if rule.rule.then == "boost":
                factor = np.where(rule.holds(query, candidates), factor * np.float32(rule.rule.by), factor)
        utility = scaled(candidates.scores["utility"], factor)
        candidates = candidates.with_scores(utility=utility).best("utility", candidates.items.shape[1])
        if not candidates.items.size or all(rule.rule.then == "boost" for rule in self.rules):
            return candidates
        standing = standings(self.rules, query, candidates)
        order = np.argsort(np.where(candidates.filled, standing, 9), axis=1, kind="stable")
        candidates = candidates.take(np.where(np.take_along_axis(candidates.filled, order, axis=1), order, -1))
        standing = np.take_along_axis(standing, order, axis=1)
        return candidates.with_scores(utility=_spread(candidates, standing))


def _spread(candidates: Candidates, standing: np.ndarray) -> np.ndarray:
    """float32[B, K] utilities that fall along the order: those in front in small steps above all others, those behind
    in small steps below.

    standing: int[B, K], 0 in front, 1 between, 2 behind.
    """
    utility, filled = candidates.scores["utility"].astype(np.float64), candidates.filled
    between = filled & (standing == 1)
    some = between.any(axis=1, keepdims=True)
    mine = np.where(some, between, filled)
    top = np.where(mine, utility, -np.inf).max(axis=1, keepdims=True)
    bottom = np.where(mine, utility, np.inf).min(axis=1, keepdims=True)
    top, bottom = (np.where(np.isfinite(end), end, 0) for end in (top, bottom))
    step = 1e-3 * np.maximum(np.maximum(np.abs(top), np.abs(bottom)), 1e-3)
    front, behind = filled & (standing == 0), filled & (standing == 2)
    above = front[:, ::-1].cumsum(axis=1)[:, ::-1]
    below = behind.cumsum(axis=1)
    out = np.where(front, top + step * above, np.where(behind, bottom - step * below, utility))
    return out.astype(np.float32)
