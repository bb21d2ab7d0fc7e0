"""What a user must not or need not see: filters before ranking, the safety policy, and both again after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from recsys_cli.data.schema import DAY
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import FilterConfig
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, Scorer, passing
from recsys_cli.retrieval.eligibility import age_limit
from recsys_cli.safety.policy import SafetyRules

LEAST_AGE_DAYS = 14.0
"""Days below which "auto" never hides an item for its age."""


class Published(Filter):
    """Leaves out items that are not published at the moment of the request."""

    name = "published"
    needed = True

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        created = query.state.catalogue.item_created[candidates.items]
        return created < query.state.now


class Seen(Filter):
    """Leaves out items that the user was shown before."""

    name = "not_seen"

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        return ~query.state.seen.contains(query.users, candidates.items)


class Own(Filter):
    """Leaves out the user's own items."""

    name = "not_own"

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        catalogue = query.state.catalogue
        if not len(catalogue.author_user):
            return candidates.filled
        author = catalogue.item_author[candidates.items]
        writer = np.where(author >= 0, catalogue.author_user[author], -1)
        return (writer != query.users[:, None]) | (writer < 0)


class Blocked(Filter):
    """Leaves out authors whom the user blocked or muted."""

    name = "not_blocked"

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        author = np.where(candidates.filled, query.state.catalogue.item_author[candidates.items], -1)
        return ~query.state.blocked.contains(query.users, author)


class Fresh(Filter):
    """Leaves out items older than a number of days; "auto": than LEAST_AGE_DAYS and than what age items in use have
    (`retrieval.base.usual_age`), nothing where age says little."""

    name = "fresh"

    def __init__(self, max_age_days: float | Literal["auto"]):
        self.days = max_age_days

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        days = age_limit(query.state, self.days)
        if days is None:
            return candidates.filled
        limit = int((max(days, LEAST_AGE_DAYS) if self.days == "auto" else days) * DAY)
        created = query.state.catalogue.item_created[candidates.items]
        return (created == 0) | (query.state.now - created <= limit)


def prefilters(config: FilterConfig, repeats: bool = False) -> list[Filter]:
    """The configured filters, cheapest first; repeats: whether training found that people come back to what they
    had."""
    stages: list[Filter] = [Published()]
    if config.max_age_days is not None:
        stages.append(Fresh(config.max_age_days))
    if config.own:
        stages.append(Own())
    if config.blocked:
        stages.append(Blocked())
    if config.leaves_out_seen(repeats):
        stages.append(Seen())
    return stages


class Policy(Scorer):
    """Applies the safety rules to what will be ranked: drops items, and leaves factors for the utility.

    Scores: "safety_factor", where any rule lowers a utility. What was done goes to the query's journal. Dropped items
    leave holes, which the utility's cut closes: to move every column here would cost more than the rules.
    """

    name = "policy"
    needed = True
    gives = ("safety_factor",)

    def __init__(self, rules: SafetyRules):
        self.rules = rules

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        verdicts = self.rules.verdicts(query.state.catalogue)
        followed = verdicts.followed(query.state, query.users, candidates.items)
        if query.journal is not None:
            query.journal.append(verdicts.journal(candidates.items, followed))
        if verdicts.factors is not None:
            factor = verdicts.pick(verdicts.factors, candidates.items, followed)
            candidates = candidates.with_scores(safety_factor=factor)
        if verdicts.drops is None:
            return candidates
        dropped = verdicts.pick(verdicts.drops, candidates.items, followed)
        return replace(candidates, items=np.where(dropped, np.int32(-1), candidates.items))


class LastChecks(Filter):
    """Runs the filters and the drops of the safety rules again on the slate and its reserve, which moves up.

    Exploration, caps and whatever else stands between ranking and the slate cannot bring back what must not be
    shown. Scores: "safety", the combined score, and "interstitial", bit r set where the r-th rule puts a notice before
    the item.
    """

    name = "safety"
    again = False
    gives = ("safety", "interstitial")
    needed = True

    def __init__(self, filters: list[Filter], rules: SafetyRules | None):
        self.filters, self._rules = filters, rules

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        candidates = passing(self.filters, query, candidates)
        if self._rules is None:
            return candidates
        verdicts = self._rules.verdicts(query.state.catalogue)
        followed = verdicts.followed(query.state, query.users, candidates.items)
        if verdicts.drops is not None:
            kept = candidates.filled & ~verdicts.pick(verdicts.drops, candidates.items, followed)
            if not kept.all():
                candidates = candidates.keep(kept)
                followed = verdicts.followed(query.state, query.users, candidates.items)
        scores = {"safety": verdicts.combined[candidates.items]} if self._rules.weights else {}
        if verdicts.notices is not None:
            scores["interstitial"] = verdicts.pick(verdicts.notices, candidates.items, followed).astype(np.float32)
        return candidates.with_scores(**scores)
