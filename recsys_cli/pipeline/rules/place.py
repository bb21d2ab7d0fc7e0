"""The rules that say where items stand: promoted, pinned, buried."""

from __future__ import annotations

from typing import Literal

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rules.compiled import Compiled, RulesConfig, RuleStage
from recsys_cli.pipeline.stage import Selector

FRONT, BETWEEN, BEHIND = 0, 1, 2


class RulePlaceConfig(RulesConfig):
    """Puts what the rules promote in front, what they bury behind, and what they pin at its position."""

    kind: Literal["rules_place"] = "rules_place"


class RulePlace(RuleStage, Selector):
    """Stands behind whatever else orders the slate. Of two pins at one position the first rule's stands there, the
    other's behind it; a position beyond the candidates is the last."""

    config_type = RulePlaceConfig
    config: RulePlaceConfig
    does = ("bury", "promote", "pin")
    reads = ("utility",)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        b, k = candidates.items.shape
        if not k:
            return candidates
        pins = [(rule, rule.rule.position) for rule in self.rules if rule.rule.position is not None]
        others = tuple(rule for rule in self.rules if rule.rule.then != "pin")
        standing = standings(others, query, candidates)
        order = np.argsort(np.where(candidates.filled, standing, 9), axis=1, kind="stable")
        held = np.zeros((len(pins), b, k), bool)
        for place, (rule, _) in enumerate(pins):
            held[place] = rule.holds(query, candidates)
        for row in np.flatnonzero(held.any(axis=(0, 2))):
            order[row] = _pinned(order[row], held[:, row], [position for _, position in pins])
        return candidates.take(np.where(np.take_along_axis(candidates.filled, order, axis=1), order, -1))


def _pinned(order: np.ndarray, held: np.ndarray, positions: list[int]) -> np.ndarray:
    """An order int64[K] with the first candidate that each pin holds for at its position.

    held: bool[pins, K] of the candidates.
    """
    rest, taken = order.tolist(), {}
    for pin, position in enumerate(positions):
        at = next((each for each in rest if held[pin, each]), None)
        if at is None:
            continue
        rest.remove(at)
        while position in taken:
            position += 1
        taken[position] = at
    for position in sorted(taken):
        rest.insert(position - 1, taken[position])
    return np.array(rest, np.int64)


def standings(rules: tuple[Compiled, ...], query: Query, candidates: Candidates) -> np.ndarray:
    """int8[B, K]: where each candidate stands, in front of all others, between, or behind; what is pinned counts as in
    front, and what is both in front and behind stands in front."""
    out = np.full(candidates.items.shape, BETWEEN, np.int8)
    for rule in rules:
        if rule.rule.then == "bury":
            out[rule.holds(query, candidates)] = BEHIND
    for rule in rules:
        if rule.rule.then in ("promote", "pin"):
            most = 1 if rule.rule.then == "pin" else rule.rule.at_most
            found = rule.holds(query, candidates)
            out[found if most is None else found & (found.cumsum(axis=1) <= most)] = FRONT
    return out
