"""Words that a user has muted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from recsys_cli.data.catalogue import TEXT_BUCKETS
from recsys_cli.data.ragged import Ragged
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filtering.user_lists import hashed
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class MutedKeywordsConfig(StageConfig):
    """Leaves out items whose text holds a word that the user has muted, or that is muted for all."""

    kind: Literal["muted_keywords"] = "muted_keywords"
    column: str = "muted_keywords"
    """List of the users with their words, in small letters; hashtags with their #."""
    words: list[str] = []
    """Words muted for everybody."""


class MutedKeywords(Filter):
    """Compares words by the buckets in which the catalogue keeps texts: of 30,000 pairs of other words one is taken
    for the same."""

    config_type = MutedKeywordsConfig
    config: MutedKeywordsConfig

    def __init__(self, config: MutedKeywordsConfig):
        super().__init__(config)
        self._own = False
        self._all = np.unique(hashed([word.lower() for word in config.words]) % TEXT_BUCKETS)
        self._buckets = PerState(lambda state: _buckets(state.catalogue.user_columns.lists[config.column]))

    def prepare(self, bundle: Bundle) -> str | None:
        catalogue = bundle.catalogue
        self._own = self.config.column in catalogue.user_columns.lists
        if not len(catalogue.item_text.values):
            return "needs items with text"
        told = f"needs users with a list {self.config.column!r}"
        return None if self._own or self.config.words else told

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        b, k = candidates.items.shape
        slot, word = query.state.catalogue.item_text.take(candidates.items.ravel())
        hit = np.isin(word, self._all)
        if self._own and k:
            muted = self._buckets(query.state)
            # a user's few words against all texts of the row, sorted once for the batch
            row = slot // k
            width = np.int64(TEXT_BUCKETS)
            place, bucket = muted.take(query.users)
            hit |= np.isin(row * width + word, place * width + bucket)
        out = np.ones(b * k, bool)
        out[slot[hit]] = False
        return out.reshape(b, k)


def _buckets(words: Ragged) -> Ragged:
    return Ragged(words.offsets, words.values % np.int32(TEXT_BUCKETS))
