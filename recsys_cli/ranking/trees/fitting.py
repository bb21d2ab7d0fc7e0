"""Fitting boosted trees: from tables to a trained, uncalibrated ranker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.features.table import FeatureTable
from recsys_cli.ranking.training_inputs import TrainingInputs
from recsys_cli.ranking.trees.boosting import Binned, boost, tree_settings
from recsys_cli.ranking.trees.config import LightGbmConfig
from recsys_cli.ranking.trees.ranker import TreeRanker

RARE = 0.1
"""Actions with a smaller share of positives take trees of `leaves_rare`."""
DWELL_ROWS = 100_000
"""Rows on which the variance of dwell time is taken, about."""


def fit_trees(config: LightGbmConfig, inputs: TrainingInputs) -> TreeRanker:
    """One LightGBM model an action (and one of ln(1+dwell)), each stopped on the validation rows."""
    binned = Binned()
    return fit_models(
        config, inputs, inputs.tasks, lambda task, before: fit_action(config, inputs, task, before, binned)
    )


def fit_models(
    config: LightGbmConfig, inputs: TrainingInputs, entries: tuple[str, ...],
    fit: Callable[[str, list[str]], tuple[list[str], int]], lines: dict[str, tuple[float, float]] | None = None,
) -> TreeRanker:
    """A ranker of one model an entry, and one of dwell time where that is learned.

    fit(entry, before): the text of each member, and the rounds kept; before: members of an earlier run, to whose
    trees it adds. The rounds of the first member are those of the others. A checkpoint after every model lets an
    interrupted training go on. lines: as of `TreeRanker`.
    """
    train, warm = inputs.train, inputs.warm
    if warm is not None:
        warm.check_codes()
    known = np.isfinite(train.dwell) if train.dwell is not None else np.zeros(0, bool)
    has_dwell = config.dwell and known.sum() >= 2
    wanted = entries + (("dwell",) if has_dwell else ())
    models, history = _interrupted(inputs.resume, inputs.fingerprint)
    with inputs.progress.step("heavy ranker", total=len(wanted)) as step:
        step.advance(len(models))
        for entry in wanted[len(models) :]:
            started = time.perf_counter()
            models[entry], rounds = fit(entry, [] if warm is None else warm.heavy["models"].get(entry, []))
            history.append({
                "task": entry, "epoch": rounds, "best": True, "seconds": round(time.perf_counter() - started, 3)
            })
            step.advance()
            if inputs.resume is not None:
                content = {"fingerprint": inputs.fingerprint, "models": models, "history": history}
                save_checkpoint(inputs.resume, content)
    ranker = TreeRanker(
        config=config, names=train.names, tasks=inputs.tasks, models=models, dropped=inputs.dropped, history=history,
        dwell_max=float(np.nanmax(train.dwell)) if has_dwell else 0.0, lines=lines or {},
    )
    if has_dwell:
        rows = np.flatnonzero(known)[:: max(int(known.sum()) // DWELL_ROWS, 1)]
        error = np.log1p(np.maximum(train.dwell[rows], 0)) - ranker.logits(train.values[rows])[1]
        ranker.dwell_variance = float(np.var(error))
    return ranker


def _interrupted(resume: Path | None, fingerprint: str) -> tuple[dict[str, list[str]], list[dict]]:
    if resume is None or not Path(resume).exists():
        return {}, []
    content = load_checkpoint(resume)
    if content.get("fingerprint") != fingerprint or "models" not in content:
        return {}, []
    return content["models"], content["history"]


def fit_action(
    config: LightGbmConfig, inputs: TrainingInputs, task: str, before: list[str], binned: Binned
) -> tuple[list[str], int]:
    """LightGBM's text of each member for an action or "dwell", and the rounds kept.

    before: texts of the members that it begins with, or none.
    """
    train, valid = inputs.train, inputs.valid

    def rows_of(table: FeatureTable) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if task != "dwell":
            return table.values, table.labels[task].astype(np.float32), table.weight
        keep = np.isfinite(table.dwell)
        weight = None if table.weight is None else table.weight[keep]
        return table.values[keep], np.log1p(np.maximum(table.dwell[keep], 0)), weight

    values, labels, weight = rows_of(train)
    rare = task != "dwell" and labels.mean() < RARE
    settings = tree_settings(config, inputs.threads) | {
        "objective": "regression" if task == "dwell" else "binary", "metric": "l2" if task == "dwell" else "auc",
    }
    if rare:
        settings["num_leaves"] = config.leaves_rare
    held = rows_of(valid) if len(valid) and (task == "dwell" or 0 < valid.labels[task].sum() < len(valid)) else None
    if held is not None and not len(held[1]):
        held = None
    return boost(config, settings, (values, labels, weight, None), held and (*held, None), inputs.seed, before, binned)
