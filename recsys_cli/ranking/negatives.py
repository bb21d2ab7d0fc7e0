"""Candidates that were never shown, as rows to train on: what the sources propose beside what the log holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.schema import DAY

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
    drawn = _draw(asked, sources, state, per_positive, np.random.default_rng(seed), touched)
    both = Log.concat(asked, drawn)
    return both.take(np.lexsort((both.user, both.time)))


def candidate_negatives(
    logged: Log,
    sources: dict[str, Retriever],
    state_at: Callable[[int], State],
    per_positive: int,
    seed: int,
    shown: Ragged,
) -> Log:
    """For each interaction, `per_positive` candidates that its user was never shown, drawn from the sources' proposals.

    logged: impressions of a window, ordered by time. state_at: what is known at a moment (µs); it is asked once a
    day, so that items published since the sources were fitted are among the proposals as they would be in service.
    shown: items ascending by user of the whole log, later impressions too; none of them is drawn. A row carries its
    interaction's moment and context and no action. Ordered by time.
    """
    positive = logged.take(logged.positive)
    if not len(positive):
        return positive
    rng = np.random.default_rng(seed)
    days = (positive.time - positive.time[0]) // DAY
    parts = []
    for day in np.unique(days):
        asked = positive.take(days == day)
        parts.append(_draw(asked, sources, state_at(int(asked.time[0])), per_positive, rng, shown))
    drawn = parts[0]
    for part in parts[1:]:
        drawn = Log.concat(drawn, part)
    return drawn.take(np.lexsort((drawn.user, drawn.time)))


def _draw(
    asked: Log, sources: dict[str, Retriever], state: State, count: int, rng: np.random.Generator, never: Ragged
) -> Log:
    """`count` rows for each of `asked`, of items that the sources propose at `state` and that are not in `never`."""
    users, place = np.unique(asked.user, return_inverse=True)
    pool = np.concatenate([s.retrieve(state, users, POOL)[0] for s in sources.values()], axis=1)
    pool[never.contains(users, pool)] = -1
    pool = np.take_along_axis(pool, np.argsort(pool < 0, axis=1, kind="stable"), axis=1)
    held = (pool >= 0).sum(axis=1)
    row = np.repeat(np.arange(len(asked)), count)
    row = row[held[place[row]] > 0]
    column = (rng.random(len(row)) * held[place[row]]).astype(np.int64)
    return _blank(asked.take(row), pool[place[row], column].astype(np.int32))


def _blank(log: Log, items: np.ndarray) -> Log:
    """The same moments with other items and nothing done."""
    changed: dict = {"item": items, "actions": {a: np.zeros(len(log), bool) for a in log.actions}, "_cache": {}}
    for f in fields(log):
        if f.name in ("dwell", "propensity") and getattr(log, f.name) is not None:
            changed[f.name] = np.full(len(log), np.nan, np.float32)
    return replace(log, **changed)
