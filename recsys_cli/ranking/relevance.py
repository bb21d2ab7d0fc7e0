"""The relevance ranker: which of the proposed candidates a user turns to, by boosted trees on rows of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_cli.ranking.relevance_config import RelevanceConfig
from recsys_cli.ranking.training_inputs import TrainingInputs
from recsys_cli.ranking.trees.config import LightGbmConfig

if TYPE_CHECKING:
    from recsys_cli.features.table import FeatureTable
    from recsys_cli.progress import Progress
    from recsys_cli.ranking.trees.ranker import TreeRanker

TASK = "relevance"
FEWEST_POSITIVES = 30
"""Candidates that were taken, with fewer of which nothing is learned."""


def fit_relevance(
    config: RelevanceConfig, table: FeatureTable, *, seed: int, progress: Progress, threads: int = 0
) -> TreeRanker | None:
    """Trees of the label "relevance"; None where too little was taken to learn from."""
    from recsys_cli.ranking.trees.ranker import fit_trees

    taken = int(table.labels[TASK].sum())
    if taken < FEWEST_POSITIVES or taken == len(table):
        return None
    settings = LightGbmConfig(
        leaves=config.leaves, leaves_rare=config.leaves, learning_rate=config.learning_rate, rounds=config.rounds,
        min_rows_in_leaf=min(config.min_rows_in_leaf, max(len(table) // 20, 1)), feature_share=config.feature_share,
        row_share=config.row_share, l2=config.l2, dwell=False,
    )
    nothing = table.take(slice(0, 0))
    return fit_trees(settings, TrainingInputs(table, nothing, (TASK,), seed, progress=progress, threads=threads))
