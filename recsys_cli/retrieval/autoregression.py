"""Linear autoregression in closed form: what comes, regressed on what came."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.parallel import one_blas_thread
from recsys_cli.progress import Progress
from recsys_cli.retrieval.gaps import decayed, gap_sums
from recsys_cli.retrieval.graph_filter import powered
from recsys_cli.retrieval.item_filter import strongest
from recsys_cli.retrieval.ordered import Decay, OrderedConfig, OrderedFilter, RowStack

COLUMNS_AT_ONCE = 512


class LinearAutoregressiveConfig(OrderedConfig):
    """Linear autoregression: ridge regression of the next events on the past ones, in the family of SLIST (Choe et
    al., WWW 2021) and TALE (Park et al., WSDM 2025)."""

    kind: Literal["linear_autoregressive"] = "linear_autoregressive"
    past: PositiveInt = 40
    """Latest events from which the regression foretells."""
    past_decay: Decay = 0.9
    """What an event of the past counts of the one after it."""
    future: PositiveInt = 15
    """Events that are foretold."""
    future_decay: Decay = 0.9
    """What an event of the future counts of the one before it."""
    regularisation: PositiveFloat = 1_000.0
    """Weight λ of the squared weights; less where there are few events."""
    set_weight: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the target that is the past itself: 0 foretells what comes, 1 what goes together."""
    popularity_exponent: float = 0.0
    """Power of an item's number of interactions by which its score is multiplied; below 0 tempers the popular."""
    exact_up_to: PositiveInt = 14_000
    """Items that take part, those of most interactions where there are more; memory grows with the square, three
    numbers of four bytes for each pair."""


class LinearAutoregressive(OrderedFilter):
    """B = (XᵀX + λI)⁻¹ ((1 − a) XᵀY + a XᵀX).

    A row of X is the decayed past of a user as of an event, the event included, a row of Y the decayed future after
    it; there is a row for every event that another follows. Neither is ever made: what a pair of events adds to
    XᵀX and XᵀY depends on the places between them and on those left of the history alone, so that both products are
    sums over gaps (`gaps.gap_sums`). The set model of SLIST, which foretells the past from itself, has the same XᵀX,
    so that both are solved at once and a weighs them.
    """

    config_type: ClassVar = LinearAutoregressiveConfig
    config: LinearAutoregressiveConfig

    def learn(self, histories: Ragged, n_items: int, progress: Progress) -> dict[str, np.ndarray]:
        c = self.config
        count = np.bincount(histories.values, minlength=n_items)
        items = np.sort(np.argsort(-count, kind="stable")[: min(c.exact_up_to, np.count_nonzero(count))])
        if (left := np.count_nonzero(count) - len(items)) > 0:
            progress.message(
                f"linear autoregression: of {len(items) + left:,} items the {len(items):,} with most interactions "
                "take part (exact_up_to); the others it never proposes"
            )
        place = np.full(n_items, -1, np.int32)
        place[items] = np.arange(len(items))
        held = place[histories.values] >= 0
        mine = Ragged(
            offsets_of(np.bincount(histories.rows[held], minlength=len(histories))), place[histories.values[held]]
        )
        weights = self._solve(mine, len(items))
        weights *= powered(count[items], c.popularity_exponent).astype(np.float32)
        return self._compressed(weights, items, n_items)

    def _solve(self, histories: Ragged, n: int) -> np.ndarray:
        """float32[n, n] B; in blocks of columns of one size, so that threads change no bit."""
        from scipy.linalg import cho_factor, cho_solve

        c = self.config
        gram = _dense(histories, past_weights(c.past, c.past_decay), n)
        target = _dense(histories, future_weights(c.past, c.past_decay, c.future, c.future_decay), n, first=1)
        target *= np.float32(1 - c.set_weight)
        target += np.float32(c.set_weight) * gram
        gram[np.diag_indices(n)] += np.float32(c.regularisation)
        parts = [slice(start, start + COLUMNS_AT_ONCE) for start in range(0, n, COLUMNS_AT_ONCE)]
        with one_blas_thread(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            factor = cho_factor(gram.T, lower=True, overwrite_a=True, check_finite=False)

            def solve(part: slice) -> None:
                target[:, part] = cho_solve(factor, np.asfortranarray(target[:, part]), check_finite=False)

            list(pool.map(solve, parts))
        return target

    def _compressed(self, weights: np.ndarray, items: np.ndarray, n_items: int) -> dict[str, np.ndarray]:
        """The arrays, from float32[m, m] weights between `items` int[m], ascending."""
        from scipy.sparse import csr_matrix

        known = np.zeros(n_items, bool)
        known[items] = True
        stack = RowStack.empty()
        for start in range(0, len(items), COLUMNS_AT_ONCE):
            stack.add(strongest(csr_matrix(weights[start : start + COLUMNS_AT_ONCE]), self.config.neighbours))
        arrays = stack.arrays(known)
        lengths = np.zeros(n_items, np.int64)
        lengths[items] = np.diff(arrays["offsets"])
        return {**arrays, "offsets": offsets_of(lengths), "columns": items.astype(np.int32)[arrays["columns"]]}


def _dense(histories: Ragged, weights: np.ndarray, n: int, first: int = 0) -> np.ndarray:
    """float32[n, n] of `gap_sums`; those from gap 0 on are of a symmetric matrix, which is filled up."""
    out = np.zeros((n, n), np.float32)
    for start, rows in gap_sums(histories, weights, first, n):
        out[start : start + rows.shape[0]] = rows.toarray()
    if first == 0:
        own = np.zeros(n, np.float32)
        for start, rows in gap_sums(histories, weights[:1], 0, n):
            own[start : start + rows.shape[0]] = rows.diagonal(k=start)
        for start in range(0, n, COLUMNS_AT_ONCE):
            stop = start + COLUMNS_AT_ONCE
            both = out[start:stop, start:] + out[start:, start:stop].T
            out[start:stop, start:] = both
            out[start:, start:stop] = both.T
        out[np.diag_indices(n)] -= own
    return out


def past_weights(past: int, decay: float) -> np.ndarray:
    """float64[past, past + 1]: what two events, g places apart, with r events after the earlier one, add to XᵀX."""
    gap, rest = np.arange(past)[:, None], np.arange(past + 1)
    rows = np.maximum(np.minimum(past, rest) - gap, 0)
    twice = np.concatenate([[0.0], np.cumsum(decayed(decay**2, past))])
    return decayed(decay, past)[:, None] * twice[rows]


def future_weights(past: int, past_decay: float, future: int, future_decay: float) -> np.ndarray:
    """float64[past + future − 1, 1]: what two events add to XᵀY, by the places between them, from 1."""
    return np.convolve(decayed(past_decay, past), decayed(future_decay, future))[:, None]
