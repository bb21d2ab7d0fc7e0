"""Items for subscribers of their author alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filtering.user_lists import hashed, listed
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class SubscriptionConfig(StageConfig):
    """Leaves out items for subscribers alone where the user has not subscribed to the author and is not the author."""

    kind: Literal["subscription"] = "subscription"
    item_column: str = "subscribers_only"
    """Boolean or number of the items; above 0 only subscribers may see it."""
    user_column: str = "subscriptions"
    """List of the users with the ids of the authors to whom they have subscribed; without it only authors themselves
    see such items."""


class Subscription(Filter):
    """Shows items for subscribers to those alone, and to their author."""

    config_type = SubscriptionConfig
    config: SubscriptionConfig
    _authors = np.zeros(0, np.int32)
    _lists = False

    def prepare(self, bundle: Bundle) -> str | None:
        catalogue, config = bundle.catalogue, self.config
        if config.item_column not in catalogue.item_numbers:
            return f"needs items with a number or Boolean {config.item_column!r}"
        self._lists = config.user_column in catalogue.user_columns.lists
        ids = bundle.author_ids.external(np.arange(len(bundle.author_ids))) if self._lists else []
        self._authors = np.append(hashed(ids), np.int32(-1))
        if not self._lists:
            self.notes = (f"stage {self.name}: users have no list {config.user_column!r}, so nobody is a subscriber",)
        return None

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        catalogue, items = query.state.catalogue, candidates.items
        closed = catalogue.item_numbers[self.config.item_column][items] > 0
        if not closed.any():
            return np.ones(items.shape, bool)
        author = np.where(items >= 0, catalogue.item_author[items], -1)
        allowed = np.zeros(items.shape, bool)
        if len(catalogue.author_user):
            writer = np.where(author >= 0, catalogue.author_user[author], -1)
            allowed |= (writer == query.users[:, None]) & (writer >= 0)
        if self._lists:
            allowed |= listed(query, self.config.user_column, self._authors[author])
        return ~closed | allowed
