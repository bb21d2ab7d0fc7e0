"""Items that the people a user follows engaged with."""

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
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.pairs import best_pairs, pair_values, sum_pairs, without_pairs
from recsys_cli.retrieval.reason import Reason

PAIRS_AT_ONCE = 2_000_000


class SocialProofConfig(RetrieverConfig):
    """Social proof: what those you follow engaged with, by tie, recency and their number."""

    kind: Literal["social_proof"] = "social_proof"
    half_life_days: PositiveFloat = 1.0
    """Time after which a friend's interaction counts half."""
    tie_weight: NonNegativeFloat = 1.0
    """How much the tie with the friend raises an interaction's weight: recency × (1 + weight × tie)."""
    per_friend: PositiveInt = 30
    """Latest interactions of each friend that are looked at."""
    min_friends: PositiveInt = 1
    """Friends who must have engaged with an item before it is proposed."""


class SocialProof(Retriever):
    """score = Σ over friends' interactions of 2^(−time since / half-life) × (1 + tie_weight × tie)."""

    config_type: ClassVar = SocialProofConfig
    config: SocialProofConfig

    def __init__(self, config: SocialProofConfig):
        super().__init__(config)
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))

    def missing(self, window: Window) -> str | None:
        if not (window.catalogue.author_user >= 0).any():
            return "needs authors who are users"
        return None if len(window.state.follows.values) else "needs follows"

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        known = np.maximum(users, 0)
        follows = np.where(users >= 0, state.follows.offsets[known + 1] - state.follows.offsets[known], 0)
        parts = [self._retrieve(state, users[s], k) for s in chunks(follows * self.config.per_friend, PAIRS_AT_ONCE)]
        if not parts:
            return np.full((0, k), -1, np.int32), np.full((0, k), -np.inf, np.float32)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        places, items, friends, weights = self._evidence(state, users)
        n_items = state.catalogue.n_items
        proposed, found, totals = sum_pairs(places, items, weights, n_items)
        if self.config.min_friends > 1:
            keep = self._friends_each(places, items, friends, state) >= self.config.min_friends
            proposed, found, totals = proposed[keep], found[keep], totals[keep]
        if self.config.exclude_seen:
            proposed, found, totals = without_pairs(state.seen, users, proposed, found, totals)
        return best_pairs(proposed, found, totals, len(users), k)

    def _evidence(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(place, item, friend as a user position, weight) of every interaction that counts."""
        places, authors = state.follows.take(users)
        friends = state.catalogue.author_user[authors]
        person = (friends >= 0) & (friends != np.asarray(users)[places])
        places, authors, friends = places[person], authors[person], friends[person]
        tie = pair_values(state.ties, state.tie_strength, users, places, authors)
        stop = state.history.offsets[friends + 1]
        count = np.minimum(stop - state.history.offsets[friends], self.config.per_friend)
        edge, items = expand(stop - count, count, state.history.values)
        times = expand(stop - count, count, state.history_time.values)[1]
        allowed = self._eligible(state)[items]
        edge, items, times = edge[allowed], items[allowed], times[allowed]
        recency = np.exp2((times - state.now) / (self.config.half_life_days * DAY))
        weights = recency * (1 + self.config.tie_weight * tie[edge])
        return places[edge], items, friends[edge], weights

    def _friends_each(self, places, items, friends, state: State) -> np.ndarray:
        """int64[m] different friends of each (place, item), in the order of `sum_pairs`."""
        n_items, n_users = max(state.catalogue.n_items, 1), max(state.catalogue.n_users, 1)
        pair = places * np.int64(n_items) + items
        _, pair_at = np.unique(pair, return_inverse=True)
        distinct = np.unique(pair_at.astype(np.int64) * n_users + friends)
        return np.bincount(distinct // n_users)

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The friend whose interactions weigh most."""
        _, seen_items, friends, weights = self._evidence(state, np.array([user], np.int32))
        n_users = max(state.catalogue.n_users, 1)
        pair_item, friend, total = sum_pairs(seen_items.astype(np.int64), friends, weights, n_users)
        order = np.argsort(total, kind="stable")
        best = np.full(state.catalogue.n_items, -1, np.int64)
        # assignment in rising order of weight leaves the heaviest friend in place
        best[pair_item[order]] = friend[order]
        return [Reason("friend", int(best[i])) if best[i] >= 0 else Reason("taste") for i in np.asarray(items)]
