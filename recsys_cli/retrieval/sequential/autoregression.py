"""Linear autoregression in closed form: what comes, regressed on what came."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.errors import RecsysError
from recsys_cli.parallel import one_blas_thread
from recsys_cli.progress import Progress
from recsys_cli.retrieval.linear.graph_filter import powered
from recsys_cli.retrieval.linear.item_filter import strongest_cells
from recsys_cli.retrieval.sequential.gaps import decayed, gap_sums
from recsys_cli.retrieval.sequential.ordered import Decay, OrderedConfig, OrderedFilter, RowStack

COLUMNS_AT_ONCE = 512


class LinearAutoregressiveConfig(OrderedConfig):
    """Linear autoregression: ridge regression of the next events on the past ones, in the family of SLIST (Choe et
    al., WWW 2021) and TALE (Park et al., WSDM 2025)."""

    kind: Literal["linear_autoregressive"] = "linear_autoregressive"
    renamed: ClassVar[dict[str, str]] = {"regularisation": "l2"}
    past: PositiveInt = 60
    """Latest events from which the regression foretells."""
    past_decay: Decay = 0.95
    """What an event of the past counts of the one after it, in training and when asked."""
    recent_decay: Decay | None = 0.8
    """Likewise in a second memory, of the most recent events, with weights of its own; null leaves one memory."""
    future: PositiveInt = 30
    """Events that are foretold."""
    future_decay: Decay = 0.92
    """What an event of the future counts of the one before it."""
    l2: PositiveFloat = 1_000.0
    """Weight λ of the squared weights, times √Σ decay²ᵏ of their memory; less where there are few events."""
    set_weight: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the target that is the past itself: 0 foretells what comes, 1 what goes together."""
    user_exponent: NonNegativeFloat = 0.15
    """Power of a user's number of events by which the user's rows are divided: above 0, people with many events do not
    outweigh all others."""
    popularity_exponent: float = -0.05
    """Power of an item's number of interactions by which its score is multiplied; below 0 tempers the popular."""
    neighbours: PositiveInt | None = 500
    """Strongest weights kept for each item in each memory; null keeps all."""
    exact_up_to: PositiveInt = 12_000
    """Unknowns of the regression, an item in a memory being one; memory grows with the square. Where there are more
    items, those of most interactions take part, fewer of them in the recent memory."""


class LinearAutoregressive(OrderedFilter):
    """B = (XᵀX + Λ)⁻¹ ((1 − a) XᵀY + a XᵀS), the diagonal of each memory held at 0 where seen items are left out.

    A row of X is the past of a user as of an event, the event included, decayed in one way for each memory; a row of
    Y is the decayed future after it and of S the mean of the memories, so that a weighs the set model of SLIST. There
    is a row for every event that another follows. None of the three is ever made: what a pair of events adds depends
    on the places between them and on those left of the history alone, so that all products are sums over gaps
    (`gaps.gap_sums`). An item that cannot be proposed to those who have it need not explain itself: without the
    constraint, that of EASE, its weight would go there.
    """

    config_type: ClassVar = LinearAutoregressiveConfig
    config: LinearAutoregressiveConfig

    @classmethod
    def alternatives(cls, config: LinearAutoregressiveConfig) -> list[LinearAutoregressiveConfig]:
        tried = (
            {"l2": 1_500.0, "set_weight": 0.35, "popularity_exponent": -0.1},
            {"l2": 300.0},
            {"recent_decay": None, "past_decay": 0.9, "l2": 400.0},
        )
        return [config.model_copy(update=update) for update in tried]

    def memories(self) -> tuple[float, ...]:
        c = self.config
        return (c.past_decay,) if c.recent_decay is None else (c.past_decay, c.recent_decay)

    def learn(
        self, histories: Ragged, times: np.ndarray, n_items: int, progress: Progress
    ) -> dict[str, np.ndarray]:
        c = self.config
        count = np.bincount(histories.values, minlength=n_items)
        used = int(np.count_nonzero(count))
        known = Unknowns.within(c.exact_up_to, used, len(self.memories()))
        items = np.argsort(-count, kind="stable")[: known.items]
        if used > known.items or known.recent not in (0, known.items):
            recent = f", {known.recent:,} of them in the recent memory" if known.recent else ""
            progress.message(
                f"linear autoregression: of {used:,} items the {known.items:,} with most interactions take part"
                f"{recent} (exact_up_to); the others it never proposes"
            )
        place = np.full(n_items, -1, np.int32)
        place[items] = np.arange(len(items))
        held = place[histories.values] >= 0
        mine = Ragged(
            offsets_of(np.bincount(histories.rows[held], minlength=len(histories))), place[histories.values[held]]
        )
        tempered = powered(count[items], c.popularity_exponent).astype(np.float32)
        return self._compressed(self._weights(mine, known), known, items, tempered, n_items)

    def _weights(self, histories: Ragged, known: Unknowns) -> np.ndarray:
        """float32[unknowns, items] B of items in descending order of interactions."""
        c, n = self.config, known.items
        kernels = [decayed(decay, c.past) for decay in self.memories()]
        rows = [known.rows(m) for m in range(len(kernels))]
        gram, target = np.zeros((len(known), len(known)), np.float32), np.zeros((len(known), n), np.float32)
        scale = _even(histories.lengths, c.user_exponent)
        pairs = [(a, b) for a in range(len(kernels)) for b in range(len(kernels))]
        tables = [past_weights(kernels[a], kernels[b]) for a, b in pairs]
        for start, sums in gap_sums(histories, tables, 0, n, scale):
            for (a, b), found in zip(pairs, sums, strict=True):
                mine = rows[a][start : start + found.shape[0]]
                if len(mine):
                    gram[mine[:, None], rows[b]] = found[: len(mine), : len(rows[b])].toarray()
        _add_transpose(gram)
        futures = [np.convolve(kernel, decayed(c.future_decay, c.future))[:, None] for kernel in kernels]
        share = np.float32(1 - c.set_weight)
        for start, sums in gap_sums(histories, futures, 1, n, scale):
            for mine, found in zip(rows, sums, strict=True):
                part = mine[start : start + found.shape[0]]
                target[part] = share * found[: len(part)].toarray()
        for mine in rows if c.set_weight else ():
            for start in range(0, len(known), COLUMNS_AT_ONCE):
                part = slice(start, start + COLUMNS_AT_ONCE)
                target[part, : len(mine)] += np.float32(c.set_weight / len(rows)) * gram[part][:, mine]
        for mine, kernel in zip(rows, kernels, strict=True):
            gram[mine, mine] += np.float32(c.l2 * np.sqrt(np.sum(kernel**2)))
        return ridge(gram, target, rows if c.exclude_seen else [])

    def _compressed(
        self, weights: np.ndarray, known: Unknowns, items: np.ndarray, tempered: np.ndarray, n_items: int
    ) -> dict[str, np.ndarray]:
        """The arrays, from float32[unknowns, items] weights; tempered: float32[items] multiplies the columns."""
        order, k = np.argsort(items), min(self.config.neighbours or len(items), len(items))
        stack, lengths = RowStack.empty(), np.zeros((len(self.memories()), n_items), np.int64)
        for m, each in enumerate(lengths):
            mine = order[order < len(known.rows(m))]
            for start in range(0, len(mine), COLUMNS_AT_ONCE):
                part = mine[start : start + COLUMNS_AT_ONCE]
                kept = strongest_cells((weights[known.rows(m)[part]] * tempered)[:, order], k)
                stack.add(kept)
                each[items[part]] = np.diff(kept.indptr)
        arrays = stack.arrays(np.isin(np.arange(n_items), items))
        columns = items[order].astype(np.int32)[arrays["columns"]]
        return {**arrays, "offsets": offsets_of(lengths.ravel()), "columns": columns}


@dataclass(frozen=True)
class Unknowns:
    """Which row of the regression is which item in which memory: items in the first, the first `recent` in a second.

    The two rows of an item that is in both stand side by side.
    """

    items: int
    recent: int

    @classmethod
    def within(cls, most: int, items: int, memories: int) -> Unknowns:
        """At most so many, of which a quarter is the recent memory's where all items do not fit."""
        if memories == 1:
            return cls(min(items, most), 0)
        kept = min(items, most - most // 4)
        return cls(kept, min(kept, most - kept))

    def __len__(self) -> int:
        return self.items + self.recent

    def rows(self, memory: int) -> np.ndarray:
        """int64[items or recent] row of each."""
        places = np.arange(self.recent if memory else self.items)
        return places + np.minimum(places, self.recent) + (places < self.recent) * memory


def ridge(gram: np.ndarray, target: np.ndarray, zeros: list[np.ndarray]) -> np.ndarray:
    """float32[N, n] G⁻¹ Y, written over `target`; G float32[N, N] symmetric, lost, Y float32[N, n].

    zeros: rows int[≤ n]; of each of them, weight j of row `zeros[…][j]` is held at 0, by Lagrange's multipliers. In
    blocks of columns of one size, so that threads change no bit. Raises RecsysError where G has no inverse.
    """
    from scipy.linalg import lapack

    parts = [slice(start, start + COLUMNS_AT_ONCE) for start in range(0, target.shape[1], COLUMNS_AT_ONCE)]
    with one_blas_thread(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # LAPACK counts columns first: the transpose of a symmetric matrix is the matrix, and needs no copy
        factor, failed = lapack.spotrf(gram.T, lower=1, clean=0, overwrite_a=1)
        if failed:
            raise RecsysError(
                "linear autoregression has no solution in floating point", "raise its `l2`"
            )

        def solve(part: slice) -> None:
            # half the way, L⁻¹Y, the multipliers are products of columns
            half = lapack.strtrs(factor, np.asfortranarray(target[:, part]), lower=1, overwrite_b=1)[0]
            units = [_unit(factor, rows[part]) for rows in zeros]
            for unit, multiplier in zip(units, _multipliers(units, half), strict=True):
                half[:, : unit.shape[1]] -= unit * multiplier[: unit.shape[1]]
            target[:, part] = lapack.strtrs(factor, half, lower=1, trans=1, overwrite_b=1)[0]

        list(pool.map(solve, parts))
    return target


def _unit(factor: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float32[N, len(rows)] L⁻¹ e_r for each row."""
    from scipy.linalg import lapack

    unit = np.zeros((len(factor), len(rows)), np.float32, order="F")
    unit[rows, np.arange(len(rows))] = 1
    return lapack.strtrs(factor, unit, lower=1, overwrite_b=1)[0] if len(rows) else unit


def _multipliers(units: list[np.ndarray], half: np.ndarray) -> list[np.ndarray]:
    """One float32[n] for each of at most two constraints of the columns of `half`; 0 where there is none.

    They solve, for each column, the system of the products of its units with each other and with itself.
    """
    n = half.shape[1]
    wide = [np.pad(u, ((0, 0), (0, n - u.shape[1]))) if u.shape[1] < n else u for u in units]
    right = [np.einsum("ij,ij->j", u, half).astype(np.float64) for u in wide]
    if len(units) < 2:
        own = [np.einsum("ij,ij->j", u, u).astype(np.float64) for u in wide]
        return [(r / o).astype(np.float32) for r, o in zip(right, own, strict=True)]
    aa, ab, bb = (np.einsum("ij,ij->j", u, v).astype(np.float64) for u, v in zip(
        (wide[0], wide[0], wide[1]), (wide[0], wide[1], wide[1]), strict=True))  # fmt: skip
    held = bb > 0
    determinant = np.where(held, aa * bb - ab * ab, 1.0)
    both = (bb * right[0] - ab * right[1]) / determinant, (aa * right[1] - ab * right[0]) / determinant
    return [np.where(held, both[0], right[0] / aa).astype(np.float32), np.where(held, both[1], 0).astype(np.float32)]


def past_weights(earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    """float64[past, past + 1]: what two events, g places apart, with r events after the earlier one, add to XᵀX, seen
    in memories of the kernels float64[past] given; half of it where g is 0, since the transpose is added."""
    past = len(earlier)
    out = np.zeros((past, past + 1))
    for gap in range(past):
        sums = np.cumsum(earlier[gap:] * later[: past - gap])
        # rows as of the later event and those after it, but not of the last one
        out[gap, gap + 1 : gap + 1 + len(sums)] = sums
        out[gap, gap + 1 + len(sums) :] = sums[-1]
    out[0] /= 2
    return out


def _even(lengths: np.ndarray, exponent: float) -> np.ndarray:
    """float64[users] weights of rows of users with so many events, length^(−2 · exponent) over its mean over events."""
    weights = np.maximum(lengths, 1).astype(np.float64) ** (-2 * exponent)
    total = (weights * lengths).sum()
    return weights * (lengths.sum() / total) if total > 0 else weights


def _add_transpose(matrix: np.ndarray) -> None:
    """M + Mᵀ in place of float[n, n], a block at a time."""
    for start in range(0, len(matrix), COLUMNS_AT_ONCE):
        stop = start + COLUMNS_AT_ONCE
        both = matrix[start:stop, start:] + matrix[start:, start:stop].T
        matrix[start:stop, start:] = both
        matrix[start:, start:stop] = both.T
