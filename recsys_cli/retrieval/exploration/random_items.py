"""A uniform draw from what may be shown: the baseline, and exploration with a known propensity."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from recsys_cli.data.state import State
from recsys_cli.retrieval.base import Retriever
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.topk import shown_columns, topk

CELLS_AT_ONCE = 4_000_000


class RandomConfig(RetrieverConfig):
    """Uniform draw without replacement."""

    kind: Literal["random"] = "random"
    seed: int = 0
    """Another seed, another draw."""


class Random(Retriever):
    """Every eligible item is as likely as another.

    The draw depends on the user, `state.now` and the seed alone, so a request repeated gives the same items.
    score: the propensity of the draw, k ÷ eligible items (before what was seen is left out).
    """

    config_type: ClassVar = RandomConfig
    config: RandomConfig

    def __init__(self, config: RandomConfig):
        super().__init__(config)
        self._items = PerState(lambda state: np.flatnonzero(eligible(state, config.max_age_days)))

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, pool = np.asarray(users), self._items(state)
        items = np.empty((len(users), k), np.int32)
        place_of = np.full(state.catalogue.n_items, -1, np.int32)
        place_of[pool] = np.arange(len(pool))
        salt = _mix(np.array([state.now], np.uint64) ^ _mix(np.array([self.config.seed & (2**63 - 1)], np.uint64)))
        for part in chunks(np.full(len(users), len(pool) + k), CELLS_AT_ONCE):
            mine = _mix((users[part].astype(np.int64) + 1).astype(np.uint64) ^ salt)
            draw = _mix(mine[:, None] ^ pool.astype(np.uint64)) >> np.uint64(40)
            seen = shown_columns(state.seen, users[part], place_of) if self.config.exclude_seen else None
            chosen = topk(draw.astype(np.float32), k, seen)[0]
            items[part] = np.where(chosen >= 0, np.append(pool, -1)[chosen], -1)
        propensity = np.float32(min(1.0, k / max(len(pool), 1)))
        return items, np.where(items >= 0, propensity, np.float32(-np.inf))

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        return [Reason("explore")] * len(items)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64 finaliser (Steele, Lea and Flood, OOPSLA 2014): uint64 in, well-spread uint64 out."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
