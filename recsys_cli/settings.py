"""The root of the YAML file: which component's settings hang where."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recsys_cli.config import Name, Section
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.evaluation.config import EvaluationConfig
from recsys_cli.features.config import FeatureConfig
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.ranking.config import RankingConfig
from recsys_cli.retrieval.registry import RetrieverSettings, default_retrieval
from recsys_cli.retrieval.tuning import TuningConfig
from recsys_cli.safety.config import SafetyModelsConfig
from recsys_cli.serving.config import ServingConfig
from recsys_cli.world.config import WorldConfig


class Paths(Section):
    """Where data is read and runs are written."""

    data: str = "data/world"
    """Dataset folder."""
    artifacts: str = "artifacts"
    """Folder of runs, logs and the pointer to the current run."""


class Settings(Section):
    """The whole configuration."""

    seed: int = 42
    """Seed of everything random."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads to use; 0 takes all cores."""
    paths: Paths = Paths()
    world: WorldConfig = WorldConfig()
    windows: WindowsConfig = WindowsConfig()
    retrieval: dict[Name, RetrieverSettings] = default_retrieval()
    """Candidate sources by name. `pipeline.sourcing.shares` says how much each proposes."""
    tuning: TuningConfig = TuningConfig()
    features: FeatureConfig = FeatureConfig()
    pipeline: PipelineConfig = PipelineConfig()
    ranking: RankingConfig = RankingConfig()
    safety: SafetyModelsConfig = SafetyModelsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
