"""The topics that users turned to so far."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State


def topic_shares(topics: Ragged, n_topics: int, items: np.ndarray) -> np.ndarray:
    """float32[n, n_topics]: each item's topics in equal shares; rows of items without one are 0.

    items: int32[n], -1 gives 0.
    """
    place, topic = topics.take(items)
    out = np.zeros((len(items), n_topics), np.float32)
    out[place, topic] = 1
    return out / np.maximum(out.sum(axis=1, keepdims=True), 1)


def taste(state: State, users: np.ndarray, n_topics: int) -> np.ndarray:
    """float64[B, n_topics]: the distribution of topics in each user's history, every item counting as one; rows of
    users without such a history are 0.

    users: int32[B], -1 for somebody unknown.
    """
    row, item = state.history.take(users)
    topics = state.catalogue.item_topics
    place, topic = topics.take(item)
    weight = 1 / np.maximum(topics.lengths[item], 1)
    cells = np.bincount(row[place] * n_topics + topic, weights=weight[place], minlength=len(users) * n_topics)
    cells = cells.reshape(len(users), n_topics)
    return cells / np.maximum(cells.sum(axis=1, keepdims=True), 1e-12)
