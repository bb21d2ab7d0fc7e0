"""Topics and authors of which a user asked to see less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from recsys_cli.hashing import mix
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filtering.user_lists import hashed, listed
from recsys_cli.pipeline.labels import TOPICS, labels_of
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class SeeLessConfig(StageConfig):
    """Lets a share alone of the items pass whose topic or author the user asked to see less often; which ones changes
    with each request."""

    kind: Literal["see_less"] = "see_less"
    column: str = "see_less"
    """List of the users with names of topics and ids of authors."""
    passing: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of those items that pass; 0 hides them all."""


class SeeLess(Filter):
    """Draws for each request which items of a topic or author to see less of pass."""

    config_type = SeeLessConfig
    config: SeeLessConfig
    _topics = _authors = np.full(1, -1, np.int32)

    def prepare(self, bundle: Bundle) -> str | None:
        catalogue, column = bundle.catalogue, self.config.column
        if column not in catalogue.user_columns.lists:
            return f"needs users with a list {column!r}"
        self._topics = np.append(hashed(catalogue.names.get("topics", [])), np.int32(-1))
        ids = bundle.author_ids.external(np.arange(len(bundle.author_ids)))
        self._authors = np.append(hashed(ids), np.int32(-1))
        return None

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        column, items = self.config.column, candidates.items
        author = np.where(items >= 0, query.state.catalogue.item_author[items], -1)
        less = listed(query, column, self._authors[author])
        for code in labels_of(TOPICS, query, candidates):
            less |= listed(query, column, self._topics[code])
        if not less.any():
            return ~less
        start = (query.uniform(1, purpose=7)[:, 0] * 2.0**53).astype(np.uint64)
        draw = mix(mix(items.astype(np.int64).view(np.uint64)) + start[:, None]) >> np.uint64(11)
        return ~less | (draw.astype(np.float64) * 2.0**-53 < self.config.passing)
