"""A candidate source that represents users and items as vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.batches import unique_users
from recsys_cli.retrieval.reason import Reason

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.retrieval.vectors.item_index import ItemIndex


class VectorRetriever(Retriever):
    """score = x_u · y_i: a family gives the vectors of users and keeps those of items in its `index`.

    A family writes `fit`, `vectors` (of users as of a State), `fold_in` (of histories alone) and the two lives of
    what it learnt; proposing, scoring and explaining are the same for all.
    """

    learns: ClassVar[bool] = True
    index: ItemIndex
    """vectors of the items, and which of them may be proposed"""
    similar_from: ClassVar[float] = 0.5
    """Cosine from which on the closest item of a history is the reason for a proposal."""

    def missing(self, window: Window) -> str | None:
        return None if len(window.interactions[0]) else "needs interactions"

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] vectors of users and bool[B], False where nothing is known of the user."""
        raise NotImplementedError

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, D] vectors of people who were not in training, from the items they touched (oldest first)."""
        raise NotImplementedError

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        vectors, known = self.vectors(state, users)
        return self.index.search(state, users, vectors, known, k, self.config.exclude_seen)

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        people, at = unique_users(users)
        vectors, known = self.vectors(state, people)
        return self.index.pair_products(at, vectors, known, np.asarray(items))

    def similar_items(self, state: State, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """By the cosine of the items' vectors; items int32[B, k] (-1 filler) and scores float32[B, k]."""
        return self.index.similar(state, np.asarray(items), k)

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        return self.index.nearest_in_history(state, user, items, at_least=self.similar_from)
