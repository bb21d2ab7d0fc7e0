"""The ways that a run can answer: by its own pipeline, and by those of the variants of experiments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.exploration.creative_texts import CHOSEN
from recsys_cli.serving.chooser import Chooser
from recsys_cli.serving.overrides import laid_over
from recsys_cli.serving.pooling import Pool, pool_engine
from recsys_cli.serving.workers import Job, build_jobs

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine

CONTEXTS = 256
"""Kinds of contexts whose pool of everybody is kept."""


class Way:
    """One pipeline upon the bundle and the state of a run."""

    def __init__(self, trained: RecommendationEngine, engine: RecommendationEngine, size: int, overrides: str = ""):
        """trained: what pools are built from. engine: what chooses from them, which may know newer items.

        size: candidates a pool. Raises ConfigError where the overrides are no pipeline.
        """
        self.overrides, self.pipeline = overrides, laid_over(trained.pipeline, overrides)
        mine = trained.with_pipeline(self.pipeline) if overrides else trained
        self.pooling = pool_engine(mine, size)
        self.chooser = Chooser(mine)
        self.use(engine)
        self.everybody: Callable[[tuple[tuple[str, str], ...]], Pool] = lru_cache(CONTEXTS)(self._everybody)

    @property
    def explores(self) -> bool:
        """Whether anything is shown for the sake of learning."""
        return self.pipeline.exploration.enabled

    @property
    def learns(self) -> bool:
        """Whether what is shown depends on what came of it before: of items, or of their titles and pictures."""
        return self.explores or any(CHOSEN in stage.gives and not stage.aside for stage in self.engine.stages.selection)

    def use(self, engine: RecommendationEngine, feedback: dict[str, np.ndarray] | None = None) -> None:
        """Choose with another engine of the same run; feedback: what exploration learned of impressions."""
        same = engine.pipeline is self.pipeline
        self.engine = engine if same else engine.with_pipeline(self.pipeline)
        self.chooser.use(self.engine, feedback)

    def _everybody(self, context: tuple[tuple[str, str], ...]) -> Pool:
        pool = build_jobs(self.pooling, [Job(-1, context)])[0]
        return pool if len(pool) else self._popular(pool)

    def _popular(self, empty: Pool) -> Pool:
        """What is popular by counts alone, where the rankers give no number for anything."""
        state, size = self.pooling.state, self.pooling.pipeline.heavy.keep
        values = np.where(state.available, state.interactions, -1)
        best = np.argsort(-values, kind="stable")[:size]
        best = best[values[best] >= 0].astype(np.int32)
        return replace(
            empty, items=best, sources=np.zeros(len(best), np.uint32),
            scores={"utility": values[best].astype(np.float32)},
        )
