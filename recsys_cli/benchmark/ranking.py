"""A source on a ranking task: fitted, asked for everybody, and measured."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.benchmark.tasks import RankingTask
from recsys_cli.errors import DataError
from recsys_cli.evaluation import ranking_metrics
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Retriever
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.registry import make

USERS_AT_ONCE = 1_000


def measure_source(
    config: RetrieverConfig,
    task: RankingTask,
    metrics: tuple[str, ...],
    ks: tuple[int, ...],
    progress: Progress,
    threads: int = 0,
) -> dict:
    """Figures ("recall@20" → mean over users), seconds and peak memory of one source on a task."""
    source = make(config.model_copy(update={"exclude_seen": task.exclude_seen, "enabled": True}))
    if lack := source.missing(task.window):
        raise DataError(f"{config.kind} cannot work on this benchmark: it {lack}", "leave it out of the models")
    with PeakMemory() as memory:
        start = time.perf_counter()
        source.fit(task.window, progress)
        fitted = time.perf_counter()
        items = rank_everybody(source, task, max(ks), progress, threads)
        figures = ranking_figures(items, task, metrics, ks)
        ranked = time.perf_counter()
    return {
        "figures": figures,
        "fit_seconds": fitted - start,
        "rank_seconds": ranked - fitted,
        "peak_memory_mib": memory.mib,
    }


def rank_everybody(source: Retriever, task: RankingTask, k: int, progress: Progress, threads: int = 0) -> np.ndarray:
    """int32[B, k] best items of every user of the task; parts of the users are ranked side by side."""
    from threadpoolctl import threadpool_limits

    out = np.empty((len(task.users), k), np.int32)
    parts = [slice(at, at + USERS_AT_ONCE) for at in range(0, len(out), USERS_AT_ONCE)]

    def rank(part: slice) -> None:
        out[part] = source.retrieve(task.state, task.users[part], k)[0]

    with (
        progress.step("rank", len(parts)) as step,
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
    ):
        for _ in pool.map(rank, parts):
            step.advance()
    return out


def ranking_figures(
    items: np.ndarray, task: RankingTask, metrics: tuple[str, ...], ks: tuple[int, ...]
) -> dict[str, float]:
    """Metric@k → mean over the users of the task."""
    hit, count = ranking_metrics.hits(items, task.relevant), task.relevant.lengths
    return {
        f"{metric}@{k}": float(np.mean(ranking_metrics.ACCURACY[metric](hit, count, k)))
        for metric in metrics
        for k in ks
    }
