"""The vectors of items, from texts, attributes or a column that the data brings; and those of items that come later."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.content.tokens import Tokens
from recsys_cli.retrieval.vectors.products import unit

PREFIX = "tokens"


class ItemVectorConfig(RetrieverConfig):
    """Where the vectors of items come from, and how they become semantic ids."""

    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    encoder: str = "tfidf"
    """"tfidf": singular vectors of TF-IDF (latent semantic analysis: Deerwester et al., JASIS 1990); "hashed": n-grams
    of words and characters, projected; or a folder with a model: model2vec (model.safetensors with `embeddings`,
    tokenizer.json) or ONNX (model.onnx, tokenizer.json)."""
    column: str | None = None
    """Column of items that holds vectors, as of pictures or sound, instead of what the encoder would make."""
    dim: PositiveInt = 128
    """Width of the vectors of tfidf and hashed."""
    text_weight: NonNegativeFloat = 1.0
    """tfidf: weight of the words."""
    topic_weight: NonNegativeFloat = 1.0
    """tfidf: weight of the topics."""
    attribute_weight: NonNegativeFloat = 0.5
    """tfidf: weight of the author and of categories."""
    code_levels: PositiveInt = 3
    """Length of an item's semantic id."""
    codes_per_level: PositiveInt = 256
    """Different codes at each place of it."""


@dataclass(frozen=True)
class ItemVectors:
    """Centred vectors of length 1."""

    vectors: np.ndarray
    """float32[n, D]"""
    known: np.ndarray
    """bool[n]"""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """what vectors of items that come later are made with, "mean" among them"""
    meta: dict = field(default_factory=dict)


def lacking(config: ItemVectorConfig, window: Window) -> str | None:
    """What the data lacks for such vectors; None where it has it."""
    catalogue = window.catalogue
    if config.column is None and config.encoder == "tfidf":
        if not (len(catalogue.item_text.values) or len(catalogue.item_topics.values) or catalogue.item_codes):
            return "needs items with text, topics or attributes"
    elif config.column is None and "text" not in window.dataset.items.columns:
        return "needs items with text"
    return None


def item_vectors(config: ItemVectorConfig, window: Window) -> ItemVectors:
    """Vectors of the catalogue's items; raises ConfigError for an encoder or a column that is none."""
    catalogue, arrays, meta = window.catalogue, {}, {}
    if config.column is not None:
        brought = _column(config, catalogue)
        vectors, known = np.nan_to_num(brought), ~np.isnan(brought).any(axis=1)
    elif config.encoder == "tfidf":
        vectors, known, arrays, meta = _latent(config, catalogue, window.seed)
    else:
        from recsys_cli.retrieval.semantic.encoders import encode

        texts = window.dataset.items["text"].to_list()[: catalogue.n_items]
        vectors, known = encode(config.encoder, texts, config.dim, window.seed)
    mean = vectors[known].mean(axis=0) if known.any() else np.zeros(vectors.shape[1])
    mean = mean.astype(np.float32)
    return ItemVectors(_centred(vectors, known, mean), known, arrays | {"mean": mean}, meta)


def later_vectors(
    config: ItemVectorConfig, catalogue: Catalogue, fitted: int, arrays: dict[str, np.ndarray], meta: dict
) -> tuple[np.ndarray, np.ndarray] | None:
    """(float32[m, D], bool[m] known) of the items behind the first `fitted`; None where they have to wait for the next
    training, since their texts are not kept as they were written."""
    if config.column is not None:
        more = _column(config, catalogue)[fitted:]
        known, more = ~np.isnan(more).any(axis=1), np.nan_to_num(more)
    elif "table" in arrays:
        more = Tokens.from_arrays(arrays, meta, PREFIX).item_bags(catalogue, fitted).embed(arrays["table"])
        known = np.abs(more).sum(axis=1) > 1e-6
    else:
        return None
    return _centred(more, known, arrays["mean"]), known


def _centred(vectors: np.ndarray, known: np.ndarray, mean: np.ndarray) -> np.ndarray:
    out = np.zeros(vectors.shape, np.float32)
    out[known] = unit(vectors[known] - mean)
    return out


def _column(config: ItemVectorConfig, catalogue: Catalogue) -> np.ndarray:
    columns = catalogue.item_columns
    if config.column not in columns.vectors:
        told = columns.refused.get(config.column, "no such column of vectors")
        known = f"there are: {', '.join(columns.vectors) or 'none'}"
        hint = did_you_mean(config.column, columns.vectors, known)
        raise ConfigError(f"semantic: items.{config.column}: {told}", hint)
    return columns.vectors[config.column]


def _latent(
    config: ItemVectorConfig, catalogue: Catalogue, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict]:
    from scipy.sparse import csr_matrix
    from sklearn.utils.extmath import randomized_svd

    tokens = Tokens.of_items(catalogue, TEXT_BUCKETS)
    bags = tokens.item_bags(catalogue)
    n, rows = catalogue.n_items, bags.rows
    frequency = np.bincount(rows.values, minlength=tokens.rows)
    scale = tokens.scale(
        frequency, n, text=config.text_weight, topics=config.topic_weight, attributes=config.attribute_weight
    )
    cells = csr_matrix((bags.weights * scale[rows.values], rows.values, rows.offsets), (n, tokens.rows))
    width = min(config.dim, n, tokens.rows)
    right = randomized_svd(cells, width, n_iter=4, random_state=seed & 0x7FFFFFFF)[2]
    table = (right.T * scale[:, None]).astype(np.float32)
    vectors = bags.embed(table)
    arrays, meta = tokens.to_arrays(PREFIX)
    return vectors, np.abs(vectors).sum(axis=1) > 1e-6, arrays | {"table": table}, meta
