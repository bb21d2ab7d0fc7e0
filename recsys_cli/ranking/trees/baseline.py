"""Boosted trees beside the heavy ranker: what a report compares it with."""

from __future__ import annotations

import time

import numpy as np

from recsys_cli.features.table import FeatureTable
from recsys_cli.metrics import roc_auc
from recsys_cli.progress import Progress
from recsys_cli.ranking.trees.boosting import Binned, tree_settings
from recsys_cli.ranking.trees.config import BaselineConfig, LightGbmConfig
from recsys_cli.ranking.trees.ranker import RARE, TreeRanker

FOLDER = "baseline"
"""Where its graph stands below the rankers of a bundle."""


def fit_baseline(
    config: BaselineConfig, train: FeatureTable, valid: FeatureTable, tasks: tuple[str, ...], *, seed: int,
    progress: Progress | None = None, threads: int = 0,
) -> TreeRanker:
    """One LightGBM model for each task of the heavy ranker, on the rows and features that it had.

    `metrics` holds the ROC-AUC of each task on the validation rows, and under "training" rows and seconds.
    """
    import lightgbm

    started = time.perf_counter()
    train = train.take(slice(max(len(train) - config.max_rows, 0), None))
    trees = LightGbmConfig(rounds=config.rounds, learning_rate=config.learning_rate, dwell=False)
    settings = tree_settings(trees, threads) | {"objective": "binary", "metric": "auc", "seed": seed}
    known = tuple(t for t in tasks if 0 < train.labels[t].sum() < len(train))
    binned, models = Binned(), {}
    with (progress or Progress()).step("baseline", total=len(known)) as step:
        for task in known:
            labels = train.labels[task].astype(np.float32)
            rows = valid.values, valid.labels[task].astype(np.float32), None, None
            data, held = binned.of(settings, (train.values, labels, train.weight, None), rows if len(valid) else None)
            given = settings | {"num_leaves": trees.leaves_rare if labels.mean() < RARE else trees.leaves}
            more = {}
            if held is not None and 0 < valid.labels[task].sum() < len(valid):
                stop = lightgbm.early_stopping(config.patience, verbose=False)
                more = {"valid_sets": [held], "callbacks": [stop]}
            booster = lightgbm.train(given, data, config.rounds, **more)
            models[task] = [booster.model_to_string(num_iteration=booster.best_iteration if more else -1)]
            step.advance()
    ranker = TreeRanker(config=trees, names=train.names, tasks=known, models=models)
    if len(valid) and known:
        logits = ranker.logits(valid.values)[0]
        for t, task in enumerate(known):
            ranker.metrics[task] = {"roc_auc": roc_auc(valid.labels[task], logits[:, t])}
    ranker.metrics["training"] = {"rows": len(train), "seconds": round(time.perf_counter() - started, 3)}
    return ranker
