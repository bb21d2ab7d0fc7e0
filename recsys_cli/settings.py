"""The root of the YAML file: which component's settings hang where."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from recsys_cli.cluster import EngineKind, RayConfig
from recsys_cli.config import Name, Section
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.evaluation.config import EvaluationConfig
from recsys_cli.features.config import FeatureConfig
from recsys_cli.language_model.config import LanguageModelConfig
from recsys_cli.live.config import LiveConfig
from recsys_cli.parallel import Device
from recsys_cli.pipeline.answer_settings import Paths, Seed, Threads
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.ranking.config import RankingConfig
from recsys_cli.retrieval.registry import RetrieverSettings, default_retrieval
from recsys_cli.retrieval.tuning import TuningConfig
from recsys_cli.safety.config import SafetyModelsConfig
from recsys_cli.serving.config import ServingConfig
from recsys_cli.world.config import WorldConfig

__all__ = ["Paths", "Settings"]


class Settings(Section):
    """The whole configuration."""

    seed: Seed = 42
    """Seed of everything random."""
    threads: Threads = 0
    """Threads to use; 0 takes all cores."""
    engine: EngineKind = "local"
    """Where recommend --all, evaluate, tune and train do their work: local, or ray for a cluster."""
    ray: RayConfig = RayConfig()
    device: Device = "auto"
    """Where networks of sources and of the heavy ranker are trained; auto takes a GPU where torch can use one."""
    memory_gib: NonNegativeFloat = 0.0
    """Memory in GiB that a training may take; 0 takes what is free. Sources are fitted side by side as far as it
    allows; a log, a source or rows of rankers that alone need more are refused before the work, with what would fit."""
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
    live: LiveConfig = LiveConfig()
    language_model: LanguageModelConfig = LanguageModelConfig()
