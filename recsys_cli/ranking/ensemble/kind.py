"""The ensemble in the registry of heavy rankers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_cli.ranking.ensemble.config import EnsembleConfig
from recsys_cli.ranking.kind import RankerKind

if TYPE_CHECKING:
    from recsys_cli.ranking.ensemble.ranker import EnsembleRanker
    from recsys_cli.ranking.training_inputs import TrainingInputs


def _fit(config: EnsembleConfig, inputs: TrainingInputs) -> EnsembleRanker:
    from recsys_cli.ranking.ensemble.ranker import fit_ensemble

    return fit_ensemble(config, inputs)


def _restore(config: EnsembleConfig, content: dict) -> EnsembleRanker:
    from recsys_cli.ranking.ensemble.ranker import EnsembleRanker

    return EnsembleRanker.restore(config, content)


ENSEMBLE = RankerKind(EnsembleConfig, _fit, _restore, quantisable=True)
