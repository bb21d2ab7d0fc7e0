"""Items whose vectors are near those of what the user engaged with: of texts, or vectors that somebody brought."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.retrieval.base import DescribedArrayRetriever, Window
from recsys_cli.retrieval.content.tokens import Tokens
from recsys_cli.retrieval.history_weighting import HistoryConfig, WeightedHistories
from recsys_cli.retrieval.memo import LastAnswer
from recsys_cli.retrieval.semantic.codes import SemanticIds
from recsys_cli.retrieval.vectors.item_index import ItemIndex
from recsys_cli.retrieval.vectors.products import unit
from recsys_cli.retrieval.vectors.retriever import VectorRetriever

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.progress import Progress

PREFIX = "tokens"


class SemanticConfig(HistoryConfig):
    """Semantic vectors of items: latent semantic analysis of words, topics and attributes (Deerwester et al., JASIS
    1990), a model in a folder, or a column of vectors that the data brings."""

    kind: Literal["semantic"] = "semantic"
    encoder: str = "tfidf"
    """"tfidf": singular vectors of TF-IDF; "hashed": n-grams of words and characters, projected; or a folder with a
    model: model2vec (model.safetensors with `embeddings`, tokenizer.json) or ONNX (model.onnx, tokenizer.json)."""
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
    code_weight: NonNegativeFloat = 0.0
    """How much of an item's vector is what its semantic id stands for, up to 1: items alike move together."""


class Semantic(DescribedArrayRetriever, VectorRetriever):
    """score = cosine of y_i and Σ over the history j of weight of j × y_j, y centred and of length 1.

    With the encoder tfidf or a column of vectors an item can be proposed from the moment it is published; texts of
    other encoders are read in training alone.
    """

    config_type: ClassVar = SemanticConfig
    config: SemanticConfig
    part: ClassVar = "semantic.bin"
    parts: ClassVar = ("vectors", "known", "mean", "books", "codes", "last")

    def __init__(self, config: SemanticConfig):
        super().__init__(config)
        none = np.zeros((0, 1), np.float32)
        books, codes = np.zeros((1, 1, 1), np.float32), np.zeros((0, 1), np.int16)
        self._set({
            "vectors": none, "known": np.zeros(0, bool), "mean": none.sum(axis=0), "books": books, "codes": codes,
            "last": np.zeros(0, np.int32),
        }, {})  # fmt: skip

    def _set(self, arrays: dict[str, np.ndarray], values: dict) -> None:
        self._arrays, self._meta = arrays, values
        self.ids = SemanticIds(arrays["books"], arrays["codes"], arrays["last"])
        self._place(arrays["vectors"], arrays["known"])

    def _place(self, vectors: np.ndarray, known: np.ndarray, previous: ItemIndex | None = None) -> None:
        self._last = LastAnswer()
        self.index = ItemIndex(vectors, known, self.config.max_age_days, previous)

    def _fitted(self) -> tuple[dict[str, np.ndarray], dict]:
        return self._arrays, self._meta

    def missing(self, window: Window) -> str | None:
        catalogue = window.catalogue
        if self.config.column is None and self.config.encoder == "tfidf":
            if not (len(catalogue.item_text.values) or len(catalogue.item_topics.values) or catalogue.item_codes):
                return "needs items with text, topics or attributes"
        elif self.config.column is None and "text" not in window.dataset.items.columns:
            return "needs items with text"
        return super().missing(window)

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        with progress.step("semantic vectors"):
            vectors, known, arrays, meta = self._encoded(window)
            mean = vectors[known].mean(axis=0) if known.any() else np.zeros(vectors.shape[1], np.float32)
            vectors = self._centred(vectors, known, mean)
        with progress.step("semantic ids"):
            config = self.config
            ids = SemanticIds.learn(vectors, known, config.code_levels, config.codes_per_level, window.seed)
            if config.code_weight and known.any():
                vectors[known] = self._blended(vectors[known], ids.codes[known], ids)
        self._set(
            arrays | {"vectors": vectors, "known": known, "mean": mean.astype(np.float32), "books": ids.books,
                      "codes": ids.codes, "last": ids.last}, meta,
        )  # fmt: skip

    def _centred(self, vectors: np.ndarray, known: np.ndarray, mean: np.ndarray) -> np.ndarray:
        out = np.zeros(vectors.shape, np.float32)
        out[known] = unit(vectors[known] - mean)
        return out

    def _blended(self, vectors: np.ndarray, codes: np.ndarray, ids: SemanticIds) -> np.ndarray:
        share = np.float32(min(self.config.code_weight, 1.0))
        return unit((1 - share) * vectors + share * ids.vectors(codes))

    def _encoded(self, window: Window) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict]:
        """(float32[n, D], bool[n] known, arrays and values that new items are encoded with)."""
        catalogue, config = window.catalogue, self.config
        if config.column is not None:
            vectors = self._column(catalogue)
            return np.nan_to_num(vectors), ~np.isnan(vectors).any(axis=1), {}, {}
        if config.encoder == "tfidf":
            return self._latent(catalogue, window.seed)
        from recsys_cli.retrieval.semantic.encoders import encode

        texts = window.dataset.items["text"].to_list()[: catalogue.n_items]
        vectors, known = encode(config.encoder, texts, config.dim, window.seed)
        return vectors, known, {}, {}

    def _column(self, catalogue: Catalogue) -> np.ndarray:
        columns = catalogue.item_columns
        if self.config.column not in columns.vectors:
            told = columns.refused.get(self.config.column, "no such column of vectors")
            known = f"there are: {', '.join(columns.vectors) or 'none'}"
            hint = did_you_mean(self.config.column, columns.vectors, known)
            raise ConfigError(f"semantic: items.{self.config.column}: {told}", hint)
        return columns.vectors[self.config.column]

    def _latent(self, catalogue: Catalogue, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict]:
        from scipy.sparse import csr_matrix
        from sklearn.utils.extmath import randomized_svd

        tokens = Tokens.of_items(catalogue, TEXT_BUCKETS)
        bags = tokens.item_bags(catalogue)
        n, rows = catalogue.n_items, bags.rows
        frequency = np.bincount(rows.values, minlength=tokens.rows)
        scale = self._scale(tokens, frequency, n)
        cells = csr_matrix((bags.weights * scale[rows.values], rows.values, rows.offsets), (n, tokens.rows))
        width = min(self.config.dim, n, tokens.rows)
        right = randomized_svd(cells, width, n_iter=4, random_state=seed & 0x7FFFFFFF)[2]
        table = (right.T * scale[:, None]).astype(np.float32)
        vectors = bags.embed(table)
        arrays, meta = tokens.to_arrays(PREFIX)
        return vectors, np.abs(vectors).sum(axis=1) > 1e-6, arrays | {"table": table}, meta

    def _scale(self, tokens: Tokens, frequency: np.ndarray, n: int) -> np.ndarray:
        """float32[tokens] weights, as the source `content` has them; a token of one item alone has none."""
        idf = np.log((1 + n) / (1 + frequency)) / np.log(2 + n)
        kinds = {"text": self.config.text_weight, "topics": self.config.topic_weight}
        scale = np.zeros(tokens.rows, np.float32)
        for field, first in tokens.layout.items():
            part = slice(first, first + tokens.sizes[field])
            scale[part] = kinds.get(field, self.config.attribute_weight) * (1 if field == "text" else idf[part])
            if field not in kinds:
                scale[part][frequency[part] > n / 4] = scale[first] = 0
            if field.startswith("number/"):
                scale[part] = 0
        scale[frequency < 2] = 0
        return scale

    def adapt(self, catalogue: Catalogue) -> None:
        """Give appended items their vectors, where those do not need their texts as they were written."""
        fitted, a = len(self._arrays["vectors"]), self._arrays
        vectors, known = a["vectors"], a["known"]
        if catalogue.n_items > fitted and (self.config.column is not None or "table" in a):
            if self.config.column is not None:
                more = self._column(catalogue)[fitted:]
                held, more = ~np.isnan(more).any(axis=1), np.nan_to_num(more)
            else:
                more = Tokens.from_arrays(a, self._meta, PREFIX).item_bags(catalogue, fitted).embed(a["table"])
                held = np.abs(more).sum(axis=1) > 1e-6
            more = self._centred(more, held, a["mean"])
            if self.config.code_weight and held.any():
                more[held] = self._blended(more[held], self.ids.encode(more[held]), self.ids)
            vectors, known = np.concatenate([vectors, more]), np.concatenate([known, held])
        self._place(vectors, known, self.index if len(vectors) >= len(self.index.vectors) else None)

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        return self._represent(WeightedHistories.of_state(state, users, self.config.history_weighting))

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        return self._represent(WeightedHistories.of_lists(histories, self.config.history_weighting))[0]

    def _represent(self, histories: WeightedHistories) -> tuple[np.ndarray, np.ndarray]:
        known = histories.known(self.index.known)
        out = unit(known.sums(self.index.vectors))
        return out, (known.items.lengths > 0) & (out != 0).any(axis=1)
