"""Boosted trees beside the heavy ranker: what a report compares it with."""

from __future__ import annotations

import time

import numpy as np

from recsys_cli.features.table import FeatureTable
from recsys_cli.metrics import roc_auc
from recsys_cli.progress import Progress
from recsys_cli.ranking.trees.boosting import Binned, boost, tree_settings
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
    started = time.perf_counter()
    train = train.take(slice(max(len(train) - config.max_rows, 0), None))
    given = config.model_dump(include={"rounds", "learning_rate", "patience", "feature_share"})
    trees = LightGbmConfig(**given, dwell=False)
    settings = tree_settings(trees, threads) | {"objective": "binary", "metric": "auc"}
    known = tuple(t for t in tasks if 0 < train.labels[t].sum() < len(train))
    binned, models = Binned(), {}
    with (progress or Progress()).step("baseline", total=len(known)) as step:
        for task in known:
            labels = train.labels[task].astype(np.float32)
            held = None
            if len(valid) and 0 < valid.labels[task].sum() < len(valid):
                held = valid.values, valid.labels[task].astype(np.float32), None, None
            given = settings | {"num_leaves": trees.leaves_rare if labels.mean() < RARE else trees.leaves}
            rows = train.values, labels, train.weight, None
            models[task], _ = boost(trees, given, rows, held, [seed], [], binned)
            step.advance()
    ranker = TreeRanker(config=trees, names=train.names, tasks=known, models=models)
    if len(valid) and known:
        logits = ranker.logits(valid.values)[0]
        for t, task in enumerate(known):
            ranker.metrics[task] = {"roc_auc": roc_auc(valid.labels[task], logits[:, t])}
    ranker.metrics["training"] = {"rows": len(train), "seconds": round(time.perf_counter() - started, 3)}
    return ranker
