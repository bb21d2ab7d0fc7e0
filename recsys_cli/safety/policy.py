"""The policy: which rule decides over an item, worked out once for the whole catalogue.

Scores do not depend on the viewer, so a request only looks its candidates up. Rules that leave out followed authors
give two sets of tables, one for viewers who follow the author.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.schema import SAFETY_COLUMNS
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.safety.config import AUTHOR, COMBINED, Rule, SafetyConfig

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.safety.models import SafetyModels


@dataclass(frozen=True)
class Actions:
    """What the rules did to the candidates of a request: parallel arrays, and the candidates without some score."""

    row: np.ndarray
    """int64 place of the user in the batch"""
    item: np.ndarray
    """int32"""
    rule: np.ndarray
    """int64 place in `SafetyRules.rules`"""
    score: np.ndarray
    """float32"""
    unknown: int
    """candidates that lack a score which a rule asks for"""


@dataclass(frozen=True)
class SafetyRules:
    """The rules that can act on a catalogue."""

    rules: tuple[Rule, ...]
    weights: dict[str, float]
    _kept: list

    @classmethod
    def of(cls, config: SafetyConfig, catalogue: Catalogue, models: SafetyModels) -> SafetyRules | None:
        """The rules whose scores the data or a classifier gives; None where the policy is off or nothing is left.

        Raises ConfigError where a rule or weight names a score that neither a dataset can have nor a model gives.
        """
        if not config.enabled:
            return None
        items = {*catalogue.item_safety, *models.texts}
        authors = {*items, *models.accounts, *catalogue.author_safety}
        nameable = {*SAFETY_COLUMNS, *items}
        known = {COMBINED, *nameable, *(AUTHOR + task for task in (*nameable, *authors))}
        for name in (*config.weights, *(rule.task for rule in config.rules)):
            if name not in known or (name in config.weights and name == COMBINED):
                hint = "train one with `recsys train-safety`, then `recsys train`"
                raise ConfigError(
                    f"pipeline.safety: no score {name!r} in this run", did_you_mean(name, known, hint)
                )
        weights = {name: w for name, w in config.weights.items() if name in items and w > 0}
        able = {*items, *(AUTHOR + task for task in authors), *([COMBINED] if weights else [])}
        rules = tuple(rule for rule in config.rules if rule.task in able)
        return cls(rules, weights, []) if items or rules else None

    def verdicts(self, catalogue: Catalogue) -> Verdicts:
        """The tables for a catalogue, worked out when first asked for."""
        if not self._kept or not self._kept[0].fits(catalogue):
            self._kept[:] = [self._shared(catalogue)]
        return self._kept[0]

    def _shared(self, catalogue: Catalogue) -> Verdicts:
        # a guest is served by an engine of their own, whose catalogue has the same scores
        for verdicts in _RECENT:
            if verdicts.fits(catalogue) and verdicts.rules == self.rules and verdicts.weights == self.weights:
                return verdicts
        verdicts = Verdicts(self, catalogue)
        _RECENT.appendleft(verdicts)
        return verdicts


class Verdicts:
    """Tables by item, with one entry more for the empty slot (-1): each [n_items + 1], or [2, n_items + 1] with the
    viewer's following the author as the first index."""

    def __init__(self, rules: SafetyRules, catalogue: Catalogue):
        self._catalogue, self.rules, self.weights = catalogue, rules.rules, rules.weights
        n = catalogue.n_items
        self.combined = self._scores(COMBINED)
        sides = (False, True) if any(rule.unless_following for rule in rules.rules) else (False,)
        shape = (len(sides), n + 1)
        factors, drops, notices = np.ones(shape, np.float32), np.zeros(shape, bool), np.zeros(shape, np.uint32)
        acted, missing = np.zeros(shape, bool), np.zeros(n + 1, bool)
        self._columns: list[tuple[np.ndarray, np.ndarray]] = []
        """of each group of rules: its scores, and the rule that decides [sides, n + 1], -1 for none"""
        for group in _groups(rules.rules):
            score = self._scores(rules.rules[group[0]].task)
            missing |= np.isnan(score)
            chosen = np.full(shape, -1, np.int8)
            for number in group:  # from the mildest to the strictest
                rule = rules.rules[number]
                holds = score < rule.below if rule.above is None else score > rule.above
                for side, following in enumerate(sides):
                    if not (following and rule.unless_following):
                        chosen[side, holds] = number
            chosen[:, -1] = -1
            for number in group:
                rule, here = rules.rules[number], chosen == number
                acted |= here
                if rule.action == "downrank":
                    factors[here] *= np.float32(rule.factor)
                drops |= here & (rule.action == "drop")
                if rule.action == "interstitial":
                    notices[here] |= np.uint32(1 << number)
            self._columns.append((score, chosen))
        missing[-1] = False
        self.factors = factors if (factors != 1).any() else None
        self.drops = drops if drops.any() else None
        self.notices = notices if notices.any() else None
        """bit r: the r-th rule puts a notice before the item"""
        self._acted = acted if acted.any() else None
        self._missing = missing if missing.any() else None
        self._differs = (
            (factors[0] != factors[1]) | (drops[0] != drops[1]) | (notices[0] != notices[1]) | (acted[0] != acted[1])
            | np.any([(c[0] != c[1]) for _, c in self._columns], axis=0)
            if len(sides) > 1 else None
        )

    def fits(self, catalogue: Catalogue) -> bool:
        """Whether a catalogue has the very scores that the tables were made of."""
        mine = self._catalogue
        return mine.item_safety is catalogue.item_safety and mine.author_safety is catalogue.author_safety

    @cached_property
    def _author(self) -> np.ndarray:
        return np.append(self._catalogue.item_author, np.int32(-1))

    def _scores(self, task: str) -> np.ndarray:
        """float32[n_items + 1], NaN where unknown"""
        catalogue = self._catalogue
        out = np.full(catalogue.n_items + 1, np.nan, np.float32)
        if task == COMBINED:
            risk, total, known = np.zeros(catalogue.n_items), 0.0, np.zeros(catalogue.n_items, bool)
            for name, weight in self.weights.items():
                column = catalogue.item_safety.get(name)
                there = np.zeros(0, bool) if column is None else ~np.isnan(column)
                if there.any():
                    # an item of which a task is unknown counts as the mean item there, neither safe nor unsafe
                    risk += weight * np.where(there, column, column[there].mean())
                    total += weight
                    known |= there
            out[:-1] = np.where(known, 1 - risk / max(total, 1e-12), np.nan)
        elif task in catalogue.item_safety:
            out[:-1] = catalogue.item_safety[task]
        elif task.removeprefix(AUTHOR) in catalogue.author_safety:
            author = catalogue.item_author
            of_author = np.append(catalogue.author_safety[task.removeprefix(AUTHOR)], np.float32(np.nan))
            out[:-1] = of_author[author]
        return out

    def followed(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray | None:
        """bool[B, K] whether the viewer follows the author, asked only where it matters; None where it nowhere does."""
        if self._differs is None:
            return None
        asked = self._differs[items]
        if not asked.any():
            return None
        return asked & state.follows.contains(users, np.where(asked, self._author[items], -1))

    @staticmethod
    def pick(table: np.ndarray, items: np.ndarray, followed: np.ndarray | None) -> np.ndarray:
        """Entries [B, K] of a table for the items; an item of -1 gets the neutral last entry."""
        out = table[0][items]
        return out if followed is None else np.where(followed, table[1][items], out)

    def journal(self, items: np.ndarray, followed: np.ndarray | None) -> Actions:
        """Every rule that decides over one of the items [B, K]."""
        unknown = 0 if self._missing is None else int(np.count_nonzero(self._missing[items]))
        parts = []
        acted = None if self._acted is None else np.flatnonzero(self.pick(self._acted, items, followed))
        if acted is not None and len(acted):
            row, item = acted // items.shape[1], items.reshape(-1)[acted]
            side = None if followed is None else followed.reshape(-1)[acted]
            for score, chosen in self._columns:
                rule = chosen[0][item] if side is None else np.where(side, chosen[1][item], chosen[0][item])
                at = np.flatnonzero(rule >= 0)
                parts.append((row[at], item[at], rule[at].astype(np.int64), score[item[at]]))
        if not parts:
            none = np.zeros(0, np.int64)
            return Actions(none, none.astype(np.int32), none, none.astype(np.float32), unknown)
        return Actions(*(np.concatenate(column) for column in zip(*parts, strict=True)), unknown)


_RECENT: deque[Verdicts] = deque(maxlen=4)
"""Tables made last, shared by engines of the same rules and scores."""


def _groups(rules: tuple[Rule, ...]) -> Iterator[list[int]]:
    """Places of the rules of one task and direction, the mildest first; of equal thresholds the one named first
    is the strictest."""
    groups: dict[tuple[str, bool], list[int]] = {}
    for number, rule in enumerate(rules):
        groups.setdefault((rule.task, rule.above is None), []).append(number)
    for (_, below), members in groups.items():
        yield sorted(members, key=lambda i: (-rules[i].threshold if below else rules[i].threshold, -i))


def trace_fields(rules: SafetyRules, actions: Actions, item_ids: list, user_ids: list, shown: np.ndarray) -> dict:
    """The fields of a trace event: the rules that acted, and a column each of users, items, rules, scores, shown.

    item_ids, user_ids: of the rows of `actions`. shown: bool, whether the item is in the slate all the same.
    """
    used = sorted(set(actions.rule.tolist()))
    place = {number: i for i, number in enumerate(used)}
    return {
        "rules": [
            {
                "rule": rules.rules[n].name, "task": rules.rules[n].task, "action": rules.rules[n].action,
                "threshold": rules.rules[n].threshold, "factor": rules.rules[n].factor,
            }
            for n in used
        ],
        "user": user_ids,
        "item": item_ids,
        "rule": [place[n] for n in actions.rule.tolist()],
        "score": [round(s, 4) for s in actions.score.tolist()],
        "shown": shown.tolist(),
    }
