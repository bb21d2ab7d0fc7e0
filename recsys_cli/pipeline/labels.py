"""Labels of candidates by which stages count and set apart: authors, topics, sources and categories of items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.pipeline.candidates import Candidates
    from recsys_cli.pipeline.query import Query

AUTHOR, TOPICS, SOURCE = "author", "topics", "source"
USUAL = (AUTHOR, TOPICS, "media_type", "language")
"""Attributes of items that every dataset may have; one without them is no mistake of the settings."""
TOPICS_COUNTED = 4
"""Topics of an item that are looked at."""


def check_attribute(attribute: str, catalogue: Catalogue, key: str) -> bool:
    """Whether the data has an attribute; raises ConfigError for one that nobody could mean here.

    key: of the setting that names it.
    """
    known = dict.fromkeys((*USUAL, SOURCE, *catalogue.item_codes))
    if attribute not in known:
        hint = did_you_mean(attribute, known, f"known are: {', '.join(known)}")
        raise ConfigError(f"{key}: items have no category {attribute!r}", hint)
    if attribute == AUTHOR:
        return bool((catalogue.item_author >= 0).any())
    if attribute == TOPICS:
        return len(catalogue.item_topics.values) > 0
    return attribute == SOURCE or attribute in catalogue.item_codes


def labels_of(attribute: str, query: Query, candidates: Candidates) -> np.ndarray:
    """int32[T, B, K]: the codes that each candidate carries, -1 for none; T is 1 but for topics."""
    catalogue, items = query.state.catalogue, candidates.items
    if attribute == SOURCE:
        first = candidates.sources & (~candidates.sources + np.uint32(1))  # the lowest bit that is set
        bit = np.frexp(first.astype(np.float64))[1] - 1
        return np.where(candidates.sources > 0, bit, -1).astype(np.int32)[None]
    if attribute == TOPICS:
        return np.moveaxis(first_values(catalogue.item_topics, items, TOPICS_COUNTED), -1, 0)
    column = catalogue.item_author if attribute == AUTHOR else catalogue.item_codes[attribute]
    return np.where(items >= 0, column[items], -1).astype(np.int32, copy=False)[None]


def shares_of(attribute: str, catalogue: Catalogue) -> np.ndarray:
    """float64[labels + 1]: the share of the items with the attribute that carry each label; the last stands for
    unknown and is 0. Nothing is known of sources beforehand: 0 for each."""
    if attribute == SOURCE:
        return np.zeros(33)
    if attribute == TOPICS:
        codes = first_values(catalogue.item_topics, np.arange(catalogue.n_items), TOPICS_COUNTED)
    else:
        codes = (catalogue.item_author if attribute == AUTHOR else catalogue.item_codes[attribute])[:, None]
    tagged = max(int((codes >= 0).any(axis=1).sum()), 1)
    return np.bincount(codes[codes >= 0], minlength=int(codes.max(initial=-1)) + 2) / tagged


def first_values(rows: Ragged, at: np.ndarray, width: int) -> np.ndarray:
    """int32[..., width]: the first values of each row, -1 where there are fewer or the row is -1."""
    if not len(rows.values):
        return np.full((*at.shape, width), -1, np.int32)
    inside = np.maximum(at, 0)
    place = rows.offsets[inside][..., None] + np.arange(width)
    held = (place < rows.offsets[inside + 1][..., None]) & (at >= 0)[..., None]
    return np.where(held, rows.values[np.minimum(place, len(rows.values) - 1)], -1).astype(np.int32, copy=False)
