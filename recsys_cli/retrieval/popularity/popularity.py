"""What is popular so far and what is trending now: the same for everybody, apart from a lean to a user's topics."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from recsys_cli.data.ragged import expand
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import TREND_HALF_LIFE, State
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.topk import shown_columns, topk

CELLS_AT_ONCE = 4_000_000


class PopularityConfig(RetrieverConfig):
    """Most interactions so far."""

    kind: Literal["popularity"] = "popularity"


class TrendingConfig(RetrieverConfig):
    """Most interactions lately, leaning to the user's topics."""

    kind: Literal["trending"] = "trending"
    renamed: ClassVar[dict[str, str]] = {"baseline_power": "baseline_exponent"}
    baseline_exponent: NonNegativeFloat = 0.0
    """0 ranks by decayed interactions; above 0 multiplies by (now ÷ the item's own usual rate) to this power."""
    topic_boost: NonNegativeFloat = 1.0
    """An item wholly on the user's favourite topic counts (1 + boost) times."""
    pool: PositiveInt = 2000
    """Trending items that a user's topics may reorder."""


class Ranking(NamedTuple):
    """One order of items for everybody."""

    items: np.ndarray
    """int32[m] best first, weights above 0 only"""
    weights: np.ndarray
    """float32[m]"""
    rank: np.ndarray
    """int32[n_items] place in `items`, -1 where it has none"""
    topic_rank: np.ndarray
    """int64[t] place in `items`, once per topic of the item, ascending"""
    topics: np.ndarray
    """int32[t] topic codes beside it"""


def ranking_of(state: State, weights: np.ndarray, max_age_days: MaxAge, width: int | None = None) -> Ranking:
    """The order of items by weights float32[n_items], above 0 only, at most `width` of them."""
    weights = np.where(eligible(state, max_age_days), weights, 0).astype(np.float32)
    items = np.flatnonzero(weights > 0)
    items = items[np.argsort(-weights[items], kind="stable")][:width].astype(np.int32)
    rank = np.full(len(weights), -1, np.int32)
    rank[items] = np.arange(len(items))
    topic_rank, topics = state.catalogue.item_topics.take(items)
    return Ranking(items, weights[items], rank, topic_rank, topics)


class Popularity(Retriever):
    """score = interactions so far."""

    config_type: ClassVar = PopularityConfig
    config: PopularityConfig

    def __init__(self, config: PopularityConfig):
        super().__init__(config)
        self._ranking = PerState(lambda state: ranking_of(state, state.interactions, config.max_age_days))

    def missing(self, window: Window) -> str | None:
        return None if window.state.interactions.any() else "needs interactions"

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, ranking = np.asarray(users), self._ranking(state)
        if not self.config.exclude_seen:
            return first_unseen(ranking, np.zeros(0, np.int64), np.zeros(0, np.int64), len(users), k)
        known = np.maximum(users, 0)
        seen = np.where(users >= 0, state.seen.offsets[known + 1] - state.seen.offsets[known], 0)
        items, scores = np.empty((len(users), k), np.int32), np.empty((len(users), k), np.float32)
        for part in chunks(seen + k, CELLS_AT_ONCE):
            places, shown = state.seen.take(users[part])
            items[part], scores[part] = first_unseen(ranking, places, ranking.rank[shown], part.stop - part.start, k)
        return items, scores

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        return [Reason("popular")] * len(items)


def first_unseen(
    ranking: Ranking, places: np.ndarray, ranks: np.ndarray, batch: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first k of the order for each place, without the ranks that are seen there."""
    held = ranks >= 0
    places, ranks = places[held], ranks[held]
    most = int(np.bincount(places, minlength=1).max()) if len(places) else 0
    width = min(len(ranking.items), k + most)
    hidden = np.zeros((batch, width), bool)
    inside = ranks < width
    hidden[places[inside], ranks[inside]] = True
    chosen = np.argsort(hidden, axis=1, kind="stable")[:, :k]
    empty = np.take_along_axis(hidden, chosen, axis=1)
    items = np.full((batch, k), -1, np.int32)
    scores = np.full((batch, k), -np.inf, np.float32)
    items[:, : chosen.shape[1]] = np.where(empty, -1, ranking.items[chosen])
    scores[:, : chosen.shape[1]] = np.where(empty, -np.inf, ranking.weights[chosen])
    return items, scores


class Trending(Retriever):
    """score = decayed interactions × (1 + topic_boost × how far the item is on the user's topics)."""

    config_type: ClassVar = TrendingConfig
    config: TrendingConfig

    def __init__(self, config: TrendingConfig):
        super().__init__(config)
        self._ranking = PerState(
            lambda state: ranking_of(state, self._weights(state), config.max_age_days, config.pool)
        )

    def missing(self, window: Window) -> str | None:
        return None if window.state.trending.any() else "needs interactions"

    def _weights(self, state: State) -> np.ndarray:
        """float32[n_items]; the usual rate is interactions ÷ age, held for one mean life of the decay."""
        if not self.config.baseline_exponent:
            return state.trending
        created = state.catalogue.item_created
        mean_life = TREND_HALF_LIFE / np.log(2)
        age = np.maximum(np.where(created > 0, state.now - created, 30 * DAY), mean_life)
        usual = state.interactions * mean_life / age
        return state.trending * ((state.trending + 1) / (usual + 1)) ** self.config.baseline_exponent

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, ranking = np.asarray(users), self._ranking(state)
        items, scores = np.empty((len(users), k), np.int32), np.empty((len(users), k), np.float32)
        cells = len(ranking.items) + len(ranking.topics) + state.catalogue.n_topics + k
        for part in chunks(np.full(len(users), cells), CELLS_AT_ONCE):
            values = ranking.weights * (1 + self.config.topic_boost * self._match(state, users[part], ranking))
            seen = shown_columns(state.seen, users[part], ranking.rank) if self.config.exclude_seen else None
            at, scores[part] = topk(values.astype(np.float32), k, seen)
            items[part] = np.where(at >= 0, np.append(ranking.items, -1)[at], -1)
        return items, scores

    def _match(self, state: State, users: np.ndarray, ranking: Ranking) -> np.ndarray:
        """float32[B, m] in [0, 1]: mean over an item's topics of their share in the user's history,
        the favourite topic's share being 1."""
        out = np.zeros((len(users), len(ranking.items)), np.float32)
        if not self.config.topic_boost or not len(ranking.topics):
            return out
        profile = topic_profile(state, users)
        first = np.flatnonzero(np.diff(ranking.topic_rank, prepend=-1))
        rank = ranking.topic_rank[first]
        count = np.diff(first, append=len(ranking.topics)).astype(np.float32)
        out[:, rank] = np.add.reduceat(profile[:, ranking.topics], first, axis=1) / count
        return out

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The topic of the item that the user cares for most; none for somebody who cares for none of its topics."""
        profile = topic_profile(state, np.array([user], np.int32))[0]
        topics = [state.catalogue.item_topics[i] for i in np.asarray(items)]
        liked = [t[np.argmax(profile[t])] if len(t) else -1 for t in topics]
        return [Reason("trending", int(t) if t >= 0 and profile[t] > 0 else -1) for t in liked]


def topic_profile(state: State, users: np.ndarray) -> np.ndarray:
    """float32[B, n_topics]: how often each topic occurs in a user's history, over the favourite's count."""
    topics, n = state.catalogue.item_topics, max(state.catalogue.n_topics, 1)
    places, items = state.history.take(users)
    start = topics.offsets[items]
    place, codes = expand(start, topics.offsets[items + 1] - start, topics.values)
    counts = np.bincount(places[place] * n + codes, minlength=len(users) * n).reshape(len(users), n)
    return (counts / np.maximum(counts.max(axis=1, keepdims=True), 1)).astype(np.float32)
