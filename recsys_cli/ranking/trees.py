"""Gradient-boosted trees as a heavy ranker: LightGBM, one model an action, served as one ONNX node.

Training needs lightgbm; the graph holds the trees themselves, so serving needs nothing but onnxruntime.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson
from pydantic import TypeAdapter, ValidationError

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.errors import ArtifactError
from recsys_cli.features.table import FeatureTable
from recsys_cli.files import write_bytes
from recsys_cli.progress import Progress
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.config import HeavyRankerConfig, LightGbmConfig
from recsys_cli.ranking.serving import GRAPH_FILE, RANKER_VERSION, SIDE_FILE
from recsys_cli.ranking.warm import WarmStart

TREE_KINDS = ("lightgbm",)
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

    @property
    def dwell(self) -> bool:
        return "dwell" in self.models

    def set_calibration(self, calibration: dict[str, Calibration]) -> None:
        self.calibration = calibration

    def model_of(self, task: str) -> str:
        """The entry of `models` that a task's logit comes from."""
        return task

    def line(self, task: str) -> tuple[float, float]:
        """Slope and shift that turn the trees' score into the task's logit (or ln(1+dwell)) before calibration."""
        return 1.0, 0.0

    @cached_property
    def _attributes(self) -> dict[str, list]:
        return tree_attributes([self.models[t] for t in (*self.tasks, *(["dwell"] if self.dwell else []))])

    def _run(self, raw: bool, values: np.ndarray) -> list[np.ndarray]:
        import onnxruntime

        session = onnxruntime.InferenceSession(self._graph(raw), providers=["CPUExecutionProvider"])
        return session.run(None, {"features": np.ascontiguousarray(values, np.float32)})

    def logits(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Uncorrected logits float32[n, T], and mean and log-variance of ln(1+dwell) float32[n]."""
        (scores,) = self._run(True, values)
        n = len(self.tasks)
        mean = scores[:, n] if self.dwell else np.zeros(len(values), np.float32)
        return scores[:, :n], mean, np.full(len(values), np.log(max(self.dwell_variance, 1e-6)), np.float32)

    def predict(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """float32[n, F] raw features → action (and "dwell", in seconds) → float32[n]."""
        probabilities, dwell = self._run(False, values)
        out = {
            t: self.calibration.get(t, Calibration()).curve(probabilities[:, i]) for i, t in enumerate(self.tasks)
        }
        return out | {"dwell": dwell} if self.dwell else out

    def _graph(self, raw: bool) -> bytes:
        """The ONNX model: scores [n, T (+ 1)] where `raw`, else probabilities [n, T] and dwell [n]."""
        from onnx import TensorProto, helper, numpy_helper

        n, targets = len(self.tasks), len(self.tasks) + int(self.dwell)
        corrections = [self.calibration.get(t, Calibration()) for t in self.tasks]
        constants = {
            "scale": np.array([c.scale for c in corrections], np.float32),
            "shift": np.array([c.shift for c in corrections], np.float32),
            "half_variance": np.array(0.5 * self.dwell_variance, np.float32),
            "one": np.array(1, np.float32),
            "highest": np.array(20, np.float32),
            "zero": np.array(0, np.float32),
            "longest": np.array(self.dwell_max, np.float32),
            "tasks": np.arange(n),
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
        }

    @classmethod
    def restore(cls, content: dict) -> TreeRanker:
        """From what `load_checkpoint` gives; raises ArtifactError where it holds no trees of this version."""
        try:
            if content["ranker_version"] != RANKER_VERSION:
                raise ArtifactError(
                    f"the heavy ranker's checkpoint is of version {content['ranker_version']}, "
                    f"this program reads {RANKER_VERSION}", "train again",
                )
            config = TypeAdapter(HeavyRankerConfig).validate_python(content["config"])
            calibration = {task: Calibration(**c) for task, c in content["calibration"].items()}
            names, tasks = tuple(content["names"]), tuple(content["tasks"])
            return cls(
                config, names, tasks, content["models"], content["dwell_max"], content["dwell_variance"],
                calibration, content["dropped"], content["metrics"], content["history"],
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


def fit_trees(
    config: LightGbmConfig, train: FeatureTable, valid: FeatureTable, tasks: tuple[str, ...], dropped: dict[str, str],
    *, seed: int, progress: Progress, resume: Path | None, fingerprint: str, threads: int,
    warm: WarmStart | None = None,
) -> TreeRanker:
    """One LightGBM model an action (and one of ln(1+dwell)), each stopped on the validation rows.

    The rounds of the first bag are those of the others. A checkpoint after every model lets an interrupted
    training go on. warm: trees are added to those of an earlier run, bag by bag.
    """
    known = np.isfinite(train.dwell) if train.dwell is not None else np.zeros(0, bool)
    has_dwell = config.dwell and known.sum() >= 2
    wanted = (*tasks, "dwell") if has_dwell else tasks
    models, history = _interrupted(resume, fingerprint)
    with progress.step("heavy ranker", total=len(wanted)) as step:
        step.advance(len(models))
        for task in wanted[len(models) :]:
            started = time.perf_counter()
            before = [] if warm is None else warm.heavy["models"].get(task, [])
            models[task], rounds = _fit_task(config, train, valid, task, seed, threads, before)
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
    before: list[str],
) -> tuple[list[str], int]:
    """LightGBM's text of each bag, and the rounds kept. before: texts of the bags that it begins with, or none."""
    import lightgbm

    def rows_of(table: FeatureTable) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if task != "dwell":
            rows = table.known(task)
            weight = None if table.weight is None else table.weight[rows]
            return table.values[rows], table.labels[task][rows].astype(np.float32), weight
        keep = np.isfinite(table.dwell)
        weight = None if table.weight is None else table.weight[keep]
        return table.values[keep], np.log1p(np.maximum(table.dwell[keep], 0)), weight

    values, labels, weight = rows_of(train)
    rare = task != "dwell" and labels.mean() < RARE
    settings = {
        "objective": "regression" if task == "dwell" else "binary", "metric": "l2" if task == "dwell" else "auc",
        "num_leaves": config.leaves_rare if rare else config.leaves, "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.min_rows_in_leaf, "feature_fraction": config.feature_share,
        "bagging_fraction": config.row_share, "bagging_freq": 1, "lambda_l2": config.l2, "max_bin": config.bins,
        "num_threads": threads, "deterministic": True, "force_col_wise": True, "use_missing": False, "verbose": -1,
    }
    data = lightgbm.Dataset(values, labels, weight=weight, params=settings, free_raw_data=False)
    held = rows_of(valid) if len(valid) and (task == "dwell" or 0 < valid.labels[task].sum() < len(valid)) else None
    texts, rounds = [], config.rounds
    for bag in range(config.bags):
        given = settings | {"seed": seed * 1000 + bag}
        model = lightgbm.Booster(model_str=before[bag % len(before)]) if before else None
        held_trees = model.num_trees() if model else 0  # LightGBM counts its rounds on from those
        if held is not None and len(held[1]) and bag == 0:
            compared = lightgbm.Dataset(held[0], held[1], weight=held[2], reference=data)
            stop = lightgbm.early_stopping(config.patience, verbose=False)
            booster = lightgbm.train(given, data, rounds, valid_sets=[compared], callbacks=[stop], init_model=model)
            rounds = max(booster.best_iteration - held_trees, 1)
        else:
            booster = lightgbm.train(given, data, rounds, init_model=model)
        texts.append(booster.model_to_string(num_iteration=held_trees + rounds))
    return texts, rounds


def tree_attributes(models: list[list[str]]) -> dict[str, list]:
    """Attributes of one ONNX TreeEnsembleRegressor whose target t is the mean of the bags models[t].

    Features are float32 and LightGBM's thresholds are doubles: rounded down to float32 they part the same rows.
    """
    import lightgbm

    out: dict[str, list] = {
        f"nodes_{k}": []
        for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    } | {f"target_{k}": [] for k in ("treeids", "nodeids", "ids", "weights")}
    tree = 0
    for target, texts in enumerate(models):
        for text in texts:
            for info in lightgbm.Booster(model_str=text).dump_model()["tree_info"]:
                for at, node, left, right in _nodes(info["tree_structure"]):
                    leaf = "leaf_value" in node
                    row = (
                        tree, at, 0 if leaf else node["split_feature"], "LEAF" if leaf else "BRANCH_LEQ",
                        0.0 if leaf else _rounded_down(node["threshold"]), left, right,
                    )
                    for key, value in zip(list(out)[:7], row, strict=True):
                        out[key].append(value)
                    if leaf:
                        weight = node["leaf_value"] / len(texts)
                        for key, value in zip(list(out)[7:], (tree, at, target, weight), strict=True):
                            out[key].append(value)
                tree += 1
    return out


def _nodes(root: dict) -> Iterator[tuple[int, dict, int, int]]:
    """(number, node, number of its left child, of its right one) of a tree; 0 for a leaf's children."""
    waiting, following = [(0, root)], 1
    while waiting:
        at, node = waiting.pop()
        if "leaf_value" in node:
            yield at, node, 0, 0
            continue
        yield at, node, following, following + 1
        waiting += [(following, node["left_child"]), (following + 1, node["right_child"])]
        following += 2


def _rounded_down(threshold: float) -> float:
    value = np.float32(threshold)
    # compared as doubles: beside a float32, numpy would round the threshold first
    return float(value if float(value) <= threshold else np.nextafter(value, np.float32(-np.inf)))
