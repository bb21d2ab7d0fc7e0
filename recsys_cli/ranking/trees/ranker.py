"""Gradient-boosted trees as a heavy ranker: LightGBM, one model an action, served as one ONNX node.

Training needs lightgbm; the graph holds the trees themselves, so serving needs nothing but onnxruntime.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from recsys_cli.data.behaviour import Entities
from recsys_cli.features.table import FeatureTable
from recsys_cli.ranking.serving.onnx_model import model_of
from recsys_cli.ranking.trained import Explained, TrainedRanker
from recsys_cli.ranking.training_inputs import TrainingInputs
from recsys_cli.ranking.trees.boosting import Binned, boost, member_seeds, tree_attributes, tree_settings
from recsys_cli.ranking.trees.config import LightGbmConfig

SCORE = "score"
"""The entry among the models of a ranker whose actions share one ensemble."""
RARE = 0.1
"""Actions with a smaller share of positives take trees of `leaves_rare`."""
DWELL_ROWS = 100_000
"""Rows on which the variance of dwell time is taken, about."""


@dataclass(kw_only=True)
class TreeRanker(TrainedRanker):
    """Trained trees. They read features alone and leave `entities` aside."""

    config: LightGbmConfig
    models: dict[str, list[str]]
    """action (and "dwell") → LightGBM's text of each member, the trees kept alone"""
    dwell_max: float = 0.0
    dwell_variance: float = 0.0
    """of ln(1+dwell) around its prediction"""
    lines: dict[str, tuple[float, float]] = field(default_factory=dict)
    """action → slope and shift from the score to its logit, where all actions share one ensemble (SCORE)"""

    def __post_init__(self):
        self.dwell = "dwell" in self.models

    def model_of(self, task: str) -> str:
        """The entry of `models` that a task's logit comes from."""
        return SCORE if task in self.lines else task

    def line(self, task: str) -> tuple[float, float]:
        """Slope and shift that turn the trees' score into the task's logit (or ln(1+dwell)) before calibration."""
        return self.lines.get(task, (1.0, 0.0))

    @cached_property
    def _ensembles(self) -> list[str]:
        """Entries of `models` in the order in which the graph holds them."""
        heads = (*self.tasks, *(("dwell",) if self.dwell else ()))
        return list(dict.fromkeys(self.model_of(t) for t in heads))

    @cached_property
    def _attributes(self) -> dict[str, list]:
        return tree_attributes([self.models[name] for name in self._ensembles])

    def _run(self, raw: bool, values: np.ndarray) -> list[np.ndarray]:
        import onnxruntime

        session = onnxruntime.InferenceSession(self._model(raw), providers=["CPUExecutionProvider"])
        return session.run(None, {"features": np.ascontiguousarray(values, np.float32)})

    def logits(
        self, values: np.ndarray, entities: Entities | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        (scores,) = self._run(True, values)
        places, slopes, shifts = self._heads()
        mean = scores[:, -1] if self.dwell else np.zeros(len(values), np.float32)
        log_variance = np.full(len(values), np.log(max(self.dwell_variance, 1e-6)), np.float32)
        return scores[:, places] * slopes + shifts, mean, log_variance

    def _heads(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each task its column of the scores int64[T], slope and shift float32[T]."""
        lines = np.array([self.line(t) for t in self.tasks], np.float32)
        return np.array([self._ensembles.index(self.model_of(t)) for t in self.tasks]), lines[:, 0], lines[:, 1]

    def predict(self, values: np.ndarray, entities: Entities | None = None) -> dict[str, np.ndarray]:
        probabilities, dwell = self._run(False, values)
        out = {t: self.correction(t).curve(probabilities[:, i]) for i, t in enumerate(self.tasks)}
        return out | {"dwell": dwell} if self.dwell else out

    def explain(self, values: np.ndarray, action: str, entities: Entities | None = None) -> Explained:
        """TreeSHAP over the paths of the trees (Lundberg et al., Nature Machine Intelligence 2020), mean of members."""
        import lightgbm

        slope, shift = self.line(action)
        parts, score = [], []
        for text in self.models[self.model_of(action)]:
            booster = lightgbm.Booster(model_str=text)
            parts.append(booster.predict(values[None], pred_contrib=True)[0])
            score.append(booster.predict(values[None], raw_score=True)[0])
        mean = np.mean(parts, axis=0)
        return (
            "exact: TreeSHAP", "the mean over the training rows, as the trees saw them",
            slope * float(mean[-1]) + shift, slope * mean[:-1], slope * float(np.mean(score)) + shift,
        )

    def graph(self) -> bytes:
        return self._model(raw=False)

    def _model(self, raw: bool) -> bytes:
        """The ONNX model: scores [n, T (+ 1)] where `raw`, else probabilities [n, T] and dwell [n]."""
        from onnx import TensorProto, helper

        n, targets = len(self.tasks), len(self._ensembles)
        places, slopes, shifts = self._heads()
        corrections = [self.correction(t) for t in self.tasks]
        constants = {
            "scale": np.array([c.scale for c in corrections], np.float32) * slopes,
            "shift": np.array([c.scale for c in corrections], np.float32) * shifts
            + np.array([c.shift for c in corrections], np.float32),
            "half_variance": np.array(0.5 * self.dwell_variance, np.float32),
            "one": np.array(1, np.float32),
            "highest": np.array(20, np.float32),
            "zero": np.array(0, np.float32),
            "longest": np.array(self.dwell_max, np.float32),
            "tasks": places,
            "last": np.array(targets - 1),
        }
        node = helper.make_node
        trees = node(
            "TreeEnsembleRegressor", ["features"], ["scores"], domain="ai.onnx.ml", n_targets=targets,
            **self._attributes,
        )
        nodes = [
            node("Gather", ["scores", "tasks"], ["logits"], axis=1),
            node("Mul", ["logits", "scale"], ["scaled"]),
            node("Add", ["scaled", "shift"], ["corrected"]),
            node("Sigmoid", ["corrected"], ["probabilities"]),
            node("Gather", ["scores", "last"], ["mean"], axis=1),
            node("Add", ["mean", "half_variance"], ["log_mean"]),
            node("Min", ["log_mean", "highest"], ["bounded"]),
            node("Exp", ["bounded"], ["whole"]),
            node("Sub", ["whole", "one"], ["seconds"]),
            node("Clip", ["seconds", "zero", "longest"], ["dwell"]),
        ]
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", len(self.names)])
        if raw:
            return model_of([trees], [features], {"scores": targets}, {})
        return model_of([trees, *nodes], [features], {"probabilities": n, "dwell": None}, constants)

    def state(self) -> dict[str, Any]:
        return {
            "models": self.models, "dwell_max": self.dwell_max, "dwell_variance": self.dwell_variance,
            "lines": {task: list(line) for task, line in self.lines.items()},
        }

    @classmethod
    def from_state(cls, config: LightGbmConfig, state: dict[str, Any]) -> dict[str, Any]:
        return {
            "models": state["models"], "dwell_max": state["dwell_max"], "dwell_variance": state["dwell_variance"],
            "lines": {task: tuple(line) for task, line in state.get("lines", {}).items()},
        }


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
    kept = inputs.kept() or {"models": {}, "history": []}
    models, history = kept["models"], kept["history"]
    with inputs.progress.step("heavy ranker", total=len(wanted)) as step:
        step.advance(len(models))
        for entry in wanted[len(models) :]:
            started = time.perf_counter()
            models[entry], rounds = fit(entry, [] if warm is None else warm.heavy["models"].get(entry, []))
            history.append({
                "task": entry, "epoch": rounds, "best": True, "seconds": round(time.perf_counter() - started, 3)
            })
            step.advance()
            inputs.keep({"models": models, "history": history})
    ranker = TreeRanker(
        config=config, names=train.names, tasks=inputs.tasks, models=models, dropped=inputs.dropped, history=history,
        dwell_max=float(np.nanmax(train.dwell)) if has_dwell else 0.0, lines=lines or {},
    )
    if has_dwell:
        rows = np.flatnonzero(known)[:: max(int(known.sum()) // DWELL_ROWS, 1)]
        error = np.log1p(np.maximum(train.dwell[rows], 0)) - ranker.logits(train.values[rows])[1]
        ranker.dwell_variance = float(np.var(error))
    return ranker


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
    seeds = member_seeds(config, inputs.seed)
    return boost(config, settings, (values, labels, weight, None), held and (*held, None), seeds, before, binned)
