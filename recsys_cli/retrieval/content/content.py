"""Items whose words, topics and attributes are like those of what the user engaged with."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.data.ragged import Ragged, expand
from recsys_cli.data.state import State
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.batches import chunks, unique_users
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.content.tokens import Tokens
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.history_weighting import RecencyWeighting
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.pairs import best_pairs, sum_pairs
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.topk import topk

CELLS_AT_ONCE = 4_000_000


class ContentConfig(RetrieverConfig):
    """Content: TF-IDF of words, topics and attributes (Pazzani and Billsus, 2007); needs no training."""

    kind: Literal["content"] = "content"
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    text_weight: NonNegativeFloat = 1.0
    """Weight of the words."""
    topic_weight: NonNegativeFloat = 1.0
    """Weight of the topics."""
    attribute_weight: NonNegativeFloat = 0.5
    """Weight of the author and of categories, but for those that more than a quarter of the items share."""
    history: PositiveInt = 50
    """Latest interactions of the user that are looked at."""
    history_weighting: RecencyWeighting = RecencyWeighting()
    """How much each of those interactions counts."""
    per_author: NonNegativeInt = 3
    """Newest items of each followed author that stand in for the history of a user who has none; 0 for none."""


@dataclass(frozen=True)
class ItemTokens:
    """Unit vectors over tokens of every item, by item and by token."""

    rows: Ragged
    """int32 tokens of an item"""
    weights: np.ndarray
    """float32 beside `rows.values`"""
    postings: Ragged
    """int32 items of a token"""
    shares: np.ndarray
    """float32 weight of the token in each of them"""

    @classmethod
    def of(cls, catalogue: Catalogue, config: ContentConfig) -> ItemTokens:
        """What each token weighs: `Tokens.scale`."""
        tokens = Tokens.of_items(catalogue, TEXT_BUCKETS)
        bags = tokens.item_bags(catalogue)
        rows, weights, n = bags.rows, bags.weights, catalogue.n_items
        frequency = np.bincount(rows.values, minlength=tokens.rows)
        scale = tokens.scale(
            frequency, n, text=config.text_weight, topics=config.topic_weight, attributes=config.attribute_weight
        )
        weights = (weights * scale[rows.values]).astype(np.float32)
        keep = weights > 0
        place, token, weights = rows.rows[keep], rows.values[keep], weights[keep]
        norm = np.sqrt(np.bincount(place, weights=weights.astype(np.float64) ** 2, minlength=n))
        weights = (weights / norm[place]).astype(np.float32)
        return cls(
            Ragged.group(place, token, n),
            weights,
            Ragged.group(token, place, tokens.rows),
            Ragged.group(token, weights, tokens.rows).values,
        )


class Content(Retriever):
    """score = cosine of the item and Σ over the user's history j of weight of j × vector of j.

    Reads the State alone, so that an item can be proposed from the moment it is published. A user without a
    history is known by the newest items of the authors followed.
    """

    config_type: ClassVar = ContentConfig
    config: ContentConfig

    def __init__(self, config: ContentConfig):
        super().__init__(config)
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))
        self._kept: tuple[weakref.ref, ItemTokens] | None = None

    def missing(self, window: Window) -> str | None:
        catalogue = window.catalogue
        described = len(catalogue.item_text.values) or len(catalogue.item_topics.values) or catalogue.n_authors
        if not (described or catalogue.item_codes):
            return "needs items with text, topics or attributes"
        return None if len(window.interactions[0]) else "needs interactions"

    def _tokens(self, catalogue: Catalogue) -> ItemTokens:
        """Those of the catalogue's items, made once for as long as the items are the same."""
        kept = self._kept
        if kept is None or kept[0]() is not catalogue.item_text:
            kept = self._kept = weakref.ref(catalogue.item_text), ItemTokens.of(catalogue, self.config)
        return kept[1]

    def _history(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place, item, weight) of what stands for each user."""
        known = np.maximum(users, 0)
        stop = state.history.offsets[known + 1]
        count = np.where(users >= 0, np.minimum(stop - state.history.offsets[known], self.config.history), 0)
        places, items = expand(stop - count, count, state.history.values)
        times = expand(stop - count, count, state.history_time.values)[1]
        latest = state.history_time.values[np.maximum(stop - 1, 0)] if len(times) else np.zeros(len(users), np.int64)
        behind = np.cumsum(count)[places] - 1 - np.arange(len(places))
        weights = self.config.history_weighting.recency(behind, times - latest[places])
        new = np.flatnonzero((count == 0) & (users >= 0))
        if not self.config.per_author or not len(new):
            return places, items, weights
        at, authors = state.follows.take(users[new])
        start = state.author_items.offsets[authors]
        held = np.minimum(state.author_items.offsets[authors + 1] - start, self.config.per_author)
        edge, written = expand(start, held, state.author_items.values)
        return (
            np.concatenate([places, new[at[edge]]]),
            np.concatenate([items, written]),
            np.concatenate([weights, np.ones(len(written))]),
        )

    def _profiles(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place, token, weight) of unit vectors of the users, ordered by place and token."""
        tokens = self._tokens(state.catalogue)
        places, items, weights = self._history(state, users)
        start = tokens.rows.offsets[items]
        count = tokens.rows.offsets[items + 1] - start
        at, found = expand(start, count, tokens.rows.values)
        weighted = expand(start, count, tokens.weights)[1] * weights[at]
        places, found, totals = sum_pairs(places[at], found, weighted, len(tokens.postings))
        return _unit(places, found, totals, len(users))

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        return self._nearest(state, self._profiles(state, users), len(users), k, users)

    def _nearest(
        self, state: State, profiles: tuple, batch: int, k: int, users: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best k items of each profile; users: whose seen items are left out where the settings say so."""
        tokens, n = self._tokens(state.catalogue), state.catalogue.n_items
        items, scores = np.full((batch, k), -1, np.int32), np.full((batch, k), -np.inf, np.float32)
        places, found, weights = profiles
        reach = np.diff(tokens.postings.offsets)[found]
        costs = np.bincount(places, weights=reach, minlength=batch).astype(np.int64) + n + k
        bounds = np.searchsorted(places, np.arange(batch + 1))
        for part in chunks(costs, CELLS_AT_ONCE):
            mine = slice(bounds[part.start], bounds[part.stop])
            start = tokens.postings.offsets[found[mine]]
            at, owners = expand(start, reach[mine], tokens.postings.values)
            shares = expand(start, reach[mine], tokens.shares)[1]
            size = part.stop - part.start
            cells = (places[mine][at] - part.start) * n + owners
            sums = np.bincount(cells, weights=weights[mine][at] * shares, minlength=size * n)
            sums = sums.astype(np.float32).reshape(size, n)
            sums[(sums <= 0) | ~self._eligible(state)] = -np.inf
            seen = state.seen.take(users[part]) if users is not None and self.config.exclude_seen else None
            items[part], scores[part] = topk(sums, k, seen)
        return items, scores

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items = np.asarray(items)
        people, at = unique_users(users)
        tokens = self._tokens(state.catalogue)
        width = len(tokens.postings)
        places, found, weights = self._profiles(state, people)
        keys = places * np.int64(max(width, 1)) + found
        out = np.zeros(items.shape, np.float32)
        if not len(keys):
            return out
        lengths = tokens.rows.lengths[np.maximum(items, 0)].sum(axis=1)
        for part in chunks(lengths, CELLS_AT_ONCE):
            block = items[part]
            flat = np.flatnonzero(block.ravel() >= 0)
            start = tokens.rows.offsets[block.ravel()[flat]]
            count = tokens.rows.offsets[block.ravel()[flat] + 1] - start
            pair, token = expand(start, count, tokens.rows.values)
            shares = expand(start, count, tokens.weights)[1]
            sought = at[part][flat[pair] // block.shape[1]] * np.int64(width) + token
            near = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
            products = np.where(keys[near] == sought, weights[near] * shares, 0)
            out[part].ravel()[flat] = np.bincount(pair, weights=products, minlength=len(flat))
        return out

    def similar_items(self, state: State, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Items of the nearest content that may be proposed."""
        items = np.asarray(items)
        tokens, n = self._tokens(state.catalogue), state.catalogue.n_items
        inside = np.where(items < n, items, -1)
        places, found = tokens.rows.take(inside)
        start = tokens.rows.offsets[np.maximum(inside, 0)]
        count = np.where(inside >= 0, tokens.rows.lengths[np.maximum(inside, 0)], 0)
        weights = expand(start, count, tokens.weights)[1]
        near, scores = self._nearest(state, (places, found, weights), len(items), k + 1, None)
        keep = (near >= 0) & (near != items[:, None])
        rows, columns = np.nonzero(keep)
        return best_pairs(rows, near[rows, columns], scores[rows, columns], len(items), k)

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The item of the history whose content is nearest."""
        _, history, _ = self._history(state, np.array([user], np.int32))
        items = np.asarray(items)
        if not len(history) or not len(items):
            return [Reason("taste")] * len(items)
        tokens = self._tokens(state.catalogue)
        table = _dense(tokens, np.concatenate([items, history]))
        cosine = table[: len(items)] @ table[len(items) :].T
        cosine[items[:, None] == history] = -1
        best = cosine.argmax(axis=1)
        near = cosine.max(axis=1) > 0
        return [Reason("similar", int(history[b])) if c else Reason("taste") for b, c in zip(best, near, strict=True)]


def _dense(tokens: ItemTokens, items: np.ndarray) -> np.ndarray:
    """float32[n, D] vectors of a few items over the tokens that they have."""
    places, found = tokens.rows.take(items)
    weights = expand(tokens.rows.offsets[items], tokens.rows.lengths[items], tokens.weights)[1]
    used, column = np.unique(found, return_inverse=True)
    out = np.zeros((len(items), len(used)), np.float32)
    out[places, column] = weights
    return out


def _unit(
    places: np.ndarray, tokens: np.ndarray, weights: np.ndarray, batch: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    norm = np.sqrt(np.bincount(places, weights=weights.astype(np.float64) ** 2, minlength=batch))
    return places, tokens, (weights / np.maximum(norm[places], 1e-12)).astype(np.float32)
