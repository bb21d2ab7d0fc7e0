"""The relevance ranker: which of the proposed candidates a user turns to, by boosted trees on rows of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.config import Section

if TYPE_CHECKING:
    from recsys_cli.features.table import FeatureTable
    from recsys_cli.progress import Progress
    from recsys_cli.ranking.trees import TreeRanker

TASK = "relevance"
FEWEST_POSITIVES = 30
"""Candidates that were taken, with fewer of which nothing is learned."""


class RelevanceConfig(Section):
    """Relevance ranker: the probability that a proposed candidate is taken, from rows of requests."""

    enabled: bool = True
    """Whether to fit one."""
    features: list[str] = [
        "user_impressions", "item_age", "item_age_missing", "item_interactions_1h",
        "item_interactions_1d", "item_trend", "item_impressions", "item_positive_logodds", "item_burst",
        "author_followers", "author_positive_logodds", "user_author_positive_logodds", "tie_strength",
        "follows_author", "topic_match", "user_topic_positive_logodds",
    ]
    """Features beside those of the request (standardised score and place by every source, and figures over all of
    them); names that a dataset does not have are left out."""
    attributes: bool = True
    """Take the attributes of users and items as features too."""
    moments: PositiveInt = 2
    """Moments of the ranker's window at which its users are asked for, where windows are cut in time."""
    requests: PositiveInt = 4_000
    """Requests at most, each of one user at one moment, drawn with the seed."""
    rows: PositiveInt = 600_000
    """Rows at most: everything taken, and as many of the other candidates of each request as there is room for."""
    folds: PositiveInt = 4
    """Where rows have no order, every user's rows are cut into so many parts, and each is foretold from the others."""
    leaves: PositiveInt = Field(15, ge=2)
    """Leaves a tree."""
    rounds: PositiveInt = 150
    """Trees."""
    learning_rate: PositiveFloat = 0.06
    """Weight of each tree."""
    min_rows_in_leaf: PositiveInt = 50
    """Fewest rows in a leaf."""
    feature_share: float = Field(0.7, gt=0, le=1)
    """Share of the features that a tree may use."""
    row_share: float = Field(0.8, gt=0, le=1)
    """Share of the rows that a tree sees."""
    l2: NonNegativeFloat = 5.0
    """Ridge penalty on the leaves."""


def fit_relevance(
    config: RelevanceConfig, table: FeatureTable, *, seed: int, progress: Progress, threads: int = 0
) -> TreeRanker | None:
    """Trees of the label "relevance"; None where too little was taken to learn from."""
    from recsys_cli.ranking.config import LightGbmConfig
    from recsys_cli.ranking.trees import fit_trees

    taken = int(table.labels[TASK].sum())
    if taken < FEWEST_POSITIVES or taken == len(table):
        return None
    settings = LightGbmConfig(
        leaves=config.leaves, leaves_rare=config.leaves, learning_rate=config.learning_rate, rounds=config.rounds,
        min_rows_in_leaf=min(config.min_rows_in_leaf, max(len(table) // 20, 1)), feature_share=config.feature_share,
        row_share=config.row_share, l2=config.l2, dwell=False,
    )
    return fit_trees(
        settings, table, table.take(slice(0, 0)), (TASK,), {}, seed=seed, progress=progress, resume=None,
        fingerprint="", threads=threads,
    )


def mean_taken(table: FeatureTable) -> float:
    """Share of the candidates that were taken, drawn negatives counted for what they stand for."""
    return float(np.average(table.labels[TASK], weights=table.weight)) if len(table) else float("nan")
