"""What somebody did in the session that goes on moves the order of their pool, in the very next answer.

Likeness is the cosine of the items' vectors, of the first source that has any; without one it is the cosine of topics
and author. An item rises by as many standard deviations of the pool's utilities as it is like the session, times the
strength of the settings. The latest action counts most, each before it half as much (recency in sessions: Jannach and
Ludewig, RecSys 2017, find nearest neighbours that weigh so hard to beat).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.retrieval.vectors.retriever import VectorRetriever

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.serving.pooling import Pool

LATEST = 8
"""Actions of a session that are looked at."""
FADE = 0.5
"""Weight of an action beside the one after it."""


class Likeness:
    """How much items are like each other, by what a run knows of them."""

    def __init__(self, bundle: Bundle):
        found = [(name, r.index) for name, r in bundle.retrievers.items() if isinstance(r, VectorRetriever)]
        self.source: str | None
        """whose vectors are compared; None for topics and authors"""
        self.source, self._index = found[0] if found else (None, None)
        self._catalogue = bundle.catalogue

    def of(self, items: np.ndarray, session: np.ndarray) -> np.ndarray:
        """float32[K] in [0, 1] of `items` int32[K] with `session` int32[S], oldest first; 0 where nothing is known."""
        session = session[-LATEST:]
        weight = FADE ** np.arange(len(session) - 1, -1, -1, dtype=np.float32)
        both = np.concatenate([items, session])
        vectors = self._by_topics(both) if self._index is None else self._by_vectors(both)
        towards = weight @ vectors[len(items) :]
        length = float(np.linalg.norm(towards))
        return np.maximum(vectors[: len(items)] @ towards, 0) / length if length else np.zeros(len(items), np.float32)

    def _by_vectors(self, items: np.ndarray) -> np.ndarray:
        """float32[K, D] of length 1, or 0 where an item has none."""
        index = self._index
        inside = np.minimum(items, len(index.vectors) - 1)
        known = (inside == items) & index.known[inside]
        vectors = np.where(known[:, None], index.vectors[inside], 0).astype(np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def _by_topics(self, items: np.ndarray) -> np.ndarray:
        """float32[K, D] of length 1: a column a topic and an author among them, both kinds weighing the same."""
        catalogue = self._catalogue
        rows, topics = catalogue.item_topics.take(items)
        parts = []
        for at, held in ((rows, topics), (np.arange(len(items)), catalogue.item_author[items])):
            at, held = at[held >= 0], held[held >= 0]
            names, column = np.unique(held, return_inverse=True)
            part = np.zeros((len(items), len(names)), np.float32)
            part[at, column] = 1
            parts.append(part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12))
        whole = np.concatenate(parts, axis=1)
        return whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)


def boosted(pool: Pool, likeness: np.ndarray, strength: float) -> Pool:
    """A pool in the order of its utilities, each raised by `strength` standard deviations for a likeness of 1."""
    utility = pool.scores["utility"]
    raised = utility + np.float32(strength * utility.std()) * likeness
    order = np.argsort(-raised, kind="stable")
    scores = {name: values[order] for name, values in pool.scores.items()}
    scores["utility"] = raised[order]
    return replace(pool, items=pool.items[order], sources=pool.sources[order], scores=scores)
