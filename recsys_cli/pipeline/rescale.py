"""What stages share that multiply the utility, or choose by it."""

from __future__ import annotations

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Scorer


def scaled(utility: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The utility times a factor that is at least 0; a factor below one pushes down, also where it is negative."""
    return np.where(utility >= 0, utility * factor, utility / np.maximum(factor, 1e-3)).astype(np.float32)


class Rescaler(Scorer):
    """A scorer that multiplies the utility and puts the candidates into their new order."""

    reads = ("utility",)
    gives = ("utility",)

    def factors(self, query: Query, candidates: Candidates) -> np.ndarray:
        """What each slot's utility is multiplied by, at least 0: float32[B, K] or [B, 1]."""
        raise NotImplementedError

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        utility = scaled(candidates.scores["utility"], self.factors(query, candidates))
        return candidates.with_scores(utility=utility).best("utility", candidates.items.shape[1])


def slot_relevance(candidates: Candidates) -> np.ndarray:
    """float64[B, K]: what each slot of the given order is worth, falling from 1 to 0 over a user's candidates.

    The utilities, highest first, are handed to the slots in their order, so that an order which another stage has
    changed since counts as it stands. All 0 where every utility is the same.
    """
    filled = candidates.filled
    utility = np.where(filled, candidates.scores["utility"], -np.inf).astype(np.float64)
    falling = -np.sort(-utility, axis=1)
    if not falling.shape[1]:
        return falling
    top, count = falling[:, :1], filled.sum(axis=1)
    bottom = np.take_along_axis(falling, np.maximum(count - 1, 0)[:, None], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        span = np.where(count[:, None] > 0, top - bottom, 0.0)
        out = (falling - bottom) / span
    return np.where(filled & (span > 0), out, 0.0)


def chosen_first(candidates: Candidates, chosen: list[np.ndarray]) -> Candidates:
    """The chosen slots of each user in their order, then all others in the order they had.

    chosen: for each user int64[at most K] filled slots, none twice.
    """
    b, k = candidates.items.shape
    order = np.full((b, k), -1, np.int64)
    left = candidates.filled.copy()
    for row, slots in enumerate(chosen):
        order[row, : len(slots)] = slots
        left[row, slots] = False
        rest = np.flatnonzero(left[row])
        order[row, len(slots) : len(slots) + len(rest)] = rest
    return candidates.take(order)
