"""LightGCN: embeddings smoothed over the user–item graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.parallel import train_on
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import ArrayRetriever, Window
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.embeddings.lightgcn_config import LightGcnConfig
from recsys_cli.retrieval.history_weighting import WeightedHistories
from recsys_cli.retrieval.vectors.item_index import ItemIndex
from recsys_cli.retrieval.vectors.retriever import VectorRetriever

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 200_000


class LightGcn(ArrayRetriever, VectorRetriever):
    """score = x_u · y_i, of unit length both where trained by softmax.

    Final embeddings are the mean over layers, each layer the neighbours' of the one before, weighed by
    1 / √(degree × degree). A user's vector takes the history as of the State: what the items spread to the user is
    computed anew, which gives the vector of the fit for the history of the fit, follows new interactions, and folds
    in people who were not in training.
    """

    config_type: ClassVar = LightGcnConfig
    part: ClassVar = "lightgcn.bin"
    parts: ClassVar = ("items", "known", "adds", "own")
    config: LightGcnConfig

    def __init__(self, config: LightGcnConfig):
        super().__init__(config)
        none = np.zeros((0, config.dim), np.float32)
        self._set({"items": none, "known": np.zeros(0, bool), "adds": none, "own": none})

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.index = ItemIndex(arrays["items"], arrays["known"], self.config.max_age_days)

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        n_users, n_items = window.catalogue.n_users, window.catalogue.n_items
        if not len(window.interactions[0]):
            self._set(
                {
                    **self._arrays,
                    "items": np.zeros((n_items, self.config.dim), np.float32),
                    "known": np.zeros(n_items, bool),
                }
            )
            return
        from recsys_cli.retrieval.embeddings.lightgcn_trainer import LightGcnTrainer
        from recsys_cli.retrieval.epochs import digest, run_epochs

        users, items, _ = window.interactions
        edges = Ragged.group(users, items, n_users).sorted_rows()
        users, items = edges.rows.astype(np.int64), edges.values.astype(np.int64)
        key = f"{self.config.model_dump_json()} {window.seed} {window.end} {digest(users, items)}"

        def train(device: torch.device, parts: int) -> LightGcnTrainer:
            config = self.config.model_copy(update={"batch_size": -(-self.config.batch_size // parts)})
            trainer = LightGcnTrainer(config, window.seed, users, items, n_users, n_items, device)
            run_epochs(trainer, "lightgcn", config.epochs, window.seed, progress, resume, f"{key} {parts}")
            return trainer

        trainer = train_on(window.device, "lightgcn", progress, train)
        final, adds, own = trainer.export()
        known = np.bincount(items, minlength=n_items) > 0
        final[~known] = adds[~known] = 0
        own[np.bincount(users, minlength=n_users) == 0] = 0
        self._set({"items": self._scaled(final), "known": known, "adds": adds, "own": own})

    def _scaled(self, vectors: np.ndarray) -> np.ndarray:
        if self.config.loss == "bpr":
            return vectors.astype(np.float32)
        return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    def _spread(self, histories: WeightedHistories, own: np.ndarray) -> np.ndarray:
        """float32[B, D] own + Σ weight × adds / √Σ weight², of histories whose items are known."""
        return self._scaled(own + histories.sums(self._arrays["adds"]) / histories.scale[:, None])

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] vectors and bool[B], False where the user has no history of known items."""
        users, own = np.asarray(users), self._arrays["own"]
        out, known = np.zeros((len(users), self.config.dim), np.float32), np.zeros(len(users), bool)
        for part in chunks(np.full(len(users), 64), ROWS_AT_ONCE):
            people = users[part]
            histories = WeightedHistories.of_state(state, people, self.config.history_weighting)
            histories = histories.known(self._arrays["known"])
            inside = (people >= 0) & (people < len(own))
            base = np.zeros((len(people), self.config.dim), np.float32)
            base[inside] = own[people[inside]]
            out[part] = self._spread(histories, base)
            known[part] = histories.items.lengths > 0
        out[~known] = 0
        return out, known

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """What the items of each history spread to somebody new."""
        rows = WeightedHistories.of_lists(histories, self.config.history_weighting).known(self._arrays["known"])
        return self._spread(rows, np.zeros((len(rows), self.config.dim), np.float32))
