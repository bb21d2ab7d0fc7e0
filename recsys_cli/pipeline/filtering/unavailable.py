"""Items that nobody can have now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class UnavailableConfig(StageConfig):
    """Leaves out items that are sold out, withdrawn or past their end."""

    kind: Literal["unavailable"] = "unavailable"
    columns: list[str] = ["available", "in_stock", "stock"]
    """Numbers or Booleans of the items; one that is 0, below or false makes an item unavailable, where it is known."""
    until: list[str] = ["expires_at"]
    """Moments of the items, from which on they are unavailable."""


class Unavailable(Filter):
    """Looks at what the columns say at the moment of the request; what is unknown passes."""

    config_type = UnavailableConfig
    config: UnavailableConfig
    _columns: tuple[str, ...] = ()
    _until: tuple[str, ...] = ()

    def prepare(self, bundle: Bundle) -> str | None:
        catalogue, config = bundle.catalogue, self.config
        self._columns = tuple(c for c in config.columns if c in catalogue.item_numbers)
        self._until = tuple(c for c in config.until if c in catalogue.item_columns.times)
        named = ", ".join([*config.columns, *config.until])
        return None if self._columns or self._until else f"needs items with one of the columns {named}"

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        catalogue, items = query.state.catalogue, candidates.items
        out = np.ones(items.shape, bool)
        for column in self._columns:
            value = catalogue.item_numbers[column][items]
            out &= ~(value <= 0)  # unknown is no number, and passes
        for column in self._until:
            end = catalogue.item_columns.times[column][items]
            out &= (end == 0) | (end > query.state.now)
        return out
