"""Items that say, or show, nearly the same."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from recsys_cli.data.ragged import Ragged
from recsys_cli.hashing import mix
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filtering.conversation import conversation_of
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig

HASHES = 64
_SEEDS = mix(np.arange(1, HASHES + 1, dtype=np.uint64))


class NearDuplicatesConfig(StageConfig):
    """Leaves out items whose words, or whose picture or film, are nearly those of an item above them."""

    kind: Literal["near_duplicates"] = "near_duplicates"
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the words of two texts together that both have, from which on they are the same."""
    least_words: PositiveInt = 4
    """Texts of fewer different words are not compared."""
    media_hash: str = "media_hash"
    """Column of the items, text or number; those with the same are the same."""


class NearDuplicates(Filter):
    """Compares the texts of the finished slate with its reserve by MinHash (Broder, SEQUENCES 1997): the share of 64
    hash functions whose least value over the words of two texts agrees."""

    config_type = NearDuplicatesConfig
    again = False
    _text = _media = False

    def prepare(self, bundle) -> str | None:
        catalogue, column = bundle.catalogue, self.config.media_hash
        self._text = len(catalogue.item_text.values) > 0
        self._media = conversation_of(catalogue, column) is not None
        return None if self._text or self._media else f"needs items with text or a column {column!r}"

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        catalogue, out = query.state.catalogue, candidates.filled.copy()
        media = conversation_of(catalogue, self.config.media_hash) if self._media else None
        for row, slots in enumerate(map(np.flatnonzero, candidates.filled)):
            items = candidates.items[row, slots]
            same = np.zeros((len(items), len(items)), bool)
            if self._text:
                same |= alike(signatures(catalogue.item_text, items, self.config.least_words), self.config.similarity)
            if media is not None:
                same |= (media[items][:, None] == media[items]) & (media[items] >= 0)
            out[row, slots[repeated(same)]] = False
        return out


def signatures(words: Ragged, items: np.ndarray, least_words: int) -> np.ndarray:
    """uint32[n, HASHES]: the least of each hash function over the words of each item; 0 throughout where there are
    fewer words than `least_words`."""
    out = np.zeros((len(items), HASHES), np.uint32)
    lengths = words.offsets[items + 1] - words.offsets[items]
    long = np.flatnonzero(lengths >= least_words)
    if len(long):
        place, word = words.take(items[long])
        hashes = (mix(word.astype(np.uint64)[:, None] + _SEEDS) >> np.uint64(32)).astype(np.uint32)
        first = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
        out[long] = np.minimum.reduceat(hashes, first, axis=0)
    return out


def alike(signs: np.ndarray, similarity: float) -> np.ndarray:
    """bool[n, n]: whether so large a share of two signatures agrees, neither being 0."""
    told = signs.any(axis=1)
    agreeing = np.zeros((len(signs), len(signs)), np.int16)
    for column in signs.T:
        agreeing += column[:, None] == column
    return (agreeing >= similarity * HASHES) & told & told[:, None]


def repeated(same: np.ndarray) -> np.ndarray:
    """bool[n]: which items are the same as one before them that is none of these itself."""
    out = np.zeros(len(same), bool)
    earlier = np.tril(same, -1)
    for place in np.flatnonzero(earlier.any(axis=1)):
        out[place] = (earlier[place] & ~out).any()
    return out
