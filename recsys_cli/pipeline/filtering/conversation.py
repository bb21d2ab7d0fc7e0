"""Replies of one conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import PositiveInt

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.diversity.author_decay import earlier_alike
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

EXACT = 2**24
"""Whole numbers from here on are no longer told apart by a float32, in which the catalogue keeps numbers."""


class ConversationConfig(StageConfig):
    """Leaves of each conversation its first items in a slate."""

    kind: Literal["conversation"] = "conversation"
    column: str = "conversation_id"
    """Column of the items, text or number."""
    at_most: PositiveInt = 1
    """Items of a conversation in a slate."""


class Conversation(Filter):
    """Looks at the finished slate with its reserve, which moves up."""

    config_type = ConversationConfig
    config: ConversationConfig
    again = False

    def prepare(self, bundle: Bundle) -> str | None:
        catalogue, name = bundle.catalogue, self.config.column
        found = conversation_of(catalogue, name)
        if found is None:
            return f"needs items with a column {name!r}"
        if name in catalogue.item_numbers and len(found) and found.max() >= EXACT:
            self.notes = (f"stage {self.name}: numbers of {name!r} above {EXACT:,} run together; write it as text",)
        return None

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        column = conversation_of(query.state.catalogue, self.config.column)
        assert column is not None  # else it stood aside
        label = np.where(candidates.filled, column[candidates.items], -1)
        standing = -np.broadcast_to(np.arange(label.shape[1], dtype=np.float64), label.shape)
        return earlier_alike(label, standing) < self.config.at_most


def conversation_of(catalogue: Catalogue, name: str) -> np.ndarray | None:
    """int[n_items] number of each item's conversation, -1 without; None where there is no such column."""
    if name in catalogue.item_codes:
        return catalogue.item_codes[name]
    if name in catalogue.item_columns.hashes:
        return catalogue.item_columns.hashes[name]
    number = catalogue.item_numbers.get(name)
    return None if number is None else np.where(np.isfinite(number), number, -1).astype(np.int64)
