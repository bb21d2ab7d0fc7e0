"""Which items may be proposed as of a State: those published, and not too long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.arrays import quantile
from recsys_cli.data.schema import DAY
from recsys_cli.retrieval.config import MaxAge
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.data.state import State

FEW_ITEMS = 500
"""A source is not confined to fewer recent items than this by "auto"."""


def usual_age(state: State) -> float | None:
    """Days within which nine of ten recent interactions' items were published; None where age says little.

    Taken from the latest fifth of the histories. It says little where half of the catalogue is no older
    (then leaving out the old gains nothing and may lose much), where only few items would be left, and where
    ages are unknown.
    """
    created, items, times = state.catalogue.item_created, state.history.values, state.history_time.values
    stride = -(-len(items) // 250_000) or 1
    items, times = items[::stride], times[::stride]
    dated = created[items] > 0
    items, times = items[dated], times[dated]
    if not len(items):
        return None
    recent = times >= quantile(times, 0.8)
    limit = quantile(times[recent] - created[items[recent]], 0.9)
    published = created[(created > 0) & (created < state.now)]
    young = np.count_nonzero(published >= state.now - limit)
    return limit / DAY if FEW_ITEMS <= young < len(published) / 2 else None


_usual_age = PerState(usual_age)


def age_limit(state: State, max_age_days: MaxAge) -> float | None:
    """Days of the setting: a number, None for no limit, or what "auto" finds in the State (`usual_age`)."""
    return _usual_age(state) if max_age_days == "auto" else max_age_days


def eligible(state: State, max_age_days: MaxAge = None) -> np.ndarray:
    """bool[n_items]: published before `state.now`, and not longer ago than allowed (unknown ages pass)."""
    created, limit = state.catalogue.item_created, age_limit(state, max_age_days)
    mask = created < state.now
    if limit is not None:
        mask &= (created == 0) | (created >= state.now - int(limit * DAY))
    return mask
