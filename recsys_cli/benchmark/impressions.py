"""Heavy rankers on the impressions of a log: what each foretells of every action, how fast it learns and serves."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys_cli import metrics
from recsys_cli.benchmark.config import Impressions
from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.config import resolve
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.mapping import read_mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.evaluation.impressions import views
from recsys_cli.evaluation.intervals import bootstrap_auc
from recsys_cli.features.table import FeatureTable
from recsys_cli.files import scratch_folder
from recsys_cli.progress import Progress
from recsys_cli.ranking.heavy_config import HeavyConfig
from recsys_cli.ranking.registry import load_ranker
from recsys_cli.ranking.serving.served import ServedRanker
from recsys_cli.settings import Settings
from recsys_cli.training.window_tables import WindowTables, window_tables

CANDIDATES = 500
"""Rows that one request scores."""
WARM, TIMED = 10, 60
"""Requests before the clock and on it."""
RESAMPLES = 100


@dataclass(frozen=True)
class ImpressionTask:
    """Tables of one log, made once for all rankers."""

    tables: WindowTables
    views: list[tuple[str, np.ndarray]]
    """name and rows of the test window, all of them first"""
    counts: dict[str, int]
    seconds: float
    """of fitting sources and building features"""


def impression_task(
    protocol: Impressions, folder: Path, base: Path, seed: int, threads: int, progress: Progress
) -> ImpressionTask:
    """Import the files of `folder` to a place that is removed again, and build the tables.

    base: folder from which the protocol names its files.
    """
    mapping = read_mapping(base / protocol.mapping)
    layers = [("flag", {"seed": seed, "threads": threads})]
    settings = resolve(Settings, file=base / protocol.settings if protocol.settings else None, layers=layers).config
    with scratch_folder() as name:
        import_dataset(mapping, folder, Path(name) / "dataset", mapping_name=protocol.mapping, progress=progress)
        dataset = Dataset.open(Path(name) / "dataset")
        started = time.perf_counter()
        tables = window_tables(settings, dataset, progress)
        seconds = time.perf_counter() - started
        surfaces = dataset.categories.get("surface")
    counts = {
        "train_rows": len(tables.train), "validation_rows": len(tables.valid), "test_rows": len(tables.test),
        "features": len(tables.train.names),
    }
    return ImpressionTask(tables, views(tables.test_log, surfaces), counts, seconds)


def measure_ranker(
    config: HeavyConfig, protocol: Impressions, task: ImpressionTask, seed: int, threads: int, progress: Progress
) -> dict:
    """Figures ("click" → ROC-AUC, "click, surface 1" → in that view, "click ECE"), seconds and memory of one ranker."""
    from recsys_cli.ranking.trainer import fit_heavy

    with PeakMemory() as memory:
        started = time.perf_counter()
        ranker = fit_heavy(config, task.tables.train, task.tables.valid, seed=seed, progress=progress, threads=threads)
        fitted = time.perf_counter() - started
    with scratch_folder() as name:
        ranker.export(Path(name))
        served = load_ranker(name, threads=1)
        started = time.perf_counter()
        predicted = served.predict(task.tables.test.values, task.tables.test.entities)
        ranked = time.perf_counter() - started
        milliseconds = request_ms(served, task.tables.test)
    labels, users = task.tables.test.labels, task.tables.test.user
    wanted = [a for a in protocol.actions or labels if a in predicted]
    figures, intervals = {}, {}
    for view, rows in task.views:
        for action in wanted:
            key = action if view == "all" else f"{action}, {view}"
            figures[key] = metrics.roc_auc(labels[action][rows], predicted[action][rows])
    for action in wanted:
        low, high = bootstrap_auc(labels[action], predicted[action], users, resamples=RESAMPLES, seed=seed)
        intervals[action] = [low, high]
    if wanted:
        first = wanted[0]
        figures[f"{first} ECE"] = metrics.expected_calibration_error(labels[first], predicted[first])
    return {
        "figures": figures, "intervals": intervals, "fit_seconds": fitted, "rank_seconds": ranked,
        "serve_ms": milliseconds, "peak_memory_mib": memory.mib, "dropped": ranker.dropped,
    }


def request_ms(served: ServedRanker, table: FeatureTable) -> float:
    """Median milliseconds of scoring CANDIDATES rows as one user's, on the threads that the ranker was loaded with."""
    rows = np.resize(np.arange(len(table)), CANDIDATES)
    block, entities = np.ascontiguousarray(table.values[rows]), table.entities
    if entities is not None:
        # whoever asked last: a request has one user and one moment
        entities = entities.take(rows)
        user, moment = (np.full_like(column, column[-1]) for column in (table.user[rows], table.time[rows]))
        entities = replace(entities, user=user, time=moment)
    times = []
    for _ in range(WARM + TIMED):
        started = time.perf_counter()
        served.predict(block, entities)
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times[WARM:]))
