"""Items engaged with by the same people as the items of the user's history."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from recsys_cli.arrays import save_arrays
from recsys_cli.data.ragged import expand
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import (
    MaxAge,
    PerState,
    Reason,
    Retriever,
    RetrieverConfig,
    Window,
    chunks,
    eligible,
    read_part,
    topk,
)
from recsys_cli.retrieval.dense import unique_users
from recsys_cli.retrieval.pairs import best_pairs, sum_pairs, without_pairs

CELLS_AT_ONCE = 4_000_000
DENSE_ITEMS = 50_000
"""Up to so many items, scores are summed into full rows; beyond, by sorting the pairs that occur."""


class ItemNeighboursConfig(RetrieverConfig):
    """Item co-occurrence: neighbours of what the user engaged with (Sarwar et al., WWW 2001)."""

    kind: Literal["item_neighbours"] = "item_neighbours"
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    similarity: Literal["cosine", "tfidf", "bm25", "asymmetric"] = "cosine"
    """How co-occurrence is weighted; "asymmetric" divides by |history item|^a · |candidate|^(1 − a)
    (Aiolli, RecSys 2013)."""
    asymmetry: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The a of "asymmetric": 1 is the share of the history item's people who have the candidate too."""
    neighbours: PositiveInt = 100
    """Neighbours kept for each item."""
    history: PositiveInt = 50
    """Latest interactions of the user that are followed."""
    half_life_days: PositiveFloat = 14.0
    """Time after which an interaction of the history counts half."""


class ItemNeighbours(Retriever):
    """score(u, i) = Σ over u's history j of 2^(−time since j / half-life) × similarity(j, i).

    Fitted with `implicit`; serves anybody who has a history, in training or not.
    """

    config_type: ClassVar = ItemNeighboursConfig
    learns: ClassVar = True
    config: ItemNeighboursConfig

    def __init__(self, config: ItemNeighboursConfig):
        super().__init__(config)
        self.ids = np.zeros((0, 0), np.int32)
        """[n_items, K] neighbours, closest first, -1 filler"""
        self.weights = np.zeros((0, 0), np.float32)
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))

    def missing(self, window: Window) -> str | None:
        return None if len(window.interactions[0]) else "needs interactions"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
        from scipy.sparse import csr_matrix

        kinds = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}
        users, items, _ = window.interactions
        n_items = window.catalogue.n_items
        touched = csr_matrix(
            (np.ones(len(users)), (users, items)), shape=(window.catalogue.n_users, n_items), dtype=np.float64
        )
        touched.data[:] = 1
        if self.config.similarity == "asymmetric":
            with progress.step("item neighbours"):
                self._take(self._asymmetric(touched).tocoo(), n_items)
            return
        with progress.step("item neighbours"):
            # one more, since each item is its own closest neighbour
            model = kinds[self.config.similarity](K=min(self.config.neighbours + 1, max(n_items, 1)), num_threads=0)
            if touched.nnz:
                with warnings.catch_warnings():
                    # implicit converts its own weighted matrix and warns of it
                    warnings.filterwarnings("ignore", message="Method expects CSR input")
                    model.fit(touched, show_progress=False)
                self._take(model.similarity.tocoo(), n_items)
            else:
                self.ids, self.weights = np.zeros((n_items, 0), np.int32), np.zeros((n_items, 0), np.float32)

    def _asymmetric(self, touched):
        from recsys_cli.retrieval.graph_filter import co_occurrence, degrees, powered

        count, power = degrees(touched)[1], self.config.asymmetry
        return co_occurrence(
            touched, powered(count, -power), powered(count, power - 1), self.config.neighbours, diagonal=False
        )

    def _take(self, similarity, n_items: int) -> None:
        row, column, value = similarity.row.astype(np.int64), similarity.col, similarity.data
        keep = (row != column) & (value > 0)
        row, column, value = row[keep], column[keep], value[keep]
        order = np.lexsort((column, -value, row))
        width = min(self.config.neighbours, int(np.bincount(row, minlength=1).max()))
        self.ids, self.weights = best_pairs(row[order], column[order], value[order], n_items, width)
        self.weights[self.ids < 0] = 0

    def checkpoint(self) -> dict:
        import torch

        return {"ids": torch.from_numpy(self.ids.copy()), "weights": torch.from_numpy(self.weights.copy())}

    def restore(self, checkpoint: dict) -> None:
        self.ids, self.weights = checkpoint["ids"].numpy(), checkpoint["weights"].numpy()

    def save(self, folder: Path) -> None:
        save_arrays(folder / "neighbours.bin", {"ids": self.ids, "weights": self.weights})

    @classmethod
    def load(cls, config: ItemNeighboursConfig, folder: Path) -> ItemNeighbours:
        out = cls(config)
        arrays, _ = read_part(folder / "neighbours.bin", "ids", "weights")
        out.ids, out.weights = arrays["ids"], arrays["weights"]
        return out

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, n = np.asarray(users), state.catalogue.n_items
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        reach = self.config.history * self.ids.shape[1]
        for part in chunks(np.full(len(users), reach + (n if n <= DENSE_ITEMS else 0) + k), CELLS_AT_ONCE):
            find = self._dense if n <= DENSE_ITEMS else self._sparse
            items[part], scores[part] = find(state, users[part], k)
        return items, scores

    def _dense(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        n = state.catalogue.n_items
        places, items, weights = self._proposals(state, users)
        sums = np.bincount(places * n + items, weights=weights, minlength=len(users) * n)
        sums = sums.astype(np.float32).reshape(len(users), n)
        sums[(sums <= 0) | ~self._eligible(state)] = -np.inf
        return topk(sums, k, state.seen.take(users) if self.config.exclude_seen else None)

    def _sparse(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        places, items, totals = sum_pairs(*self._proposals(state, users), state.catalogue.n_items)
        keep = self._eligible(state)[items]
        places, items, totals = places[keep], items[keep], totals[keep]
        if self.config.exclude_seen:
            places, items, totals = without_pairs(state.seen, users, places, items, totals)
        return best_pairs(places, items, totals, len(users), k)

    def _history(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place, item, weight) of the latest interactions of each user, oldest first."""
        known = np.maximum(users, 0)
        stop = state.history.offsets[known + 1]
        count = np.where(users >= 0, np.minimum(stop - state.history.offsets[known], self.config.history), 0)
        places, items = expand(stop - count, count, state.history.values)
        times = expand(stop - count, count, state.history_time.values)[1]
        inside = items < len(self.ids)
        weights = np.exp2((times[inside] - state.now) / (self.config.half_life_days * DAY))
        return places[inside], items[inside], weights

    def _proposals(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place, item, weight) of every neighbour of every item of the histories."""
        places, items, weights = self._history(state, users)
        ids = self.ids[items]
        held = ids >= 0
        return np.repeat(places, held.sum(axis=1)), ids[held], (self.weights[items] * weights[:, None])[held]

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items, n = np.asarray(items), np.int64(max(state.catalogue.n_items, 1))
        people, at = unique_users(users)
        out = np.zeros(items.shape, np.float32)
        order = np.argsort(at, kind="stable")
        reach = np.full(len(people), self.config.history * self.ids.shape[1] + 1)
        for part in chunks(reach, CELLS_AT_ONCE):
            places, found, totals = sum_pairs(*self._proposals(state, people[part]), int(n))
            if not len(found):
                continue
            keys = places * n + found
            low, high = np.searchsorted(at[order], [part.start, part.stop])
            rows = order[low:high]
            sought = (at[rows] - part.start)[:, None] * n + items[rows]
            near = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
            out[rows] = np.where((keys[near] == sought) & (items[rows] >= 0), totals[near], 0)
        return out

    def similar_items(self, state: State, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The neighbours of each item that may be proposed."""
        items = np.asarray(items)
        places = np.flatnonzero((items >= 0) & (items < len(self.ids)))
        ids, weights = self.ids[items[places]], self.weights[items[places]]
        held = (ids >= 0) & self._eligible(state)[ids]
        return best_pairs(np.repeat(places, held.sum(axis=1)), ids[held], weights[held], len(items), k)

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The item of the history that contributes most."""
        _, history, weights = self._history(state, np.array([user], np.int32))
        ids, strength = self.ids[history], self.weights[history] * weights[:, None]
        reasons = []
        for item in np.asarray(items):
            share = np.where(ids == item, strength, 0).sum(axis=1)
            reasons.append(Reason("similar", int(history[share.argmax()])) if share.any() else Reason("taste"))
        return reasons
