"""The stage that explores: fills slots by a strategy, and tells the exact probability of what it put there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import ExplorationConfig, UserRates
from recsys_cli.pipeline.exploration.newcomers import missing_impressions
from recsys_cli.pipeline.exploration.registry import make_strategy
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Selector, Stage
from recsys_cli.pipeline.utility import users_with
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue


class Explore(Selector):
    """Fills the slate slot by slot: with probability ε by the strategy, else by the best candidate that is left.

    Each slot is one draw from a distribution over the candidates that are left, given what stands above it. Scores:
    "propensity" is its probability of the item shown, "slate_propensity" the product of those of a slate, which is the
    probability of the whole slate in its order; "explored" is 1 where the strategy, and not the ranking, filled a slot.
    All three speak of the first `size` places and are 0 behind them. The last checks change nothing of them: every
    candidate has passed them already. Where a sequence of one's own puts a stage behind this one that may change
    slates, nobody knows their probability, and both are 0.
    """

    name = "explore"
    reads = ("utility",)
    gives = ("explored", "propensity", "slate_propensity")
    last = True
    exact = True
    """whether nothing behind it changes slates"""

    def __init__(self, config: ExplorationConfig, catalogue: Catalogue | None = None):
        """catalogue: where `config.users` finds the attribute of its users."""
        self._strategy = make_strategy(config)
        self._cold = config.cold_start
        self._epsilon = _rates(config, catalogue)
        self._lacks = PerState(lambda state: missing_impressions(state, config.cold_start))

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        slots = min(query.size, candidates.items.shape[1])
        columns, chance, explored = self._walk(query, candidates, slots)
        shown = np.zeros(candidates.items.shape, bool)
        row, slot = np.nonzero(columns >= 0)
        shown[row, columns[row, slot]] = True
        behind = np.where(shown | ~candidates.filled, 2, 1)
        rest = np.argsort(behind, axis=1, kind="stable")[:, : candidates.items.shape[1] - slots]
        rest = np.where(np.take_along_axis(behind, rest, axis=1) == 1, rest, -1)
        # a row that ends within the slate has nothing behind it either
        out = candidates.take(np.concatenate([columns, rest], axis=1))
        scores = {name: np.zeros(out.items.shape, np.float32) for name in self.gives}
        scores["explored"][:, :slots] = explored
        chance = chance if self.exact else np.zeros_like(chance)
        scores["propensity"][:, :slots] = chance * (columns >= 0)
        whole = np.where(columns >= 0, chance, 1).prod(axis=1, keepdims=True)
        scores["slate_propensity"][:, :slots] = whole * (columns >= 0)
        return out.with_scores(**scores)

    def followed_by(self, stages: Sequence[Stage]) -> None:
        """Take note of the stages behind this one."""
        changing = [s.name for s in stages if isinstance(s, Selector) and not s.final]
        if changing:
            self.exact = False
            told = " and ".join(changing)
            verb = "stand" if len(changing) > 1 else "stands"
            self.notes = (f"{told} {verb} behind explore and may change what it chose: no propensities are told",)

    def propensities(self, query: Query, candidates: Candidates, slates: np.ndarray) -> np.ndarray:
        """float64[B, S]: probability of each slot's candidate given those above it, had this stage to fill the slates.

        candidates: as the stage is given them. slates: int64[B, S] slots of candidates, -1 where one is short.
        """
        return self._walk(query, candidates, slates.shape[1], slates)[1]

    def _walk(
        self, query: Query, candidates: Candidates, slots: int, given: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(columns int64[B, slots], -1 where nothing is left; their probabilities; bool, filled by the strategy).

        given: the columns, where not to draw but to tell the probabilities.
        """
        left, rows = candidates.filled.copy(), np.arange(len(query))
        chances = self._strategy.chances(query, candidates)
        epsilon = self._epsilon[np.where((query.users < 0) | (query.users >= len(self._epsilon)), -1, query.users)]
        draws = query.uniform(2 * max(slots, 1), purpose=1)
        columns = np.full((len(rows), slots), -1, np.int64)
        chance, explored = np.zeros((len(rows), slots)), np.zeros((len(rows), slots), bool)
        lacks = self._lacks(query.state)[candidates.items] if self._cold.enabled else None
        for slot in range(slots):
            best, some = left.argmax(axis=1), left.any(axis=1)
            drawn_from, weights, share = chances.columns, chances.next(), epsilon
            if lacks is not None and slot == self._cold.position - 1:
                drawn_from, weights, share = _kept_place(left, lacks, drawn_from, weights, share)
            share = np.where(weights.any(axis=1), share, 0.0) if weights.shape[1] else np.zeros(len(rows))
            try_ = (draws[:, 2 * slot] < share) & some
            if given is None:
                drawn = _draw(drawn_from, weights, draws[:, 2 * slot + 1])
                column = np.where(some, np.where(try_, drawn, best), -1)
            else:
                column = given[:, slot]
            of_strategy = (weights * (drawn_from == column[:, None])).sum(axis=1)
            chance[:, slot] = np.where(some, (1 - share) * (column == best) + share * of_strategy, 0)
            columns[:, slot], explored[:, slot] = column, try_
            left[rows[column >= 0], column[column >= 0]] = False
            chances.place(column)
        return columns, chance, explored


def _kept_place(
    left: np.ndarray, lacks: np.ndarray, drawn_from: np.ndarray, weights: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a slot kept for new items is drawn from where a user has such candidates: in proportion to the impressions
    that they lack. For others it is a slot as any other."""
    need = lacks * left
    has = need.any(axis=1)
    width = max(left.shape[1], drawn_from.shape[1])
    every = np.broadcast_to(np.arange(width), (len(left), width))

    def wide(values: np.ndarray, filler: float) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=filler)

    total = np.maximum(need.sum(axis=1, keepdims=True), 1e-12)
    columns = np.where(has[:, None], every, wide(drawn_from, -1))
    return columns, np.where(has[:, None], wide(need / total, 0.0), wide(weights, 0.0)), np.where(has, 1.0, share)


def _draw(columns: np.ndarray, weights: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """int64[B] columns drawn by weights that sum to 1 a row; -1 where they are all 0."""
    if not weights.shape[1]:
        return np.full(len(weights), -1, np.int64)
    edges = np.cumsum(weights, axis=1)
    # rounding must not draw what has no weight
    last = weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)
    at = np.minimum((edges <= uniform[:, None] * edges[:, -1:]).sum(axis=1), last)
    return np.where(edges[:, -1] > 0, columns[np.arange(len(columns)), at], -1)


def _rates(config: ExplorationConfig, catalogue: Catalogue | None) -> np.ndarray:
    """float64[n_users + 1] epsilon of each user; the last of everybody who is not in the data."""
    rates: UserRates | None = config.users
    if rates is None or catalogue is None:
        return np.array([config.epsilon])
    out = np.full(catalogue.n_users + 1, config.epsilon)
    for value, epsilon in rates.epsilon.items():
        out[:-1][users_with(catalogue, rates.attribute, value, "pipeline.exploration.users")] = epsilon
    return out
