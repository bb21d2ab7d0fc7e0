"""What the steps of a training share: its inputs, where it keeps its work, and what has been made so far."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import orjson

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.cluster import Here, Tasks
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.log import Log
from recsys_cli.data.state import State
from recsys_cli.data.windows.windows import Split, Windows
from recsys_cli.features.table import FeatureTable
from recsys_cli.parallel import SideBySide
from recsys_cli.parcel import Sent
from recsys_cli.progress import Progress
from recsys_cli.ranking.warm_start import WarmStart
from recsys_cli.retrieval.base import Window
from recsys_cli.safety.models import SafetyModels
from recsys_cli.settings import Settings
from recsys_cli.tracelog import SILENT, TraceLog
from recsys_cli.training.expected import Expected
from recsys_cli.training.memory import MemoryBudget

UNLEARNED = {
    "pipeline", "paths", "threads", "engine", "ray", "memory_gib", "evaluation", "world", "serving", "live",
}
"""Sections of the settings that nothing is learned from."""


@dataclass
class TrainingJob:
    """One training: its inputs, and what its steps have made so far."""

    settings: Settings
    dataset: Dataset
    """with the log of the split"""
    split: Split
    final: bool
    progress: Progress
    trace: TraceLog = SILENT
    warm: WarmStart | None = None
    whole: Dataset | None = None
    """with its own log; what is served is fitted on all of it"""
    folder: Path | None = None
    """where checkpoints are kept instead"""
    refit: bool = False
    """whether what is served is fitted again on everything after measuring"""
    repeats: bool = False
    """whether people come back to what they had, so that lists may hold it where the settings leave it open"""
    candidates: int = 1_500
    """candidates a user where the settings leave it open"""
    durations: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, dict] = field(default_factory=dict)
    safety: SafetyModels = field(default_factory=SafetyModels)
    expected: Expected | None = None
    """tells how far the training is, where somebody watches"""
    beside: SideBySide | None = None
    """takes up what need not be waited for at once"""
    tasks: Tasks = field(default_factory=Here)
    """where sources are fitted"""
    sending: threading.Lock = field(default_factory=threading.Lock)
    sent: tuple[Window, Sent] | None = None
    """the latest window that a cluster was given, and as what"""
    scaled_on: FeatureTable | None = None
    """training rows that the int8 form is scaled on"""
    kept: tuple[Path, tuple[str, ...]] | None = None
    """a folder of sources that are fitted once for several trainings of the same data, and which they are"""

    @property
    def windows(self) -> Windows:
        return self.split.windows

    @cached_property
    def store(self) -> RunStore:
        return RunStore(self.settings.paths.artifacts)

    @cached_property
    def work(self) -> Path:
        """Where checkpoints are kept until the run is published; the same for the same settings and data."""
        if self.folder is not None:
            return self.folder
        learned = self.settings.model_dump(mode="json", exclude=UNLEARNED)
        start = [] if self.warm is None else [self.warm.run]
        start += [self.safety.versions] if self.safety.versions else []
        text = orjson.dumps([learned, self.dataset.manifest.digest, self.final, *start], option=orjson.OPT_SORT_KEYS)
        return self.store.folder / "work" / hashlib.blake2b(text, digest_size=8).hexdigest()

    @cached_property
    def edges(self) -> dict[str, dict | None]:
        return {table: self.dataset.edges(table) for table in ("follows", "blocks")}

    @contextmanager
    def step(self, name: str):
        start = time.perf_counter()
        with self.trace.timed("train.step", step=name), self.expected.step(name) if self.expected else nullcontext():
            yield
        self.durations[name] = round(time.perf_counter() - start, 3)

    @property
    def unordered(self) -> bool:
        """Whether the rows of the data have no order."""
        return not self.whole.manifest.has_order and self.split.kind in ("user_random", "given")

    @property
    def threads(self) -> int:
        """Threads to use: no more than there are cores, since the others would wait."""
        cores = len(os.sched_getaffinity(0))
        return min(self.settings.threads or cores, cores)

    @property
    def threads_beside(self) -> int:
        """Threads for what is done beside the rankers, which take one."""
        return max(self.threads - 1, 1)

    @cached_property
    def memory(self) -> MemoryBudget:
        """What may still be taken, as of when it is first asked for."""
        return MemoryBudget(self.settings.memory_gib)

    @property
    def allows_seen(self) -> bool:
        """Whether lists may hold what the user was shown before."""
        return not self.settings.pipeline.filters.leaves_out_seen(self.repeats)

    def window(self, log: Log, end: int, *, everybody: bool = False) -> Window:
        """What sources may be fitted on before `end`; held-out people only where `everybody` is in."""
        log = log.window(end=end)
        if not everybody:
            log = self.split.fitting(log)
        state = State.build(self.dataset.catalogue, log, end, **self.edges)
        return Window(self.dataset, self.dataset.catalogue, log, end, state, self.settings.seed, self.settings.device)

    def note(self, text: str) -> None:
        """Keep a note with the run, and say it once."""
        if text not in self.notes:
            self.notes.append(text)
            self.progress.message(text)
