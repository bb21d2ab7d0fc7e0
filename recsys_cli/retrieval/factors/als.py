"""Matrix factorisation of implicit feedback by alternating least squares, each solved exactly."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from recsys_cli.arrays import distinct
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.parallel import one_blas_thread
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import ArrayRetriever, Window
from recsys_cli.retrieval.history_weighting import HistoryConfig, WeightedHistories
from recsys_cli.retrieval.memo import LastAnswer
from recsys_cli.retrieval.vectors.item_index import ItemIndex
from recsys_cli.retrieval.vectors.products import product
from recsys_cli.retrieval.vectors.retriever import VectorRetriever

CELLS_AT_ONCE = 250_000
"""Numbers of the vectors gathered for a piece of work: memory that stays in the cache and is used again."""


class AlsConfig(HistoryConfig):
    """Weighted matrix factorisation (Hu, Koren and Volinsky, ICDM 2008)."""

    kind: Literal["als"] = "als"
    renamed: ClassVar[dict[str, str]] = {
        "factors": "dim",
        "iterations": "epochs",
        "regularisation": "l2",
        "regularisation_exponent": "l2_exponent",
    }
    dim: PositiveInt = 64
    """Width of the vectors."""
    epochs: PositiveInt = 10
    """Times that users and items are each solved for."""
    l2: PositiveFloat = 10.0
    """Weight λ of the squared norm of the vectors."""
    l2_exponent: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Power ν of the summed confidences of a row (α a touched, 1 any other) by which its λ is multiplied: at 0 all
    rows have the same, at 1 what is minimised is a mean over the row (Rendle et al., RecSys 2022). λ is then smaller
    by orders of magnitude."""
    alpha: Annotated[float, Field(ge=1)] = 10.0
    """Confidence of an interaction; that of no interaction is 1."""


class Als(ArrayRetriever, VectorRetriever):
    """score = x_u · y_i, with x_u = (YᵀY + (α − 1) Y_uᵀY_u + λ_u I)⁻¹ α Y_uᵀ1 over the items Y_u of the user.

    λ_u = λ (α |Y_u| + others)^ν. A user whose history is the one of the fit has the vector of the fit; anybody else
    with a history is folded in by the same equation. Where the items of a history count unequally, everybody is
    folded in, with confidence 1 + (α − 1) w_j of an item of weight w_j.
    """

    config_type: ClassVar = AlsConfig
    part: ClassVar = "als.bin"
    parts: ClassVar = ("items", "known", "users", "last")
    config: AlsConfig

    @classmethod
    def alternatives(cls, config: AlsConfig) -> list[AlsConfig]:
        tried = (
            {"dim": 128, "l2": 30.0, "alpha": 4.0},
            {"dim": 128, "l2": 30.0},
            {"l2": 30.0},
            {"dim": 128},
        )
        return [config.model_copy(update=update) for update in tried]

    def __init__(self, config: AlsConfig):
        super().__init__(config)
        self._set({
            "items": np.zeros((0, config.dim), np.float32), "known": np.zeros(0, bool),
            "users": np.zeros((0, config.dim), np.float32), "last": np.zeros(0, np.int64),
        })

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._last = LastAnswer()
        self.index = ItemIndex(arrays["items"], arrays["known"], self.config.max_age_days)
        self._system = self._facing(arrays["items"], int(np.count_nonzero(arrays["known"])))

    def _facing(self, vectors: np.ndarray, others: int) -> RidgeSystem:
        c = self.config
        return RidgeSystem.of(vectors, c.alpha, c.l2, c.l2_exponent, others)

    def memory(self, window: Window) -> int:
        return super().memory(window) + 8 * self.config.dim**2  # the matrix that all people share, twice

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        users, items, times = window.interactions
        n_users, n_items = window.catalogue.n_users, window.catalogue.n_items
        by_user = Ragged.group(users, items, n_users).sorted_rows()
        by_item = Ragged.group(by_user.values, by_user.rows.astype(np.int32), n_items)
        known, active = by_item.lengths > 0, int(np.count_nonzero(by_user.lengths))
        width = self.config.dim
        factors = np.random.default_rng(window.seed).standard_normal((n_items, width), np.float32)
        factors *= np.float32(0.1 / np.sqrt(width))
        factors[~known] = 0
        people, others = np.zeros((n_users, width), np.float32), int(np.count_nonzero(known))
        if active:
            with (
                progress.step("als", self.config.epochs) as step,
                one_blas_thread(),
                ThreadPoolExecutor(os.cpu_count() or 1) as pool,
            ):
                for _ in range(self.config.epochs):
                    people = self._facing(factors, others).solve(by_user, pool)
                    factors = self._facing(people, active).solve(by_item, pool)
                    step.advance()
                # once more, so that the vectors of people belong to the final ones of items
                people = self._facing(factors, others).solve(by_user, pool)
        last = np.full(n_users, -1, np.int64)
        np.maximum.at(last, users, times)
        self._set({"items": factors, "known": known, "users": people, "last": last})

    def _solve(self, histories: WeightedHistories) -> np.ndarray:
        """float32[B, D]; items without a vector count not at all."""
        known = histories.known(self._arrays["known"])
        return self._system.solve(known.items, weights=None if self.config.history_weighting.uniform else known.weights)

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] vectors and bool[B], False where the user has no history."""
        users = np.asarray(users)
        return self._last(state, users, lambda: self._vectors(state, users))

    def _vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = np.zeros((len(users), self.config.dim), np.float32)
        inside = np.clip(users, 0, max(len(state.history) - 1, 0))
        stop = state.history.offsets[inside + 1] if len(state.history) else np.zeros(len(users), np.int64)
        has = (users >= 0) & (stop > state.history.offsets[inside])
        as_fitted = has & (users < len(self._arrays["last"])) & self.config.history_weighting.uniform
        fitted = np.flatnonzero(as_fitted)
        latest = state.history_time.values[stop[fitted] - 1]
        fitted = fitted[latest == self._arrays["last"][users[fitted]]]
        out[fitted] = self._arrays["users"][users[fitted]]
        others = has.copy()
        others[fitted] = False
        others = np.flatnonzero(others)
        if len(others):
            out[others] = self._solve(
                WeightedHistories.of_state(state, users[others], self.config.history_weighting)
            )
        return out, has & (out != 0).any(axis=1)

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        return self._solve(WeightedHistories.of_lists(histories, self.config.history_weighting))


@dataclass(frozen=True)
class RidgeSystem:
    """(YᵀY + (α − 1) Y_uᵀY_u + λ_u I) x_u = α Y_uᵀ1 for rows u that name some of the vectors Y.

    In the basis of the eigenvectors of YᵀY everything but the middle term is diagonal, D_u. A row of n vectors, Z_u
    there, then takes a system of size n, not of the width, by the identity
    (D + (α − 1) ZᵀZ)⁻¹ Zᵀ = D⁻¹ Zᵀ (I + (α − 1) Z D⁻¹ Zᵀ)⁻¹; most rows are far shorter than vectors are wide.
    """

    turned: np.ndarray
    """float32[n, D] Y in the basis of the eigenvectors"""
    basis: np.ndarray
    """float32[D, D] the eigenvectors, one a column"""
    spectrum: np.ndarray
    """float32[D] the eigenvalues"""
    alpha: float
    l2: float
    exponent: float
    others: int
    """rows of Y that take part: what a vector is compared with"""

    @classmethod
    def of(cls, vectors: np.ndarray, alpha: float, l2: float, exponent: float, others: int) -> RidgeSystem:
        values, basis = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
        basis = basis.astype(np.float32)
        spectrum = np.maximum(values, 0).astype(np.float32)
        return cls(vectors @ basis, basis, spectrum, alpha, l2, exponent, others)

    def penalty(self, lengths: np.ndarray) -> np.ndarray:
        """float32[B] λ_u of rows of so many vectors, or of vectors whose weights add up to so much."""
        confidence = self.alpha * lengths + np.maximum(self.others - lengths, 0)
        return (self.l2 * confidence.astype(np.float64) ** self.exponent).astype(np.float32)

    def solve(
        self, rows: Ragged, pool: ThreadPoolExecutor | None = None, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """float32[B, D] x_u of rows that name each vector once; 0 for empty rows.

        weights: float32 beside `rows.values`; a vector of weight w has confidence 1 + (α − 1) w in place of α.

        Rows are padded to one of a few lengths, which depends on the row alone: whoever else is solved for, the
        result is the same to the last bit.
        """
        lengths, width = rows.lengths, self.basis.shape[0]
        # eight steps to the doubling: at most an eighth of the work is padding
        step = np.maximum(2.0 ** (np.floor(np.log2(np.maximum(lengths, 1))) - 3), 1)
        padded = (np.ceil(lengths / step) * step).astype(np.int64)
        out = np.zeros((len(rows), width), np.float32)
        pieces = []
        for length in distinct(padded[lengths > 0]):
            places = np.flatnonzero(padded == length)
            count = -(-len(places) * int(length) * width // CELLS_AT_ONCE)
            pieces += [(part, int(length)) for part in np.array_split(places, min(count, len(places)))]

        def work(piece: tuple[np.ndarray, int]) -> None:
            places, length = piece
            solve = self._piece if weights is None else partial(self._weighted_piece, weights)
            out[places] = solve(rows, places, length)

        for _ in map(work, pieces) if pool is None else pool.map(work, pieces):
            pass
        return product(out, self.basis.T)

    def _piece(self, rows: Ragged, places: np.ndarray, length: int) -> np.ndarray:
        """float32[b, D] solutions, in the basis of the eigenvectors, of rows of at most `length`."""
        alpha, width = np.float32(self.alpha), self.turned.shape[1]
        lengths = rows.lengths[places]
        held = np.arange(length) < lengths[:, None]
        at = np.where(held, rows.offsets[places][:, None] + np.arange(length), 0)
        vectors = self.turned[np.where(held, rows.values[at], 0)] * held[..., None]
        diagonal = self.spectrum + self.penalty(lengths)[:, None]
        if length < width:
            scaled = vectors / np.sqrt(diagonal)[:, None, :]
            matrix = (alpha - 1) * (scaled @ scaled.transpose(0, 2, 1))
            matrix[:, np.arange(length), np.arange(length)] += 1
            shares = np.linalg.solve(matrix, held[..., None].astype(np.float32))
            return alpha * (vectors.transpose(0, 2, 1) @ shares)[..., 0] / diagonal
        matrix = (alpha - 1) * (vectors.transpose(0, 2, 1) @ vectors)
        matrix[:, np.arange(width), np.arange(width)] += diagonal
        return np.linalg.solve(matrix, alpha * vectors.sum(axis=1)[..., None])[..., 0]

    def _weighted_piece(self, weights: np.ndarray, rows: Ragged, places: np.ndarray, length: int) -> np.ndarray:
        """As `_piece`: (D + ZᵀWZ)⁻¹ Zᵀc = D⁻¹ Zᵀ (I + W Z D⁻¹ Zᵀ)⁻¹ c, W the added confidences and c = 1 + W1."""
        width = self.turned.shape[1]
        held = np.arange(length) < rows.lengths[places][:, None]
        at = np.where(held, rows.offsets[places][:, None] + np.arange(length), 0)
        vectors = self.turned[np.where(held, rows.values[at], 0)] * held[..., None]
        counts = np.where(held, weights[at], 0)
        added = np.float32(self.alpha - 1) * counts
        confidence = np.where(held, 1 + added, 0)[..., None]
        diagonal = self.spectrum + self.penalty(counts.sum(axis=1))[:, None]
        if length < width:
            matrix = added[..., None] * ((vectors / diagonal[:, None, :]) @ vectors.transpose(0, 2, 1))
            matrix[:, np.arange(length), np.arange(length)] += 1
            shares = np.linalg.solve(matrix, confidence)
            return (vectors.transpose(0, 2, 1) @ shares)[..., 0] / diagonal
        matrix = vectors.transpose(0, 2, 1) @ (vectors * added[..., None])
        matrix[:, np.arange(width), np.arange(width)] += diagonal
        return np.linalg.solve(matrix, vectors.transpose(0, 2, 1) @ confidence)[..., 0]
