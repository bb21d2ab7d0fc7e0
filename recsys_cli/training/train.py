"""A training from its settings to the run that is published: the steps in their order."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from recsys_cli.artifacts.runs import Run
from recsys_cli.cluster import Here, Tasks
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.intact import require_intact
from recsys_cli.data.windows.split import make_split
from recsys_cli.errors import ConfigError, DataError, RecsysError
from recsys_cli.files import held_alone
from recsys_cli.parallel import SideBySide
from recsys_cli.pipeline.order import check_named
from recsys_cli.pipeline.rules.compiled import compiled
from recsys_cli.progress import Progress
from recsys_cli.ranking.registry import RANKERS
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.safety.models import FOLDER, SafetyModels
from recsys_cli.settings import Settings
from recsys_cli.tracelog import SILENT, TraceLog
from recsys_cli.training import requests
from recsys_cli.training import sources as choice
from recsys_cli.training.bundles import publish_bundle
from recsys_cli.training.expected import Expected
from recsys_cli.training.fitting import (
    LaterFits,
    as_settled,
    blank_sources,
    fit_sources,
    recall_of,
)
from recsys_cli.training.impressions import actions_to_learn, spec_of
from recsys_cli.training.job import TrainingJob
from recsys_cli.training.needs import require_log, require_memory
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
    use: bool = True,
    kept: tuple[Path, tuple[str, ...]] | None = None,
    tasks: Tasks | None = None,
    progress: Progress | None = None,
    trace: TraceLog = SILENT,
) -> Run:
    """Train a run and publish it, with `use` as the current one.

    The run has two halves: what is measured was fitted on nothing of the test window, and what is served was refitted
    on everything afterwards. refit: without it what is measured is served too. final: hold nothing out to measure on;
    such a run cannot be evaluated. resume: go on from where a
    killed training of the same settings and data stopped. only: fit these sources and take the others over from
    the run in use (see `taken_over`). warm: id of a run with whose rankers these begin ("current": the one in use);
    ArtifactError where they do not fit. kept: a folder, and names of sources that are fitted once for all trainings of
    the same data that name it. tasks: where sources are fitted, here where None. Raises DataError where the data cannot
    be trained on, and leaves every earlier run as it was.
    """
    dataset = Dataset.open(settings.paths.data)
    if settings.ranking.precision == "int8" and not RANKERS[settings.ranking.heavy.kind].quantisable:
        raise ConfigError(
            f"ranking.precision is int8 and the heavy ranker is of trees ({settings.ranking.heavy.kind})",
            "trees have no matrix products: set it to float32",
        )
    check_named(settings.ranking.choose, settings.retrieval)
    progress = progress or Progress()
    if (told := require_log(settings, dataset)) is not None:
        progress.message(told)
    require_intact(dataset, Path(settings.paths.artifacts) / "intact.json", progress)
    if not dataset.log.positive.any():
        raise DataError(
            f"{dataset.path}: no impression carries a positive action",
            "there is nothing to learn from; check the actions of the import mapping",
        )
    models = SafetyModels.load(Path(settings.paths.artifacts) / FOLDER, settings.safety.models)
    dataset.catalogue, scored = models.fill(dataset.catalogue, dataset.items)
    compiled(settings.pipeline.rules, dataset)  # what it cannot decide is refused before anything is fitted
    split = make_split(settings.windows, dataset, seed=settings.seed, final=final)
    job = TrainingJob(
        settings, dataset.with_log(split.log), split, final, progress, trace, whole=dataset,
        refit=refit and not final, kept=kept, tasks=tasks or Here(),
    )
    job.safety, job.metrics["safety"] = models, scored
    if settings.threads > job.threads:
        job.progress.message(f"threads is {settings.threads} and there are {job.threads} cores: so many are used")
    taken = taken_over(job, only) if only else {}
    job.warm = None if warm is None else warm_start(job, warm)
    with _alone(job.work):
        for message in split.messages:
            job.progress.message(message)
        with job.progress.step("training", total=1.0) as bar:
            job.expected = Expected.of_store(job.store, bar)
            return _run(job, resume, taken, use)


def _alone(work: Path) -> AbstractContextManager[None]:
    """Keeps a second training of the same settings and data out of a work folder that is in use."""
    return held_alone(work.with_suffix(".lock"), RecsysError(
        "another training of the same settings and data is running", "wait for it, or use another --artifacts-dir"
    ))


def _run(job: TrainingJob, resume: bool, taken: dict[Path, str], use: bool) -> Run:
    """taken: checkpoints of the run in use → their places below the work folder."""
    started = time.perf_counter()
    if not resume:
        shutil.rmtree(job.work, ignore_errors=True)
    elif not job.work.is_dir():
        job.progress.message("nothing to resume for these settings and data: training from the start")
    served = ("served",) if job.refit or job.final else ()
    for folder in ("checkpoints", "history", "validation", "progress/trial", *served):
        (job.work / folder).mkdir(parents=True, exist_ok=True)
    for path, place in taken.items():
        shutil.copyfile(path, job.work / place)
    with job.step("read data"):
        job.lesson = requests.lesson_of(job)
        settle_repeats(job)
        window = job.window(job.lesson.dataset.log, job.lesson.windows.history_end)
    sources = blank_sources(job)
    answers = choice.answers_of(job, window)
    sources = choice.wanted_kinds(job, sources, answers)
    job.candidates = choice.candidates_for(answers.unmet)
    require_memory(job, sources, job.whole.log)
    early = _early_sources(job, sources, window, answers)
    sources = {name: SOURCES[source.config.kind](source.config) for name, source in early.items()}
    with SideBySide(_threads_beside(job, early), job.progress) as job.beside:
        _rankers_and_bundles(job, sources, early, answers, window)
    job.durations["total"] = round(time.perf_counter() - started, 3)
    for folder in ("progress", "validation"):
        shutil.rmtree(job.work / folder)
    return job.store.publish(job.work, _manifest(job), use=use)


def _threads_beside(job: TrainingJob, early: dict[str, Retriever]) -> int:
    """Threads that take up what need not be waited for: one, where there are two and the memory holds the sources of
    all windows at once."""
    log = job.whole.log
    window = Window(job.dataset, job.dataset.catalogue, log, int(log.time[-1]) + 1, None)
    return int(job.threads > 1 and 3 * sum(source.memory(window) for source in early.values()) <= job.memory.room)


def _rankers_and_bundles(
    job: TrainingJob, sources: dict[str, Retriever], early: dict[str, Retriever], answers: choice.Answers,
    window: Window,
) -> None:
    """All that follows the sources of the history window, which is `window`, up to what is published."""
    spec = spec_of(job, early)
    if job.warm is not None:
        job.warm = replace(job.warm, now=category_names(spec, job.dataset.catalogue.names))
    learned, later = None, LaterFits(job, sources, early, answers)
    if job.unordered and not actions_to_learn(job):
        later.begin()
        rankers = rankers_crosswise(job, spec, early)
    else:
        rankers, learned = rankers_in_time(job, spec, early, later)
    job.metrics["sources"] = {}  # in its place, though it comes last
    recall = job.beside.begin(_recall, job, early, window)
    late = None
    if not job.final:
        late = later.measured.result()
        with job.step("bundle that is measured"):
            publish_bundle(job, spec, late, rankers, job.dataset if job.refit else job.whole,
                           "measured" if job.refit else "bundle")
    if job.refit or job.final:
        with job.step("rankers on requests of the test window"):
            rankers = learned_again(job, spec, late, rankers, learned)
        with job.step("bundle that is served"):
            publish_bundle(job, spec, later.served.result(), rankers, job.whole, "bundle")
    job.metrics["sources"] = recall.result()


def _recall(job: TrainingJob, early: dict[str, Retriever], window: Window) -> dict[str, float]:
    with job.step("recall of sources"):
        return recall_of(job, early, window)


def _early_sources(
    job: TrainingJob, sources: dict[str, Retriever], window: Window, answers: choice.Answers
) -> dict[str, Retriever]:
    """The sources fitted on the history window, those that find next to nothing left out, with the settings that
    the ranker's window speaks for."""
    with job.step("sources on the history window"):
        settled = choice.remembered(job, sources)
        ready = {name: SOURCES[config.kind](config) for name, config in settled.items()}
        early = fit_sources(job, ready, window, "history")
        early |= fit_sources(job, {n: s for n, s in sources.items() if n not in settled}, window, "progress/trial")
        if not early:
            raise DataError("no candidate source can work on this data", "enable others under `retrieval`")
    with job.step("settings of sources"):
        early, figures = choice.without_weak(job, early, window, answers)
        found = choice.tune(job, {n: s for n, s in early.items() if n not in settled}, window, answers, figures)
    with job.step("sources on the history window as settled"):
        return {n: as_settled(job, n, early[n], found.get(n), window) for n in sources if n in early}


def _manifest(job: TrainingJob) -> dict:
    """What the manifest of the run tells of the training."""
    m = job.dataset.manifest
    return {
        "settings": job.settings.model_dump(mode="json"),
        "seed": job.settings.seed,
        "final": job.final,
        "dataset": {"path": str(job.dataset.path), "name": m.name, "digest": m.digest, "events": m.events},
        "windows": job.windows,
        "warm_start": None if job.warm is None else job.warm.run,
        "models_end": int(job.whole.log.time[-1]) + 1 if job.refit or job.final else job.windows.test_start,
        "refitted": job.refit,
        "packages": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "durations": job.durations,
        "metrics": job.metrics,
        "notes": job.notes,
    }
