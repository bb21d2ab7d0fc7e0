"""Texts, lists and vectors as a few numbers, and how close items are to what a user engaged with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.data.ragged import Ragged
from recsys_cli.features.history import View
from recsys_cli.features.spec import Feature

VECTORS = "vector"
_SEED = 20_031


def define_vectors(catalogue: Catalogue, side: str, name: str, dims: int, becomes: str) -> Iterator[Feature]:
    """The numbers of a column and, of items, their match with the user's interactions."""
    path = f"{side}.{name}"
    of = "the item's words" if path == "item.text" else f"the {side}'s {name}"
    if becomes == "vector":
        whole = dims == width_of(catalogue, side, name)
        told = "of the column" if whole else f"of its random projection to {dims} numbers"
    else:
        what = "words'" if becomes == "text" else "values'"
        told = f"of the {what} random projection to {dims} numbers, of length 1"
    for d in range(dims):
        yield Feature(f"{side}_{name}_{d + 1}", side, side, VECTORS, "number", of, f"number {d + 1} {told}", path, d)
    if becomes == "vector" and np.isnan(_held(catalogue, side, name)[:, 0]).mean() >= 0.01:
        yield Feature(f"{side}_{name}_missing", side, side, VECTORS, "missing", f"{of} is unknown", "1 or 0", path)
    if side == "item":
        yield Feature(
            f"{name}_match", "pair", "pair", VECTORS, "match", f"likeness of {of} to what the user engaged with",
            f"cosine of the item's {name} vector and the sum of those of the user's interactions", path,
        )


def _held(catalogue: Catalogue, side: str, name: str) -> np.ndarray:
    return getattr(catalogue, f"{side}_columns").vectors[name]


def width_of(catalogue: Catalogue, side: str, name: str) -> int:
    """Numbers of a column of vectors."""
    return _held(catalogue, side, name).shape[1]


def bag(catalogue: Catalogue, side: str, name: str) -> Ragged:
    """int32 hashed values of a list or words of a text, each once in a row; of `item.text` their buckets."""
    from recsys_cli.data.encode import hashed_names, hashed_words

    columns = getattr(catalogue, f"{side}_columns")
    if name in columns.lists:
        return columns.lists[name]
    if name in columns.words:
        return columns.words[name]
    if (side, name) == ("item", "text"):
        return catalogue.item_text
    if (side, name) == ("item", "topics"):
        hashes = hashed_names(catalogue.names["topics"])
        return Ragged(catalogue.item_topics.offsets, hashes[catalogue.item_topics.values]).sorted_rows()
    words, codes = hashed_words(catalogue.names[f"{side}.{name}"]), getattr(catalogue, f"{side}_codes")[name]
    places, values = words.take(codes)
    return Ragged.group(places, values, len(codes))


def column_vectors(catalogue: Catalogue, path: str, dims: int) -> np.ndarray:
    """float32[n + 1, dims] of a column ("item.text"); zeros where it is unknown, and in the last row.

    Of a text or list a Gaussian random projection of the hashed words or values (Bingham and Mannila, KDD 2001), of
    length 1: it keeps cosines on average and is the same for every dataset, so that an item has its vector from the
    moment it is published. A column of vectors that are longer than `dims` is projected too, others stay as they are.
    """
    from scipy.sparse import csr_array

    side, _, name = path.partition(".")
    if name in getattr(catalogue, f"{side}_columns").vectors:
        vectors = np.nan_to_num(_held(catalogue, side, name))
        if dims < vectors.shape[1]:
            directions = np.random.default_rng(_SEED).standard_normal((vectors.shape[1], dims), np.float32)
            vectors = vectors @ (directions / np.float32(np.sqrt(dims)))
    else:
        words = bag(catalogue, side, name)
        directions = np.random.default_rng(_SEED).standard_normal((TEXT_BUCKETS, dims), np.float32)
        bags = csr_array(
            (np.ones(len(words.values), np.float32), words.values % np.int32(TEXT_BUCKETS), words.offsets),
            shape=(len(words), TEXT_BUCKETS),
        )
        vectors = unit(bags @ directions)
    return np.concatenate([vectors, np.zeros((1, vectors.shape[1]), np.float32)])


def lacks_vector(catalogue: Catalogue, path: str) -> np.ndarray:
    """bool[n + 1] where a column of vectors is unknown, the last for an unknown user or item."""
    side, _, name = path.partition(".")
    return np.append(np.isnan(_held(catalogue, side, name)[:, 0]), True)


def unit(vectors: np.ndarray) -> np.ndarray:
    """float32[n, D] of length 1, zeros where they are zeros."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def interest(view: View, vectors: np.ndarray, item: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """float32[q, dims]: sum of the vectors of the interactions in a view of users' histories.

    item, positive: columns of the log.
    """
    out = np.empty((len(view.time), vectors.shape[1]), np.float32)
    weight = positive.astype(np.float32)
    for d in range(vectors.shape[1]):
        out[:, d] = view.sum(vectors[:, d][item] * weight)
    return out


def match(interests: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Cosine over the last axis; vectors are of length 1 or 0; 0 where either is 0."""
    length = np.linalg.norm(interests, axis=-1)
    shared = np.einsum("...d,...d->...", interests, vectors)
    return np.where(length > 1e-6, shared / np.maximum(length, 1e-6), 0).astype(np.float32)
