"""How well the heavy ranker foretells what happened on the impressions of the test window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli import metrics
from recsys_cli.evaluation.intervals import bootstrap_auc

if TYPE_CHECKING:
    from pathlib import Path

    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.config import EvaluationConfig
    from recsys_cli.features.table import FeatureTable
    from recsys_cli.ranking.serving.served import ServedRanker


def measure_impressions(
    engine: RecommendationEngine, dataset: Dataset, edges: dict[str, Any], config: EvaluationConfig, seed: int,
    baseline: ServedRanker | None = None, responses: dict[str, np.ndarray] | None = None,
) -> dict[str, Any] | None:
    """Figures of every action and of dwell time on the logged test impressions; None without a heavy ranker.

    engine: as of the start of the test window. Features are as of each impression, as in training. baseline: the
    trees that the heavy ranker is compared with. responses: true probabilities (`oracle.logged_responses`).
    """
    table, log = impression_table(engine, dataset, edges)
    if table is None:
        return None
    predicted = engine.bundle.heavy.predict(table.values, table.entities)
    trees = {} if baseline is None else baseline.predict(table.values)
    return {
        "rows": len(log),
        "users": len(np.unique(log.user)),
        "views": [
            {
                "view": name, "rows": int(mask.sum()),
                **_view(log, mask, predicted, config.auc_resamples, seed, trees, responses),
            }
            for name, mask in views(log, dataset.categories.get("surface"))
        ],
    }


def impressions_by_task(
    engine: RecommendationEngine, given: tuple[Dataset, dict[str, Any], dict[str, np.ndarray] | None],
    config: EvaluationConfig, seed: int, baseline: bool,
) -> dict[str, Any] | None:
    """`measure_impressions` on a worker, which reads the trees of the run itself where there is a baseline."""
    dataset, edges, responses = given
    trees = baseline_of(engine.artifacts, engine.manifest.id) if baseline else None
    return measure_impressions(engine, dataset, edges, config, seed, trees, responses)


def baseline_of(artifacts: Path, run: str, threads: int = 1) -> ServedRanker | None:
    """The trees that a run's heavy ranker is compared with; None where it has none."""
    from recsys_cli.ranking.registry import load_ranker

    folder = artifacts / "runs" / run / "bundle" / "ranking" / "baseline"
    return load_ranker(folder, threads=threads) if folder.is_dir() else None


def predict_impressions(
    engine: RecommendationEngine, dataset: Dataset, edges: dict[str, Any]
) -> tuple[dict[str, np.ndarray] | None, Log]:
    """Predictions of the heavy ranker (action → probability, "dwell" → seconds) and the rows they are for."""
    table, test = impression_table(engine, dataset, edges)
    return None if table is None else engine.bundle.heavy.predict(table.values, table.entities), test


def impression_table(
    engine: RecommendationEngine, dataset: Dataset, edges: dict[str, Any]
) -> tuple[FeatureTable | None, Log]:
    """Features of the test impressions as of each, and the impressions; None without a heavy ranker."""
    from recsys_cli.features.build import build_table

    bundle, windows, log = engine.bundle, engine.manifest.windows, dataset.log
    test = log.window(windows.test_start, windows.end)
    if bundle.heavy is None or not len(test):
        return None, test

    def similarity(users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
        zero = np.zeros(len(users), np.float32)
        return {
            name: bundle.retrievers[name].score(engine.state, users, items[:, None])[:, 0]
            if name in bundle.retrievers
            else zero
            for name in bundle.spec.similarities
        }

    low, high = (int(i) for i in np.searchsorted(log.time, [windows.test_start, windows.end]))
    table = build_table(bundle.spec, bundle.catalogue, log, slice(low, high), **edges, similarity=similarity)
    return table, test


def views(log: Log, surfaces: list[str] | None) -> list[tuple[str, np.ndarray]]:
    """Which rows to look at, as name and mask: all; where the log repeats itself, without exact repeats;
    where there are several surfaces, the largest alone."""
    out = [("all", np.ones(len(log), bool))]
    repeat = exact_repeats(log)
    if repeat.any():
        out.append(("without exact repeats", ~repeat))
    if log.surface is not None and surfaces:
        counts = np.bincount(log.surface[log.surface >= 0], minlength=len(surfaces))
        if (counts > 0).sum() > 1:
            largest = int(counts.argmax())
            out.append((f"surface {surfaces[largest]}", log.surface == largest))
    return out


def exact_repeats(log: Log) -> np.ndarray:
    """bool[n]: a row of the same user, item, moment, surface, outcome and dwell as an earlier row."""
    columns = [log.user, log.item, log.time, *(log.actions[a] for a in log.actions)]
    if log.surface is not None:
        columns.append(log.surface)
    if log.dwell is not None:
        columns.append(np.nan_to_num(log.dwell, nan=-1.0))
    order = np.lexsort(columns[::-1])
    same = np.ones(max(len(log) - 1, 0), bool)
    for column in columns:
        ordered = column[order]
        same &= ordered[1:] == ordered[:-1]
    out = np.zeros(len(log), bool)
    out[order[1:][same]] = True
    return out


def _view(
    log: Log, mask: np.ndarray, predicted: dict[str, np.ndarray], resamples: int, seed: int,
    trees: dict[str, np.ndarray] | None = None, responses: dict[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    trees, responses = trees or {}, responses or {}
    user = log.user[mask]
    actions = []
    for action, labels in log.actions.items():
        if action not in predicted:
            continue
        label, probability = labels[mask], predicted[action][mask]
        figures = metrics.summarise(label, probability)
        low, high = bootstrap_auc(label, probability, user, resamples=resamples, seed=seed)
        figures["roc_auc"] = {"value": figures["roc_auc"], "low": low, "high": high}
        figures["precision_at_recall_90"] = metrics.precision_at_recall(label, probability, 0.9)
        figures["brier"] = metrics.brier(label, probability)
        figures["grouped_auc"], figures["grouped_auc_users"] = metrics.grouped_auc(label, probability, user)
        figures["baseline_roc_auc"] = metrics.roc_auc(label, trees[action][mask]) if action in trees else None
        oracle = metrics.roc_auc(label, responses[action][mask]) if action in responses else None
        figures |= {"oracle_roc_auc": oracle, "oracle_share": oracle_share(figures["roc_auc"]["value"], oracle)}
        figures["rate"] = figures["positives"] / max(figures["rows"], 1)
        figures["mean_prediction"] = float(probability.mean()) if len(probability) else float("nan")
        figures["reliability"] = metrics.reliability(label, probability, groups=user)
        polarity = "negative" if action in log.negative_actions else "positive"
        actions.append({"action": action, "polarity": polarity, **figures})
    return {"actions": actions, "dwell": _dwell(log, mask, predicted, responses)}


def oracle_share(auc: float, oracle: float | None) -> float | None:
    """How much of the way from 0.5 to the ROC-AUC of the true probabilities a ROC-AUC goes; None without an oracle.

    1 is what nobody can pass but by luck. NaN where the truth itself tells nothing on these rows.
    """
    if oracle is None:
        return None
    return (auc - 0.5) / (oracle - 0.5) if oracle > 0.5 else float("nan")


def _dwell(
    log: Log, mask: np.ndarray, predicted: dict[str, np.ndarray], responses: dict[str, np.ndarray]
) -> dict[str, float | None] | None:
    """Mean absolute error in seconds, beside that of always saying the median, and Spearman's rho."""
    if log.dwell is None or "dwell" not in predicted:
        return None
    known = mask & np.isfinite(log.dwell)
    actual, guess = log.dwell[known].astype(float), predicted["dwell"][known].astype(float)
    if not len(actual):
        return None
    return {
        "rows": len(actual),
        "mean": float(actual.mean()),
        "mean_prediction": float(guess.mean()),
        "mae": float(np.abs(guess - actual).mean()),
        "mae_of_median": float(np.abs(np.median(actual) - actual).mean()),
        "rmse": float(np.sqrt(((guess - actual) ** 2).mean())),
        "rmse_of_mean": float(actual.std()),
        "spearman": spearman(actual, guess),
        "oracle_spearman": spearman(actual, responses["dwell"][known].astype(float)) if "dwell" in responses else None,
    }


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, ties sharing their mean rank; NaN where either side is constant."""
    first, second = _ranks(a), _ranks(b)
    first, second = first - first.mean(), second - second.mean()
    spread = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / spread) if spread > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
