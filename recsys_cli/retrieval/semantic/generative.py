"""The next item, told code by code: a generative retriever over semantic ids."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import expand
from recsys_cli.retrieval.base import DescribedArrayRetriever, Window
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.pairs import best_pairs
from recsys_cli.retrieval.semantic.code_tree import CodeTree
from recsys_cli.retrieval.semantic.generative_config import GenerativeConfig
from recsys_cli.retrieval.semantic.item_vectors import item_vectors, lacking, later_vectors
from recsys_cli.retrieval.vectors.products import product
from recsys_cli.semantic_ids import SemanticIds

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.progress import Progress

USERS_AT_ONCE = 64


class Generative(DescribedArrayRetriever):
    """score = Σ over levels l of ln P(c_l | history, c_1 … c_l−1), and ln of the item's share of those with its codes.

    Ids are followed from code to code by beam search among those that items have, so that every id found is an item.
    An item that nobody has turned to has codes too, and with the encoder tfidf or a column of vectors also one that is
    published after training.
    """

    config_type: ClassVar = GenerativeConfig
    config: GenerativeConfig
    learns: ClassVar[bool] = True
    part: ClassVar = "generative.bin"
    parts: ClassVar = ("mean", "books", "codes", "last", "counts", "embedding", "read.weight_ih", "tell.0.out.weight")

    def __init__(self, config: GenerativeConfig):
        super().__init__(config)
        self._arrays: dict[str, np.ndarray] = {}
        self._meta: dict = {}
        self._tree: CodeTree | None = None
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))

    def missing(self, window: Window) -> str | None:
        return lacking(self.config, window) or (None if len(window.interactions[0]) else "needs interactions")

    def _fitted(self) -> tuple[dict[str, np.ndarray], dict]:
        return self._arrays, self._meta

    def _set(self, arrays: dict[str, np.ndarray], values: dict) -> None:
        self._arrays, self._meta = arrays, values
        self._grow(arrays["codes"], arrays["counts"])

    def _grow(self, codes: np.ndarray, counts: np.ndarray) -> None:
        self.ids = SemanticIds(self._arrays["books"], codes, self._arrays["last"])
        self._tree = CodeTree.of(codes, counts, self._arrays["embedding"])

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from recsys_cli.retrieval.semantic.generative_training import train_generative

        config = self.config
        with progress.step("semantic ids"):
            made = item_vectors(config, window)
            width = config.codes_per_level
            ids = SemanticIds.learn(made.vectors, made.known, config.code_levels, width, window.seed)
        users, items, _ = window.interactions
        counts = np.bincount(items, minlength=len(ids.codes)).astype(np.float32)
        network = train_generative(config, ids.codes, users, items, window, progress)
        arrays = {"books": ids.books, "codes": ids.codes, "last": ids.last, "counts": counts}
        self._set(made.arrays | arrays | network, made.meta)

    def adapt(self, catalogue: Catalogue) -> None:
        """Give appended items their codes, where those do not need their texts as they were written."""
        codes, counts = self._arrays["codes"], self._arrays["counts"]
        fitted = len(codes)
        later = None
        if catalogue.n_items > fitted:
            later = later_vectors(self.config, catalogue, fitted, self._arrays, self._meta)
        if later is not None:
            vectors, known = later
            more = np.full((len(vectors), codes.shape[1]), -1, np.int16)
            more[known] = self.ids.encode(vectors[known])
            codes, counts = np.concatenate([codes, more]), np.append(counts, np.zeros(len(more), np.float32))
        self._grow(codes, counts)

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users, np.int32)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        for start in range(0, len(users), USERS_AT_ONCE):
            part = slice(start, start + USERS_AT_ONCE)
            summary, known = self._read(state, users[part])
            rows = np.flatnonzero(known)
            if not len(rows):
                continue
            place, found, score = self._tell(summary[rows], k)
            keep = found < state.catalogue.n_items
            keep[keep] = self._eligible(state)[found[keep]]
            place, found, score = rows[place[keep]], found[keep], score[keep]
            if self.config.exclude_seen:
                new = ~state.seen.contains(users[part][place], found[:, None])[:, 0] if len(found) else keep[:0]
                place, found, score = place[new], found[new], score[new]
            items[part], scores[part] = best_pairs(place, found, score, len(users[part]), k)
        return items, scores

    def _read(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(float32[B, H] what the network makes of each history, bool[B] whether there is any)."""
        a, length = self._arrays, self.config.history
        person = np.maximum(users, 0)
        stop = state.history.offsets[person + 1]
        count = np.where(users >= 0, np.minimum(stop - state.history.offsets[person], length), 0)
        places, items = expand(stop - count, count, state.history.values)
        codes = np.full((len(self.ids.codes) + 1, self.ids.codes.shape[1]), -1, np.int16)
        codes[:-1] = self.ids.codes
        held = codes[np.minimum(items, len(codes) - 1)]
        places, held = places[held[:, 0] >= 0], held[held[:, 0] >= 0]
        lengths = np.bincount(places, minlength=len(users))
        at = np.arange(len(places)) - (np.cumsum(lengths) - lengths)[places]
        inputs = np.zeros((len(users), int(lengths.max(initial=0)), a["embedding"].shape[2]), np.float32)
        inputs[places, at] = sum(a["embedding"][level][held[:, level]] for level in range(held.shape[1]))
        state_of = np.zeros((len(users), self.config.hidden), np.float32)
        for step in range(inputs.shape[1]):
            fresh = _gated(inputs[:, step], state_of, a)
            state_of = np.where((step < lengths)[:, None], fresh, state_of)
        return state_of, lengths > 0

    def _tell(self, summary: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, item, score) of the items that beam search comes to."""
        a, tree, beams = self._arrays, self._tree, self.config.beams + k
        rows, node = np.arange(len(summary)), np.zeros(len(summary), np.int64)
        score = np.zeros(len(summary), np.float32)
        for level in range(tree.levels):
            first = product(summary, a[f"tell.{level}.history.weight"].T) + a[f"tell.{level}.history.bias"]
            before = product(tree.sums[level], a[f"tell.{level}.codes.weight"].T)
            hidden = np.maximum(first[rows] + before[node], 0)
            logits = product(hidden, a[f"tell.{level}.out.weight"].T) + a[f"tell.{level}.out.bias"]
            logits -= logits.max(axis=1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            at, child = tree.below(level, node)
            score = score[at] + logits[at, tree.code[level][child]]
            rows, node = rows[at], child
            if level < tree.levels - 1 and len(rows) > beams:
                kept, told = best_pairs(rows, node.astype(np.int32), score, len(summary), beams)
                rows, column = np.nonzero(kept >= 0)
                node, score = kept[rows, column].astype(np.int64), told[rows, column]
        at, item = tree.items_of(node)
        return rows[at], item, score[at] + tree.share[item]


def _gated(x: np.ndarray, h: np.ndarray, a: dict[str, np.ndarray]) -> np.ndarray:
    """One step of a gated recurrent unit (Cho et al., EMNLP 2014), as torch's GRUCell counts its gates."""
    given = product(x, a["read.weight_ih"].T) + a["read.bias_ih"]
    held = product(h, a["read.weight_hh"].T) + a["read.bias_hh"]
    reset_x, update_x, new_x = np.split(given, 3, axis=1)
    reset_h, update_h, new_h = np.split(held, 3, axis=1)
    reset, update = 1 / (1 + np.exp(-(reset_x + reset_h))), 1 / (1 + np.exp(-(update_x + update_h)))
    return (1 - update) * np.tanh(new_x + reset * new_h) + update * h
