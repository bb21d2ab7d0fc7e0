"""As much of the configuration as answers to requests read: what only training reads takes long to make ready."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recsys_cli.cluster import EngineKind, RayConfig
from recsys_cli.config import Section
from recsys_cli.pipeline.config import PipelineConfig


class Paths(Section):
    """Where data is read and runs are written."""

    data: str = "data/world"
    """Dataset folder."""
    artifacts: str = "artifacts"
    """Folder of runs, logs and the pointer to the current run."""


Seed = int
Threads = Annotated[int, Field(ge=0, le=1024)]


class AnswerSettings(Section):
    """The sections of `Settings` that answers read, which stands for it where no other is named."""

    seed: Seed = 42
    """Seed of everything random."""
    threads: Threads = 0
    """Threads to use; 0 takes all cores."""
    engine: EngineKind = "local"
    """Where recommend --all, evaluate, tune and train do their work: local, or ray for a cluster."""
    ray: RayConfig = RayConfig()
    paths: Paths = Paths()
    pipeline: PipelineConfig = PipelineConfig()
