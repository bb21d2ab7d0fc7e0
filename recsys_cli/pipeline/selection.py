"""From a ranking to a slate: caps and selection. These loop over slots, never over candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import DiversityConfig
from recsys_cli.pipeline.labels import AUTHOR, TOPICS, TOPICS_COUNTED, first_values, shares_of
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Selector
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue


class Caps(Selector):
    """Author and topic caps: walks down the ranking and passes over what would break one.

    Orders `size + reserve` items; candidates that break a cap come behind all that do not, so a slate is
    full even where the caps cannot hold. What makes up much of the catalogue may stand in a slate with up to twice its
    share of it: a shop of four categories is not held to a few items of each.
    """

    name = "diversity"
    reads = ("utility",)

    def __init__(self, config: DiversityConfig, reserve: int, keep_rest: bool = False):
        """keep_rest: whether all other candidates stand behind, for a stage that may pick any of them."""
        self._config, self._reserve, self._keep_rest = config, reserve, keep_rest
        self._shares = PerState(lambda state: catalogue_shares(state.catalogue))

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        k = candidates.items.shape[1]
        length = min(query.size + self._reserve, k)
        author, topics = self._labels(query, candidates)
        per_author, per_topic = self._limits(query, author, topics)
        free = candidates.filled.copy()
        within = free.copy()
        rows = np.arange(len(candidates.items))
        order = np.full((len(rows), length), -1, np.int64)
        known = author >= 0
        author_used, topic_used = np.zeros(author.shape, np.int16), np.zeros(topics.shape, np.int16)
        for slot in range(length):
            # a slot is the first candidate within the caps, else the first one left
            first = within.argmax(axis=1)
            broken = ~within[rows, first]
            if broken.any():
                first = np.where(broken, free.argmax(axis=1), first)
            some = free[rows, first]
            order[:, slot] = np.where(some, first, -1)
            free[rows, first] = within[rows, first] = False
            if per_author is not None:
                author_used += (author == author[rows, first][:, None]) & known & some[:, None]
                within &= author_used < per_author
            if per_topic is not None:
                for picked in topics[:, rows, first]:
                    topic_used += (topics == picked[:, None]) & (picked >= 0)[:, None] & some[:, None]
                within &= (topic_used < per_topic).all(axis=0)
        if self._keep_rest:
            rest = np.argsort(~free, axis=1, kind="stable")[:, : k - length]
            rest = np.where(np.take_along_axis(free, rest, axis=1), rest, -1)
            order = np.concatenate([order, rest], axis=1)
        return candidates.take(order)

    def _limits(
        self, query: Query, author: np.ndarray, topics: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """int64[B, K] and int64[T, B, K]: how many of its author and of its topics each candidate may stand among."""
        of_author, of_topic = self._shares(query.state)
        most, share = self._config.max_per_author, self._config.max_topic_share
        per_author = None if most is None else limits(of_author, query.size, most)[author]
        per_topic = None if share is None else limits(of_topic, query.size, _topic_cap(share, query.size))[topics]
        return per_author, per_topic

    def _labels(self, query: Query, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """Authors [B, K] and topics [T, B, K], as many as any candidate has."""
        catalogue = query.state.catalogue
        author = np.where(candidates.filled, catalogue.item_author[candidates.items], -1)
        topics = first_values(catalogue.item_topics, candidates.items, TOPICS_COUNTED)
        topics = np.moveaxis(topics, 2, 0)
        return author, topics[(topics >= 0).any(axis=(1, 2))]


def _topic_cap(share: float, size: int) -> int:
    return max(1, int(share * size + 1e-9))


def catalogue_shares(catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """float64[authors + 1] and float64[topics + 1]: the share of items with an author (topics) that each has.

    The last stands for unknown and is 0. Of an item's topics those count that the topic cap looks at.
    """
    return shares_of(AUTHOR, catalogue), shares_of(TOPICS, catalogue)


def limits(shares: np.ndarray, size: int, least: int) -> np.ndarray:
    """int64[n]: items of each label in a slate of `size`: `least`, or twice the label's share of the catalogue."""
    return np.maximum(least, (2 * shares * size + 1e-9).astype(np.int64))


class Select(Selector):
    """The first `size` items."""

    name = "select"
    reads = ("utility",)
    final = True
    needed = True

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        out = candidates.first(query.size)
        missing = query.size - out.items.shape[1]
        if missing <= 0:
            return out
        pad = ((0, 0), (0, missing))
        return Candidates(
            np.pad(out.items, pad, constant_values=-1),
            np.pad(out.sources, pad),
            {name: np.pad(s, pad) for name, s in out.scores.items()},
        )
