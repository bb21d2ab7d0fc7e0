"""Negatives for data that never saw non-engagement: candidates that the sources would have shown instead."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.retrieval.base import Retriever

POOL = 200
"""Candidates of each source from which negatives are drawn."""


def with_negatives(
    asked: Log, sources: dict[str, Retriever], state: State, per_positive: int, seed: int, touched: Ragged
) -> Log:
    """The given interactions and, for each, `per_positive` items drawn from what the sources propose to the user.

    The sources know the history window alone (`state`), so a negative is what the system could have shown at that
    moment. Items that the user interacted with (`touched`: items ascending, by user) are never negatives. A negative
    carries its positive's moment and context and no action. Ordered by time.
    """
    rng = np.random.default_rng(seed)
    users, place = np.unique(asked.user, return_inverse=True)
    pool = np.concatenate([s.retrieve(state, users, POOL)[0] for s in sources.values()], axis=1)
    pool[touched.contains(users, pool)] = -1
    pool = np.take_along_axis(pool, np.argsort(pool < 0, axis=1, kind="stable"), axis=1)
    held = (pool >= 0).sum(axis=1)
    positive = np.repeat(np.arange(len(asked)), per_positive)
    positive = positive[held[place[positive]] > 0]
    column = (rng.random(len(positive)) * held[place[positive]]).astype(np.int64)
    drawn = _blank(asked.take(positive), pool[place[positive], column].astype(np.int32))
    both = Log.concat(asked, drawn)
    return both.take(np.lexsort((both.user, both.time)))


def _blank(log: Log, items: np.ndarray) -> Log:
    """The same moments with other items and nothing done."""
    changed: dict = {"item": items, "actions": {a: np.zeros(len(log), bool) for a in log.actions}, "_cache": {}}
    for f in fields(log):
        if f.name in ("dwell", "propensity") and getattr(log, f.name) is not None:
            changed[f.name] = np.full(len(log), np.nan, np.float32)
    return replace(log, **changed)
