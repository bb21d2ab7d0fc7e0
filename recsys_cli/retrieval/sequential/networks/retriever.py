"""Sequential sources: what a user does next, from the order of what the user did (GRU4Rec, SASRec, BERT4Rec)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.data.ragged import Ragged, ragged_of
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import DescribedArrayRetriever, Window
from recsys_cli.retrieval.batches import unique_users
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.pairs import find_pairs
from recsys_cli.retrieval.sequential.networks.config import (
    Bert4RecConfig,
    Gru4RecConfig,
    SasRecConfig,
    SequentialConfig,
)
from recsys_cli.retrieval.sequential.networks.encoder import SequenceEncoder, action_flags, gap_codes
from recsys_cli.retrieval.topk import topk
from recsys_cli.retrieval.vectors.item_index import ItemIndex
from recsys_cli.retrieval.vectors.retriever import VectorRetriever

if TYPE_CHECKING:
    import torch

USERS_AT_ONCE = 256


class Sequential(DescribedArrayRetriever, VectorRetriever):
    """score = h(history) · e_item, plus `repeats` where the item is in the history.

    h is read from the State's history, so new events count at once and people who were not in training are served;
    e is the embedding with which items enter the network too. Several members lie side by side in one space.
    """

    part: ClassVar = "sequential.bin"
    parts: ClassVar = ("items", "known", "hidden_item", "graph")
    config: SequentialConfig

    def __init__(self, config: SequentialConfig):
        super().__init__(config)
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))
        self._set({"items": np.zeros((0, config.dim * config.members), np.float32), "known": np.zeros(0, bool),
                   "hidden_item": np.zeros(0, np.float32), "graph": np.zeros(0, np.uint8)},
                  {"actions": 0, "gaps": False, "repeats": 0.0})

    def _set(self, arrays: dict[str, np.ndarray], meta: dict) -> None:
        self._arrays, self._meta = arrays, meta
        self.index = ItemIndex(arrays["items"], arrays["known"], self.config.max_age_days)
        self._encoder = SequenceEncoder(arrays, meta, self.config.history)

    def missing(self, window: Window) -> str | None:
        users = window.interactions[0]
        if not len(users):
            return "needs interactions"
        return None if np.bincount(users).max() > 1 else "needs people with more than one interaction"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        n_items = window.catalogue.n_items
        users, items, times = window.interactions
        known = np.bincount(items, minlength=n_items) > 0
        arrays = {**self._arrays, "items": np.zeros((n_items, self.config.dim * self.config.members), np.float32)}
        if not len(items):
            self._set({**arrays, "known": known}, self._meta)
            return
        from recsys_cli.parallel import torch_threads, train_on
        from recsys_cli.retrieval.epochs import digest, run_epochs
        from recsys_cli.retrieval.sequential.networks.trainer import MembersTrainer, Sequences

        # people one after the other, each one's events in the order of time
        order = np.argsort(users, kind="stable")
        flags = window.log.action_bits[np.flatnonzero(window.log.positive)][order]
        data = Sequences.of(
            Ragged.group(users, (np.cumsum(known) * known)[items], window.catalogue.n_users), times[order], flags,
            len(window.log.positive_actions), self.config,
        )
        key = f"{self.config.model_dump_json()} {window.seed} {window.end} {digest(users, items, times)}"

        def train(device: torch.device, parts: int) -> MembersTrainer:
            config = self.config.model_copy(update={"batch_size": -(-self.config.batch_size // parts)})
            trainer = MembersTrainer(config, window.seed, data, device)
            run_epochs(
                trainer, config.kind, trainer.epochs, window.seed, progress, resume, f"{key} {parts}"
            )
            return trainer

        with torch_threads(1):
            trainer = train_on(window.device, self.config.kind, progress, train)
            vectors, hidden_item, graph = trainer.export()
        arrays["items"][known] = vectors
        meta = {"actions": data.actions.shape[1], "gaps": data.gaps is not None, "repeats": data.repeats}
        self._set({**arrays, "known": known, "hidden_item": hidden_item, "graph": graph}, meta)

    def _fitted(self) -> tuple[dict[str, np.ndarray], dict]:
        return self._arrays, self._meta

    @classmethod
    def load(cls, config: SequentialConfig, folder: Path) -> Sequential:
        out = super().load(config, folder)
        # now rather than at the first request, which would wait for it
        out._encoder.open()
        return out

    def _events(self, state: State, users: np.ndarray) -> tuple[Ragged, np.ndarray, np.ndarray]:
        """Known items by place in `users`, with the flags of their actions and their times."""
        places, items = state.history.take(users)
        times = state.history_time.take(users)[1]
        kept = state.history_actions
        bits = np.zeros(len(items), np.uint32) if kept is None else kept.take(users)[1]
        held = self._held(items)
        return Ragged.group(places[held], items[held], len(users)), bits[held], times[held]

    def _held(self, items: np.ndarray) -> np.ndarray:
        """bool[m]: items that the network knows."""
        held = (items >= 0) & (items < len(self.index.known))
        held[held] = self.index.known[items[held]]
        return held

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] vectors and bool[B], False where the user has no history of known items."""
        histories, bits, times = self._events(state, np.asarray(users))
        return self._encoder(histories, action_flags(bits, self._meta["actions"]), gap_codes(histories.offsets, times))

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """Vectors of people of whom a list of items is known, but not when and how they touched them; items that the
        network does not know are left out."""
        rows = ragged_of(histories)
        held = self._held(rows.values)
        rows = Ragged.group(rows.rows[held], rows.values[held], len(rows))
        return self._encoder(rows, action_flags(np.zeros(len(rows.values), np.uint32), self._meta["actions"]),
                             np.zeros(len(rows.values), np.int64))[0]

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        if self.config.exclude_seen or not self._meta["repeats"]:
            # histories are among what was seen: no item of them is left to be lifted
            return super().retrieve(state, users, k)
        vectors, known = self.vectors(state, users)
        out, scores = np.empty((len(users), k), np.int32), np.empty((len(users), k), np.float32)
        lengths = np.where(users >= 0, state.history.lengths[np.maximum(users, 0)], 0)
        # people with histories of like length together: each list is made longer by the longest
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(users), USERS_AT_ONCE):
            at = order[start : start + USERS_AT_ONCE]
            out[at], scores[at] = self._with_repeats(state, users[at], vectors[at], known[at], k)
        return out, scores

    def _with_repeats(self, state: State, users: np.ndarray, vectors: np.ndarray, known: np.ndarray, k: int):
        """Best items where those of the history are lifted: the best of the others, and the history's own."""
        histories = self._events(state, users)[0].sorted_rows()
        width = int(histories.lengths.max(initial=0))
        items, scores = self.index.search(state, users, vectors, known, k + width, False)
        places = np.arange(len(users))
        scores[histories.contains(places, items)] = -np.inf
        own = histories.last(places, width)
        lifted = self.index.pair_products(places, vectors, known, own) + np.float32(self._meta["repeats"])
        lifted[(own < 0) | ~self._eligible(state)[np.maximum(own, 0)]] = -np.inf
        items, scores = np.concatenate([items, own], axis=1), np.concatenate([scores, lifted], axis=1)
        column, best = topk(scores, k)
        return np.where(column >= 0, np.take_along_axis(items, np.maximum(column, 0), axis=1), -1), best

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items = np.asarray(items)
        out = super().score(state, users, items)
        if self._meta["repeats"]:
            people, at = unique_users(users)
            histories = self._events(state, people)[0].sorted_rows()
            flat = items.ravel()
            held = find_pairs(histories, np.arange(len(people)), np.repeat(at, items.shape[1]), flat)[0]
            out[(held & (flat >= 0)).reshape(items.shape)] += np.float32(self._meta["repeats"])
        return out


class SasRec(Sequential):
    """SASRec."""

    config_type: ClassVar = SasRecConfig


class Bert4Rec(Sequential):
    """BERT4Rec."""

    config_type: ClassVar = Bert4RecConfig


class Gru4Rec(Sequential):
    """GRU4Rec."""

    config_type: ClassVar = Gru4RecConfig
