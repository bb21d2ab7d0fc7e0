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
from recsys_cli.metrics import expected_calibration_error, log_loss, summarise
from recsys_cli.parallel import torch_threads
from recsys_cli.progress import Progress
from recsys_cli.ranking.calibration import fit_calibration
from recsys_cli.ranking.config import HeavyConfig, HeavyNetworkConfig, LightGbmConfig
from recsys_cli.ranking.heavy import PREDICT_ROWS, HeavyRanker
from recsys_cli.ranking.light import check_finite, moments
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.loop import TrainingLoop, TrainingRows
from recsys_cli.ranking.networks import InputLayer, InputSpec, ServedNetwork
from recsys_cli.ranking.trees import TreeRanker, fit_trees
from recsys_cli.ranking.warm import WarmStart

MOMENT_ROWS = 500_000
"""Means and standard deviations of features are taken from about so many rows, evenly spread."""
PREPARED_VALUES = 2**28
"""Features of up to so many values (1 GiB) are normalised once and kept; those of more, batch by batch."""
PARALLEL_STEP = 2**30
"""Multiplications a step from which more than one thread pays; below, they wait for each other."""
COLLAPSED = 1e-4
"""Logits that differ by less over all rows tell nothing."""


def fit_heavy(
    config: HeavyConfig, train: FeatureTable, valid: FeatureTable, *, seed: int,
    progress: Progress | None = None, resume: Path | None = None, threads: int = 0, warm: WarmStart | None = None,
) -> HeavyRanker | TreeRanker:
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
    seconds and the correlation of ln(1+dwell); under "training" rows, epochs, the best one and seconds.

    Raises DataError for numbers that are not finite and where no action can be learned, RecsysError where the loss
    is no longer a number or every prediction is the same, ArtifactError where `warm` does not fit.
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
            "widen the ranker's window or lower ranking.heavy.min_positives",
        )
    if dropped:
        progress.message("no head for " + ", ".join(f"{a} ({why})" for a, why in dropped.items()))
    if warm is not None:
        warm.check(config, train, tasks)
    fingerprint = _fingerprint(config, train, valid, seed) + ("" if warm is None else warm.digest)
    given = {"seed": seed, "progress": progress, "resume": resume, "fingerprint": fingerprint, "threads": threads}
    fit = fit_trees if isinstance(config, LightGbmConfig) else _fit_network
    ranker = fit(config, train, valid, tasks, dropped, **given, warm=warm)
    _check_alive(ranker, valid if len(valid) else train)
    _measure(ranker, valid)
    history = ranker.history
    ranker.metrics["training"] = {
        "rows": len(train), "valid_rows": len(valid), "features": len(train.names), "epochs": len(history),
        "best_epoch": [h["epoch"] for h in history if h["best"]][-1] if history else 0,
        "seconds": round(time.perf_counter() - started, 3),
    }
    if isinstance(ranker, HeavyRanker):
        ranker.network.cpu()
    return ranker


def _fit_network(
    config: HeavyNetworkConfig, train: FeatureTable, valid: FeatureTable, tasks: tuple[str, ...],
    dropped: dict[str, str], *, seed: int, progress: Progress, resume: Path | None, fingerprint: str, threads: int,
    warm: WarmStart | None = None,
) -> HeavyRanker:
    """The network of a configuration, trained and not yet calibrated."""
    device = _device(config)
    spec = input_spec(train) if warm is None else warm.input_spec(input_spec(train), train.names)
    dwell = config.dwell and train.dwell is not None and bool(np.isfinite(train.dwell).sum() >= 2)
    data = _tensors(config, spec, train, tasks, dwell, device)
    loop = TrainingLoop(
        config, spec, tasks, data, valid, seed=seed, progress=progress, resume=resume, fingerprint=fingerprint,
        warm=warm,
    )
    with torch_threads(threads if loop.multiplications >= PARALLEL_STEP else 1):
        members, history = loop.run()
    network = ServedNetwork(members, float(np.nanmax(train.dwell)) if dwell else 0.0).to(device).eval()
    return HeavyRanker(config, train.names, tasks, spec, network, dwell, dropped=dropped, history=history)


def _latest(table: FeatureTable, rows: int) -> FeatureTable:
    if len(table) <= rows:
        return table
    keep = np.sort(np.argsort(table.time, kind="stable")[len(table) - rows :])
    return FeatureTable(
        table.values[keep], table.names, table.categories, {k: v[keep] for k, v in table.labels.items()},
        None if table.dwell is None else table.dwell[keep], table.user[keep], table.item[keep], table.time[keep],
        None if table.weight is None else table.weight[keep],
        None if table.candidate is None else table.candidate[keep],
    )


def choose_tasks(config: HeavyConfig, train: FeatureTable) -> tuple[tuple[str, ...], dict[str, str]]:
    """Actions that get a head, and for the others the reason why not."""
    tasks, dropped = [], {}
    for action, labels in train.labels.items():
        positives = int(np.count_nonzero(labels))
        if positives < config.min_positives:
            dropped[action] = f"{positives} positives, {config.min_positives} needed"
        elif positives == len(labels):
            dropped[action] = "no row without it"
        elif config.task_weights.get(action, 1.0) == 0:
            dropped[action] = "its task weight is 0"
        else:
            tasks.append(action)
    return tuple(tasks), dropped


def input_spec(train: FeatureTable) -> InputSpec:
    """How each column of a table enters the network, with the moments of its training rows."""
    numeric = [j for j, name in enumerate(train.names) if name not in train.categories]
    categorical = [j for j, name in enumerate(train.names) if name in train.categories]
    sample = train.values[:: max(len(train) // MOMENT_ROWS, 1)]
    logged, mean, std = moments(sample[:, numeric])
    order = np.argsort(logged, kind="stable")
    return InputSpec(
        np.array(numeric, np.int64)[order].tolist(), logged[order].tolist(), mean[order].tolist(), std[order].tolist(),
        categorical,
        [train.categories[train.names[j]] for j in categorical],
    )


def _device(config: HeavyNetworkConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise RecsysError("ranking.heavy.device is cuda and this machine has no usable GPU", "set it to auto or cpu")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def _tensors(
    config: HeavyNetworkConfig, spec: InputSpec, train: FeatureTable, tasks: tuple[str, ...], dwell: bool,
    device: torch.device,
) -> TrainingRows:
    def tensor(values: np.ndarray | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)

    features, prepared = tensor(train.values), None
    if train.values.size <= PREPARED_VALUES:
        with torch.random.fork_rng(devices=[]):  # its weights are drawn and never used
            layer = InputLayer(spec, config.embedding_dim, config.clip).to(device)
        parts = [layer.prepare(features[start : start + PREDICT_ROWS]) for start in range(0, len(train), PREDICT_ROWS)]
        numbers, codes = zip(*parts, strict=True)
        prepared = torch.cat(numbers), torch.cat(codes).to(torch.int32) if spec.categorical else None
    labels = np.stack([train.labels[task] for task in tasks], axis=1)
    log_dwell = np.log1p(np.maximum(train.dwell, 0)) if dwell else None
    mask = None
    if train.candidate is not None:
        mask = np.stack([(t == RELEVANCE) | ~train.candidate for t in tasks], axis=1)
    return TrainingRows(features, prepared, tensor(labels), tensor(log_dwell), tensor(train.weight), tensor(mask))


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


def _check_alive(ranker: HeavyRanker | TreeRanker, table: FeatureTable) -> None:
    """Raises RecsysError where every head gives every row the same prediction although rows differ."""
    sample = table.values[:PREDICT_ROWS]
    logits = ranker.logits(sample)[0]
    if np.ptp(logits, axis=0).max() < COLLAPSED and np.ptp(sample, axis=0).max() > 0:
        rates = ", ".join(f"{t} {p:.4f}" for t, p in zip(ranker.tasks, sigmoid(logits[0]), strict=True))
        raise RecsysError(
            f"the heavy ranker's probabilities collapsed: every row gets {rates}",
            "lower ranking.heavy.learning_rate, weight_decay or dropout, or give it more rows",
        )


def _measure(ranker: HeavyRanker | TreeRanker, valid: FeatureTable) -> None:
    """Calibrate on the validation rows and put their figures into `ranker.metrics`."""
    if len(valid) == 0:
        return
    config = ranker.config
    logits, mean, _ = ranker.logits(valid.values)
    calibration = {}
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
    ranker.set_calibration(calibration)
    known = np.isfinite(valid.dwell) if ranker.dwell and valid.dwell is not None else np.zeros(0, bool)
    if known.sum() >= 2:
        predicted, observed = ranker.predict(valid.values[known])["dwell"], valid.dwell[known]
        log_observed = np.log1p(np.maximum(observed, 0))
        both_vary = np.ptp(mean[known]) > 0 and np.ptp(log_observed) > 0
        ranker.metrics["dwell"] = {
            "rows": int(known.sum()),
            "mean_predicted": float(predicted.mean()), "mean_observed": float(observed.mean()),
            "log_correlation": float(np.corrcoef(mean[known], log_observed)[0, 1]) if both_vary else float("nan"),
        }
