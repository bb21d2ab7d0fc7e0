"""Gradient-boosted trees as a heavy ranker: LightGBM, one model an action, served as one ONNX node.

Training needs lightgbm; the graph holds the trees themselves, so serving needs nothing but onnxruntime.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson
from pydantic import TypeAdapter, ValidationError

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.data.behaviour import Entities
from recsys_cli.errors import ArtifactError
from recsys_cli.features.table import FeatureTable
from recsys_cli.files import write_bytes
from recsys_cli.progress import Progress
from recsys_cli.ranking.boosting import Binned, boost, tree_attributes, tree_settings
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.config import HeavyRankerConfig, LambdaMartConfig, LightGbmConfig
from recsys_cli.ranking.lambdamart import SCORE, fit_order, score_lines
from recsys_cli.ranking.serving import GRAPH_FILE, RANKER_VERSION, SIDE_FILE, ServedRanker, check_version
from recsys_cli.ranking.warm import WarmStart

TREE_KINDS = ("lightgbm", "lambdamart")
"""Kinds of the heavy ranker that are trees."""
RARE = 0.1
"""Actions with a smaller share of positives take trees of `leaves_rare`."""


@dataclass
class TreeRanker:
    """Trained trees behind the interface of `HeavyRanker`."""

    config: LightGbmConfig
    names: tuple[str, ...]
    tasks: tuple[str, ...]
    models: dict[str, list[str]]
    """action (and "dwell") → LightGBM's text of each bag, the trees kept alone"""
    dwell_max: float
    dwell_variance: float
    """of ln(1+dwell) around its prediction"""
    calibration: dict[str, Calibration] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    lines: dict[str, tuple[float, float]] = field(default_factory=dict)
    """action → slope and shift from the score to its logit, where all actions share one ensemble (SCORE)"""

    @property
    def dwell(self) -> bool:
        return "dwell" in self.models

    def set_calibration(self, calibration: dict[str, Calibration]) -> None:
        self.calibration = calibration

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

        session = onnxruntime.InferenceSession(self._graph(raw), providers=["CPUExecutionProvider"])
        return session.run(None, {"features": np.ascontiguousarray(values, np.float32)})

    def logits(
        self, values: np.ndarray, entities: Entities | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Uncorrected logits float32[n, T], and mean and log-variance of ln(1+dwell) float32[n].

        Trees read features alone: `entities` stands here and in `predict` because networks may read them.
        """
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
        """float32[n, F] raw features → action (and "dwell", in seconds) → float32[n]."""
        probabilities, dwell = self._run(False, values)
        out = {
            t: self.calibration.get(t, Calibration()).curve(probabilities[:, i]) for i, t in enumerate(self.tasks)
        }
        return out | {"dwell": dwell} if self.dwell else out

    def _graph(self, raw: bool) -> bytes:
        """The ONNX model: scores [n, T (+ 1)] where `raw`, else probabilities [n, T] and dwell [n]."""
        from onnx import TensorProto, helper, numpy_helper

        n, targets = len(self.tasks), len(self._ensembles)
        places, slopes, shifts = self._heads()
        corrections = [self.calibration.get(t, Calibration()) for t in self.tasks]
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

    def checkpoint(self) -> dict:
        """For `artifacts.checkpoint.save_checkpoint`."""
        return {
            "ranker_version": RANKER_VERSION, "config": self.config.model_dump(mode="json"), "names": list(self.names),
            "tasks": list(self.tasks), "models": self.models, "dwell_max": self.dwell_max,
            "dwell_variance": self.dwell_variance, "dropped": self.dropped, "metrics": self.metrics,
            "calibration": {task: asdict(c) for task, c in self.calibration.items()}, "history": self.history,
            "lines": {task: list(line) for task, line in self.lines.items()},
        }

    @classmethod
    def restore(cls, content: dict) -> TreeRanker:
        """From what `load_checkpoint` gives; raises ArtifactError where it holds no trees of this version."""
        try:
            check_version(content)
            config = TypeAdapter(HeavyRankerConfig).validate_python(content["config"])
            calibration = {task: Calibration(**c) for task, c in content["calibration"].items()}
            names, tasks = tuple(content["names"]), tuple(content["tasks"])
            return cls(
                config, names, tasks, content["models"], content["dwell_max"], content["dwell_variance"],
                calibration, content["dropped"], content["metrics"], content["history"],
                {task: tuple(line) for task, line in content.get("lines", {}).items()},
            )
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            reason = f"{type(error).__name__} {(str(error).splitlines() or [''])[0]}"
            raise ArtifactError(f"not a checkpoint of trees: {reason}", "train again") from None

    def export(self, folder: Path) -> None:
        """Write `heavy.onnx` and `heavy.json` into a folder, from which `ServedRanker.load` reads them."""
        side = {
            "ranker_version": RANKER_VERSION, "kind": self.config.kind, "names": list(self.names),
            "tasks": list(self.tasks), "dwell": self.dwell,
            "calibration": {task: asdict(c) for task, c in self.calibration.items()},
        }
        write_bytes(Path(folder) / GRAPH_FILE, self._graph(raw=False))
        write_bytes(Path(folder) / SIDE_FILE, orjson.dumps(side, option=orjson.OPT_INDENT_2))
        ServedRanker.load(folder).try_out()


def fit_trees(
    config: LightGbmConfig, train: FeatureTable, valid: FeatureTable, tasks: tuple[str, ...], dropped: dict[str, str],
    *, seed: int, progress: Progress, resume: Path | None, fingerprint: str, threads: int,
    warm: WarmStart | None = None,
) -> TreeRanker:
    """One LightGBM model an action (and one of ln(1+dwell)), each stopped on the validation rows; of LambdaMART one
    for all actions.

    The rounds of the first bag are those of the others. A checkpoint after every model lets an interrupted
    training go on. warm: trees are added to those of an earlier run, bag by bag.
    """
    known = np.isfinite(train.dwell) if train.dwell is not None else np.zeros(0, bool)
    has_dwell = config.dwell and known.sum() >= 2
    together = isinstance(config, LambdaMartConfig)
    wanted = ((SCORE,) if together else tasks) + (("dwell",) if has_dwell else ())
    models, history = _interrupted(resume, fingerprint)
    binned = Binned()
    with progress.step("heavy ranker", total=len(wanted)) as step:
        step.advance(len(models))
        for task in wanted[len(models) :]:
            started = time.perf_counter()
            before = [] if warm is None else warm.heavy["models"].get(task, [])
            if task == SCORE:
                models[task], rounds = fit_order(config, train, valid, tasks, seed, threads, before)
            else:
                models[task], rounds = _fit_task(config, train, valid, task, seed, threads, before, binned)
            history.append({
                "task": task, "epoch": rounds, "best": True, "seconds": round(time.perf_counter() - started, 3)
            })
            step.advance()
            if resume is not None:
                save_checkpoint(resume, {"fingerprint": fingerprint, "models": models, "history": history})
    ranker = TreeRanker(
        config, train.names, tasks, models, float(np.nanmax(train.dwell)) if has_dwell else 0.0, 0.0,
        dropped=dropped, history=history,
    )
    if together:
        ranker.lines = score_lines(ranker, train)
    if has_dwell:
        rows = np.flatnonzero(known)[:: max(int(known.sum()) // 100_000, 1)]
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


def _fit_task(
    config: LightGbmConfig, train: FeatureTable, valid: FeatureTable, task: str, seed: int, threads: int,
    before: list[str], binned: Binned,
) -> tuple[list[str], int]:
    """LightGBM's text of each bag, and the rounds kept. before: texts of the bags that it begins with, or none."""

    def rows_of(table: FeatureTable) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if task != "dwell":
            return table.values, table.labels[task].astype(np.float32), table.weight
        keep = np.isfinite(table.dwell)
        weight = None if table.weight is None else table.weight[keep]
        return table.values[keep], np.log1p(np.maximum(table.dwell[keep], 0)), weight

    values, labels, weight = rows_of(train)
    rare = task != "dwell" and labels.mean() < RARE
    settings = tree_settings(config, threads) | {
        "objective": "regression" if task == "dwell" else "binary", "metric": "l2" if task == "dwell" else "auc",
    }
    if rare:
        settings["num_leaves"] = config.leaves_rare
    held = rows_of(valid) if len(valid) and (task == "dwell" or 0 < valid.labels[task].sum() < len(valid)) else None
    if held is not None and not len(held[1]):
        held = None
    return boost(config, settings, (values, labels, weight, None), held and (*held, None), seed, before, binned)
