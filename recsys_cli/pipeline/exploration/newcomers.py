"""New items and new authors: who counts as one, and the boost that brings them their first impressions."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import BoostConfig, ColdStartConfig
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Scorer
from recsys_cli.retrieval.memo import PerState


def new_items(state: State, max_age_days: float) -> np.ndarray:
    """bool[n_items]: published, of known age, and not older than so many days."""
    created = state.catalogue.item_created
    return (created > 0) & (created < state.now) & (created >= state.now - int(max_age_days * DAY))


def missing_impressions(state: State, config: ColdStartConfig) -> np.ndarray:
    """float64[n_items]: impressions that each item lacks to its target; 0 for those that may not take the place kept
    for new ones."""
    lacks = np.maximum(config.target - state.impressions, 0) * new_items(state, config.max_age_days)
    author = state.catalogue.item_author
    if config.max_followers is None or not len(state.author_followers):
        return lacks.astype(np.float64)
    small = (author < 0) | (state.author_followers[np.maximum(author, 0)] < config.max_followers)
    return (lacks * small).astype(np.float64)


class BoostNewcomers(Scorer):
    """Multiplies utilities of new items, and of items of new authors, until they have had their impressions.

    A utility below 0 is divided, so that the item rises as well.
    """

    name = "newcomers"
    reads = ("utility",)
    gives = ("utility",)

    def __init__(self, config: BoostConfig):
        self._config = config
        self._factors = PerState(self._of)

    def _of(self, state: State) -> np.ndarray:
        """float32[n_items]"""
        config, catalogue = self._config, state.catalogue
        new = new_items(state, config.max_age_days)
        factor = np.where(new & (state.impressions < config.target), config.items, 1.0)
        author = catalogue.item_author
        known = author >= 0
        shown = np.bincount(author[known], weights=state.impressions[known], minlength=catalogue.n_authors + 1)
        unknown_author = known & (shown[author] < config.target_of_author)
        return (factor * np.where(unknown_author, config.authors, 1.0)).astype(np.float32)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        factor, utility = self._factors(query.state)[candidates.items], candidates.scores["utility"]
        utility = np.where(utility >= 0, utility * factor, utility / factor)
        return candidates.with_scores(utility=utility).best("utility", candidates.items.shape[1])
