"""Gradient-boosted trees as a heavy ranker: LightGBM, one model an action, served as one ONNX node.

Training needs lightgbm; the graph holds the trees themselves, so serving needs nothing but onnxruntime.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from recsys_cli.data.behaviour import Entities
from recsys_cli.ranking.trained import Explained, TrainedRanker
from recsys_cli.ranking.trees.boosting import tree_attributes
from recsys_cli.ranking.trees.config import LightGbmConfig

SCORE = "score"
"""The entry among the models of a ranker whose actions share one ensemble."""


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
        from onnx import TensorProto, helper, numpy_helper

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
        kind = TensorProto.FLOAT
        outputs = [
            helper.make_tensor_value_info("probabilities", kind, ["rows", n]),
            helper.make_tensor_value_info("dwell", kind, ["rows"]),
        ]
        if raw:
            nodes, constants = [], {}
            outputs = [helper.make_tensor_value_info("scores", kind, ["rows", targets])]
        graph = helper.make_graph(
            [trees, *nodes], "trees", [helper.make_tensor_value_info("features", kind, ["rows", len(self.names)])],
            outputs, [numpy_helper.from_array(v, k) for k, v in constants.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()

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
