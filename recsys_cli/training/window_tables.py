"""Feature tables of the windows of a dataset, as training makes them, for those who measure rankers on them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import orjson

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.log import Log
from recsys_cli.data.state import State
from recsys_cli.data.windows.split import make_split, split_again
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.features.table import FeatureTable
from recsys_cli.files import scratch_folder
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Retriever
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.safety.models import FOLDER, SafetyModels
from recsys_cli.settings import Settings
from recsys_cli.training.fitting import blank_sources, fit_sources
from recsys_cli.training.impressions import spec_of, table_of, tables_of
from recsys_cli.training.job import TrainingJob
from recsys_cli.training.requests import Lesson, lesson_of


@dataclass(frozen=True)
class WindowTables:
    """Features of the ranker's window and of the test window, and the log of the latter."""

    train: FeatureTable
    valid: FeatureTable
    test: FeatureTable
    test_log: Log


def window_tables(settings: Settings, dataset: Dataset, progress: Progress | None = None) -> WindowTables:
    """Tables as `train` and `evaluate` have them; similarities of the test window are those of the served sources."""
    split = make_split(settings.windows, dataset, seed=settings.seed)
    dataset, windows = dataset.with_log(split.log), split.windows
    with scratch_folder() as name:
        job = TrainingJob(settings, dataset, split, False, progress or Progress(), folder=Path(name))
        for folder in ("checkpoints", "history", "progress"):
            (job.work / folder).mkdir()
        job.lesson = Lesson(dataset, windows)
        sources = blank_sources(job)
        early = fit_sources(job, sources, job.window(dataset.log, windows.history_end), "history")
        spec = spec_of(job, early)
        train, valid = tables_of(job, spec, early)
        late = fit_sources(job, sources, job.window(dataset.log, windows.test_start), "checkpoints", early)
    test = dataset.log.window(windows.test_start, windows.end)
    return WindowTables(train, valid, _rows(job, dataset, spec, late, test, windows.test_start), test)


def validation_rows(dataset: Dataset, artifacts: str, run_id: str) -> tuple[FeatureTable, Log]:
    """The validation rows of a run as its ranker saw them in training, and their log.

    The sources that measure similarities are those of the run's `history` checkpoints, which never saw these rows.
    """
    run = RunStore(artifacts).open(run_id)
    split = split_again(run.manifest.windows, dataset)
    dataset = dataset.with_log(split.log)
    dataset.catalogue, _ = SafetyModels.load(run.bundle / FOLDER).fill(dataset.catalogue, dataset.items)
    with scratch_folder() as name:
        job = TrainingJob(
            Settings.model_validate(run.manifest.settings), dataset, split, run.manifest.final, folder=Path(name),
            progress=Progress(),
        )
        (job.work / "progress").mkdir()
        shutil.copytree(run.folder / "history", job.work / "history")
        job.lesson = lesson_of(job)
        lesson, w = job.lesson.dataset, job.lesson.windows
        settled = orjson.loads((run.measured / "bundle.json").read_bytes())["sources"]
        blank = {n: SOURCES[c["kind"]](SOURCES[c["kind"]].config_type.model_validate(c)) for n, c in settled.items()}
        sources = fit_sources(job, blank, job.window(lesson.log, w.history_end), "history")
    rows = lesson.log.window(w.validation_start, w.test_start)
    return _rows(job, lesson, spec_of(job, sources), sources, rows, w.history_end), rows


def _rows(
    job: TrainingJob, dataset: Dataset, spec: FeatureSpec, sources: dict[str, Retriever], rows: Log, known: int
) -> FeatureTable:
    """Features of rows as of each; similarities by the sources and what they knew at the moment `known` (µs)."""
    state = State.build(dataset.catalogue, dataset.log, known, **job.edges)
    return table_of(job, dataset.log, spec, sources, rows, state)
