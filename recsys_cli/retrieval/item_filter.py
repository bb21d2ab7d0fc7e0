"""What filters of the history share: an item-by-item map, part sparse and part of low rank, and its serving."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.arrays import save_arrays
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import (
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
from recsys_cli.retrieval.dense import product, ragged_of, unique_users

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CELLS_AT_ONCE = 4_000_000
PARTS = ("offsets", "columns", "weights", "query", "answer", "known")


@dataclass(frozen=True)
class ItemMap:
    """B = S + Q·Aᵀ over n items: what each item of a history adds to the score of every item.

    S is kept in compressed rows, one a history item: `offsets` int64[n + 1], `columns` int32[m] ascending within a
    row, `weights` float32[m]. Q and A are `query` and `answer`, float32[n, D], D possibly 0. `known` bool[n]: items
    that may be proposed, those with an interaction.
    """

    offsets: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    query: np.ndarray
    answer: np.ndarray
    known: np.ndarray

    @classmethod
    def empty(cls, n: int = 0) -> ItemMap:
        none = np.zeros((n, 0), np.float32)
        return cls(
            np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), none, none, np.zeros(n, bool)
        )

    @classmethod
    def from_parts(cls, sparse: csr_matrix, known: np.ndarray, query=None, answer=None) -> ItemMap:
        """From a scipy matrix [n, n] and, where there is one, the low-rank part."""
        none = np.zeros((sparse.shape[0], 0), np.float32)
        return cls(
            sparse.indptr.astype(np.int64),
            sparse.indices.astype(np.int32),
            sparse.data.astype(np.float32),
            none if query is None else np.ascontiguousarray(query, np.float32),
            none if answer is None else np.ascontiguousarray(answer, np.float32),
            known,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def apply(self, places: np.ndarray, items: np.ndarray, batch: int) -> np.ndarray:
        """float32[batch, n] scores of every item, the sum of the rows of B that a history names, over √length.

        places, items: int[m], the row of the batch, ascending, and an item of its history (each once, below n).
        """
        n = len(self)
        starts, stops = self.offsets[items], self.offsets[items + 1]
        scores = np.empty((batch, n), np.float32)
        low = np.searchsorted(places, np.arange(batch + 1))
        # rows are slices of two arrays: one user's fit the cache, which one gather for all users leaves at every step
        for place in range(batch):
            mine = [
                slice(a, b)
                for a, b in zip(starts[low[place] : low[place + 1]], stops[low[place] : low[place + 1]], strict=True)
            ]
            if mine:
                columns = np.concatenate([self.columns[part] for part in mine])
                weights = np.concatenate([self.weights[part] for part in mine])
                scores[place] = np.bincount(columns, weights, n)
            else:
                scores[place] = 0
        if self.query.shape[1]:
            scores += product(self.project(places, items, batch), self.answer.T)
        scores /= np.sqrt(np.maximum(np.bincount(places, minlength=batch), 1)).astype(np.float32)[:, None]
        return scores

    def project(self, places: np.ndarray, items: np.ndarray, batch: int) -> np.ndarray:
        """float32[batch, D] sums of the query vectors of the histories; `places` ascend."""
        out = np.zeros((batch, self.query.shape[1]), np.float32)
        if len(places):
            start = np.flatnonzero(np.diff(places, prepend=-1))
            out[places[start]] = np.add.reduceat(self.query[items], start, axis=0)
        return out


class ItemFilter(Retriever):
    """score(u, ·) = |H|^−½ Σ over the items j of u's history H of row j of an item-by-item map (`ItemMap`).

    Nothing is kept of any user: whoever has a history is served, in training or not. A family says in `learn`
    how the map follows from the interactions.
    """

    config_type: ClassVar[type[RetrieverConfig]] = RetrieverConfig
    learns: ClassVar = True
    file: ClassVar = "filter.bin"

    def __init__(self, config: RetrieverConfig):
        super().__init__(config)
        self.map = ItemMap.empty()
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))

    def learn(self, touched: csr_matrix, progress: Progress, seed: int) -> ItemMap:
        """The map of a matrix users × items of zeros and ones."""
        raise NotImplementedError

    def missing(self, window: Window) -> str | None:
        return None if len(window.interactions[0]) else "needs interactions"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from scipy.sparse import csr_matrix

        users, items, _ = window.interactions
        shape = (window.catalogue.n_users, window.catalogue.n_items)
        touched = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
        touched.sum_duplicates()
        touched.data[:] = 1
        with progress.step(self.config.kind.replace("_", " ")):
            self.map = self.learn(touched, progress, window.seed) if touched.nnz else ItemMap.empty(shape[1])

    def checkpoint(self) -> dict:
        import torch

        return {name: torch.from_numpy(np.array(getattr(self.map, name))) for name in PARTS}

    def restore(self, checkpoint: dict) -> None:
        self.map = ItemMap(**{name: checkpoint[name].numpy() for name in PARTS})

    def save(self, folder: Path) -> None:
        save_arrays(folder / self.file, {name: getattr(self.map, name) for name in PARTS})

    @classmethod
    def load(cls, config: RetrieverConfig, folder: Path) -> ItemFilter:
        out = cls(config)
        out.map = ItemMap(**read_part(folder / cls.file, *PARTS)[0])
        return out

    def _costs(self, histories: Ragged) -> np.ndarray:
        """int64[B] numbers handled for each row."""
        reach = np.append(np.diff(self.map.offsets) + self.map.query.shape[1], 0)
        n = len(self.map)
        each = reach[np.where((histories.values >= 0) & (histories.values < n), histories.values, n)]
        summed = np.concatenate([[0], np.cumsum(each)])
        return np.diff(summed[histories.offsets]) + n

    def rows(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32[B, n] of every item, bool[B] whether anything of the user's history is known)."""
        places, items = state.history.take(users)
        return self.rows_of(Ragged.group(places, items, len(users)))

    def rows_of(self, histories: Ragged) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32[B, n], bool[B] whether the history holds an item that the map knows)."""
        histories = histories.sorted_rows()
        places, items = histories.rows.astype(np.int64), histories.values
        held = (items >= 0) & (items < len(self.map))
        held[held] &= self.map.known[items[held]]
        places, items = places[held], items[held]
        some = np.bincount(places, minlength=len(histories)) > 0
        return self.map.apply(places, items, len(histories)), some

    def _batches(self, state: State, users: np.ndarray):
        """(slice of `users`, their histories) in pieces of bounded size."""
        places, items = state.history.take(users)
        histories = Ragged.group(places, items, len(users))
        for part in chunks(self._costs(histories), CELLS_AT_ONCE):
            low, high = histories.offsets[part.start], histories.offsets[part.stop]
            yield part, Ragged(histories.offsets[part.start : part.stop + 1] - low, histories.values[low:high])

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, n = np.asarray(users), len(self.map)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        allowed = np.zeros(n, bool)
        inside = min(n, state.catalogue.n_items)
        allowed[:inside] = self.map.known[:inside] & self._eligible(state)[:inside]
        if not allowed.any():
            return items, scores
        for part, histories in self._batches(state, users):
            rows, some = self.rows_of(histories)
            rows[:, ~allowed] = -np.inf
            rows[~some] = -np.inf
            seen = None
            if self.config.exclude_seen:
                places, shown = state.seen.take(users[part])
                seen = places[shown < n], shown[shown < n]
            items[part], scores[part] = topk(rows, k, seen)
        return items, scores

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items, n = np.asarray(items), len(self.map)
        people, at = unique_users(users)
        out = np.zeros(items.shape, np.float32)
        order = np.argsort(at, kind="stable")
        for part, histories in self._batches(state, people):
            scores, some = self.rows_of(histories)
            low, high = np.searchsorted(at[order], [part.start, part.stop])
            rows = order[low:high]
            wanted, mine = items[rows], at[rows] - part.start
            inside = np.clip(wanted, 0, max(n - 1, 0))
            valid = (wanted == inside) & some[mine][:, None]
            if n:
                valid &= self.map.known[inside]
                out[rows] = np.where(valid, scores[mine[:, None], inside], 0)
        return out

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, n_items]: the vector of this family is the filtered history, one score an item."""
        return self.rows_of(ragged_of(histories))[0]

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The item of the history that adds most to the score."""
        items, n = np.asarray(items), len(self.map)
        history = np.unique(state.history[user]) if user >= 0 else np.zeros(0, np.int32)
        history = history[history < n]
        history = history[self.map.known[history]]
        if not len(history) or not len(items):
            return [Reason("taste")] * len(items)
        inside = np.clip(items, 0, n - 1)
        adds = self.map.query[history] @ self.map.answer[inside].T
        rows = Ragged(self.map.offsets, self.map.columns)
        for place, item in enumerate(history):
            columns, weights = rows[item], self.map.weights[self.map.offsets[item] : self.map.offsets[item + 1]]
            if len(columns):
                near = np.minimum(np.searchsorted(columns, inside), len(columns) - 1)
                adds[place] += np.where(columns[near] == inside, weights[near], 0)
        adds[history[:, None] == items] = -np.inf
        best = adds.argmax(axis=0)
        clear = (adds.max(axis=0) > 0) & (inside == items)
        return [Reason("similar", int(history[b])) if c else Reason("taste") for b, c in zip(best, clear, strict=True)]


def strongest(matrix: csr_matrix, k: int | None) -> csr_matrix:
    """The k entries of greatest magnitude of each row (all for None), with ascending columns."""
    from scipy.sparse import csr_matrix

    lengths = np.diff(matrix.indptr)
    if k is None or not len(lengths) or lengths.max() <= k:
        matrix.sort_indices()
        return matrix
    kept = []
    for row in np.flatnonzero(lengths):
        start, stop = matrix.indptr[row], matrix.indptr[row + 1]
        if stop - start > k:
            kept.append(start + np.argpartition(-np.abs(matrix.data[start:stop]), k - 1)[:k])
        else:
            kept.append(np.arange(start, stop))
    at = np.concatenate(kept)
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, k))])
    out = csr_matrix((matrix.data[at], matrix.indices[at], indptr), shape=matrix.shape)
    out.sort_indices()
    return out


def leading_space(matrix: csr_matrix, k: int, seed: int, rounds: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(σ float32[k], right singular vectors float32[n, k]) of the greatest singular values.

    By randomised subspace iteration with oversampling (Halko, Martinsson and Tropp, SIAM Review 2011); k is cut
    to the rank that the matrix can have.
    """
    k = max(min(k, *matrix.shape), 1)
    width = min(k + 32, *matrix.shape)
    turned = matrix.T.tocsr()
    basis = np.random.default_rng(seed).standard_normal((matrix.shape[1], width), np.float32)
    for _ in range(rounds):
        basis = orthonormal(turned @ (matrix @ basis))
    basis = orthonormal(basis)
    image = matrix @ basis
    values, rotation = np.linalg.eigh((image.T @ image).astype(np.float64))
    order = np.argsort(-values)[:k]
    sigma = np.sqrt(np.maximum(values[order], 0))
    return sigma.astype(np.float32), basis @ rotation[:, order].astype(np.float32)


def orthonormal(columns: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the span of float32[n, k]; columns that the others span become 0.

    By the eigenvectors of the small Gram matrix: a tenth of the time of a QR decomposition.
    """
    values, vectors = np.linalg.eigh((columns.T @ columns).astype(np.float64))
    scale = np.where(values > values[-1] * 1e-9, 1 / np.sqrt(np.maximum(values, 1e-300)), 0)
    return columns @ (vectors * scale).astype(np.float32)
