"""Factorisations of who touched what, other than ALS: by ranking (BPR), by singular vectors, without negatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.data.state import State
from recsys_cli.parallel import one_blas_thread
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import ArrayRetriever, Window
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.history_weighting import HistoryConfig, WeightedHistories
from recsys_cli.retrieval.memo import LastAnswer
from recsys_cli.retrieval.vectors.item_index import ItemIndex
from recsys_cli.retrieval.vectors.retriever import VectorRetriever

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ROWS_AT_ONCE = 200_000
TINY = np.float32(1e-9)


class FactorConfig(HistoryConfig):
    """What these factorisations have in common."""


class BprConfig(FactorConfig):
    """Bayesian personalised ranking (Rendle et al., UAI 2009)."""

    kind: Literal["bpr"] = "bpr"
    renamed: ClassVar[dict[str, str]] = {"factors": "dim", "iterations": "epochs", "regularisation": "l2"}
    dim: PositiveInt = 64
    """Width of the vectors, beside a bias of the item."""
    epochs: PositiveInt = 100
    """Passes over the interactions."""
    learning_rate: PositiveFloat = 0.05
    """Step size."""
    l2: PositiveFloat = 0.01
    """Weight of the squared norm of the vectors."""
    fold_in_steps: PositiveInt = 60
    """Steps in which the vector of somebody new is found."""


class SvdConfig(FactorConfig):
    """Truncated singular value decomposition of the normalised interactions (Cremonesi et al., RecSys 2010)."""

    kind: Literal["svd"] = "svd"
    renamed: ClassVar[dict[str, str]] = {"factors": "dim", "popularity": "popularity_exponent"}
    dim: PositiveInt = 64
    """Singular vectors kept."""
    popularity_exponent: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Power of an item's popularity that its column is divided by before, and its score multiplied by after."""


class NmfConfig(FactorConfig):
    """Non-negative matrix factorisation (Lee and Seung, NIPS 2000)."""

    kind: Literal["nmf"] = "nmf"
    renamed: ClassVar[dict[str, str]] = {
        "factors": "dim",
        "iterations": "epochs",
        "popularity": "popularity_exponent",
        "regularisation": "l2",
    }
    dim: PositiveInt = 48
    """Parts that a history is made up of."""
    epochs: PositiveInt = 60
    """Passes of the coordinate descent at most."""
    popularity_exponent: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Power of an item's popularity that its column is divided by before, and its score multiplied by after."""
    l2: NonNegativeFloat = 0.0
    """Weight of the squared norm of both factors, relative to the size of the matrix."""
    fold_in_steps: PositiveInt = 50
    """Multiplicative steps in which the parts of a history are found."""


class Factorisation(ArrayRetriever, VectorRetriever):
    """score = x_u · a_i, with x_u folded in from the user's history by vectors q_i of its items.

    Arrays: "query" float32[n, D] q_i, "answer" float32[n, D'] a_i, "known" bool[n]. A family gives `_learn`, which
    makes them, and `_fold`, which makes x_u.
    """

    part: ClassVar = "factors.bin"
    parts: ClassVar = ("query", "answer", "known")

    def __init__(self, config: FactorConfig):
        super().__init__(config)
        none = np.zeros((0, config.dim), np.float32)
        self._set({"query": none, "answer": none, "known": np.zeros(0, bool)})

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._last = LastAnswer()
        self.index = ItemIndex(arrays["answer"], arrays["known"], self.config.max_age_days)

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from scipy.sparse import csr_matrix

        users, items, _ = window.interactions
        shape = (window.catalogue.n_users, window.catalogue.n_items)
        touched = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
        touched.data[:] = 1
        known = np.bincount(items, minlength=shape[1]) > 0
        if not touched.nnz:
            none = np.zeros((shape[1], self.config.dim), np.float32)
            self._set({"query": none, "answer": none, "known": known})
            return
        with one_blas_thread():
            query, answer = self._learn(touched, progress, window.seed)
        query, answer = query.astype(np.float32), answer.astype(np.float32)
        query[~known] = answer[~known] = 0
        self._set({"query": query, "answer": answer, "known": known})

    def _learn(self, touched: csr_matrix, progress: Progress, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(query, answer) from the users × items of ones."""
        raise NotImplementedError

    def _fold(self, histories: WeightedHistories) -> np.ndarray:
        """float32[B, D'] vectors of histories whose items have one; rows may be empty."""
        raise NotImplementedError

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D'] vectors and bool[B], False where nothing of the history is known."""
        users = np.asarray(users)
        weighting = self.config.history_weighting
        return self._last(
            state, users, lambda: self._represent(WeightedHistories.of_state(state, users, weighting))
        )

    def _represent(self, histories: WeightedHistories) -> tuple[np.ndarray, np.ndarray]:
        known = histories.known(self._arrays["known"])
        out = np.zeros((len(known), self.index.vectors.shape[1]), np.float32)
        for part in chunks(known.items.lengths + 1, ROWS_AT_ONCE):
            out[part] = self._fold(known.part(part))
        return out, (known.items.lengths > 0) & (out != 0).any(axis=1)

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        return self._represent(WeightedHistories.of_lists(histories, self.config.history_weighting))[0]


class Svd(Factorisation):
    """R̃ = R diag(popularity^−p) ≈ U Σ Vᵀ; x_u = r̃_u V ÷ √Σ w² and a_i = V_i × popularity^p.

    r̃_u has the weights w of the history where the row of the matrix has ones.
    """

    config_type: ClassVar = SvdConfig
    config: SvdConfig

    def _learn(self, touched: csr_matrix, progress: Progress, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.utils.extmath import randomized_svd

        normal, popularity = _normalised(touched, self.config.popularity_exponent)
        width = min(self.config.dim, *touched.shape)
        with progress.step("svd"):
            _, _, right = randomized_svd(normal, width, n_iter=5, random_state=seed & 0x7FFFFFFF)
        return right.T / popularity[:, None], right.T * popularity[:, None]

    def _fold(self, histories: WeightedHistories) -> np.ndarray:
        return histories.sums(self._arrays["query"]) / histories.scale[:, None]


class Nmf(Factorisation):
    """R̃ ≈ W H with nothing below 0; x_u = argmin ‖r̃_u − x H‖² over x ≥ 0, and a_i = H_i × popularity^p.

    r̃_u has the weights of the history where the row of the matrix has ones.
    """

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

        normal, popularity = _normalised(touched, self.config.popularity_exponent)
        width = min(self.config.dim, *touched.shape)
        model = NMF(
            width, init="nndsvda", random_state=seed & 0x7FFFFFFF, max_iter=self.config.epochs, tol=1e-3,
            alpha_W=self.config.l2,
        )  # fmt: skip
        with progress.step("nmf"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(normal)
        parts = model.components_.T
        return parts / popularity[:, None], parts * popularity[:, None]

    def _fold(self, histories: WeightedHistories) -> np.ndarray:
        wanted = histories.sums(self._arrays["query"])
        x = np.where(wanted > 0, np.float32(0.1), np.float32(0))
        for _ in range(self.config.fold_in_steps):
            # one row at a time, so that a user alone gets what the user gets among others
            x = x * wanted / ((x[:, None, :] @ self._gram)[:, 0] + TINY)
        return x


class Bpr(Factorisation):
    """x_u maximises the weighted mean over the history of ln σ(x · (y_i − ȳ) + b_i − b̄) − λ ‖x‖² ÷ 2.

    ȳ, the mean item, is the negative. The bias of an item stands as a last dimension of its vector, for which every
    user has 1.
    """

    config_type: ClassVar = BprConfig
    config: BprConfig

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        super()._set(arrays)
        known = arrays["query"][arrays["known"]]
        self._mean = known.mean(axis=0) if len(known) else np.zeros(arrays["query"].shape[1], np.float32)
        reach = float((np.square(known - self._mean)[:, :-1]).sum(axis=1).max(initial=0))
        # the inverse of the greatest curvature that the objective can have
        self._step = np.float32(1 / (0.25 * reach + self.config.l2))

    def _learn(self, touched: csr_matrix, progress: Progress, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        with progress.step("bpr"):
            # threads would race for the same vectors, and no run would be like another
            model = BayesianPersonalizedRanking(
                factors=self.config.dim, learning_rate=self.config.learning_rate,
                regularization=self.config.l2, iterations=self.config.epochs, num_threads=1,
                random_state=seed & 0x7FFFFFFF,
            )  # fmt: skip
            model.fit(touched, show_progress=False)
        vectors = np.array(model.item_factors)
        return vectors, vectors.copy()

    def _fold(self, histories: WeightedHistories) -> np.ndarray:
        items = histories.items
        apart = self._arrays["query"][items.values] - self._mean
        vectors, biases = apart[:, :-1], apart[:, -1]
        places = items.rows
        total = np.bincount(places, histories.weights, len(items)).astype(np.float32)
        total = np.where(items.lengths > 0, total, 1)[:, None]
        x = np.zeros((len(histories), vectors.shape[1]), np.float32)
        for _ in range(self.config.fold_in_steps):
            margin = np.einsum("md,md->m", vectors, x[places]) + biases
            pull = vectors * (1 / (1 + np.exp(np.clip(margin, -30, 30))))[:, None]
            x += self._step * (histories.sums_of(pull) / total - np.float32(self.config.l2) * x)
        out = np.ones((len(x), x.shape[1] + 1), np.float32)
        out[:, :-1] = x
        out[items.lengths == 0] = 0
        return out


def _normalised(touched: csr_matrix, power: float) -> tuple[csr_matrix, np.ndarray]:
    """(the matrix with its columns divided by popularity^power, that divisor float32[n], 1 for the untouched)."""
    from scipy.sparse import diags

    popularity = np.maximum(np.asarray(touched.sum(axis=0)).ravel(), 1).astype(np.float32) ** np.float32(power)
    return (touched @ diags(1 / popularity)).tocsr().astype(np.float32), popularity
