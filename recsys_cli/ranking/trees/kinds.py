"""Boosted trees in the registry of heavy rankers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_cli.ranking.kind import RankerKind
from recsys_cli.ranking.trees.config import LambdaMartConfig, LightGbmConfig

if TYPE_CHECKING:
    from recsys_cli.ranking.training_inputs import TrainingInputs
    from recsys_cli.ranking.trees.ranker import TreeRanker


def _fit(config: LightGbmConfig, inputs: TrainingInputs) -> TreeRanker:
    from recsys_cli.ranking.trees.fitting import fit_trees

    return fit_trees(config, inputs)


def _fit_order(config: LambdaMartConfig, inputs: TrainingInputs) -> TreeRanker:
    from recsys_cli.ranking.trees.lambdamart import fit_lambdamart

    return fit_lambdamart(config, inputs)


def _restore(config: LightGbmConfig, content: dict) -> TreeRanker:
    from recsys_cli.ranking.trees.ranker import TreeRanker

    return TreeRanker.restore(config, content)


LIGHTGBM = RankerKind(LightGbmConfig, _fit, _restore)
LAMBDAMART = RankerKind(LambdaMartConfig, _fit_order, _restore)
