"""Linear models between items: EASE^R in closed form, SLIM by coordinate descent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.errors import RecsysError
from recsys_cli.parallel import one_blas_thread
from recsys_cli.progress import Progress
from recsys_cli.retrieval.history_weighting import HistoryConfig
from recsys_cli.retrieval.linear.graph_filter import co_occurrence, degrees, powered
from recsys_cli.retrieval.linear.item_filter import DENSE_SHARE, ItemFilter, ItemMap, leading_space, strongest_cells
from recsys_cli.retrieval.linear.low_rank import map_of_sum

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from recsys_cli.retrieval.base import Window

ITEMS_AT_ONCE = 256
DENSE_GRAM = 4_000
"""Catalogues up to which products of items are looked up in a dense matrix (64 MB): a tenth of the time."""
ROWS_AT_ONCE = 1_000
PRECISE_ITEMS = 6_000
"""Catalogues up to which the inverse is computed in double precision whatever its condition: it takes 2 s."""
WELL_CONDITIONED = 1e5
"""Bound of the condition number below which single precision leaves three digits and more of the inverse."""


class EaseConfig(HistoryConfig):
    """EASE^R: ridge regression of every item on all others in closed form (Steck, WWW 2019)."""

    kind: Literal["ease"] = "ease"
    renamed: ClassVar[dict[str, str]] = {"regularisation": "l2", "factors": "dim"}
    l2: PositiveFloat = 200.0
    """Weight λ of the squared weights."""
    user_exponent: NonNegativeFloat = 0.0
    """Power of a user's number of items by which the user's row is divided before the regression."""
    item_exponent: NonNegativeFloat = 0.0
    """Power of an item's number of users by which the item's column is divided before the regression; what is
    predicted is multiplied by it again."""
    popularity_exponent: float = 0.0
    """Further power of an item's number of users by which its score is multiplied; above 0 favours the popular."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the items of a history that are left out at random, over and over, when the others are predicted: above
    0, no weight hangs on few items that come together."""
    exact_up_to: PositiveInt = 14_000
    """Items up to which the whole matrix is inverted; above, it is solved in the leading space, see `dim`."""
    dim: PositiveInt = 512
    """Leading directions that are solved exactly in larger catalogues."""
    neighbours: PositiveInt | None = 1_000
    """Strongest weights kept for each item outside the leading space; null keeps all. In a catalogue of fewer than five
    times as many items all are kept; in one of more than 20,000, the 500 strongest once the leading space is added."""


class Ease(ItemFilter):
    """B = I − P · diag(P)⁻¹, P = (G + Λ)⁻¹, G = XᵀX, Λ = λI + p/(1 − p) · diag(G).

    With p, the dropout, above 0 it is the denoising autoencoder EDLAE (Steck, NeurIPS 2020) with all weight on what was
    left out.

    In a large catalogue P is taken apart by the eigenvectors V of G with the greatest eigenvalues Σ: along them the
    inverse is exact, on the rest, with eigenvalues in [0, s], it is the straight line that is exact at 0 and s:
    P ≈ I/λ − G / (λ (λ + s)) + V (…) Vᵀ. That is a sparse matrix, the co-occurrence, and one of low rank: memory
    grows with the pairs that occur together, not with the square of the catalogue. Beyond 20,000 items the second is
    added into the cells of the first (`map_of_sum`), so that a request need not go through every item.
    """

    config_type: ClassVar = EaseConfig
    config: EaseConfig

    @classmethod
    def alternatives(cls, config: EaseConfig) -> list[EaseConfig]:
        tried = (
            {"l2": 500.0},
            {"l2": 3.0, "user_exponent": 0.5, "popularity_exponent": -0.1, "dropout": 0.4},
            {"l2": 90.0, "user_exponent": 0.2, "popularity_exponent": -0.1, "dropout": 0.1},
            {"l2": 1000.0},
            {"l2": 50.0},
            {"l2": 500.0, "popularity_exponent": 0.1},
            {"l2": 4.0, "user_exponent": 0.25, "item_exponent": 0.3},
        )
        return [config.model_copy(update=update) for update in tried]

    def memory(self, window: Window) -> int:
        known = int(np.count_nonzero(np.bincount(window.interactions[1])))
        known = known if known <= self.config.exact_up_to else 0
        # the matrix and its inverse in place, and the weights beside them where these are narrower
        return super().memory(window) + (4 if known > PRECISE_ITEMS else 12) * known * known

    def learn(self, touched: csr_matrix, progress: Progress, seed: int) -> ItemMap:
        from scipy.sparse import diags_array

        c = self.config
        users, items = degrees(touched)
        edges = (
            diags_array(powered(users, -c.user_exponent)) @ touched @ diags_array(powered(items, -c.item_exponent))
        ).tocsr()
        back, forth = powered(items, -c.item_exponent), powered(items, c.item_exponent + c.popularity_exponent)
        penalty = c.l2
        if c.dropout:
            # a penalty of each item's own is one of 1 for all once its column is divided by the root
            own = np.sqrt(penalty + c.dropout / (1 - c.dropout) * np.asarray(edges.power(2).sum(axis=0)).ravel())
            own = own.astype(np.float32)
            edges, back, forth, penalty = (edges @ diags_array(1 / own)).tocsr(), back / own, forth * own, 1.0
        if edges.shape[1] <= c.exact_up_to:
            return self._exact(edges, back, forth, penalty)
        return self._split(edges, back, forth, penalty, seed)

    def _exact(self, edges: csr_matrix, back: np.ndarray, forth: np.ndarray, penalty: float) -> ItemMap:
        inverse = ridge_inverse(edges, penalty)
        scale = forth / -np.diag(inverse)
        np.fill_diagonal(inverse, 0)
        # in place, a block of rows at a time: in a large catalogue a second matrix would not fit
        weights = np.empty(inverse.shape, np.float32) if inverse.dtype != np.float32 else inverse
        for start in range(0, len(inverse), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            weights[part] = inverse[part] * back[part, None] * scale
        k = self.config.neighbours
        if k is None or k > DENSE_SHARE * len(weights):
            return ItemMap.from_whole(weights, back > 0)
        return ItemMap.from_parts(strongest_cells(weights, k), back > 0)

    def _split(
        self, edges: csr_matrix, back: np.ndarray, forth: np.ndarray, penalty: float, seed: int
    ) -> ItemMap:
        from scipy.sparse import diags_array

        c = self.config
        sigma, vectors = leading_space(edges, c.dim, seed)
        values = sigma.astype(np.float64) ** 2
        slope = 1 / (penalty * (penalty + values[-1]))
        more = 1 / (values + penalty) - 1 / penalty + slope * values
        own = (vectors.astype(np.float64) ** 2 * more).sum(axis=1)
        total = np.asarray(edges.power(2).sum(axis=0)).ravel()
        diagonal = 1 / penalty - slope * total + own
        answer = (forth / diagonal).astype(np.float32)
        sparse = co_occurrence(edges, (slope * back).astype(np.float32), answer, c.neighbours, diagonal=False)
        # on the diagonal the two parts cancel: an item says nothing of itself
        sparse = (sparse + diags_array((own * back * answer).astype(np.float32))).tocsr()
        sparse.sort_indices()
        query = vectors * (-more * back[:, None]).astype(np.float32)
        return map_of_sum(sparse, query, vectors * answer[:, None], back > 0, c.neighbours)


def ridge_inverse(edges: csr_matrix, l2: float) -> np.ndarray:
    """(EᵀE + λI)⁻¹ [n, n] of E users × items without values below 0, by Cholesky.

    float64, but for catalogues of more than PRECISE_ITEMS: float32 there, in half the time and memory, where the
    matrix is well enough conditioned for it. Raises RecsysError where it has no inverse in the precision of numbers.
    """
    from scipy.linalg import lapack

    turned, n = edges.T.tocsr(), edges.shape[1]
    # no eigenvalue is greater than the greatest sum of a row
    greatest = float((turned @ (edges @ np.ones(n))).max(initial=0))
    single = n > PRECISE_ITEMS and greatest / l2 < WELL_CONDITIONED
    gram = np.empty((n, n), np.float32 if single else np.float64)
    for start in range(0, n, ROWS_AT_ONCE):
        gram[start : start + ROWS_AT_ONCE] = (turned[start : start + ROWS_AT_ONCE] @ edges).toarray()
    gram[np.diag_indices_from(gram)] += l2
    factor, invert = (lapack.spotrf, lapack.spotri) if single else (lapack.dpotrf, lapack.dpotri)
    # several threads of a busy machine wait for each other longer than one alone takes, and round as their number says
    with one_blas_thread():
        # LAPACK counts columns first: the transpose of a symmetric matrix is the matrix, and needs no copy
        done, failed = factor(gram.T, lower=0, clean=0, overwrite_a=1)
        if not failed:
            done, failed = invert(done, lower=0, overwrite_c=1)
    if failed:
        raise RecsysError("ease: the regression has no solution in floating point", "raise `l2`")
    out = done.T
    for start in range(0, n, ROWS_AT_ONCE):
        # the lower triangle was filled
        stop = min(start + ROWS_AT_ONCE, n)
        out[start:stop, stop:] = out[stop:, start:stop].T
        block = out[start:stop, start:stop]
        block[:] = np.tril(block) + np.tril(block, -1).T
    return out


class SlimConfig(HistoryConfig):
    """SLIM: sparse non-negative regression of every item on others, with elastic net (Ning and Karypis, ICDM 2011)."""

    kind: Literal["slim"] = "slim"
    renamed: ClassVar[dict[str, str]] = {"sweeps": "epochs"}
    l1: NonNegativeFloat = 1.0
    """Weight of the sum of the weights: greater makes them fewer."""
    l2: NonNegativeFloat = 20.0
    """Weight of half the sum of the squared weights."""
    candidates: PositiveInt = 100
    """Other items, the nearest by cosine, that may explain an item (fsSLIM of the same paper)."""
    epochs: PositiveInt = 20
    """Times that every weight is solved for with the others held."""


class Slim(ItemFilter):
    """w_j = argmin ½‖X_j − X w‖² + ½ l2 ‖w‖² + l1 ‖w‖₁ with w ≥ 0 and w_j = 0, over the nearest items of j.

    Coordinate descent on the Gram matrix of the candidates, for a block of items side by side.
    """

    config_type: ClassVar = SlimConfig
    config: SlimConfig

    def learn(self, touched: csr_matrix, progress: Progress, seed: int) -> ItemMap:
        from scipy.sparse import coo_array

        c, n = self.config, touched.shape[1]
        count = degrees(touched)[1]
        whole = (touched.T @ touched).tocsr()
        looked_up = whole.toarray() if n <= DENSE_GRAM else whole
        near = co_occurrence(touched, powered(count, -0.5), powered(count, -0.5), c.candidates, diagonal=False)
        targets, sources, weights = [], [], []
        with progress.step("slim", n) as step:
            for start in range(0, n, ITEMS_AT_ONCE):
                items = np.arange(start, min(start + ITEMS_AT_ONCE, n))
                who = _padded(near, items)
                gram = _gram(looked_up, who)
                right = gram_of_pairs(whole, np.repeat(items, who.shape[1]), who.ravel()).reshape(who.shape)
                found = elastic_net(gram, right, c.l1, c.l2, c.epochs)
                place, at = np.nonzero((found > 0) & (who >= 0))
                targets.append(items[place])
                sources.append(who[place, at])
                weights.append(found[place, at])
                step.advance(len(items))
        cells = (np.concatenate(sources), np.concatenate(targets))
        sparse = coo_array((np.concatenate(weights).astype(np.float32), cells), shape=(n, n)).tocsr()
        sparse.sort_indices()
        return ItemMap.from_parts(sparse, count > 0)


def _padded(matrix: csr_matrix, rows: np.ndarray) -> np.ndarray:
    """int[B, K] columns of rows, -1 filling the shorter."""
    lengths = np.diff(matrix.indptr)[rows]
    out = np.full((len(rows), max(int(lengths.max(initial=0)), 1)), -1, np.int64)
    out[np.arange(out.shape[1]) < lengths[:, None]] = matrix[rows].indices
    return out


def _gram(whole: csr_matrix | np.ndarray, who: np.ndarray) -> np.ndarray:
    """float64[B, K, K] products of the candidates of each item with each other, 0 where there is none."""
    if isinstance(whole, np.ndarray):
        held = who >= 0
        some = np.maximum(who, 0)
        products = whole[some[:, :, None], some[:, None, :]].astype(np.float64)
        return np.where(held[:, :, None] & held[:, None, :], products, 0)
    out = np.zeros((*who.shape, who.shape[1]))
    for place, items in enumerate(who):
        held = items[items >= 0]
        out[place, : len(held), : len(held)] = whole[held][:, held].toarray()
    return out


def gram_of_pairs(whole: csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64[m] entries of a matrix; 0 for columns of -1."""
    values = np.asarray(whole[rows, np.maximum(columns, 0)], np.float64).ravel()
    return np.where(columns >= 0, values, 0)


def elastic_net(gram: np.ndarray, right: np.ndarray, l1: float, l2: float, epochs: int) -> np.ndarray:
    """float64[B, K] argmin over w ≥ 0 of ½ wᵀ G w − rᵀ w + ½ l2 ‖w‖² + l1 Σ w, for B problems side by side.

    gram: float64[B, K, K], right: float64[B, K]. Coordinates with an empty diagonal stay 0.
    """
    weights, pull = np.zeros_like(right), np.zeros_like(right)
    own = np.einsum("bkk->bk", gram)
    scale = np.where(own > 0, own + l2, np.inf)
    for _ in range(epochs):
        for k in range(right.shape[1]):
            best = np.maximum(right[:, k] - (pull[:, k] - own[:, k] * weights[:, k]) - l1, 0) / scale[:, k]
            pull += (best - weights[:, k])[:, None] * gram[:, k]
            weights[:, k] = best
    return weights
