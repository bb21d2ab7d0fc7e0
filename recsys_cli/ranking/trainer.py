"""Training of the heavy ranker: seeded, resumable, stopped early on the validation rows."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import torch

from recsys_cli.errors import DataError, RecsysError
from recsys_cli.features.table import FeatureTable
from recsys_cli.metrics import expected_calibration_error, log_loss, roc_auc, summarise
from recsys_cli.parallel import Device
from recsys_cli.progress import Progress
from recsys_cli.ranking.calibration import SEGMENT_ROWS, by_segment, fit_calibration
from recsys_cli.ranking.constant_heads import constant_heads
from recsys_cli.ranking.heavy_config import HeavyConfig
from recsys_cli.ranking.kind import RankerKind
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.registry import RANKERS
from recsys_cli.ranking.standardise import check_finite
from recsys_cli.ranking.trained import TrainedRanker
from recsys_cli.ranking.training_inputs import TrainingInputs
from recsys_cli.ranking.warm_start import WarmStart

ROWS_AT_ONCE = 65_536
"""Rows looked at where a few may tell."""
SURFACE = "surface"
"""Categorical feature by whose codes calibration is told apart, in `metrics["segments"]`."""


def fit_heavy(
    config: HeavyConfig, train: FeatureTable, valid: FeatureTable, *, seed: int, progress: Progress | None = None,
    resume: Path | None = None, threads: int = 0, warm: WarmStart | None = None, kind: RankerKind | None = None,
    device: Device = "auto",
) -> TrainedRanker:
    """Train, calibrate and measure a heavy ranker.

    train, valid: tables with the same columns; `valid` may be empty (then every epoch is run and nothing is
    calibrated). seed: of the initial weights, the order of rows and dropout. resume: a checkpoint written after
    every epoch (every model of the trees); where it holds the same training, interrupted, that goes on from there
    and ends with the same weights. threads: of the library that trains, 0 leaves them as they are; a network that
    is small runs on one, so that the same seed gives the same weights whatever the number of cores.
    warm: what an earlier run leaves; networks begin with its weights, trees are added to its trees. kind: of the
    ranker, by default the registry's entry of `config.kind`. device: where networks
    are trained, with "auto" on a GPU where there is one.

    The result's `metrics` hold, per task, the figures of `metrics.summarise` on the validation rows after
    calibration (cross-fitted over users, so that the correction is not measured on the rows it was fitted on),
    `log_loss_raw` and `ece_raw` before it and the method chosen; under "dwell" the mean predicted and observed
    seconds and the correlation of ln(1+dwell); with `seeds`, per task the uncorrected ROC-AUC of every seed, its mean
    and its standard deviation; under "training" rows, epochs, the best one and seconds.

    Raises DataError for numbers that are not finite and where no action can be learned, RecsysError where the loss
    is no longer a number or a head gives every row the same, ArtifactError where `warm` does not fit.
    """
    progress, kind = progress or Progress(), kind or RANKERS[config.kind]
    started = time.perf_counter()
    _check_tables(train, valid)
    train = latest_rows(train, config.max_rows)
    tasks, dropped = _tasks_to_learn(config, train)
    if dropped:
        progress.message("no head for " + ", ".join(f"{a} ({why})" for a, why in dropped.items()))
    if warm is not None:
        warm.check(config, train.names, tasks)
    constant = constant_features(train)
    if constant:
        told = ", ".join(constant[:5]) + (f" and {len(constant) - 5} more" if len(constant) > 5 else "")
        progress.message(f"constant in the training rows, so that they teach nothing: {told}")
    fingerprint = _fingerprint(config, train, valid, seed) + ("" if warm is None else warm.digest)
    inputs = TrainingInputs(train, valid, tasks, seed, dropped, progress, resume, fingerprint, threads, warm, device)
    ranker = kind.fit(config, inputs)
    _check_alive(ranker, valid if len(valid) else train)
    _measure(ranker, valid)
    for task, aucs in _aucs_of_seeds(kind, config, ranker, inputs).items():
        spread = {"auc_mean": float(np.mean(aucs)), "auc_sd": float(np.std(aucs, ddof=1))}
        ranker.metrics[task] |= {"auc_seeds": aucs, **spread}
    history = ranker.history
    ranker.metrics["training"] = {
        "rows": len(train), "valid_rows": len(valid), "features": len(train.names),
        "constant_features": constant, "epochs": len(history),
        "best_epoch": [h["epoch"] for h in history if h["best"]][-1] if history else 0,
        "seconds": round(time.perf_counter() - started, 3),
    }
    ranker.release()
    return ranker


def _check_tables(train: FeatureTable, valid: FeatureTable) -> None:
    if train.names != valid.names:
        raise DataError("training and validation rows have different features", "build both tables in the same way")
    for table in (train, valid):
        check_finite(table.values, table.names)


def _tasks_to_learn(config: HeavyConfig, train: FeatureTable) -> tuple[tuple[str, ...], dict[str, str]]:
    """As `choose_tasks`; raises DataError where no action can be learned."""
    tasks, dropped = choose_tasks(config, train)
    if not tasks:
        raise DataError(
            f"no action can be learned from {len(train):,} training rows: "
            + "; ".join(f"{a}: {why}" for a, why in dropped.items()),
            _what_lacks(train),
        )
    return tasks, dropped


def latest_rows(table: FeatureTable, rows: int) -> FeatureTable:
    """At most so many rows, the latest, in their order."""
    if len(table) <= rows:
        return table
    keep = np.sort(np.argsort(table.time, kind="stable")[len(table) - rows :])
    return table.take(keep)


def constant_features(table: FeatureTable) -> list[str]:
    """Features that have one value in all rows."""
    if not len(table):
        return []
    first = table.values[0]
    varied = np.zeros(len(table.names), bool)
    for start in range(0, len(table), ROWS_AT_ONCE):  # most vary within the first rows, the others are few
        rest = np.flatnonzero(~varied)
        varied[rest] = (table.values[start : start + ROWS_AT_ONCE, rest] != first[rest]).any(axis=0)
    return [name for name, moves in zip(table.names, varied, strict=True) if not moves]


def choose_tasks(config: HeavyConfig, train: FeatureTable) -> tuple[tuple[str, ...], dict[str, str]]:
    """Actions that get a head, and for the others the reason why not."""
    tasks, dropped = [], {}
    for action, labels in train.labels.items():
        positives = int(np.count_nonzero(labels))
        if positives < config.min_positives:
            dropped[action] = f"{positives} positives, {config.min_positives} needed"
        elif positives == len(labels):
            dropped[action] = "every row has it, so nothing tells who would not"
        elif config.task_weights.get(action, 1.0) == 0:
            dropped[action] = "its task weight is 0"
        else:
            tasks.append(action)
    return tuple(tasks), dropped


def _what_lacks(train: FeatureTable) -> str:
    """What to do where no action can be learned: bring the side that is missing."""
    if all(labels.all() for labels in train.labels.values() if labels.any()) and any(
        labels.any() for labels in train.labels.values()
    ):
        return "bring rows of what was shown and not taken: with positives alone no action can be told from another"
    return "widen the ranker's window or lower ranking.heavy.min_positives"


def _fingerprint(config: HeavyConfig, train: FeatureTable, valid: FeatureTable, seed: int) -> str:
    """Of everything that the training depends on, so that a checkpoint of another training is not continued."""
    digest = hashlib.blake2b(digest_size=16)
    settings = [config.model_dump(mode="json"), seed, train.names, train.categories, torch.__version__]
    digest.update(orjson.dumps(settings))
    for table in (train, valid):
        step = max(len(table) // 1000, 1)
        for column in (table.values[::step], table.user, table.item, table.time, *table.labels.values()):
            digest.update(np.ascontiguousarray(column))
    return digest.hexdigest()


def _check_alive(ranker: TrainedRanker, table: FeatureTable) -> None:
    """Raises RecsysError where every head gives every row the same prediction although rows differ."""
    rows = table.take(slice(0, ROWS_AT_ONCE))
    logits = ranker.logits(rows.values, rows.entities)[0]
    if constant_heads(logits).all() and np.ptp(rows.values, axis=0).max() > 0:
        rates = ", ".join(f"{t} {p:.4f}" for t, p in zip(ranker.tasks, sigmoid(logits[0]), strict=True))
        raise RecsysError(
            f"the heavy ranker's probabilities collapsed: every row gets {rates}",
            "lower ranking.heavy.learning_rate, weight_decay or dropout, or give it more rows",
        )


def _aucs_of_seeds(
    kind: RankerKind, config: HeavyConfig, ranker: TrainedRanker, inputs: TrainingInputs
) -> dict[str, list[float]]:
    """Task → ROC-AUC on the validation rows of `ranker` and of rankers trained from the seeds after its own."""
    valid = inputs.valid
    if config.seeds == 1 or not len(valid):
        return {}
    out: dict[str, list[float]] = {task: [] for task in ranker.tasks}
    for number in range(config.seeds):
        other = ranker
        if number:
            other = kind.fit(config, replace(inputs.aside(f"seed-{number}"), seed=inputs.seed + number, dropped={}))
        logits = other.logits(valid.values, valid.entities)[0]
        for t, task in enumerate(ranker.tasks):
            out[task].append(roc_auc(valid.labels[task], logits[:, t]))
    return out


def _measure(ranker: TrainedRanker, valid: FeatureTable) -> None:
    """Calibrate on the validation rows and put their figures into `ranker.metrics`."""
    if len(valid) == 0:
        return
    config = ranker.config
    logits, mean, _ = ranker.logits(valid.values, valid.entities)
    calibration, segments = {}, {}
    surface = valid.values[:, valid.names.index(SURFACE)].astype(int) if SURFACE in valid.categories else None
    for t, task in enumerate(ranker.tasks):
        labels, mine = valid.labels[task], logits[:, t]
        raw = sigmoid(mine.astype(np.float64))
        enough = min(labels.sum(), len(labels) - labels.sum()) >= config.calibration_min_positives
        method = config.calibration if enough else "none"
        calibration[task], corrected = fit_calibration(mine, labels, valid.user, method)
        ranker.metrics[task] = summarise(labels, corrected) | {
            "log_loss_raw": log_loss(labels, raw), "ece_raw": expected_calibration_error(labels, raw),
            "calibration": calibration[task].kind,
        }
        if surface is not None and labels.sum() >= SEGMENT_ROWS:
            segments[task] = by_segment(labels, raw, corrected, surface)
    if segments:
        ranker.metrics["segments"] = segments
    ranker.set_calibration(calibration)
    known = np.isfinite(valid.dwell) if ranker.dwell and valid.dwell is not None else np.zeros(0, bool)
    if known.sum() >= 2:
        seen = valid.take(known)
        predicted, observed = ranker.predict(seen.values, seen.entities)["dwell"], seen.dwell
        log_observed = np.log1p(np.maximum(observed, 0))
        both_vary = np.ptp(mean[known]) > 0 and np.ptp(log_observed) > 0
        ranker.metrics["dwell"] = {
            "rows": int(known.sum()),
            "mean_predicted": float(predicted.mean()), "mean_observed": float(observed.mean()),
            "log_correlation": float(np.corrcoef(mean[known], log_observed)[0, 1]) if both_vary else float("nan"),
        }
