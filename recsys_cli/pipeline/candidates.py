"""What travels through the pipeline: candidates of a batch of users, in columns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Candidates:
    """Candidates of B users in K slots each.

    items: int32[B, K], -1 where a slot is empty. sources: uint32[B, K], bit s is set where source s
    proposed the item. scores: name → float32[B, K] ("light", "utility", "p_like", "sim_als", ...).
    Each stage leaves filled slots first, best first where it ranks.
    """

    items: np.ndarray
    sources: np.ndarray
    scores: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def empty(cls, users: int) -> Candidates:
        """No candidates of so many users."""
        none = np.zeros((users, 0), np.float32)
        return cls(none.astype(np.int32), none.astype(np.uint32), {"rrf": none})

    @property
    def filled(self) -> np.ndarray:
        """bool[B, K]"""
        return self.items >= 0

    @property
    def counts(self) -> np.ndarray:
        """int64[B] filled slots a user"""
        return self.filled.sum(axis=1)

    def take(self, columns: np.ndarray) -> Candidates:
        """Candidates in the given slots; columns: int[B, J], -1 leaves a slot empty."""
        empty = columns < 0
        width = self.items.shape[1]
        # one flat index serves every column: a gather a column along the axis costs several times as much
        at = np.maximum(columns, 0) + np.arange(len(self.items))[:, None] * width
        holes = bool(empty.any())

        def pick(a: np.ndarray, filler: float) -> np.ndarray:
            if not width:
                return np.full(columns.shape, filler, a.dtype)
            out = a.reshape(-1).take(at)
            if holes:
                out[empty] = filler
            return out

        return Candidates(pick(self.items, -1), pick(self.sources, 0), {k: pick(v, 0) for k, v in self.scores.items()})

    def first(self, k: int) -> Candidates:
        """Those in the first k slots."""
        return Candidates(self.items[:, :k], self.sources[:, :k], {n: v[:, :k] for n, v in self.scores.items()})

    def rows(self, rows: slice) -> Candidates:
        """Candidates of some of the users."""
        return Candidates(self.items[rows], self.sources[rows], {k: v[rows] for k, v in self.scores.items()})

    def keep(self, mask: np.ndarray) -> Candidates:
        """Only slots where mask [B, K] holds, moved to the front in their order; width is that of the
        longest row."""
        if mask.all():
            return self
        if len(mask) == 1:  # a request of one user must not pay for the bookkeeping of a batch
            at = np.flatnonzero(mask[0])
            scores = {name: values.take(at, axis=1) for name, values in self.scores.items()}
            return Candidates(self.items.take(at, axis=1), self.sources.take(at, axis=1), scores)
        count = mask.sum(axis=1)
        width = int(count.max(initial=0))
        rows, places = np.nonzero(mask)
        first = np.arange(len(mask)) * width - (np.cumsum(count) - count)
        order = np.full((len(mask), width), -1)
        order.reshape(-1)[np.arange(len(rows)) + np.repeat(first, count)] = places
        return self.take(order)

    def best(self, name: str, k: int) -> Candidates:
        """The k best by a score, best first; equal scores go to the lower item position.

        Scores are compared after rounding to six significant digits, so that the last bits in which a
        matrix product of another shape differs cannot turn the order.
        """
        score = self.scores[name]
        if score.dtype == np.float32:
            order = np.argsort(_falling(score, self.items), axis=1)[:, :k]
        else:
            order = np.lexsort((self.items, -np.where(self.filled, significant(score), -np.inf)), axis=1)[:, :k]
        filled = self.filled
        if not filled.all():
            order[~np.take_along_axis(filled, order, axis=1)] = -1
        return self.take(order)

    def with_scores(self, **scores: np.ndarray) -> Candidates:
        """The same candidates with further scores, float32[B, K] each."""
        return replace(self, scores={**self.scores, **scores})


def significant(values: np.ndarray) -> np.ndarray:
    """float64 values rounded to about six significant digits (20 bits of mantissa)."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.round(mantissa * 2**20), exponent - 20)


DROPPED = 4
"""Last bits of a number in single precision that do not decide an order: 20 are left, as `significant` leaves."""


def _falling(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """int64[B, K] keys that ascend as scores fall and, where those are equal to six digits, as items rise; empty slots
    and scores that are no number come last."""
    bits = np.ascontiguousarray(scores, np.float32).view(np.int32).astype(np.int64)
    size = bits & 0x7FFFFFFF
    rounded = (size + (1 << DROPPED - 1) - 1 + (size >> DROPPED & 1)) >> DROPPED
    keys = (np.where(bits < 0, rounded, -rounded) << 31) + items
    keys[(items < 0) | (size > 0x7F800000)] = np.iinfo(np.int64).max
    return keys
