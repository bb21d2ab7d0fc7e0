"""Items that say, or show, nearly the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from recsys_cli.data.ragged import Ragged
from recsys_cli.hashing import mix
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filtering.conversation import conversation_of
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

FEW, MANY = 48, 128
"""Hash functions by which pairs are found, and by which these are compared."""
BAND = 4
"""Hashes in a band, where only texts are looked for that are at least as alike as BANDED_FROM."""
BANDED_FROM = 0.75
_SEEDS = mix(np.arange(1, MANY + 1, dtype=np.uint64)) | np.uint64(1)
_SHIFTS = mix(_SEEDS)
_FACTORS, _SUMMANDS = _SEEDS.astype(np.uint32), _SHIFTS.astype(np.uint32)


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
    """Compares the texts of the finished slate with its reserve by MinHash (Broder, SEQUENCES 1997): the share of 128
    hash functions whose least value over the words of two texts agrees.

    Only texts that share a band of such values are compared (Leskovec, Rajaraman and Ullman, Mining of Massive
    Datasets, section 3.4); of pairs as alike as asked for hardly any share none.
    """

    config_type = NearDuplicatesConfig
    config: NearDuplicatesConfig
    again = False
    _text = _media = False

    def prepare(self, bundle: Bundle) -> str | None:
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
                one, other = alike(catalogue.item_text, items, self.config.least_words, self.config.similarity)
                same[one, other] = same[other, one] = True
            if media is not None:
                same |= (media[items][:, None] == media[items]) & (media[items] >= 0)
            out[row, slots[repeated(same)]] = False
        return out


def alike(words: Ragged, items: np.ndarray, least_words: int, similarity: float) -> np.ndarray:
    """int64[2, pairs]: places of items, the earlier first, whose words are alike in so large a share.

    Texts of fewer different words than `least_words` are like none.
    """
    long = np.flatnonzero(words.offsets[items + 1] - words.offsets[items] >= least_words)
    if len(long) < 2:
        return np.zeros((2, 0), np.int64)
    pairs = _share_a_band(signatures(words, items[long], FEW), BAND if similarity >= BANDED_FROM else 1)
    near, at = np.unique(pairs, return_inverse=True)
    if not len(near):
        return pairs
    signs, (one, other) = signatures(words, items[long[near]], MANY), at.reshape(pairs.shape)
    same = (signs[one] == signs[other]).sum(axis=1) >= similarity * MANY
    return long[pairs[:, same]]


def signatures(words: Ragged, items: np.ndarray, hashes: int) -> np.ndarray:
    """uint32[n, hashes]: the least of each hash function over the words of each item, which has some."""
    place, word = words.take(items)
    # words are hashed evenly already, so that a product is as good as a better mixture
    values = word.astype(np.uint32)[:, None] * _FACTORS[:hashes] + _SUMMANDS[:hashes]
    return np.minimum.reduceat(values, np.flatnonzero(np.r_[True, place[1:] != place[:-1]]), axis=0)


def _share_a_band(signs: np.ndarray, width: int) -> np.ndarray:
    """int64[2, pairs] of items with `width` hashes that begin at a multiple of it in common."""
    n, bands = len(signs), signs.shape[1] // width
    # two hashes at a time are one number of 64 bits, so that a band is a sum of few products
    parts = signs.view(np.uint64) if width % 2 == 0 else signs.astype(np.uint64)
    each = parts.shape[1] // bands
    keys = parts[:, ::each] * _SEEDS[0] + _SHIFTS[:bands]
    for part in range(1, each):
        keys += parts[:, part::each] * _SEEDS[part]
    keys = keys.ravel()
    order = np.argsort(keys)
    flat, item, found = keys[order], order // bands, [np.zeros(0, np.int64)]
    for step in range(1, n):  # as far as the longest run of equal keys reaches
        equal = np.flatnonzero(flat[step:] == flat[:-step])
        if not len(equal):
            break
        found.append(np.minimum(item[equal], item[equal + step]) * n + np.maximum(item[equal], item[equal + step]))
    return np.stack(np.divmod(np.unique(np.concatenate(found)), n))


def repeated(same: np.ndarray) -> np.ndarray:
    """bool[n]: which items are the same as one before them that is none of these itself."""
    out = np.zeros(len(same), bool)
    earlier = np.tril(same, -1)
    for place in np.flatnonzero(earlier.any(axis=1)):
        out[place] = (earlier[place] & ~out).any()
    return out
