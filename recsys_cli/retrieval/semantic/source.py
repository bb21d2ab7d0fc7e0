"""Items whose vectors are near those of what the user engaged with: of texts, or vectors that somebody brought."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.retrieval.base import DescribedArrayRetriever, Window
from recsys_cli.retrieval.history_weighting import HistoryConfig, WeightedHistories
from recsys_cli.retrieval.memo import LastAnswer
from recsys_cli.retrieval.semantic.item_vectors import ItemVectorConfig, item_vectors, lacking, later_vectors
from recsys_cli.retrieval.vectors.item_index import ItemIndex
from recsys_cli.retrieval.vectors.products import unit
from recsys_cli.retrieval.vectors.retriever import VectorRetriever
from recsys_cli.semantic_ids import SemanticIds

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.progress import Progress


class SemanticConfig(ItemVectorConfig, HistoryConfig):
    """Items whose semantic vectors are near those of what the user engaged with."""

    kind: Literal["semantic"] = "semantic"
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
        return lacking(self.config, window) or super().missing(window)

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        config = self.config
        with progress.step("semantic vectors"):
            made = item_vectors(config, window)
        vectors, known = made.vectors, made.known
        with progress.step("semantic ids"):
            ids = SemanticIds.learn(vectors, known, config.code_levels, config.codes_per_level, window.seed)
            if config.code_weight and known.any():
                vectors[known] = self._blended(vectors[known], ids.codes[known], ids)
        codes = {"books": ids.books, "codes": ids.codes, "last": ids.last}
        self._set(made.arrays | codes | {"vectors": vectors, "known": known}, made.meta)

    def _blended(self, vectors: np.ndarray, codes: np.ndarray, ids: SemanticIds) -> np.ndarray:
        share = np.float32(min(self.config.code_weight, 1.0))
        return unit((1 - share) * vectors + share * ids.vectors(codes))

    def adapt(self, catalogue: Catalogue) -> None:
        """Give appended items their vectors, where those do not need their texts as they were written."""
        fitted, a = len(self._arrays["vectors"]), self._arrays
        vectors, known = a["vectors"], a["known"]
        later = later_vectors(self.config, catalogue, fitted, a, self._meta) if catalogue.n_items > fitted else None
        if later is not None:
            more, held = later
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
