"""Items' words as a short vector, and how close they are to what a user engaged with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.history import View
from recsys_cli.features.spec import Feature

SOURCE = "text"
_SEED = 20_031


def define_text(config: FeatureConfig, catalogue: Catalogue) -> Iterator[Feature]:
    """Where items have text."""
    if not config.text_dims or not len(catalogue.item_text.values):
        return
    for d in range(config.text_dims):
        yield Feature(
            f"item_text_{d + 1}", "item", "item", SOURCE, "vector", "the item's words",
            f"number {d + 1} of the words' random projection to {config.text_dims} numbers, of length 1", span=d,
        )
    yield Feature(
        "text_match", "pair", "pair", SOURCE, "match", "likeness of the item's words to what the user engaged with",
        "cosine of the item's text vector and the sum of those of the user's interactions",
    )


def text_vectors(catalogue: Catalogue, dims: int) -> np.ndarray:
    """float32[n_items, dims] of length 1, zeros without text.

    A Gaussian random projection of the hashed words (Bingham and Mannila, KDD 2001): it keeps cosines on average and
    is the same for every dataset, so that an item has its vector from the moment it is published.
    """
    from scipy.sparse import csr_array

    words = catalogue.item_text
    directions = np.random.default_rng(_SEED).standard_normal((TEXT_BUCKETS, dims), np.float32)
    bags = csr_array(
        (np.ones(len(words.values), np.float32), words.values, words.offsets), shape=(len(words), TEXT_BUCKETS)
    )
    vectors = bags @ directions
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
