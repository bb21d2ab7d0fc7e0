"""What is trending among people like the user: those of the same country, language or other attribute."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from recsys_cli.data.state import TREND_HALF_LIFE, State
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.popularity.popularity import Ranking, first_unseen, ranking_of
from recsys_cli.retrieval.reason import Reason

MOST_SEGMENTS = 200
"""An attribute of more values than this says little of each, and is not chosen by itself."""


class SegmentTrendingConfig(RetrieverConfig):
    """Trending by segment of users."""

    kind: Literal["segment_trending"] = "segment_trending"
    by: str | None = None
    """Categorical attribute of the users; null takes the first that has 2 to 200 values."""
    prior: NonNegativeFloat = 5.0
    """So many interactions of everybody, spread as everybody's are, are added to each segment's own."""
    pool: PositiveInt = 2000
    """Trending items kept for each segment."""


class SegmentTrending(Retriever):
    """score = decayed interactions by people of the user's segment + prior × share of everybody's.

    Interactions are those of the histories in the State. Users of an unknown segment get everybody's.
    """

    config_type: ClassVar = SegmentTrendingConfig
    config: SegmentTrendingConfig

    def __init__(self, config: SegmentTrendingConfig):
        super().__init__(config)
        self._rankings = PerState(self._rank)

    def missing(self, window: Window) -> str | None:
        if self._attribute(window.state) is None:
            named = f"the attribute {self.config.by!r} of users" if self.config.by else "a category of users"
            return f"needs {named}"
        return None if len(window.interactions[0]) else "needs interactions"

    def _attribute(self, state: State) -> str | None:
        codes = state.catalogue.user_codes
        if self.config.by is not None:
            return self.config.by if self.config.by in codes else None
        sizes = {name: int(values.max(initial=-1)) + 1 for name, values in codes.items()}
        return next((name for name, size in sizes.items() if 2 <= size <= MOST_SEGMENTS), None)

    def _segments(self, state: State) -> np.ndarray:
        """int32[n_users] -1 where unknown."""
        name = self._attribute(state)
        if name is None:
            return np.full(state.catalogue.n_users, -1, np.int32)
        return np.where(state.catalogue.user_codes[name] < MOST_SEGMENTS, state.catalogue.user_codes[name], -1)

    def _rank(self, state: State) -> list[Ranking]:
        """Everybody's order, then that of each segment."""
        n = max(state.catalogue.n_items, 1)
        segment = self._segments(state)[state.history.rows]
        weight = np.exp2((state.history_time.values - state.now) / TREND_HALF_LIFE)
        every = np.bincount(state.history.values, weights=weight, minlength=n)
        prior = self.config.prior * every / max(every.sum(), 1e-12)
        out = [ranking_of(state, every, self.config.max_age_days, self.config.pool)]
        order = np.argsort(segment, kind="stable")
        bounds = np.searchsorted(segment[order], np.arange(int(segment.max(initial=-1)) + 2))
        for low, high in pairwise(bounds):
            rows = order[low:high]
            own = np.bincount(state.history.values[rows], weights=weight[rows], minlength=n)
            out.append(ranking_of(state, own + prior, self.config.max_age_days, self.config.pool))
        return out

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, rankings = np.asarray(users), self._rankings(state)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        segment = np.where(users >= 0, self._segments(state)[np.maximum(users, 0)], -1) if len(users) else users
        # a segment without any interaction is served as everybody is
        segment = np.where(segment + 1 < len(rankings), segment, -1)
        for code in np.unique(segment):
            mine = np.flatnonzero(segment == code)
            ranking = rankings[code + 1]
            places, shown = state.seen.take(users[mine] if self.config.exclude_seen else np.full(len(mine), -1))
            items[mine], scores[mine] = first_unseen(ranking, places, ranking.rank[shown], len(mine), k)
        return items, scores

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        return [Reason("trending")] * len(items)
