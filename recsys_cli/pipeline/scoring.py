"""Light ranking, hydration, heavy ranking and utility."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.behaviour import Behaviour, Entities
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import (
    HeavyStageConfig,
    LightStageConfig,
    UtilityConfig,
)
from recsys_cli.pipeline.order import FUSION, HEAVY, RANKERS, WEIGHTED, Order
from recsys_cli.pipeline.order_scores import by_sources
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.request_features import (
    STANDARD,
    WEIGHTED_SCORE,
    candidate_features,
    of_request,
    parted,
    request_features,
    standardised,
)
from recsys_cli.pipeline.stage import Hydrator, Scorer, Stage
from recsys_cli.pipeline.utility import Multipliers, weights_of
from recsys_cli.pipeline.weighted_fusion import weighted
from recsys_cli.ranking.serving.dense import DenseRanker

if TYPE_CHECKING:
    from recsys_cli.ranking.light import LightRanker
    from recsys_cli.ranking.serving.served import ServedRanker

DEFAULT_ORDER = Order()
STEADY = 0.5
"""Weight of the sources' weighted sum in the log-odds of the relevance."""
ROWS_AT_ONCE = 8 * 1024
"""Candidates scored at once by a ranker: their features stay near the processor."""
PARTS_AT_ONCE = 32 * 1024
"""Likewise, of which only features of pairs are laid out."""


MEASURED = ("sim_", "z_")
"""How the scores begin that `Hydrate` gives."""


def read_by(order: Order, every: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the scores that a stage of some order reads: a list in the order of sources has nothing measured."""
    alone = not order.ranked and not order.orders & {FUSION, WEIGHTED}
    return tuple(name for name in every if not name.startswith(MEASURED)) if alone else every


class Hydrate(Hydrator):
    """Adds what the sources say of every candidate: "sim_<source>" where one measures, and, where the order needs
    them, the standardised scores "z_<source>", their mean "z_mean" and their weighted sum "z_weighted"."""

    name = "hydrate"
    reads = ("rrf", "rank_")
    gives = ("sim_", "z_")

    def __init__(self, standardise: bool = True):
        self._standardise = standardise
        self._read = True

    def followed_by(self, stages: Sequence[Stage]) -> None:
        """What no stage looks at before the slate is finished need not be known of every candidate."""
        reading = (stage for stage in stages if not isinstance(stage, Predictions))
        self._read = any(name.startswith(MEASURED) for stage in reading for name in stage.reads)

    def scores(self, query: Query, candidates: Candidates) -> dict[str, np.ndarray]:
        """A source that raises measures nothing, where the query keeps failures."""
        if query.brief and not self._read:
            return {}
        found = measured(query, candidates)
        if not self._standardise:
            return found
        candidates = candidates.with_scores(**found)
        found |= standardised(query, candidates, query.bundle.proposing)
        by_source = {name.removeprefix(STANDARD): z for name, z in found.items() if name.startswith(STANDARD)}
        fused = weighted(by_source, query.bundle.fusion, candidates.items.shape)
        mean = request_features(candidates.with_scores(**found), ("z_mean",))
        return found | mean | {WEIGHTED_SCORE: fused}


def measured(query: Query, candidates: Candidates, asked: frozenset[str] | None = None) -> dict[str, np.ndarray]:
    """"sim_<source>" → float32[B, K] of every source that measures, or of those named; one that raises measures
    nothing, where the query keeps failures."""
    found = {}
    for name, source in query.bundle.measuring.items():
        if asked is not None and name not in asked:
            continue
        score = query.attempt(f"source {name}", source.score, query.state, query.users, candidates.items)
        if score is not None:
            found[f"sim_{name}"] = score.astype(np.float32, copy=False)
    return found


def similarities(query: Query, candidates: Candidates) -> dict[str, np.ndarray]:
    """Source → float32[B, K] of those that measured the candidates."""
    named = ((name, candidates.scores.get(f"sim_{name}")) for name in query.bundle.measuring)
    return {name: score for name, score in named if score is not None}


class LightRanking(Scorer):
    """Cuts the candidates down to those worth a dear ranker: by the light ranker where a ranker orders the list, by
    the order itself where none does. Scores: "light"."""

    name = "light"
    reads: tuple[str, ...] = ("rrf", "rank_", "sim_", "z_")
    gives = ("light",)

    def __init__(self, config: LightStageConfig, order: Order):
        self._config, self._order = config, order
        self.reads = read_by(order, self.reads)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        light, order = query.bundle.light, self._order
        scores = {name: by_sources(candidates, name) for name in order.orders if name not in RANKERS}
        if order.ranked:
            scores["ranked"] = candidates.scores.get("z_mean", candidates.scores["rrf"])
            if light is not None and self._config.enabled:
                scores["ranked"] = _light(query, candidates, light)
        known = query.known[:, None]
        sides = (scores["ranked" if side in RANKERS else side] for side in (order.known, order.new))
        return candidates.with_scores(light=np.where(known, *sides)).best("light", self._config.keep)


def _light(query: Query, candidates: Candidates, light: LightRanker) -> np.ndarray:
    """float32[B, K] scores of the light ranker."""
    sims, out = similarities(query, candidates), np.empty(candidates.items.shape, np.float32)
    step = max(1, PARTS_AT_ONCE // max(candidates.items.shape[1], 1))
    mine, others = parted(light.names)
    for start in range(0, len(query), step):
        rows = slice(start, start + step)
        part, parts = candidates if step >= len(query) else candidates.rows(rows), None
        if others:
            measured = {name: s[rows] for name, s in sims.items()}
            parts = query.snapshot.parts(query.users[rows], part.items, query.context.rows(rows), measured, others)
        out[rows] = light.predict_parts(mine, of_request(part, mine), parts)
    return out


class RelevanceRanking(Scorer):
    """Predicts how probably each candidate is what the user turns to next: score "relevance"."""

    name = "relevance"
    reads = ("rank_", "sim_", "z_")
    gives = ("relevance",)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        if not candidates.items.size:
            return candidates
        ranker = query.bundle.relevance
        assert ranker is not None  # else no order is related, and this stage not there
        sims = similarities(query, candidates)
        out = np.zeros(candidates.items.shape, np.float32)
        step = max(1, ROWS_AT_ONCE // candidates.items.shape[1])
        for start in range(0, len(query), step):
            rows = slice(start, start + step)
            filled = candidates.filled[rows]
            values = candidate_features(query, candidates, ranker.names, sims, rows)
            out[rows][filled] = ranker.predict(values[filled])["relevance"]
        return candidates.with_scores(relevance=_steadied(out, candidates.scores.get(WEIGHTED_SCORE)))


def _steadied(relevance: np.ndarray, fused: np.ndarray | None) -> np.ndarray:
    """Probabilities float32[B, K] whose log-odds are raised by the weighted sum of the sources' scores.

    Trees over few rows jump where the sum is smooth: together they order better than either.
    """
    if fused is None:
        return relevance
    odds = relevance / np.maximum(1 - relevance, 1e-7) * np.exp(np.float32(STEADY) * fused)
    return (odds / (1 + odds)).astype(np.float32)


class HeavyRanking(Scorer):
    """Predicts every action and dwell: scores "p_<action>" and "dwell" (seconds)."""

    name = "heavy"
    reads = ("sim_",)
    gives = ("p_", "dwell")

    def __init__(self, config: HeavyStageConfig):
        self._config = config

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        heavy = query.bundle.heavy
        if heavy is None or not self._config.enabled or not candidates.items.size:
            return candidates
        most = PARTS_AT_ONCE if isinstance(heavy, DenseRanker) else ROWS_AT_ONCE
        rows = max(1, most // candidates.items.shape[1])
        parts = [self._predict(heavy, query, candidates, slice(i, i + rows)) for i in range(0, len(query), rows)]
        return candidates.with_scores(**{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})

    def _predict(self, heavy: ServedRanker, query: Query, candidates: Candidates, rows: slice) -> dict[str, np.ndarray]:
        items = candidates.items[rows]
        filled = items >= 0
        sims = {name: s[rows] for name, s in similarities(query, candidates).items()}
        asked = query.users[rows], items, query.context.rows(rows), sims
        if isinstance(heavy, DenseRanker):
            grids = heavy.predict_parts(query.snapshot.parts(*asked, heavy.names))
            whole = filled.all()
            return {_score_name(n): grid if whole else np.where(filled, grid, 0) for n, grid in grids.items()}
        values = query.snapshot.features(*asked)
        predicted = heavy.predict(
            values[filled] if not filled.all() else values.reshape(-1, values.shape[2]),
            None if heavy.side is None else _entities(query, rows, items, filled),
        )
        out = {}
        for name, column in predicted.items():
            grid = np.zeros(items.shape, np.float32)
            grid[filled] = column
            out[_score_name(name)] = grid
        return out


def _score_name(task: str) -> str:
    return task if task == "dwell" else f"p_{task}"


def _entities(query: Query, rows: slice, items: np.ndarray, filled: np.ndarray) -> Entities:
    """Who and what the filled slots are about, with histories as the state has them."""
    behaviour = Behaviour.of_state(query.state, query.bundle.spec.positive)
    users = np.broadcast_to(query.users[rows][:, None], items.shape)[filled]
    # the state holds nothing later than itself: a request for an earlier moment stands on all of it, as features do
    return Entities(behaviour, users, items[filled], np.full(len(users), max(query.context.now, query.state.now)))


class Predictions(Hydrator):
    """What is told of a finished slate that something else than the heavy ranker has put into order: how sources
    measure it, where nothing before asked for that, and the heavy ranker's predictions where there is one."""

    name = "predictions"
    reads = ("sim_",)

    def __init__(self, config: HeavyStageConfig, asked: frozenset[str] | None = None):
        """asked: sources that measure; all where None, as the ranker learned from them."""
        self._heavy, self._asked = HeavyRanking(config), asked

    def scores(self, query: Query, candidates: Candidates) -> dict[str, np.ndarray]:
        some = any(name.startswith("sim_") for name in candidates.scores)
        sims = {} if some or not query.brief else measured(query, candidates, self._asked)
        found = self._heavy(query, candidates.with_scores(**sims)).scores
        return {name: score for name, score in found.items() if name not in candidates.scores}


class Utility(Scorer):
    """Puts the candidates into the order of the run, lowers what the safety policy says, keeps the best.

    Score "utility": of the heavy ranker the weighted sum of the predictions, times the relevance to a power; of
    another order its own score.
    """

    name = "utility"
    reads: tuple[str, ...] = ("rrf", "rank_", "z_", "light", "relevance", "p_", "dwell", "safety_factor")
    gives = ("utility",)
    needed = True

    def __init__(
        self, config: UtilityConfig, heavy: HeavyStageConfig, personal: Multipliers | None = None,
        order: Order = DEFAULT_ORDER, proposed: dict[str, float] | None = None,
    ):
        """proposed: weights of actions that the settings do not name."""
        self._config, self._heavy, self._order = config, heavy, order
        self._weights, self._personal = weights_of(config, proposed), personal
        self.reads = read_by(order, self.reads)
        self.notes = () if personal is None else personal.notes

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        order = self._order
        utility = self.by(query, candidates, order.known)
        if order.new != order.known:
            utility = np.where(query.known[:, None], utility, self.by(query, candidates, order.new))
        factor = candidates.scores.get("safety_factor")
        if factor is not None:
            # a factor below one must push down, also where the utility is negative
            utility = np.where(utility >= 0, utility * factor, utility / np.maximum(factor, 1e-3))
        return candidates.with_scores(utility=utility.astype(np.float32)).best("utility", self._heavy.keep)

    def by(self, query: Query, candidates: Candidates, order: str) -> np.ndarray:
        """float32[B, K] scores of one order."""
        if order == HEAVY:
            return self._weighted(query, candidates)
        if order not in RANKERS:
            return by_sources(candidates, order)
        found = candidates.scores.get(order)
        return _cheapest(candidates) if found is None else found

    def _weight(self, query: Query, action: str, negative: bool = False) -> np.ndarray | np.float32:
        """Weight of an action, or float32[B, 1] where users have their own; below zero where it is subtracted."""
        weight = np.float32(self._weights.get(action, 0.0) * (-1 if negative else 1))
        personal = None if self._personal is None else self._personal.of(query.users, action)
        return weight if personal is None else weight * personal[:, None]

    def _weighted(self, query: Query, candidates: Candidates) -> np.ndarray:
        predicted = {n[2:]: s for n, s in candidates.scores.items() if n.startswith("p_")}
        if not predicted:
            return _cheapest(candidates)
        negative = query.bundle.negative_actions
        total = np.zeros(candidates.items.shape, np.float32)
        for action, p in predicted.items():
            total += self._weight(query, action, action in negative) * p
        if "dwell" in candidates.scores:
            total += self._weight(query, "dwell") * candidates.scores["dwell"]
        return with_relevance(total, candidates.scores.get("relevance"), self._order.exponent)


def _cheapest(candidates: Candidates) -> np.ndarray:
    """float32[B, K] the light score, or what the sources say where a request does without light ranking."""
    light = candidates.scores.get("light")
    return by_sources(candidates, FUSION) if light is None else light


def with_relevance(utility: np.ndarray, relevance: np.ndarray | None, exponent: float) -> np.ndarray:
    """The utility times the relevance to a power; what is unlikely to matter falls, also where it is negative."""
    if relevance is None or not exponent:
        return utility
    factor = np.maximum(relevance, 1e-6) ** np.float32(exponent)
    return np.where(utility >= 0, utility * factor, utility / factor)
