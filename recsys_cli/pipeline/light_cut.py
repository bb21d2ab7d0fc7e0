"""What the light ranker's cut costs: the candidates of some users scored by both rankers, and a light ranker that
learns from the heavy one (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.data.state import State
from recsys_cli.features.context import Context
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.pipeline.build import build_pipeline
from recsys_cli.pipeline.bundle import Bundle
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.request_features import candidate_features
from recsys_cli.pipeline.runner import Runner
from recsys_cli.pipeline.scoring import similarities

TOP = 100
"""The heavy ranker's best that should survive."""
AT_ONCE = 64
"""Users scored at once."""


@dataclass(frozen=True)
class Scored:
    """All candidates of B users, best by the heavy ranker first."""

    filled: np.ndarray
    """bool[B, K]"""
    light: np.ndarray
    """float32[B, K] the score by which the light stage cuts"""
    utility: np.ndarray
    """float32[B, K]"""
    features: np.ndarray
    """float32[B, K, C] features of the light ranker, raw"""


def score_candidates(
    bundle: Bundle, config: PipelineConfig, state: State, snapshot: Snapshot, users: np.ndarray,
    names: tuple[str, ...], seed: int,
) -> Scored:
    """Candidates of users int32[B] at the state's moment as the pipeline proposes them, none of them cut.

    bundle: with both rankers. names: features to keep.
    """
    every = 2**30
    config = config.model_copy(update={
        "light": config.light.model_copy(update={"keep": every}),
        "heavy": config.heavy.model_copy(update={"keep": every}),
    })
    pipeline = build_pipeline(config, bundle)
    parts = []
    for start in range(0, len(users), AT_ONCE):
        query = Query(
            users=users[start : start + AT_ONCE], size=config.slate_size, bundle=bundle, state=state,
            snapshot=snapshot, context=Context(now=state.now), seed=seed,
        )
        found = Runner(query).run(pipeline.gathering + pipeline.ranking)
        values = candidate_features(query, found, names, similarities(query, found))
        parts.append((found.filled, found.scores["light"], found.scores["utility"], values))
    width = max((p[0].shape[1] for p in parts), default=0)

    def joined(i: int) -> np.ndarray:
        padded = [np.pad(p[i], [(0, 0), (0, width - p[i].shape[1])] + [(0, 0)] * (p[i].ndim - 2)) for p in parts]
        return np.concatenate(padded)

    return Scored(*(joined(i) for i in range(4)))


def survival(scored: Scored, keep: int) -> dict[str, float]:
    """Share of the heavy ranker's best TOP that are among the light ranker's best `keep`, mean over users.

    Users with no more than `keep` candidates lose nothing; they count as 1, and `users_cut` tells how many are not
    such users.
    """
    counts = scored.filled.sum(axis=1)
    light = np.where(scored.filled, scored.light, -np.inf)
    place = np.argsort(np.argsort(-light, axis=1, kind="stable"), axis=1)
    top = scored.filled & (np.arange(scored.filled.shape[1]) < TOP)
    held = (top & (place < keep)).sum(axis=1) / np.maximum(top.sum(axis=1), 1)
    some = counts > 0
    return {
        "users": int(some.sum()), "users_cut": int((counts > keep).sum()), "candidates": float(counts[some].mean()),
        f"top{TOP}_at_{keep}": float(held[some].mean()) if some.any() else float("nan"),
    }


def lesson(scored: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a light ranker can learn from: features float32[n, C], whether the heavy ranker has the candidate among the
    user's best TOP bool[n], and the user's number int[n]."""
    user, place = np.nonzero(scored.filled)
    return scored.features[scored.filled], place < TOP, user
