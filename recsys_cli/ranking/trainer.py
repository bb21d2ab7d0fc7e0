"""Training of the heavy ranker: seeded, resumable, stopped early on the validation rows."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import orjson
import torch

from recsys_cli.errors import DataError, RecsysError
from recsys_cli.features.table import RELEVANCE, FeatureTable
from recsys_cli.metrics import expected_calibration_error, log_loss, roc_auc, summarise
from recsys_cli.parallel import torch_threads
from recsys_cli.progress import Progress
from recsys_cli.ranking.calibration import SEGMENT_ROWS, by_segment, fit_calibration
from recsys_cli.ranking.collapse import flat
from recsys_cli.ranking.config import EnsembleConfig, HeavyConfig, HeavyNetworkConfig, LightGbmConfig, with_common
from recsys_cli.ranking.ensemble import EnsembleRanker
from recsys_cli.ranking.heavy import PREDICT_ROWS, HeavyRanker
from recsys_cli.ranking.inputs import complete_spec, input_spec, place_codes, training_rows
from recsys_cli.ranking.light import check_finite
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.loop import TrainingLoop
from recsys_cli.ranking.networks import ServedNetwork
from recsys_cli.ranking.trees import TreeRanker, fit_trees
from recsys_cli.ranking.warm import WarmStart

PARALLEL_STEP = 2**30
"""Multiplications a step from which more than one thread pays; below, they wait for each other."""
SURFACE = "surface"
"""Categorical feature by whose codes calibration is told apart, in `metrics["segments"]`."""


def fit_heavy(
    config: HeavyConfig, train: FeatureTable, valid: FeatureTable, *, seed: int,
    progress: Progress | None = None, resume: Path | None = None, threads: int = 0, warm: WarmStart | None = None,
) -> HeavyRanker | TreeRanker | EnsembleRanker:
    """Train, calibrate and measure a heavy ranker.

    train, valid: tables with the same columns; `valid` may be empty (then every epoch is run and nothing is
    calibrated). seed: of the initial weights, the order of rows and dropout. resume: a checkpoint written after
    every epoch (every model of the trees); where it holds the same training, interrupted, that goes on from there
    and ends with the same weights. threads: torch threads for wide networks, 0 leaves them as they are; a network of
    less than PARALLEL_STEP runs on one, so that the same seed gives the same weights whatever the number of cores.
    warm: what an earlier run leaves; networks begin with its weights, trees are added to its trees.

    The result's `metrics` hold, per task, the figures of `metrics.summarise` on the validation rows after
    calibration (cross-fitted over users, so that the correction is not measured on the rows it was fitted on),
    `log_loss_raw` and `ece_raw` before it and the method chosen; under "dwell" the mean predicted and observed
    seconds and the correlation of ln(1+dwell); with `seeds`, per task the uncorrected ROC-AUC of every seed, its mean
    and its standard deviation; under "training" rows, epochs, the best one and seconds.

    Raises DataError for numbers that are not finite and where no action can be learned, RecsysError where the loss
    is no longer a number or a head gives every row the same, ArtifactError where `warm` does not fit.
    """
    progress = progress or Progress()
    started = time.perf_counter()
    if train.names != valid.names:
        raise DataError("training and validation rows have different features", "build both tables in the same way")
    for table in (train, valid):
        check_finite(table.values, table.names)
    train = _latest(train, config.max_rows)
    tasks, dropped = choose_tasks(config, train)
    if not tasks:
        raise DataError(
            f"no action can be learned from {len(train):,} training rows: "
            + "; ".join(f"{a}: {why}" for a, why in dropped.items()),
            _what_lacks(train),
        )
    if dropped:
        progress.message("no head for " + ", ".join(f"{a} ({why})" for a, why in dropped.items()))
    if warm is not None:
        warm.check(config, train, tasks)
    fingerprint = _fingerprint(config, train, valid, seed) + ("" if warm is None else warm.digest)
    given = {"progress": progress, "fingerprint": fingerprint, "threads": threads, "warm": warm}
    fit = _fit_ensemble if isinstance(config, EnsembleConfig) else _fit_one
    constant = constant_features(train)
    if constant:
        told = ", ".join(constant[:5]) + (f" and {len(constant) - 5} more" if len(constant) > 5 else "")
        progress.message(f"constant in the training rows, so that they teach nothing: {told}")
    ranker = fit(config, train, valid, tasks, dropped, seed=seed, resume=resume, **given)
    _check_alive(ranker, valid if len(valid) else train)
    _measure(ranker, valid)
    for task, aucs in _aucs_of_seeds(config, fit, ranker, train, valid, seed, resume, given).items():
        spread = {"auc_mean": float(np.mean(aucs)), "auc_sd": float(np.std(aucs, ddof=1))}
        ranker.metrics[task] |= {"auc_seeds": aucs, **spread}
    history = ranker.history
    ranker.metrics["training"] = {
        "rows": len(train), "valid_rows": len(valid), "features": len(train.names),
        "constant_features": constant, "epochs": len(history),
        "best_epoch": [h["epoch"] for h in history if h["best"]][-1] if history else 0,
        "seconds": round(time.perf_counter() - started, 3),
    }
    if isinstance(ranker, HeavyRanker | EnsembleRanker):
        (ranker.network if isinstance(ranker, EnsembleRanker) else ranker).network.cpu()
    return ranker


def _fit_one(config: HeavyNetworkConfig | LightGbmConfig, *rows_and_tasks, **given) -> HeavyRanker | TreeRanker:
    return (fit_trees if isinstance(config, LightGbmConfig) else _fit_network)(config, *rows_and_tasks, **given)


def _fit_ensemble(
    config: EnsembleConfig, train: FeatureTable, valid: FeatureTable, tasks: tuple[str, ...],
    dropped: dict[str, str], *, resume: Path | None, warm: WarmStart | None, **given,
) -> EnsembleRanker:
    """Both parts, each with a progress file and the part of the earlier run that is its own."""
    parts = {}
    for name in ("network", "trees"):
        place = None if resume is None else resume.with_stem(f"{resume.stem}-{name}")
        start = None if warm is None else warm.part(name)
        part = config.part(name)
        if start is not None:
            start.check(part, train, tasks)
        parts[name] = _fit_one(part, train, valid, tasks, dropped, resume=place, warm=start, **given)
    return EnsembleRanker(config, parts["network"], parts["trees"], dropped=dropped)


def _fit_network(
    config: HeavyNetworkConfig, train: FeatureTable, valid: FeatureTable, tasks: tuple[str, ...],
    dropped: dict[str, str], *, seed: int, progress: Progress, resume: Path | None, fingerprint: str, threads: int,
    warm: WarmStart | None = None,
) -> HeavyRanker:
    """The network of a configuration, trained and not yet calibrated."""
    device = _device(config)
    spec = complete_spec(config, input_spec(train), train, tasks, progress)
    if warm is not None:
        spec = warm.input_spec(spec, train.names)
    dwell = config.dwell and train.dwell is not None and bool(np.isfinite(train.dwell).sum() >= 2)
    teaching = None
    if config.teacher is not None:
        trees = fit_trees(
            with_common(config.teacher, config, dwell=False), train, valid, tasks, dropped, seed=seed,
            progress=progress, resume=None if resume is None else resume.with_stem(f"{resume.stem}-teacher"),
            fingerprint=fingerprint, threads=threads,
        )
        teaching = sigmoid(trees.logits(train.values)[0])
    data = training_rows(config, spec, train, tasks, dwell, device, progress, teaching)
    loop = TrainingLoop(
        config, spec, tasks, data, valid, seed=seed, progress=progress, resume=resume, fingerprint=fingerprint,
        warm=warm, valid_place=place_codes(valid) if spec.places else None,
    )
    with torch_threads(threads if loop.multiplications >= PARALLEL_STEP else 1):
        members, history = loop.run()
    network = ServedNetwork(members, float(np.nanmax(train.dwell)) if dwell else 0.0).to(device).eval()
    return HeavyRanker(config, train.names, tasks, spec, network, dwell, dropped=dropped, history=history)


def _latest(table: FeatureTable, rows: int) -> FeatureTable:
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
    for start in range(0, len(table), PREDICT_ROWS):  # most vary within the first rows, the others are few
        rest = np.flatnonzero(~varied)
        varied[rest] = (table.values[start : start + PREDICT_ROWS, rest] != first[rest]).any(axis=0)
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


def _device(config: HeavyNetworkConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise RecsysError("ranking.heavy.device is cuda and this machine has no usable GPU", "set it to auto or cpu")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


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


def _check_alive(ranker: HeavyRanker | TreeRanker | EnsembleRanker, table: FeatureTable) -> None:
    """Raises RecsysError where every head gives every row the same prediction although rows differ."""
    rows = table.take(slice(0, PREDICT_ROWS))
    logits = ranker.logits(rows.values, rows.entities)[0]
    if flat(logits).all() and np.ptp(rows.values, axis=0).max() > 0:
        rates = ", ".join(f"{t} {p:.4f}" for t, p in zip(ranker.tasks, sigmoid(logits[0]), strict=True))
        raise RecsysError(
            f"the heavy ranker's probabilities collapsed: every row gets {rates}",
            "lower ranking.heavy.learning_rate, weight_decay or dropout, or give it more rows",
        )


def _aucs_of_seeds(
    config: HeavyConfig, fit, ranker: HeavyRanker | TreeRanker | EnsembleRanker, train: FeatureTable,
    valid: FeatureTable, seed: int, resume: Path | None, given: dict,
) -> dict[str, list[float]]:
    """Task → ROC-AUC on the validation rows of `ranker` and of rankers trained from the seeds after its own."""
    if not isinstance(config, HeavyNetworkConfig) or config.seeds == 1 or not len(valid):
        return {}
    out: dict[str, list[float]] = {task: [] for task in ranker.tasks}
    for number in range(config.seeds):
        other = ranker
        if number:
            place = None if resume is None else resume.with_stem(f"{resume.stem}-seed-{number}")
            other = fit(config, train, valid, ranker.tasks, {}, seed=seed + number, resume=place, **given)
        logits = other.logits(valid.values, valid.entities)[0]
        for t, task in enumerate(ranker.tasks):
            rows = valid.known(task)
            out[task].append(roc_auc(valid.labels[task][rows], logits[rows, t]))
    return out


def _measure(ranker: HeavyRanker | TreeRanker | EnsembleRanker, valid: FeatureTable) -> None:
    """Calibrate on the validation rows and put their figures into `ranker.metrics`."""
    if len(valid) == 0:
        return
    config = ranker.config
    logits, mean, _ = ranker.logits(valid.values, valid.entities)
    calibration, segments = {}, {}
    surface = valid.values[:, valid.names.index(SURFACE)].astype(int) if SURFACE in valid.categories else None
    for t, task in enumerate(ranker.tasks):
        rows = valid.known(task)
        labels, mine = valid.labels[task][rows], logits[rows, t]
        raw = sigmoid(mine.astype(np.float64))
        enough = min(labels.sum(), len(labels) - labels.sum()) >= config.calibration_min_positives
        # how often candidates are relevant depends on how many are drawn: there is no rate to be right about
        method = config.calibration if enough and task != RELEVANCE else "none"
        calibration[task], corrected = fit_calibration(mine, labels, valid.user[rows], method)
        ranker.metrics[task] = summarise(labels, corrected) | {
            "log_loss_raw": log_loss(labels, raw), "ece_raw": expected_calibration_error(labels, raw),
            "calibration": calibration[task].kind,
        }
        if surface is not None and labels.sum() >= SEGMENT_ROWS:
            segments[task] = by_segment(labels, raw, corrected, surface[rows])
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
