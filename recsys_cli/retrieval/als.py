"""Matrix factorisation of implicit feedback by alternating least squares."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt

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
)
from recsys_cli.retrieval.dense import ItemIndex, ragged_of, unique_users

USERS_AT_ONCE = 256


class AlsConfig(RetrieverConfig):
    """Weighted matrix factorisation (Hu, Koren and Volinsky, ICDM 2008)."""

    kind: Literal["als"] = "als"
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    factors: PositiveInt = 64
    """Width of the vectors."""
    iterations: PositiveInt = 10
    """Times that users and items are each solved for."""
    regularisation: PositiveFloat = 10.0
    """Weight of the squared norm of the vectors."""
    alpha: PositiveFloat = 10.0
    """Confidence of an interaction; that of no interaction is 1."""


class Als(ArrayRetriever):
    """score = x_u · y_i, with x_u = (YᵀY + (α − 1) Y_uᵀY_u + λI)⁻¹ α Y_uᵀ1 over the items Y_u of the user.

    A user whose history is the one of the fit has the vector of the fit; anybody else with a history is
    folded in by the same equation.
    """

    config_type: ClassVar = AlsConfig
    part: ClassVar = "als.bin"
    parts: ClassVar = ("items", "known", "users", "last")
    config: AlsConfig

    def __init__(self, config: AlsConfig):
        super().__init__(config)
        self._set({
            "items": np.zeros((0, config.factors), np.float32), "known": np.zeros(0, bool),
            "users": np.zeros((0, config.factors), np.float32), "last": np.zeros(0, np.int64),
        })

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._latest = PerState(lambda state: {})
        items = arrays["items"]
        self.index = ItemIndex(items, arrays["known"], self.config.max_age_days)
        gram = items.T @ items
        self._base = gram + self.config.regularisation * np.eye(gram.shape[0], dtype=np.float32)

    def missing(self, window: Window) -> str | None:
        return None if len(window.interactions[0]) else "needs interactions"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix
        from threadpoolctl import threadpool_limits

        users, items, times = window.interactions
        shape = (window.catalogue.n_users, window.catalogue.n_items)
        touched = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
        touched.data[:] = 1
        factors = np.zeros((shape[1], self.config.factors), np.float32)
        if touched.nnz:
            with progress.step("als", self.config.iterations) as step, threadpool_limits(1, "blas"):
                model = AlternatingLeastSquares(
                    factors=self.config.factors, regularization=self.config.regularisation, alpha=self.config.alpha,
                    iterations=self.config.iterations, random_state=window.seed, calculate_training_loss=False,
                )
                model.fit(touched, show_progress=False, callback=lambda *_: step.advance())
            factors = np.asarray(model.item_factors, np.float32)
        known = np.bincount(items, minlength=shape[1]) > 0
        factors[~known] = 0
        last = np.full(shape[0], -1, np.int64)
        np.maximum.at(last, users, times)
        self._set({**self._arrays, "items": factors, "known": known, "last": last})
        # implicit's own user vectors are half an iteration older than its item vectors
        self._arrays["users"] = self._solve(Ragged(touched.indptr.astype(np.int64), touched.indices))

    def _solve(self, histories: Ragged) -> np.ndarray:
        """float32[B, D]; each item of a history counts once, items without a vector not at all."""
        width, alpha = self.config.factors, np.float32(self.config.alpha)
        out = np.zeros((len(histories), width), np.float32)
        factors = self._arrays["items"]
        lengths = histories.lengths
        # users of like length side by side waste little on padding
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        for start in range(0, len(order), USERS_AT_ONCE):
            rows = order[start : start + USERS_AT_ONCE]
            items = histories.last(rows, int(lengths[rows].max()))
            held = (items >= 0) & (items < len(factors))
            vectors = factors[np.where(held, items, 0)] * held[..., None]
            matrix = self._base + (alpha - 1) * (vectors.transpose(0, 2, 1) @ vectors)
            right = alpha * vectors.sum(axis=1)
            out[rows] = np.linalg.solve(matrix, right[..., None])[..., 0]
        return out

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] vectors and bool[B], False where the user has no history."""
        users = np.asarray(users)
        # a request asks for proposals, then for similarities: the second finds what the first solved
        kept, asked = self._latest(state), users.tobytes()
        last = kept.get("last")
        if last is None or last[0] != asked:
            # one assignment of a pair: requests of other threads see the old one or the new one
            last = kept["last"] = (asked, self._vectors(state, users))
        return last[1]

    def _vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = np.zeros((len(users), self.config.factors), np.float32)
        inside = np.clip(users, 0, max(len(state.history) - 1, 0))
        stop = state.history.offsets[inside + 1] if len(state.history) else np.zeros(len(users), np.int64)
        has = (users >= 0) & (stop > state.history.offsets[inside])
        fitted = np.flatnonzero(has & (users < len(self._arrays["last"])))
        latest = state.history_time.values[stop[fitted] - 1]
        fitted = fitted[latest == self._arrays["last"][users[fitted]]]
        out[fitted] = self._arrays["users"][users[fitted]]
        others = has.copy()
        others[fitted] = False
        others = np.flatnonzero(others)
        if len(others):
            places, items = state.history.take(users[others])
            out[others] = self._solve(Ragged.group(places, items, len(others)).sorted_rows())
        return out, has & (out != 0).any(axis=1)

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        vectors, known = self.vectors(state, users)
        return self.index.search(state, users, vectors, known, k, self.config.exclude_seen)

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        people, at = unique_users(users)
        vectors, known = self.vectors(state, people)
        return self.index.pair_products(at, vectors, known, np.asarray(items))

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        return self._solve(ragged_of(histories).sorted_rows())

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        return self.index.nearest_in_history(state, user, items, at_least=0.5)
