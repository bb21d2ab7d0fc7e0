"""What training learns from logged impressions: their features, the heavy ranker, and trees to compare it with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.artifacts.checkpoint import save_checkpoint
from recsys_cli.data.state import State
from recsys_cli.features.build import build_table
from recsys_cli.features.define import create_spec
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.features.table import FeatureTable
from recsys_cli.ranking.serving.quantise import int8_loss, scaling_rows
from recsys_cli.ranking.trainer import choose_tasks, fit_heavy, latest_rows
from recsys_cli.ranking.trees.baseline import fit_baseline

if TYPE_CHECKING:
    from recsys_cli.data.log import Log
    from recsys_cli.ranking.trees.ranker import TreeRanker
    from recsys_cli.retrieval.base import Retriever
    from recsys_cli.training.job import TrainingJob


def actions_to_learn(job: TrainingJob) -> list[str]:
    """Actions that people both took and did not take often enough in the ranker's rows to have a head."""
    w, least = job.lesson.windows, job.settings.ranking.heavy.min_positives
    log = job.lesson.dataset.log.window(w.history_end, w.validation_start)
    return [a for a, did in log.actions.items() if least <= int(did.sum()) <= len(log) - least]


def spec_of(job: TrainingJob, sources: dict[str, Retriever]) -> FeatureSpec:
    """The features that the data and these sources allow."""
    log = job.dataset.log
    probe = np.zeros(1, np.int32)
    state = State.build(job.dataset.catalogue, log.take(slice(0, 0)), job.windows.start)
    measuring = tuple(n for n, s in sources.items() if s.score(state, probe, probe[:, None]) is not None)
    for side in ("user", "item"):
        for column, why in getattr(job.dataset.catalogue, f"{side}_columns").refused.items():
            job.notes.append(f"{side}s' column {column} becomes no feature: {why}")
    return _spec(job, measuring)


def features_at_most(job: TrainingJob, sources: Iterable[str]) -> int:
    """How many features a row may have, before any of these sources is fitted."""
    return len(_spec(job, tuple(sources)).features)


def _spec(job: TrainingJob, measuring: tuple[str, ...]) -> FeatureSpec:
    """measuring: sources whose similarity is a feature."""
    log, names = job.dataset.log, job.dataset.categories
    return create_spec(
        job.settings.features,
        job.dataset.catalogue,
        positive=log.positive_actions,
        negative=log.negative_actions,
        has_dwell=log.dwell is not None,
        surfaces=names.get("surface", ()),
        devices=names.get("device", ()),
        similarities=measuring,
        context=log.context,
    )


def windows_of_tables(job: TrainingJob) -> tuple[Log, Log]:
    """Logged impressions of the ranker's window, of these the latest that are learned from at most, and of the
    validation window."""
    log, w, ranking = job.lesson.dataset.log, job.lesson.windows, job.settings.ranking
    most = max(ranking.heavy.max_rows, ranking.baseline.max_rows if ranking.baseline.enabled else 0)
    train = log.window(w.history_end, w.validation_start)
    return train.take(slice(max(len(train) - most, 0), None)), log.window(w.validation_start, w.test_start)


def tables_of(job: TrainingJob, spec: FeatureSpec, sources: dict[str, Retriever]) -> tuple[FeatureTable, FeatureTable]:
    """The rows of `windows_of_tables` with features as of each."""
    log = job.lesson.dataset.log
    state = State.build(job.dataset.catalogue, log, job.lesson.windows.history_end, **job.edges)
    with job.progress.step("training table"):
        train, valid = (table_of(job, log, spec, sources, rows, state) for rows in windows_of_tables(job))
    return train, valid


def table_of(
    job: TrainingJob, log: Log, spec: FeatureSpec, sources: dict[str, Retriever], rows: Log, state: State
) -> FeatureTable:
    """Features of rows of a log as of each; similarities by the sources and what the state knows."""

    def similarity(users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
        return {n: sources[n].score(state, users, items[:, None])[:, 0] for n in spec.similarities}

    return build_table(spec, state.catalogue, log, rows, **job.edges, similarity=similarity)


def fit_heavy_ranker(job: TrainingJob, train_table: FeatureTable, valid_table: FeatureTable):
    """The heavy ranker, kept as a checkpoint of the training; its figures become the run's."""
    path = job.work / "checkpoints" / "heavy.pt"
    heavy = fit_heavy(
        job.settings.ranking.heavy,
        train_table,
        valid_table,
        seed=job.settings.seed,
        progress=job.progress,
        resume=job.work / "progress" / "heavy.pt",
        threads=job.settings.threads,
        warm=job.warm,
        device=job.settings.device,
    )
    save_checkpoint(path, heavy.checkpoint())
    job.metrics["heavy"] = heavy.metrics
    surfaces = job.dataset.categories.get("surface", ())
    for task, codes in heavy.metrics.get("segments", {}).items():
        # code 0 stands for unknown
        named = {surfaces[c - 1] if 0 < c <= len(surfaces) else "unknown": row for c, row in codes.items()}
        heavy.metrics["segments"][task] = named
    job.notes.extend(f"no head for {action}: {why}" for action, why in heavy.dropped.items())
    if job.settings.ranking.precision == "int8":
        job.scaled_on = scaling_rows(train_table)
        if len(valid_table):
            job.metrics["int8"] = int8_loss(heavy, job.scaled_on, valid_table)
    return heavy


def heads_of(job: TrainingJob, train_table: FeatureTable) -> tuple[str, ...]:
    """The actions that the heavy ranker will have heads for."""
    config = job.settings.ranking.heavy
    return choose_tasks(config, latest_rows(train_table, config.max_rows))[0]


def fit_baseline_ranker(
    job: TrainingJob, heads: tuple[str, ...], train_table: FeatureTable, valid_table: FeatureTable
) -> TreeRanker | None:
    """Quick trees on the heavy ranker's rows, for reports to compare it with; None where it is itself of trees."""
    config = job.settings.ranking.baseline
    if not config.enabled or job.settings.ranking.heavy.kind == "lightgbm":
        return None
    with job.step("baseline"):
        baseline = fit_baseline(
            config, train_table, valid_table, heads, seed=job.settings.seed, progress=job.progress,
            threads=job.threads_beside,
        )
    job.metrics["baseline"] = baseline.metrics
    return baseline
