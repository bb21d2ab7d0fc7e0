"""Recent items of the authors a user follows."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.data.ragged import expand
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.eligibility import age_limit
from recsys_cli.retrieval.pairs import best_pairs, pair_values, without_pairs
from recsys_cli.retrieval.reason import Reason

PAIRS_AT_ONCE = 2_000_000
MAX_AGE_DAYS = 365.0
"""Older items count as of this age."""


class InNetworkConfig(RetrieverConfig):
    """In-network source: recency times tie strength."""

    kind: Literal["in_network"] = "in_network"
    half_life_days: PositiveFloat = 1.0
    """Age at which an item counts half as much as a new one."""
    tie_weight: NonNegativeFloat = 1.0
    """How much the tie with the author (decayed interactions) raises the score: recency × (1 + weight × tie)."""
    per_author: PositiveInt = 50
    """Items of one author that are looked at, newest first."""


class InNetwork(Retriever):
    """score = 2^(−age / half-life) × (1 + tie_weight × tie strength), over items of followed authors."""

    config_type: ClassVar = InNetworkConfig
    config: InNetworkConfig

    def missing(self, window: Window) -> str | None:
        if not (window.catalogue.item_author >= 0).any():
            return "needs items with authors"
        return None if len(window.state.follows.values) else "needs follows"

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        known = np.maximum(users, 0)
        follows = np.where(users >= 0, state.follows.offsets[known + 1] - state.follows.offsets[known], 0)
        parts = [self._retrieve(state, users[s], k) for s in chunks(follows * self.config.per_author, PAIRS_AT_ONCE)]
        if not parts:
            return np.full((0, k), -1, np.int32), np.full((0, k), -np.inf, np.float32)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        places, authors = state.follows.take(users)
        tie = pair_values(state.ties, state.tie_strength, users, places, authors)
        start = state.author_items.offsets[authors]
        count = np.minimum(state.author_items.offsets[authors + 1] - start, self.config.per_author)
        edge, items = expand(start, count, state.author_items.values)
        recency = self._recency(state, items)
        fresh = recency > 0
        edge, items, recency = edge[fresh], items[fresh], recency[fresh]
        scores = (recency * (1 + self.config.tie_weight * tie[edge])).astype(np.float32)
        places = places[edge]
        if self.config.exclude_seen:
            places, items, scores = without_pairs(state.seen, users, places, items, scores)
        return best_pairs(places, items, scores, len(users), k)

    def _recency(self, state: State, items: np.ndarray) -> np.ndarray:
        """float64[m] in (0, 1], 0 for items past the greatest age; an unknown age counts as the greatest."""
        created = state.catalogue.item_created[items]
        allowed = age_limit(state, self.config.max_age_days)
        limit = allowed or MAX_AGE_DAYS
        days = (state.now - created) / DAY
        # 2^−100 is still a number in single precision
        recency = np.exp2(-np.minimum(np.minimum(days, limit) / self.config.half_life_days, 100))
        if allowed is not None:
            recency[(days > limit) & (created != 0)] = 0
        return recency

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        users, items = np.asarray(users), np.asarray(items)
        flat = np.maximum(items, 0).ravel()
        places = np.repeat(np.arange(len(users)), items.shape[1])
        author = state.catalogue.item_author[flat]
        known = (items.ravel() >= 0) & (author >= 0) & (state.catalogue.item_created[flat] < state.now)
        known &= state.follows.contains(users, author.reshape(items.shape)).ravel()
        out = np.zeros(len(flat), np.float32)
        tie = pair_values(state.ties, state.tie_strength, users, places[known], author[known])
        out[known] = self._recency(state, flat[known]) * (1 + self.config.tie_weight * tie)
        return out.reshape(items.shape)

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        return [Reason("follow", int(a)) for a in state.catalogue.item_author[np.asarray(items)]]
