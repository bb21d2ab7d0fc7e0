"""Light ranking, hydration, heavy ranking and utility."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.behaviour import Behaviour, Entities
from recsys_cli.pipeline.candidates import Candidates, Query
from recsys_cli.pipeline.config import (
    HeavyStageConfig,
    LightStageConfig,
    UtilityConfig,
)
from recsys_cli.pipeline.utility import Multipliers, weights_of

ROWS_AT_ONCE = 64 * 1024
"""Candidates scored at once by the heavy ranker; bounds the memory of a large batch."""


class Hydrate:
    """Adds the similarity of user and item by each source that measures one: scores "sim_<source>"."""

    name = "hydrate"

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        sims = {}
        for name, source in query.bundle.measuring.items():
            score = source.score(query.state, query.users, candidates.items)
            if score is not None:
                sims[f"sim_{name}"] = score.astype(np.float32, copy=False)
        return candidates.with_scores(**sims)


def similarities(query: Query, candidates: Candidates) -> dict[str, np.ndarray]:
    return {name: candidates.scores[f"sim_{name}"] for name in query.bundle.measuring}


class LightRanking:
    """Keeps the best by the light ranker; without one, by reciprocal-rank fusion of the sources."""

    name = "light"

    def __init__(self, config: LightStageConfig):
        self._config = config

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        light = query.bundle.light
        if light is None or not self._config.enabled:
            return candidates.with_scores(light=candidates.scores["rrf"]).best("light", self._config.keep)
        values = query.snapshot.features(
            query.users, candidates.items, query.context, similarities(query, candidates), light.names
        )
        return candidates.with_scores(light=light.predict(values)).best("light", self._config.keep)


class HeavyRanking:
    """Predicts every action, dwell and relevance: scores "p_<action>", "dwell" (seconds) and "relevance"."""

    name = "heavy"

    def __init__(self, config: HeavyStageConfig):
        self._config = config

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        heavy = query.bundle.heavy
        if heavy is None or not self._config.enabled or not candidates.items.size:
            return candidates
        rows = max(1, ROWS_AT_ONCE // candidates.items.shape[1])
        parts = [self._predict(query, candidates, slice(i, i + rows)) for i in range(0, len(query), rows)]
        return candidates.with_scores(**{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})

    def _predict(self, query: Query, candidates: Candidates, rows: slice) -> dict[str, np.ndarray]:
        items = candidates.items[rows]
        filled = items >= 0
        sims = {name: s[rows] for name, s in similarities(query, candidates).items()}
        values = query.snapshot.features(query.users[rows], items, query.context.rows(rows), sims)
        predicted = query.bundle.heavy.predict(
            values[filled] if not filled.all() else values.reshape(-1, values.shape[2]),
            _entities(query, rows, items, filled),
        )
        out = {}
        for name, column in predicted.items():
            grid = np.zeros(items.shape, np.float32)
            grid[filled] = column
            out[name if name in ("dwell", "relevance") else f"p_{name}"] = grid
        return out


def _entities(query: Query, rows: slice, items: np.ndarray, filled: np.ndarray) -> Entities:
    """Who and what the filled slots are about, with histories as the state has them."""
    behaviour = Behaviour.of_state(query.state, query.bundle.spec.positive)
    users = np.broadcast_to(query.users[rows][:, None], items.shape)[filled]
    # the state holds nothing later than itself: a request for an earlier moment stands on all of it, as features do
    return Entities(behaviour, users, items[filled], np.full(len(users), max(query.context.now, query.state.now)))


class Utility:
    """Combines the predictions into one number, lowers it as the safety policy says, keeps the best."""

    name = "utility"

    def __init__(
        self, config: UtilityConfig, heavy: HeavyStageConfig, personal: Multipliers | None = None,
        proposed: dict[str, float] | None = None,
    ):
        """proposed: weights of actions that the settings do not name."""
        self._config, self._heavy = config, heavy
        self._weights, self._personal = weights_of(config, proposed), personal
        self.notes = () if personal is None else personal.notes

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        utility = self._weighted(query, candidates)
        factor = candidates.scores.get("safety_factor")
        if factor is not None:
            # a factor below one must push down, also where the utility is negative
            utility = np.where(utility >= 0, utility * factor, utility / np.maximum(factor, 1e-3))
        return candidates.with_scores(utility=utility.astype(np.float32)).best("utility", self._heavy.keep)

    def _weight(self, query: Query, action: str, negative: bool = False) -> np.ndarray | np.float32:
        """Weight of an action, or float32[B, 1] where users have their own; below zero where it is subtracted."""
        weight = np.float32(self._weights.get(action, 0.0) * (-1 if negative else 1))
        personal = None if self._personal is None else self._personal.of(query.users, action)
        return weight if personal is None else weight * personal[:, None]

    def _weighted(self, query: Query, candidates: Candidates) -> np.ndarray:
        predicted = {n[2:]: s for n, s in candidates.scores.items() if n.startswith("p_")}
        if not predicted:
            return candidates.scores["light"].copy()
        negative = query.bundle.negative_actions
        total = np.zeros(candidates.items.shape, np.float32)
        for action, p in predicted.items():
            total += self._weight(query, action, action in negative) * p
        if "dwell" in candidates.scores:
            total += self._weight(query, "dwell") * candidates.scores["dwell"]
        if "relevance" in candidates.scores and self._config.relevance:
            factor = np.maximum(candidates.scores["relevance"], 1e-6) ** np.float32(self._config.relevance)
            # what is unlikely to matter must fall, also where the utility is negative
            total = np.where(total >= 0, total * factor, total / factor)
        return total
