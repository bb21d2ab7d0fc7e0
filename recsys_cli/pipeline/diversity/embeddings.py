"""Vectors of items to tell how alike they are: those of a source, of a column, or their topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.pipeline.query import Query

TOPICS = "topics"
LACK = "needs a source with vectors, a column of vectors or topics of the items"
Vectors = Callable[["Query", np.ndarray], np.ndarray]
"""(query, items int32[n]) → unit vectors float32[n, D]; zero where nothing is known of an item, which is like none."""


def item_vectors(name: str, bundle: Bundle, key: str) -> Vectors | None:
    """Vectors by the name of a source or of a column of items, "topics", or "auto": the first source that has any,
    else topics. None where "auto" finds none, and for topics where no item has any.

    key: of the setting, for the ConfigError that a name raises which has no vectors.
    """
    sources = {n: source.index for n, source in bundle.retrievers.items() if source.index is not None}
    columns = list(bundle.catalogue.item_columns.vectors)
    topics = [TOPICS] if len(bundle.catalogue.item_topics.values) else []
    known = [*sources, *columns, *topics]
    if name == "auto":
        if not (sources or topics):
            return None
        name = [*sources, *topics][0]
    if name in sources:
        index = sources[name]
        return lambda query, items: _unit(_known_rows(index.vectors, index.known, items))
    if name in columns:
        return lambda query, items: _unit(_of_column(query.state.catalogue, name, items))
    if name == TOPICS:
        return (lambda query, items: _unit(_of_topics(query.state.catalogue, items))) if topics else None
    raise ConfigError(
        f"{key}: {name!r} has no vectors of items here",
        did_you_mean(name, known, f"some have: {', '.join(known) or 'none in this run'}"),
    )


def _known_rows(vectors: np.ndarray, known: np.ndarray, items: np.ndarray) -> np.ndarray:
    if not len(vectors):
        return np.zeros((len(items), 1), np.float32)
    inside = np.clip(items, 0, len(vectors) - 1)
    held = (items == inside) & known[inside]
    rows = vectors[inside]
    return rows if held.all() else np.where(held[:, None], rows, np.float32(0))


def _of_column(catalogue: Catalogue, name: str, items: np.ndarray) -> np.ndarray:
    return np.nan_to_num(catalogue.item_columns.vectors[name][items])


def _of_topics(catalogue: Catalogue, items: np.ndarray) -> np.ndarray:
    """A dimension for each topic that occurs among the items."""
    place, topic = catalogue.item_topics.take(items)
    there, column = np.unique(topic, return_inverse=True)
    out = np.zeros((len(items), max(len(there), 1)), np.float32)
    out[place, column] = 1
    return out


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32, copy=False)
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return rows / np.where(length > 0, length, 1)[:, None]
