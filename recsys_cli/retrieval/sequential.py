"""Sequential sources: what a user does next, from the order of what the user did (GRU4Rec, SASRec, BERT4Rec)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from recsys_cli.arrays import save_arrays
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import (
    MaxAge,
    PerState,
    Reason,
    Retriever,
    RetrieverConfig,
    Window,
    eligible,
    read_part,
    topk,
)
from recsys_cli.retrieval.dense import ItemIndex, ragged_of, unique_users
from recsys_cli.retrieval.pairs import find_pairs
from recsys_cli.retrieval.sequence_encoder import SequenceEncoder, action_flags, gap_codes

PART = "sequential.bin"
USERS_AT_ONCE = 256
_ARRAYS = ("items", "known", "hidden_item", "graph")


class SequentialConfig(RetrieverConfig):
    """What all sequential sources have."""

    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    dim: PositiveInt = 64
    """Width of the embeddings; items share theirs between what goes in and what comes out."""
    layers: PositiveInt = 2
    """Layers of the network, one upon the other."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the activations hidden in training, in whole 256ths."""
    history: PositiveInt = 50
    """Latest events of a user that the network sees."""
    loss: Literal["softmax", "sampled_softmax", "gbce"] = "softmax"
    """Softmax over all items, over the target and `negatives` others, or gBCE (Petrov and Macdonald, RecSys 2023)."""
    negatives: PositiveInt = 256
    """Items drawn evenly for every 128 events, which these are set against, where not all items are."""
    calibration: Annotated[float, Field(ge=0, le=1)] = 0.75
    """t of gBCE: 0 is plain binary cross-entropy, 1 makes up for the sampling in full."""
    actions: bool = True
    """Add an embedding of what the user did with each item, where the data has several positive actions."""
    time_gaps: bool = True
    """Add an embedding of the time since the event before, where the data has times that differ."""
    repeats: bool = True
    """Add to the score of the items of the user's history how much likelier (or less likely) than by their share of
    all events people came back to theirs, counted in training."""
    members: PositiveInt = 1
    """Networks trained from different seeds, whose scores are averaged."""
    epochs: PositiveInt = 6
    """Passes over the events."""
    batch_size: PositiveInt = 4096
    """Events in a step, those that fill rows up included."""
    learning_rate: PositiveFloat = 0.002
    """Step size of AdamW; it rises over the first twentieth of the training and then falls to 0."""
    weight_decay: NonNegativeFloat = 0.01
    """Share of the weights, times the step size, taken off at each step."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the products in training; bfloat16 is several times faster on a CPU that has it."""


class _AttentionConfig(SequentialConfig):
    heads: PositiveInt = 2
    """Parts of the embedding that attend on their own."""
    widening: PositiveInt = 2
    """Width of the hidden layer of the pointwise networks, in widths of the embedding."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self):
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is no multiple of heads {self.heads}")
        return self


class SasRecConfig(_AttentionConfig):
    """SASRec: self-attention over the past (Kang and McAuley, ICDM 2018)."""

    kind: Literal["sasrec"] = "sasrec"


class Bert4RecConfig(_AttentionConfig):
    """BERT4Rec: attention both ways, trained to fill in hidden events (Sun et al., CIKM 2019)."""

    kind: Literal["bert4rec"] = "bert4rec"
    hidden_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the events that are hidden and to be found."""
    last_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the rows in which the last event alone is hidden, as when served."""


class Gru4RecConfig(SequentialConfig):
    """GRU4Rec: gated recurrent units over the events (Hidasi et al., ICLR 2016)."""

    kind: Literal["gru4rec"] = "gru4rec"
    layers: PositiveInt = 1
    """Layers of the network, one upon the other."""
    hidden: PositiveInt = 128
    """Width of the recurrent state."""


class Sequential(Retriever):
    """score = h(history) · e_item, plus `repeats` where the item is in the history.

    h is read from the State's history, so new events count at once and people who were not in training are served;
    e is the embedding with which items enter the network too. Several members lie side by side in one space.
    """

    learns: ClassVar = True
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
        from recsys_cli.parallel import torch_threads
        from recsys_cli.retrieval.epochs import digest, run_epochs
        from recsys_cli.retrieval.sequence_trainer import MembersTrainer, Sequences

        # people one after the other, each one's events in the order of time
        order = np.argsort(users, kind="stable")
        flags = window.log.action_bits[np.flatnonzero(window.log.positive)][order]
        data = Sequences.of(
            Ragged.group(users, (np.cumsum(known) * known)[items], window.catalogue.n_users), times[order], flags,
            len(window.log.positive_actions), self.config,
        )
        trainer = MembersTrainer(self.config, window.seed, data)
        key = f"{self.config.model_dump_json()} {window.seed} {window.end} {digest(users, items, times)}"
        with torch_threads(1):
            run_epochs(trainer, self.config.kind, trainer.epochs, window.seed, progress, resume, key)
            vectors, hidden_item, graph = trainer.export()
        arrays["items"][known] = vectors
        meta = {"actions": data.actions.shape[1], "gaps": data.gaps is not None, "repeats": data.repeats}
        self._set({**arrays, "known": known, "hidden_item": hidden_item, "graph": graph}, meta)

    def checkpoint(self) -> dict:
        import torch

        return {"arrays": {n: torch.from_numpy(np.array(a)) for n, a in self._arrays.items()}, "meta": self._meta}

    def restore(self, checkpoint: dict) -> None:
        self._set({n: t.numpy() for n, t in checkpoint["arrays"].items()}, checkpoint["meta"])

    def save(self, folder: Path) -> None:
        save_arrays(folder / PART, self._arrays, self._meta)

    @classmethod
    def load(cls, config: SequentialConfig, folder: Path) -> Sequential:
        out = cls(config)
        out._set(*read_part(folder / PART, *_ARRAYS))
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
        vectors, known = self.vectors(state, users)
        if self.config.exclude_seen or not self._meta["repeats"]:
            # histories are among what was seen: no item of them is left to be lifted
            return self.index.search(state, users, vectors, known, k, self.config.exclude_seen)
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
        people, at = unique_users(users)
        vectors, known = self.vectors(state, people)
        out = self.index.pair_products(at, vectors, known, items)
        if self._meta["repeats"]:
            histories = self._events(state, people)[0].sorted_rows()
            flat = items.ravel()
            held = find_pairs(histories, np.arange(len(people)), np.repeat(at, items.shape[1]), flat)[0]
            out[(held & (flat >= 0)).reshape(items.shape)] += np.float32(self._meta["repeats"])
        return out

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        return self.index.nearest_in_history(state, user, items, at_least=0.5)


class SasRec(Sequential):
    """SASRec."""

    config_type: ClassVar = SasRecConfig


class Bert4Rec(Sequential):
    """BERT4Rec."""

    config_type: ClassVar = Bert4RecConfig


class Gru4Rec(Sequential):
    """GRU4Rec."""

    config_type: ClassVar = Gru4RecConfig
