"""Semantic ids: an item's vector as a short sequence of codes by residual k-means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class SemanticIds:
    """Codes of items, the coarsest first (residual quantisation: Juang and Gray, ICASSP 1982; of items: Rajput et al.,
    "Recommender systems with generative retrieval", NeurIPS 2023).

    Level l codes what the levels before it left over, so that items alike share their first codes. Items with the same
    codes are told apart by a last number.
    """

    books: np.ndarray
    """float32[L, C, D] centres of each level"""
    codes: np.ndarray
    """int16[n, L] of each item, -1 where it has no vector"""
    last: np.ndarray
    """int32[n] 0 for the first item with its codes, then 1, 2, …"""

    @classmethod
    def learn(
        cls, vectors: np.ndarray, known: np.ndarray, levels: int, width: int, seed: int, rounds: int = 15
    ) -> SemanticIds:
        """Learn the centres from float32[n, D] vectors of the known items; fewer than `width` where there are fewer
        different vectors."""
        rows = np.flatnonzero(known)
        rest = vectors[rows].astype(np.float32)
        width = max(1, min(width, len(np.unique(rest, axis=0)))) if len(rows) else 1
        rng = np.random.default_rng([seed, 3])
        books, codes = [], np.full((len(vectors), levels), -1, np.int16)
        for level in range(levels):
            centres = _centres(rest, width, rng, rounds)
            nearest = _nearest(rest, centres)
            codes[rows, level] = nearest
            rest = rest - centres[nearest]
            books.append(centres)
        return cls(np.stack(books), codes, _last(codes))

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """int16[n, L] codes of other vectors."""
        rest, out = vectors.astype(np.float32), np.zeros((len(vectors), len(self.books)), np.int16)
        for level, centres in enumerate(self.books):
            out[:, level] = _nearest(rest, centres)
            rest = rest - centres[out[:, level]]
        return out

    def vectors(self, codes: np.ndarray) -> np.ndarray:
        """float32[n, D] what codes int[n, L] stand for: the sum of their centres."""
        return sum(self.books[level][codes[:, level]] for level in range(len(self.books)))

    def decode(self, codes: np.ndarray, last: np.ndarray) -> np.ndarray:
        """int32[m] item of each semantic id, codes int[m, L] with its last number int[m]; -1 where there is none."""
        mine = np.column_stack([self.codes, self.last]).astype(np.int64)
        asked = np.column_stack([codes, last]).astype(np.int64)
        held = np.flatnonzero(self.codes[:, 0] >= 0)
        # one number an id, from the places of its parts among those that are there
        both = np.unique(np.concatenate([mine[held], asked]), axis=0, return_inverse=True)[1].ravel()
        item = np.full(int(both.max(initial=-1)) + 1, -1, np.int32)
        item[both[: len(held)]] = held
        return item[both[len(held) :]]

    def sharing(self, items: np.ndarray, level: int) -> np.ndarray:
        """bool[m, n]: whether each item shares the first `level` codes of each of `items`."""
        mine = self.codes[items, None, :level]
        return (mine == self.codes[None, :, :level]).all(axis=2) & (mine >= 0).all(axis=2)


def _last(codes: np.ndarray) -> np.ndarray:
    """int32[n] place among the items of the same codes, in the order of items."""
    group = np.unique(codes, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(group, kind="stable")
    ranked = group[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.zeros(0, int)
    lengths = np.diff(np.append(starts, len(ranked)))
    out = np.zeros(len(codes), np.int32)
    out[order] = np.arange(len(ranked)) - np.repeat(starts, lengths)
    return out


def _centres(rows: np.ndarray, width: int, rng: np.random.Generator, rounds: int) -> np.ndarray:
    """float32[width, D] by Lloyd's k-means, begun at rows drawn far apart (Arthur and Vassilvitskii, SODA 2007); an
    empty centre goes to the row that is farthest from its own."""
    if not len(rows):
        return np.zeros((width, rows.shape[1]), np.float32)
    centres = np.empty((width, rows.shape[1]), np.float32)
    centres[0] = rows[rng.integers(len(rows))]
    distance = ((rows - centres[0]) ** 2).sum(axis=1)
    for place in range(1, width):
        total = distance.sum()
        drawn = rng.choice(len(rows), p=distance / total) if total > 0 else rng.integers(len(rows))
        centres[place] = rows[drawn]
        distance = np.minimum(distance, ((rows - centres[place]) ** 2).sum(axis=1))
    for _ in range(rounds):
        nearest = _nearest(rows, centres)
        count = np.bincount(nearest, minlength=width)
        order = np.argsort(nearest, kind="stable")
        filled = np.flatnonzero(count)
        starts = np.concatenate([[0], np.cumsum(count[filled])[:-1]])
        fresh = centres.copy()
        fresh[filled] = np.add.reduceat(rows[order], starts, axis=0) / count[filled, None]
        empty = np.flatnonzero(count == 0)
        if len(empty):
            far = np.argsort(-((rows - centres[nearest]) ** 2).sum(axis=1), kind="stable")[: len(empty)]
            fresh[empty[: len(far)]] = rows[far]
        if np.array_equal(fresh, centres):
            break
        centres = fresh
    return centres


def _nearest(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """int64[n] the nearest centre of each row, the first of equals."""
    half = 0.5 * (centres**2).sum(axis=1)
    out = np.zeros(len(rows), np.int64)
    step = max(CELLS_AT_ONCE // len(centres), 1)
    for start in range(0, len(rows), step):
        # row by row, so that the last bit of a product does not depend on how many are coded at once
        products = np.matmul(rows[start : start + step, None, :], centres.T)[:, 0]
        out[start : start + step] = (half - products).argmin(axis=1)
    return out
