"""What is taken together with an item: complements, by lift within a visit or basket (Brin et al., SIGMOD 1997)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recsys_cli.data.schema import MINUTE

if TYPE_CHECKING:
    from recsys_cli.data.state import State

GAP_MINUTES = 30
"""Minutes without an interaction after which another visit begins."""
BESIDE = 0.5
"""Share of the interactions that must stand beside another one of their visit; else whole histories are taken."""
LEAST = 2
"""Baskets that two items must share."""
PRIOR = 1.0
"""Baskets by chance that are added before two lifts are compared: of rare pairs a high lift says little."""


class Together(NamedTuple):
    """What shares baskets with an item, the strongest first; arrays of m."""

    items: np.ndarray
    """int32"""
    lift: np.ndarray
    """float64 how many times as often as chance would have it"""
    shared: np.ndarray
    """int64 baskets with both"""
    by: str
    """"visit" or "history": what counts as a basket"""


def together_with(state: State, item: int, n: int) -> Together:
    """The n items that share baskets with one; lift = shared · baskets ÷ (baskets of one × baskets of the other).

    A basket is a visit, without `GAP_MINUTES` between two interactions; where few interactions have another one
    beside them, it is all that a person did. Ordered by lift after `PRIOR` baskets by chance; those in fewer than
    `LEAST` shared baskets are left out, and what goes no oftener with it than chance would have it.
    """
    user, items, times = state.history.rows, state.history.values, state.history_time.values
    new = np.ones(len(items), bool)
    new[1:] = user[1:] != user[:-1]
    history = np.cumsum(new) - 1
    new[1:] |= np.diff(times) > GAP_MINUTES * MINUTE
    visit, by = np.cumsum(new) - 1, "visit"
    if not len(items) or (np.bincount(visit)[visit] > 1).mean() < BESIDE:
        visit, by = history, "history"
    width = np.int64(state.catalogue.n_items)
    pairs = np.unique(visit * width + items)
    basket, held = pairs // width, pairs % width
    count = np.bincount(held, minlength=width)
    baskets = int(basket[-1]) + 1 if len(basket) else 0
    mine = np.isin(basket, basket[held == item])
    shared = np.bincount(held[mine], minlength=width)
    chance = count[item] * count / max(baskets, 1)
    found = np.flatnonzero((shared >= LEAST) & (shared > chance) & state.available)
    found = found[found != item]
    order = np.argsort(-shared[found] / (chance[found] + PRIOR), kind="stable")[:n]
    found = found[order]
    return Together(found.astype(np.int32), shared[found] / chance[found], shared[found], by)
