"""The user's own say: familiar … adventurous."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.diversity.taste import taste
from recsys_cli.pipeline.labels import TOPICS, labels_of
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import Rescaler
from recsys_cli.pipeline.stage import StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

COLUMN = "adventure"


class AdventureConfig(StageConfig):
    """The utility is multiplied by exp(strength · level · (novelty − ½)); novelty is 0 for the user's own main topic
    or an author whom they follow or know, 1 for what has nothing of theirs."""

    kind: Literal["adventure"] = "adventure"
    level: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """From −1, familiar, to 1, adventurous, for those who did not say: neither in the request (`--adventure`) nor by a
    number `adventure` of the users."""
    strength: PositiveFloat = 2.0
    """How much the extremes weigh."""


class Adventure(Rescaler):
    """Raises what is new to a user, or what is familiar, as far as they asked for it."""

    config_type = AdventureConfig
    config: AdventureConfig
    asks = ("adventure",)

    def prepare(self, bundle: Bundle) -> str | None:
        catalogue = bundle.catalogue
        there = len(catalogue.item_topics.values) or (catalogue.item_author >= 0).any()
        return None if there else "needs items with topics or an author"

    def enabled(self, query: Query) -> bool:
        if query.adventure is not None:
            return query.adventure != 0
        return self.config.level != 0 or COLUMN in query.state.catalogue.user_numbers

    def factors(self, query: Query, candidates: Candidates) -> np.ndarray:
        level = np.multiply(self._levels(query)[:, None], self.config.strength, dtype=np.float32)
        return np.exp(level * (np.float32(0.5) - familiarity(query, candidates)))

    def _levels(self, query: Query) -> np.ndarray:
        """float[B]"""
        if query.adventure is not None:
            return np.full(len(query), query.adventure)
        column = query.state.catalogue.user_numbers.get(COLUMN)
        if column is None:
            return np.full(len(query), self.config.level)
        own = np.where(query.users >= 0, column[query.users], np.nan)
        return np.where(np.isfinite(own), np.clip(own, -1, 1), self.config.level)


def familiarity(query: Query, candidates: Candidates) -> np.ndarray:
    """float32[B, K] in [0, 1]: 1 for authors whom the user follows or has turned to and for their main topic, else the
    largest of the user's shares of an item's topics beside that of their main one."""
    catalogue, items = query.state.catalogue, candidates.items
    author = np.where(items >= 0, catalogue.item_author[items], -1)
    known = query.state.follows.contains(query.users, author) | query.state.ties.contains(query.users, author)
    out = known.astype(np.float32)
    if not catalogue.n_topics:
        return out
    own = taste(query.state, query.users, catalogue.n_topics)
    own /= np.maximum(own.max(axis=1, keepdims=True), 1e-12)
    rows = np.arange(len(items))[:, None]
    for code in labels_of(TOPICS, query, candidates):
        out = np.maximum(out, np.where(code >= 0, own[rows, code], 0))
    return out.astype(np.float32)
