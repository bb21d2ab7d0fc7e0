"""What the sources on the social graph share: steps along follows, recent items, scores of pairs by lookup."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import Ragged, expand
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.retrieval.batches import chunks, unique_users
from recsys_cli.retrieval.config import MaxAge
from recsys_cli.retrieval.eligibility import age_limit
from recsys_cli.retrieval.pairs import sum_pairs

MAX_AGE_DAYS = 365.0
"""Older items count as of this age."""

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(place int64[m], position int32[m], weight float[m])"""


def user_author(catalogue: Catalogue) -> np.ndarray:
    """int32[n_users] the author that a user is, -1 where the user is none."""
    out = np.full(catalogue.n_users, -1, np.int32)
    authors = np.flatnonzero(catalogue.author_user >= 0)
    out[catalogue.author_user[authors]] = authors
    return out


def lengths_of(index: Ragged, rows: np.ndarray) -> np.ndarray:
    """int64[B] length of each row, 0 for rows of -1 or beyond the index."""
    rows = np.asarray(rows)
    if not len(index):
        return np.zeros(len(rows), np.int64)
    inside = np.clip(rows, 0, len(index) - 1)
    return np.where(rows == inside, index.offsets[inside + 1] - index.offsets[inside], 0)


def recency(state: State, items: np.ndarray, half_life_days: float, max_age_days: MaxAge) -> np.ndarray:
    """float64[m] 2^(−age / half-life), 0 for items not yet published or past the greatest age.

    An unknown age counts as the greatest, which is MAX_AGE_DAYS where none is set.
    """
    created = state.catalogue.item_created[items]
    allowed = age_limit(state, max_age_days)
    limit = allowed or MAX_AGE_DAYS
    days = (state.now - created) / DAY
    # 2^−100 is still a number in single precision
    out = np.exp2(-np.minimum(np.minimum(days, limit) / half_life_days, 100))
    out[created >= state.now] = 0
    if allowed is not None:
        out[(days > limit) & (created != 0)] = 0
    return out


def newest_items(state: State, authored: Pairs, per_author: int, half_life_days: float, max_age_days: MaxAge) -> Pairs:
    """(place, item, weight × recency) over the newest items of the authors in (place, author, weight)."""
    places, authors, weights = authored
    start = state.author_items.offsets[authors]
    count = np.minimum(state.author_items.offsets[authors + 1] - start, per_author)
    edge, items = expand(start, count, state.author_items.values)
    fresh = recency(state, items, half_life_days, max_age_days)
    keep = fresh > 0
    edge, items, fresh = edge[keep], items[keep], fresh[keep]
    return places[edge], items, weights[edge] * fresh


def latest_interactions(index: State, people: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(place int64[m], item int32[m], time int64[m]) of the latest `count` interactions of each user position."""
    stop = index.history.offsets[people + 1]
    count = np.minimum(stop - index.history.offsets[people], count)
    places, items = expand(stop - count, count, index.history.values)
    return places, items, expand(stop - count, count, index.history_time.values)[1]


def score_by_lookup(
    users: np.ndarray,
    items: np.ndarray,
    n_items: int,
    propose: Callable[[np.ndarray], Pairs],
    costs: Callable[[np.ndarray], np.ndarray],
    limit: int,
) -> np.ndarray:
    """float32[B, K]: for each user the summed weight of each item among what `propose(users)` gives, else 0.

    costs: pairs that each user takes, so that at most `limit` are in memory at once.
    """
    items = np.asarray(items)
    people, at = unique_users(users)
    out = np.zeros(items.shape, np.float32)
    order = np.argsort(at, kind="stable")
    width = np.int64(max(n_items, 1))
    for part in chunks(costs(people) + 1, limit):
        places, found, totals = sum_pairs(*propose(people[part]), n_items)
        if not len(found):
            continue
        keys = places * width + found
        low, high = np.searchsorted(at[order], [part.start, part.stop])
        rows = order[low:high]
        sought = (at[rows] - part.start)[:, None] * width + items[rows]
        near = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
        out[rows] = np.where((keys[near] == sought) & (items[rows] >= 0), totals[near], 0)
    return out
