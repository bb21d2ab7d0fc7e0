"""Features of the linear bandits: a few numbers of a user and an item, and hashed crosses of their attributes."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.hashing import mix
from recsys_cli.retrieval.memo import PerState

NUMBERS = (
    "one", "expected", "item_shown", "item_rate", "author_shown", "author_rate", "freshness", "follows", "tie",
    "activity", "new_author",
)
"""The first columns; rates are relative to the catalogue's, counts logarithmic, freshness halves in two days."""
ITEM_BUCKETS, CROSS_BUCKETS = 8, 16
"""Columns into which attributes of the item, and pairs of one of the user with one of the item, are hashed."""
WIDTH = len(NUMBERS) + ITEM_BUCKETS + CROSS_BUCKETS
PRIOR_IMPRESSIONS = 20.0
"""Impressions that the rate of the whole catalogue counts for in the rate of an item or author."""


def _counts(state: State) -> tuple[np.ndarray, ...]:
    """float64[n_items] log of impressions and relative rate of each item, and those of its author."""
    shown, taken = state.impressions.astype(np.float64), state.interactions.astype(np.float64)
    base = (taken.sum() + 1) / (shown.sum() + 10)
    author = state.catalogue.item_author
    known = author >= 0
    width = state.catalogue.n_authors + 1
    sums = [np.bincount(author[known], weights=v[known], minlength=width) for v in (shown, taken)]

    def rate(n: np.ndarray, s: np.ndarray) -> np.ndarray:
        return np.clip((s + PRIOR_IMPRESSIONS * base) / (n + PRIOR_IMPRESSIONS) / base - 1, -2, 4)

    of_author = [np.where(known, v[author], 0) for v in sums]
    return np.log1p(shown) / 5, rate(shown, taken), np.log1p(of_author[0]) / 7, rate(*of_author)


_counted = PerState(_counts)


def linear_features(state: State, users: np.ndarray, items: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """float64[B, K, WIDTH] of users int32[B] (-1 unknown) and items int32[B, K]; rows of empty slots mean nothing.

    expected: float[B, K] rate at which the ranking expects each to be taken.
    """
    catalogue, shape = state.catalogue, items.shape
    out = np.zeros((*shape, WIDTH))
    item = np.maximum(items, 0)
    if not items.size:
        return out
    author = np.where(items >= 0, catalogue.item_author[item], -1)
    created = catalogue.item_created[item]
    days = np.where(created > 0, (state.now - created) / DAY, np.inf)
    known = np.maximum(users, 0)
    activity = np.log1p(np.where(users >= 0, state.history.lengths[known], 0)) / 5
    tie = _tie(state, users, author)
    shown, rate, author_shown, author_rate = (values[item] for values in _counted(state))
    columns = (
        1.0, expected, shown, rate, author_shown, author_rate, np.exp2(-np.minimum(days, 100) / 2),
        state.follows.contains(users, author), tie, activity[:, None], (author >= 0) & (author_shown == 0),
    )
    for at, column in enumerate(columns):
        out[..., at] = column
    _hash_into(out, state, users, item)
    return out


def _tie(state: State, users: np.ndarray, author: np.ndarray) -> np.ndarray:
    """float64[B, K] log of the decayed interactions of each user with each author."""
    from recsys_cli.retrieval.pairs import pair_values

    flat = np.broadcast_to(np.arange(len(users))[:, None], author.shape).ravel()
    found = pair_values(state.ties, state.tie_strength, users, flat, np.maximum(author, 0).ravel())
    return np.log1p(found).reshape(author.shape) * (author >= 0)


def _hash_into(out: np.ndarray, state: State, users: np.ndarray, item: np.ndarray) -> None:
    """Adds ±1 in the bucket of each attribute of the item, and of each pair of an attribute of the user with it."""
    catalogue, first = state.catalogue, len(NUMBERS)
    known, flat = np.maximum(users, 0), out.reshape(-1, WIDTH)
    every = np.arange(len(flat))
    of_items = sorted(catalogue.item_codes.items())
    of_users = sorted(catalogue.user_codes.items())

    def add(keys: np.ndarray, there: np.ndarray, start: int, buckets: int) -> None:
        hashed = mix(keys.astype(np.int64).view(np.uint64)).ravel()
        sign = np.where(hashed >> np.uint64(63), 1.0, -1.0)
        flat[every, start + (hashed % np.uint64(buckets)).astype(np.int64)] += sign * there.ravel()

    for i, (_, codes) in enumerate(of_items):
        code = codes[item].astype(np.int64)
        add(code * 64 + i, code >= 0, first, ITEM_BUCKETS)
        for u, (_, user_codes) in enumerate(of_users):
            mine = np.where(users >= 0, user_codes[known], -1).astype(np.int64)[:, None]
            there = (code >= 0) & (mine >= 0)
            add((code * 64 + i) * 1_000_003 + mine * 64 + u + 1, there, first + ITEM_BUCKETS, CROSS_BUCKETS)
