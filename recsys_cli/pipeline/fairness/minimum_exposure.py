"""A guaranteed share of the slots for what has hardly been shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from recsys_cli.data.state import State
from recsys_cli.pipeline.allocation import Guaranteed
from recsys_cli.pipeline.stage import StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class MinimumExposureConfig(StageConfig):
    """At least a share of a slate, rounded down, goes to items, or to authors, that were shown little so far."""

    kind: Literal["minimum_exposure"] = "minimum_exposure"
    of: Literal["items", "authors"] = "items"
    """Whose impressions count: an item's own, or those of all items of its author."""
    impressions: PositiveInt = 50
    """What was shown less often than this is cold."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the slate that is guaranteed to it."""


class MinimumExposure(Guaranteed):
    """Lifts the best of what is cold where a slate would have less than its share."""

    config_type = MinimumExposureConfig
    config: MinimumExposureConfig
    favoured = "what was hardly shown"

    def __init__(self, config: MinimumExposureConfig):
        super().__init__(config, config.share, lambda state: cold(state, config.of, config.impressions))

    def prepare(self, bundle: Bundle) -> str | None:
        lack = self.config.of == "authors" and not (bundle.catalogue.item_author >= 0).any()
        return "needs items with an author" if lack else None


def cold(state: State, of: str, impressions: int) -> np.ndarray:
    """bool[n_items]; items without an author are not those of a cold one."""
    if of == "items":
        return state.impressions < impressions
    author = state.catalogue.item_author
    known = author >= 0
    shown = np.bincount(author[known], weights=state.impressions[known], minlength=state.catalogue.n_authors + 1)
    return known & (shown[author] < impressions)
