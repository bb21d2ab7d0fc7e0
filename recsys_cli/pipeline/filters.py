"""Filters before ranking: what a user must not or need not see."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.schema import DAY
from recsys_cli.pipeline.candidates import Candidates, Query
from recsys_cli.pipeline.config import FilterConfig, SafetyConfig


class Published:
    """Leaves out items that are not published at the moment of the request."""

    name = "published"

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        created = query.state.catalogue.item_created[candidates.items]
        return candidates.keep(candidates.filled & (created < query.state.now))


class Seen:
    """Leaves out items that the user was shown before."""

    name = "not seen"

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        return candidates.keep(candidates.filled & ~query.state.seen.contains(query.users, candidates.items))


class Own:
    """Leaves out the user's own items."""

    name = "not own"

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        catalogue = query.state.catalogue
        if not len(catalogue.author_user):
            return candidates
        author = catalogue.item_author[candidates.items]
        writer = np.where(author >= 0, catalogue.author_user[author], -1)
        return candidates.keep(candidates.filled & ((writer != query.users[:, None]) | (writer < 0)))


class Blocked:
    """Leaves out authors whom the user blocked or muted."""

    name = "not blocked"

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        author = np.where(candidates.filled, query.state.catalogue.item_author[candidates.items], -1)
        return candidates.keep(candidates.filled & ~query.state.blocked.contains(query.users, author))


class Fresh:
    """Leaves out items older than a number of days."""

    name = "fresh"

    def __init__(self, max_age_days: float):
        self._max_age = int(max_age_days * DAY)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        created = query.state.catalogue.item_created[candidates.items]
        return candidates.keep(candidates.filled & ((created == 0) | (query.state.now - created <= self._max_age)))


def prefilters(config: FilterConfig) -> list:
    """The configured filters, cheapest first."""
    stages: list = [Published()]
    if config.max_age_days is not None:
        stages.append(Fresh(config.max_age_days))
    if config.own:
        stages.append(Own())
    if config.blocked:
        stages.append(Blocked())
    if config.seen:
        stages.append(Seen())
    return stages


def safety_score(config: SafetyConfig, safety: dict[str, np.ndarray], items: np.ndarray) -> np.ndarray:
    """float32 combined safety of items: 1 − weighted mean of their scores; unknown scores count as 0 risk.

    items: int32, -1 gives 1.
    """
    weights = {name: w for name, w in config.weights.items() if name in safety and w > 0}
    risk = np.zeros(items.shape, np.float32)
    for name, weight in weights.items():
        risk += np.float32(weight) * np.nan_to_num(safety[name][items])
    total = sum(weights.values())
    return np.where(items >= 0, 1 - risk / total if total else 1.0, 1.0).astype(np.float32)


def safety_factor(config: SafetyConfig, safety: dict[str, np.ndarray], items: np.ndarray) -> np.ndarray:
    """float32 multiplier of the utility from the thresholds passed (1 where none is)."""
    factor = np.ones(items.shape, np.float32)
    for name, rules in config.downrank.items():
        if name not in safety:
            continue
        score = np.where(items >= 0, np.nan_to_num(safety[name][items]), 0)
        passed = np.ones(items.shape, np.float32)
        for rule in sorted(rules, key=lambda r: r.above):
            passed = np.where(score > rule.above, np.float32(rule.factor), passed)
        factor *= passed
    return factor


class Safety:
    """Drops items whose combined safety score is below the threshold."""

    name = "safety"

    def __init__(self, config: SafetyConfig):
        self._config = config

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        score = safety_score(self._config, query.state.catalogue.item_safety, candidates.items)
        kept = candidates.with_scores(safety=score)
        return kept.keep(candidates.filled & (score >= self._config.threshold))
