"""The training job and its steps."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import orjson

from recsys_cli.artifacts.runs import Run, RunStore
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.log import Log
from recsys_cli.data.state import State
from recsys_cli.data.windows.split import make_split
from recsys_cli.data.windows.windows import Split, Windows
from recsys_cli.errors import ConfigError, DataError, RecsysError
from recsys_cli.features.table import FeatureTable
from recsys_cli.pipeline.order import check_named
from recsys_cli.progress import Progress
from recsys_cli.ranking.registry import RANKERS
from recsys_cli.ranking.warm_start import WarmStart
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.safety.models import FOLDER, SafetyModels
from recsys_cli.settings import Settings
from recsys_cli.tracelog import SILENT, TraceLog
from recsys_cli.training import requests
from recsys_cli.training import sources as choice
from recsys_cli.training.bundles import publish_bundle
from recsys_cli.training.fitting import as_settled, blank_sources, fit_sources, fresh_sources, recall_of
from recsys_cli.training.impressions import actions_to_learn, spec_of
from recsys_cli.training.rankers import learned_again, rankers_crosswise, rankers_in_time
from recsys_cli.training.reuse import category_names, taken_over, warm_start
from recsys_cli.training.warranted import settle_repeats

PACKAGES = ("numpy", "polars", "torch", "implicit", "scikit-learn", "onnxruntime", "recsys-cli")


def train(
    settings: Settings,
    *,
    final: bool = False,
    refit: bool = True,
    resume: bool = False,
    only: Sequence[str] = (),
    warm: str | None = None,
    progress: Progress | None = None,
    trace: TraceLog = SILENT,
) -> Run:
    """Train a run and publish it as the current one.

    The run has two halves: what is measured was fitted on nothing of the test window, and what is served was refitted
    on everything afterwards. refit: without it what is measured is served too. final: hold nothing out to measure on;
    such a run cannot be evaluated. resume: go on from where a
    killed training of the same settings and data stopped. only: fit these sources and take the others over from
    the run in use (see `taken_over`). warm: id of a run with whose rankers these begin ("current": the one in use);
    ArtifactError where they do not fit. Raises DataError where the data cannot be trained on, and leaves every
    earlier run as it was.
    """
    dataset = Dataset.open(settings.paths.data)
    if not dataset.log.positive.any():
        raise DataError(
            f"{dataset.path}: no impression carries a positive action",
            "there is nothing to learn from; check the actions of the import mapping",
        )
    if settings.ranking.precision == "int8" and not RANKERS[settings.ranking.heavy.kind].quantisable:
        raise ConfigError(
            f"ranking.precision is int8 and the heavy ranker is of trees ({settings.ranking.heavy.kind})",
            "trees have no matrix products: set it to float32",
        )
    check_named(settings.ranking.choose, settings.retrieval)
    models = SafetyModels.load(Path(settings.paths.artifacts) / FOLDER, settings.safety.models)
    dataset.catalogue, scored = models.fill(dataset.catalogue, dataset.items)
    split = make_split(settings.windows, dataset, seed=settings.seed, final=final)
    job = TrainingJob(
        settings, dataset.with_log(split.log), split, final, progress or Progress(), trace, whole=dataset,
        refit=refit and not final,
    )
    job.safety, job.metrics["safety"] = models, scored
    taken = taken_over(job, only) if only else {}
    job.warm = None if warm is None else warm_start(job, warm)
    with _alone(job.work):
        for message in split.messages:
            job.progress.message(message)
        return job.run(resume, taken)


@contextmanager
def _alone(work: Path):
    """Keeps a second training of the same settings and data out of a work folder that is in use."""
    work.parent.mkdir(parents=True, exist_ok=True)
    path = work.with_suffix(".lock")
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RecsysError(
                "another training of the same settings and data is running",
                "wait for it, or use another --artifacts-dir",
            ) from None
        yield
        path.unlink(missing_ok=True)


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
    candidates: int = choice.FEED
    """candidates a user where the settings leave it open"""
    durations: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, dict] = field(default_factory=dict)
    safety: SafetyModels = field(default_factory=SafetyModels)
    scaled_on: FeatureTable | None = None
    """training rows that the int8 form is scaled on"""

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
        learned = self.settings.model_dump(mode="json", exclude={"pipeline", "paths", "threads", "evaluation", "world"})
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
        with self.trace.timed("train.step", step=name):
            yield
        self.durations[name] = round(time.perf_counter() - start, 3)

    def run(self, resume: bool, taken: dict[Path, str]) -> Run:
        """taken: checkpoints of the run in use → their places below the work folder."""
        started = time.perf_counter()
        if not resume:
            shutil.rmtree(self.work, ignore_errors=True)
        elif not self.work.is_dir():
            self.progress.message("nothing to resume for these settings and data: training from the start")
        served = ("served",) if self.refit or self.final else ()
        for folder in ("checkpoints", "history", "validation", "progress/trial", *served):
            (self.work / folder).mkdir(parents=True, exist_ok=True)
        for path, place in taken.items():
            shutil.copyfile(path, self.work / place)
        with self.step("read data"):
            self.lesson = requests.lesson_of(self)
            settle_repeats(self)
            window = self.window(self.lesson.dataset.log, self.lesson.windows.history_end)
        sources = blank_sources(self)
        answers = choice.answers_of(self, window)
        sources = choice.wanted_kinds(self, sources, answers)
        self.candidates = choice.FEED if answers.unmet >= choice.MOVING else choice.CATALOGUE
        early = self._early_sources(sources, window, answers)
        sources = {name: SOURCES[source.config.kind](source.config) for name, source in early.items()}
        with self.step("recall of sources"):
            self.metrics["sources"] = recall_of(self, early, window)
        spec = spec_of(self, early)
        if self.warm is not None:
            self.warm = replace(self.warm, now=category_names(spec, self.dataset.catalogue.names))
        learned, late = None, None
        if self.unordered and not actions_to_learn(self):
            rankers = rankers_crosswise(self, spec, early)
        else:
            rankers, learned = rankers_in_time(self, spec, early, fresh_sources(self, sources, early, answers))
        if not self.final:
            with self.step("sources on everything before the test window"):
                window = self.window(self.dataset.log, self.windows.test_start)
                late = fit_sources(self, sources, window, "checkpoints")
            with self.step("bundle that is measured"):
                publish_bundle(self, spec, late, rankers, self.dataset if self.refit else self.whole,
                               "measured" if self.refit else "bundle")
        if self.refit or self.final:
            with self.step("rankers on requests of the test window"):
                rankers = learned_again(self, spec, late, rankers, learned)
            with self.step("sources on everything"):
                log = self.whole.log
                served = fit_sources(self, sources, self.window(log, int(log.time[-1]) + 1, everybody=True), "served")
            with self.step("bundle that is served"):
                publish_bundle(self, spec, served, rankers, self.whole, "bundle")
        self.durations["total"] = round(time.perf_counter() - started, 3)
        for folder in ("progress", "validation"):
            shutil.rmtree(self.work / folder)
        return self.store.publish(self.work, self._manifest())

    def _early_sources(
        self, sources: dict[str, Retriever], window: Window, answers: choice.Answers
    ) -> dict[str, Retriever]:
        """The sources fitted on the history window, those that find next to nothing left out, with the settings that
        the ranker's window speaks for."""
        with self.step("sources on the history window"):
            settled = choice.remembered(self, sources)
            ready = {name: SOURCES[config.kind](config) for name, config in settled.items()}
            early = fit_sources(self, ready, window, "history")
            early |= fit_sources(self, {n: s for n, s in sources.items() if n not in settled}, window, "progress/trial")
            if not early:
                raise DataError("no candidate source can work on this data", "enable others under `retrieval`")
        with self.step("settings of sources"):
            early = choice.without_weak(self, early, window, answers)
            found = choice.tune(self, {n: s for n, s in early.items() if n not in settled}, window, answers)
        with self.step("sources on the history window as settled"):
            return {n: as_settled(self, n, early[n], found.get(n), window) for n in sources if n in early}

    @property
    def unordered(self) -> bool:
        """Whether the rows of the data have no order."""
        return not self.whole.manifest.has_order and self.split.kind in ("user_random", "given")

    @property
    def threads(self) -> int:
        return self.settings.threads or len(os.sched_getaffinity(0))

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
        return Window(self.dataset, self.dataset.catalogue, log, end, state, self.settings.seed)

    def note(self, text: str) -> None:
        """Keep a note with the run, and say it once."""
        if text not in self.notes:
            self.notes.append(text)
            self.progress.message(text)

    def _manifest(self) -> dict:
        m = self.dataset.manifest
        return {
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.settings.seed,
            "final": self.final,
            "dataset": {"path": str(self.dataset.path), "name": m.name, "digest": m.digest},
            "windows": self.windows,
            "warm_start": None if self.warm is None else self.warm.run,
            "models_end": int(self.whole.log.time[-1]) + 1 if self.refit or self.final else self.windows.test_start,
            "refitted": self.refit,
            "packages": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
            "durations": self.durations,
            "metrics": self.metrics,
            "notes": self.notes,
        }

