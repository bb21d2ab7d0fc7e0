"""The training job: windows → sources → rows of requests → rankers → the order that pays → a published run."""

from __future__ import annotations

from recsys_cli.training.job import TrainingJob
from recsys_cli.training.train import train

__all__ = ["TrainingJob", "train"]
