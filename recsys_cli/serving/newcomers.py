"""Items that were told of since the run was trained: they stand in lists at once, here and there, until it is trained
again and can say how good they are."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.serving.fold import Names
from recsys_cli.serving.growth import grown
from recsys_cli.serving.pooling import Pool
from recsys_cli.serving.state_merge import widened

if TYPE_CHECKING:
    from recsys_cli.data.ragged import Ragged
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.serving.fold import Fold

CONSIDERED = 500
"""New items that are considered, the latest."""
TASTE = 50
"""Best candidates of a pool whose topics and authors tell what its user likes."""
PLACED = 5
"""New items that are put into a list at most."""


@dataclass(frozen=True)
class Newcomers:
    """New items and what is known of them."""

    items: np.ndarray
    """int32[m] positions, the latest first"""
    topics: Ragged
    """of all items of the catalogue"""
    item_author: np.ndarray
    """int32 of all items"""

    def best(self, pool: Pool, barred: np.ndarray, authors: np.ndarray | None) -> np.ndarray:
        """int32: the new items that fit best what stands at the top of a pool, at most PLACED.

        barred, authors: items, and authors of items, that must not be shown.
        """
        free = self.items[~np.isin(self.items, barred)]
        if authors is not None and len(authors):
            free = free[~np.isin(self.item_author[free], authors)]
        return free[np.argsort(-self._liking(pool, free), kind="stable")[:PLACED]] if len(free) else free

    def _liking(self, pool: Pool, items: np.ndarray) -> np.ndarray:
        """float64[m]: how often the topics and the author of each stand at the top of the pool; later ones win ties."""
        top = pool.items[:TASTE]
        _, topics = self.topics.take(top)
        weight = np.bincount(topics, minlength=int(self.topics.values.max(initial=0)) + 1) / max(len(topics), 1)
        places, mine = self.topics.take(items)
        counts = np.maximum(np.bincount(places, minlength=len(items)), 1)
        liking = np.bincount(places, weight[mine], minlength=len(items)) / counts
        authors = self.item_author[items]
        return liking + ((authors >= 0) & np.isin(authors, self.item_author[top]))


def frozen(fold: Fold) -> Fold:
    """What a fold knows of users and items now, for another thread to read."""
    out = copy.copy(fold)
    out.items, out.users, out.deleted, out.edges = dict(fold.items), dict(fold.users), dict(fold.deleted), []
    out.names = {name: Names(names.listed) for name, names in fold.names.items()}
    return out


def with_newcomers(
    trained: RecommendationEngine, fold: Fold, first: int
) -> tuple[RecommendationEngine, Newcomers | None]:
    """The engine that knows the items of a fold (`frozen`) as well, and the new ones among them.

    first: position of the first item that no model was trained with. Items taken out are published no longer. Positions
    of what the run knew stay as they are.
    """
    now = trained.state.now
    bundle = grown(trained.bundle, fold, now - 1).bundle
    catalogue = bundle.catalogue
    created = catalogue.item_created.copy()
    told = bundle.item_ids.positions([i for i in fold.items if i not in fold.deleted]) if fold.items else np.zeros(0)
    told = told[told >= first].astype(np.int32)
    created[told] = np.minimum(created[told], now - 1)  # what is new is new to the moment that the run knows
    catalogue = replace(catalogue, item_created=created)
    bundle = replace(bundle, catalogue=catalogue)
    engine = replace(trained, bundle=bundle, state=widened(trained.state, catalogue))
    latest = told[::-1][:CONSIDERED]
    rules = engine.safety_rules
    if rules is not None and len(latest) and (drops := rules.verdicts(catalogue).drops) is not None:
        latest = latest[~drops[0, latest]]
    if not len(latest):
        return engine, None
    return engine, Newcomers(latest, catalogue.item_topics, catalogue.item_author)

