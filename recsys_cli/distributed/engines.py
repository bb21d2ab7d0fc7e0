"""An engine as tasks are given it: each worker opens the run once, and gets the moment from the object store."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import UsageError
from recsys_cli.parcel import Parcel, Sent
from recsys_cli.pipeline.config import PipelineConfig

if TYPE_CHECKING:
    from recsys_cli.cluster import Tasks


@dataclass(frozen=True)
class SharedEngine(Sent):
    """How a worker makes the same engine: the run, the settings, and the moment where it is not the bundle's own."""

    run: Parcel
    run_id: str
    measured: bool
    pipeline: str
    """its settings, as JSON"""
    moment: Sent | None
    """(state, snapshot)"""

    def opened(self) -> RecommendationEngine:
        engine = _engine(self.run.opened(), self.run_id, self.measured, self.pipeline)
        if self.moment is None:
            return engine
        state, snapshot = self.moment.opened()
        return replace(engine, state=state, snapshot=snapshot)


@functools.lru_cache(maxsize=4)
def _engine(root: Path, run_id: str, measured: bool, pipeline: str) -> RecommendationEngine:
    return RecommendationEngine.load(root, run_id, PipelineConfig.model_validate_json(pipeline), measured=measured)


def shared_engine(
    engine: RecommendationEngine, tasks: Tasks, *, measured: bool = False, as_of: bool = False
) -> RecommendationEngine | SharedEngine:
    """The engine in the form in which tasks are given it.

    measured: whether it is that half of its run. as_of: whether it stands at another moment than its bundle. Raises
    UsageError for an engine that was not loaded from artifacts, where there are machines that would have to open it.
    """
    from recsys_cli.cluster import Here

    if isinstance(tasks, Here):
        return engine
    if engine.artifacts is None or engine.manifest is None:
        raise UsageError("an engine that no run holds cannot be opened on a cluster", "load it from artifacts")
    run_id = engine.manifest.id
    return SharedEngine(
        tasks.folder(engine.artifacts, f"runs/{run_id}"), run_id, measured, engine.pipeline.model_dump_json(),
        tasks.share(engine.moment) if as_of else None,
    )
