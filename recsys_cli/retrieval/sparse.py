"""What sources share that reach a few items of the catalogue for each user: lists of items with scores above 0."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from recsys_cli.data.state import State
from recsys_cli.retrieval.base import ArrayRetriever
from recsys_cli.retrieval.batches import unique_users
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.memo import PerState

Reached = tuple[np.ndarray, np.ndarray]
"""(items int32[m] ascending, each once; scores float32[m], above 0)"""
NOTHING: Reached = (np.zeros(0, np.int32), np.zeros(0, np.float32))


class SparseConfig(RetrieverConfig):
    """What all sources of this kind have."""

    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""


class SparseRetriever(ArrayRetriever):
    """A source that answers for one user at a time with the items that it reaches; a family says in `reach` which.

    Nothing here grows with the catalogue but one look-up of what may be proposed, kept for a State.
    """

    config_type: ClassVar = SparseConfig
    config: SparseConfig

    def __init__(self, config: SparseConfig):
        super().__init__(config)
        self._allowed = PerState(lambda state: eligible(state, config.max_age_days))

    def reach(self, state: State, user: int) -> Reached:
        """What a user is brought to as of the State; user: position, 0 or more."""
        raise NotImplementedError

    def _reached(self, state: State, users: np.ndarray) -> list[Reached]:
        def compute() -> list[Reached]:
            return [self.reach(state, user) if user >= 0 else NOTHING for user in users.tolist()]

        return self._last(state, users, compute)

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users, np.int32)
        out = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        allowed = self._allowed(state)
        for place, (items, scores) in enumerate(self._reached(state, users)):
            inside = items < len(allowed)
            keep = inside & allowed[np.where(inside, items, 0)] if len(allowed) else inside & False
            if self.config.exclude_seen and len(items):
                keep &= ~state.seen.contains(users[place : place + 1], items[None])[0]
            items, scores = items[keep], scores[keep]
            best = np.argpartition(-scores, k - 1)[:k] if len(items) > k else np.arange(len(items))
            best = best[np.lexsort((items[best], -scores[best]))]
            out[0][place, : len(best)], out[1][place, : len(best)] = items[best], scores[best]
        return out

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        users, items = np.asarray(users, np.int32), np.asarray(items)
        people, at = unique_users(users)
        reached = self._reached(state, people)
        out = np.zeros(items.shape, np.float32)
        for place, mine in enumerate(at.tolist()):
            held, scores = reached[mine]
            if len(held):
                near = np.minimum(np.searchsorted(held, items[place]), len(held) - 1)
                out[place] = np.where(held[near] == items[place], scores[near], 0)
        return out


def summed(items: np.ndarray, weights: np.ndarray) -> Reached:
    """The items once each, ascending, with the sums of their weights that are above 0."""
    if not len(items):
        return NOTHING
    order = np.argsort(items, kind="stable")
    items = items[order]
    first = np.flatnonzero(np.diff(items, prepend=-1))
    totals = np.add.reduceat(weights[order], first).astype(np.float32)
    items = items[first].astype(np.int32)
    positive = totals > 0
    return items[positive], totals[positive]
