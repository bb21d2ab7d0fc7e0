"""New items that few have seen yet, drawn with a known propensity: how the catalogue gets its first impressions."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat

from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.exploration.random_items import Random
from recsys_cli.retrieval.memo import PerState


class FreshConfig(RetrieverConfig):
    """Exploration of new items: a uniform draw from those with few impressions."""

    kind: Literal["fresh"] = "fresh"
    max_age_days: PositiveFloat = 2.0
    """Items published longer ago are not new."""
    max_impressions: NonNegativeInt = 50
    """Items shown more often have had their chance."""
    seed: int = 0
    """Another seed, another draw."""


class Fresh(Random):
    """Every new item with few impressions is as likely as another; items of unknown age are not new.

    The draw depends on the user, `state.now` and the seed alone. score: the propensity of the draw, k ÷ new items
    (before what was seen is left out).
    """

    config_type: ClassVar = FreshConfig
    config: FreshConfig

    def __init__(self, config: FreshConfig):
        super().__init__(config)
        self._items = PerState(self._new)

    def missing(self, window: Window) -> str | None:
        return None if (window.catalogue.item_created > 0).any() else "needs items with created_at"

    def _new(self, state: State) -> np.ndarray:
        """int64[m] items that may be drawn."""
        created = state.catalogue.item_created
        young = (created > 0) & (created < state.now) & (created >= state.now - int(self.config.max_age_days * DAY))
        return np.flatnonzero(young & (state.impressions <= self.config.max_impressions))
