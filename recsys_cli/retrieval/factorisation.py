"""Factorisations of who touched what, other than ALS: by ranking (BPR), by singular vectors, without negatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import (
    ArrayRetriever,
    MaxAge,
    PerState,
    Reason,
    RetrieverConfig,
    Window,
    chunks,
)
from recsys_cli.retrieval.dense import ItemIndex, ragged_of, unique_users

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ROWS_AT_ONCE = 200_000
TINY = np.float32(1e-9)


class FactorConfig(RetrieverConfig):
    """What these factorisations have in common."""

    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""


class BprConfig(FactorConfig):
    """Bayesian personalised ranking (Rendle et al., UAI 2009)."""

    kind: Literal["bpr"] = "bpr"
    factors: PositiveInt = 64
    """Width of the vectors, beside a bias of the item."""
    iterations: PositiveInt = 100
    """Passes over the interactions."""
    learning_rate: PositiveFloat = 0.05
    """Step size."""
    regularisation: PositiveFloat = 0.01
    """Weight of the squared norm of the vectors."""
    fold_in_steps: PositiveInt = 60
    """Steps in which the vector of somebody new is found."""


class SvdConfig(FactorConfig):
    """Truncated singular value decomposition of the normalised interactions (Cremonesi et al., RecSys 2010)."""

    kind: Literal["svd"] = "svd"
    factors: PositiveInt = 64
    """Singular vectors kept."""
    popularity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Power of an item's popularity that its column is divided by before, and its score multiplied by after."""


class NmfConfig(FactorConfig):
    """Non-negative matrix factorisation (Lee and Seung, NIPS 2000)."""

    kind: Literal["nmf"] = "nmf"
    factors: PositiveInt = 48
    """Parts that a history is made up of."""
    iterations: PositiveInt = 60
    """Passes of the coordinate descent at most."""
    popularity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Power of an item's popularity that its column is divided by before, and its score multiplied by after."""
    regularisation: NonNegativeFloat = 0.0
    """Weight of the squared norm of both factors, relative to the size of the matrix."""
    fold_in_steps: PositiveInt = 50
    """Multiplicative steps in which the parts of a history are found."""


class Factorisation(ArrayRetriever):
    """score = x_u · a_i, with x_u folded in from the user's history by vectors q_i of its items.

    Arrays: "query" float32[n, D] q_i, "answer" float32[n, D'] a_i, "known" bool[n]. A family gives `_learn`, which
    makes them, and `_fold`, which makes x_u.
    """

    part: ClassVar = "factors.bin"
    parts: ClassVar = ("query", "answer", "known")

    def __init__(self, config: FactorConfig):
        super().__init__(config)
        none = np.zeros((0, config.factors), np.float32)
        self._set({"query": none, "answer": none, "known": np.zeros(0, bool)})

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._latest = PerState(lambda state: {})
        self.index = ItemIndex(arrays["answer"], arrays["known"], self.config.max_age_days)

    def missing(self, window: Window) -> str | None:
        return None if len(window.interactions[0]) else "needs interactions"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from scipy.sparse import csr_matrix
        from threadpoolctl import threadpool_limits

        users, items, _ = window.interactions
        shape = (window.catalogue.n_users, window.catalogue.n_items)
        touched = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
        touched.data[:] = 1
        known = np.bincount(items, minlength=shape[1]) > 0
        if not touched.nnz:
            none = np.zeros((shape[1], self.config.factors), np.float32)
            self._set({"query": none, "answer": none, "known": known})
            return
        with threadpool_limits(1, "blas"):
            query, answer = self._learn(touched, progress, window.seed)
        query, answer = query.astype(np.float32), answer.astype(np.float32)
        query[~known] = answer[~known] = 0
        self._set({"query": query, "answer": answer, "known": known})

    def _learn(self, touched: csr_matrix, progress: Progress, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(query, answer) from the users × items of ones."""
        raise NotImplementedError

    def _fold(self, histories: Ragged) -> np.ndarray:
        """float32[B, D'] vectors; each item of a history counts once and has a vector; rows may be empty."""
        raise NotImplementedError

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D'] vectors and bool[B], False where nothing of the history is known."""
        users = np.asarray(users)
        # a request asks for proposals, then for similarities: the second finds what the first folded in
        kept, asked = self._latest(state), users.tobytes()
        last = kept.get("last")
        if last is None or last[0] != asked:
            places, items = state.history.take(users)
            last = kept["last"] = (asked, self._represent(Ragged.group(places, items, len(users))))
        return last[1]

    def _represent(self, histories: Ragged) -> tuple[np.ndarray, np.ndarray]:
        held = (histories.values >= 0) & (histories.values < len(self._arrays["query"]))
        held[held] = self._arrays["known"][histories.values[held]]
        rows = Ragged.group(histories.rows[held], histories.values[held], len(histories)).sorted_rows()
        out = np.zeros((len(rows), self.index.vectors.shape[1]), np.float32)
        for part in chunks(rows.lengths + 1, ROWS_AT_ONCE):
            low, high = rows.offsets[part.start], rows.offsets[part.stop]
            out[part] = self._fold(Ragged(rows.offsets[part.start : part.stop + 1] - low, rows.values[low:high]))
        return out, (rows.lengths > 0) & (out != 0).any(axis=1)

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        vectors, known = self.vectors(state, users)
        return self.index.search(state, users, vectors, known, k, self.config.exclude_seen)

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        people, at = unique_users(users)
        vectors, known = self.vectors(state, people)
        return self.index.pair_products(at, vectors, known, np.asarray(items))

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        return self._represent(ragged_of(histories))[0]

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        return self.index.nearest_in_history(state, user, items, at_least=0.5)


class Svd(Factorisation):
    """R̃ = R diag(popularity^−p) ≈ U Σ Vᵀ; x_u = r̃_u V ÷ √|history| and a_i = V_i × popularity^p."""

    config_type: ClassVar = SvdConfig
    config: SvdConfig

    def _learn(self, touched: csr_matrix, progress: Progress, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.utils.extmath import randomized_svd

        normal, popularity = _normalised(touched, self.config.popularity)
        width = min(self.config.factors, *touched.shape)
        with progress.step("svd"):
            _, _, right = randomized_svd(normal, width, n_iter=5, random_state=seed & 0x7FFFFFFF)
        return right.T / popularity[:, None], right.T * popularity[:, None]

    def _fold(self, histories: Ragged) -> np.ndarray:
        return _sums(self._arrays["query"], histories) / np.sqrt(np.maximum(histories.lengths, 1))[:, None]


class Nmf(Factorisation):
    """R̃ ≈ W H with nothing below 0; x_u = argmin ‖r̃_u − x H‖² over x ≥ 0, and a_i = H_i × popularity^p."""

    config_type: ClassVar = NmfConfig
    config: NmfConfig

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        super()._set(arrays)
        # r̃_i H_i is the query side: H_i ÷ popularity^p; the Gram matrix needs H_i itself, the geometric mean of both
        parts = np.sqrt(np.maximum(arrays["query"] * arrays["answer"], 0))
        self._gram = parts.T @ parts

    def _learn(self, touched: csr_matrix, progress: Progress, seed: int) -> tuple[np.ndarray, np.ndarray]:
        import warnings

        from sklearn.decomposition import NMF
        from sklearn.exceptions import ConvergenceWarning

        normal, popularity = _normalised(touched, self.config.popularity)
        width = min(self.config.factors, *touched.shape)
        model = NMF(
            width, init="nndsvda", random_state=seed & 0x7FFFFFFF, max_iter=self.config.iterations, tol=1e-3,
            alpha_W=self.config.regularisation,
        )  # fmt: skip
        with progress.step("nmf"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(normal)
        parts = model.components_.T
        return parts / popularity[:, None], parts * popularity[:, None]

    def _fold(self, histories: Ragged) -> np.ndarray:
        wanted = _sums(self._arrays["query"], histories)
        x = np.where(wanted > 0, np.float32(0.1), np.float32(0))
        for _ in range(self.config.fold_in_steps):
            # one row at a time, so that a user alone gets what the user gets among others
            x = x * wanted / ((x[:, None, :] @ self._gram)[:, 0] + TINY)
        return x


class Bpr(Factorisation):
    """x_u maximises Σ over the history ln σ(x · (y_i − ȳ) + b_i − b̄) − λ ‖x‖² ÷ 2, ȳ the mean item as the negative.

    The bias of an item stands as a last dimension of its vector, for which every user has 1.
    """

    config_type: ClassVar = BprConfig
    config: BprConfig

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        super()._set(arrays)
        known = arrays["query"][arrays["known"]]
        self._mean = known.mean(axis=0) if len(known) else np.zeros(arrays["query"].shape[1], np.float32)
        reach = float((np.square(known - self._mean)[:, :-1]).sum(axis=1).max(initial=0))
        # the inverse of the greatest curvature that the objective can have
        self._step = np.float32(1 / (0.25 * reach + self.config.regularisation))

    def _learn(self, touched: csr_matrix, progress: Progress, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        with progress.step("bpr"):
            # threads would race for the same vectors, and no run would be like another
            model = BayesianPersonalizedRanking(
                factors=self.config.factors, learning_rate=self.config.learning_rate,
                regularization=self.config.regularisation, iterations=self.config.iterations, num_threads=1,
                random_state=seed & 0x7FFFFFFF,
            )  # fmt: skip
            model.fit(touched, show_progress=False)
        vectors = np.array(model.item_factors)
        return vectors, vectors.copy()

    def _fold(self, histories: Ragged) -> np.ndarray:
        apart = self._arrays["query"][histories.values] - self._mean
        vectors, biases = apart[:, :-1], apart[:, -1]
        places, lengths = histories.rows, np.maximum(histories.lengths, 1)[:, None]
        x = np.zeros((len(histories), vectors.shape[1]), np.float32)
        for _ in range(self.config.fold_in_steps):
            margin = np.einsum("md,md->m", vectors, x[places]) + biases
            pull = vectors * (1 / (1 + np.exp(np.clip(margin, -30, 30))))[:, None]
            x += self._step * (_row_sums(pull, histories) / lengths - np.float32(self.config.regularisation) * x)
        out = np.ones((len(x), x.shape[1] + 1), np.float32)
        out[:, :-1] = x
        out[histories.lengths == 0] = 0
        return out


def _normalised(touched: csr_matrix, power: float) -> tuple[csr_matrix, np.ndarray]:
    """(the matrix with its columns divided by popularity^power, that divisor float32[n], 1 for the untouched)."""
    from scipy.sparse import diags

    popularity = np.maximum(np.asarray(touched.sum(axis=0)).ravel(), 1).astype(np.float32) ** np.float32(power)
    return (touched @ diags(1 / popularity)).tocsr().astype(np.float32), popularity


def _sums(vectors: np.ndarray, rows: Ragged) -> np.ndarray:
    """float32[n, D] sum of the vectors of each row."""
    return _row_sums(vectors[rows.values], rows)


def _row_sums(values: np.ndarray, rows: Ragged) -> np.ndarray:
    out = np.zeros((len(rows), values.shape[1]), np.float32)
    filled = np.flatnonzero(rows.lengths)
    if len(filled):
        out[filled] = np.add.reduceat(values, rows.offsets[filled], axis=0)
    return out
