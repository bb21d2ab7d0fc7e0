"""A network and boosted trees as one heavy ranker: the weighted mean of their log-odds, served as one graph.

What trees find (sharp thresholds, few leaves) and what a network finds (products, embeddings, one representation for
all actions) errs in different places, so that the mean of both orders better than either.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
from pydantic import TypeAdapter, ValidationError

from recsys_cli.data.behaviour import Entities
from recsys_cli.errors import ArtifactError
from recsys_cli.files import write_bytes
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.config import EnsembleConfig, HeavyRankerConfig
from recsys_cli.ranking.heavy import HeavyRanker
from recsys_cli.ranking.serving import GRAPH_FILE, RANKER_VERSION, SIDE_FILE, ServedRanker
from recsys_cli.ranking.trees import TreeRanker

if TYPE_CHECKING:
    import onnx

SURE = 1e-7
"""Probabilities are kept so far from 0 and 1 before they are turned back into log-odds, in float32."""


@dataclass
class EnsembleRanker:
    """A trained network and trained trees behind the interface of `HeavyRanker`; dwell time is the network's.

    The parts are not calibrated by themselves: the corrections are of the mean.
    """

    config: EnsembleConfig
    network: HeavyRanker
    trees: TreeRanker
    calibration: dict[str, Calibration] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return self.network.names

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.network.tasks

    @property
    def dwell(self) -> bool:
        return self.network.dwell

    @property
    def history(self) -> list[dict]:
        return self.network.history

    @property
    def parts(self) -> tuple[tuple[float, HeavyRanker | TreeRanker], ...]:
        """(weight of its log-odds, part)"""
        share = self.config.trees_share
        return (1 - share, self.network), (share, self.trees)

    def set_calibration(self, calibration: dict[str, Calibration]) -> None:
        self.calibration = calibration

    def logits(
        self, values: np.ndarray, entities: Entities | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Uncorrected logits float32[n, T], and mean and log-variance of ln(1+dwell) float32[n]."""
        (a, network), (b, trees) = self.parts
        logits, mean, log_variance = network.logits(values, entities)
        return a * logits + b * trees.logits(values)[0], mean, log_variance

    def predict(self, values: np.ndarray, entities: Entities | None = None) -> dict[str, np.ndarray]:
        """float32[n, F] raw features → action (and "dwell", in seconds) → float32[n]."""
        logits, *_ = self.logits(values, entities)
        out = {t: self.calibration.get(t, Calibration()).apply(logits[:, i]) for i, t in enumerate(self.tasks)}
        return out | {"dwell": self.network.predict(values, entities)["dwell"]} if self.dwell else out

    def checkpoint(self) -> dict:
        """For `artifacts.checkpoint.save_checkpoint`; under "parts" those of the network and of the trees."""
        return {
            "ranker_version": RANKER_VERSION, "config": self.config.model_dump(mode="json"), "names": list(self.names),
            "tasks": list(self.tasks), "dropped": self.dropped, "metrics": self.metrics,
            "calibration": {task: asdict(c) for task, c in self.calibration.items()},
            "parts": {"network": self.network.checkpoint(), "trees": self.trees.checkpoint()},
        }

    @classmethod
    def restore(cls, content: dict) -> EnsembleRanker:
        """From what `load_checkpoint` gives; raises ArtifactError where it holds no ensemble of this version."""
        try:
            parts = content["parts"]
            return cls(
                TypeAdapter(HeavyRankerConfig).validate_python(content["config"]),
                HeavyRanker.restore(parts["network"]), TreeRanker.restore(parts["trees"]),
                {task: Calibration(**c) for task, c in content["calibration"].items()},
                content["dropped"], content["metrics"],
            )
        except (KeyError, TypeError, ValidationError) as error:
            reason = f"{type(error).__name__} {(str(error).splitlines() or [''])[0]}"
            raise ArtifactError(f"not a checkpoint of an ensemble: {reason}", "train again") from None

    def export(self, folder: str | os.PathLike) -> None:
        """Write `heavy.onnx` and `heavy.json` into a folder, from which `ServedRanker.load` reads them."""
        side = {
            "ranker_version": RANKER_VERSION, "kind": self.config.kind, "names": list(self.names),
            "tasks": list(self.tasks), "dwell": self.dwell,
            "side": None if self.network.spec.side is None else self.network.spec.side.to_dict(),
            "calibration": {task: asdict(c) for task, c in self.calibration.items()},
        }
        write_bytes(Path(folder) / GRAPH_FILE, self._graph())
        write_bytes(Path(folder) / SIDE_FILE, orjson.dumps(side, option=orjson.OPT_INDENT_2))
        ServedRanker.load(folder).try_out()

    def _graph(self) -> bytes:
        """The graphs of both parts side by side, their probabilities as log-odds, the mean of those corrected."""
        import onnx
        from onnx import helper, numpy_helper

        with tempfile.TemporaryDirectory() as name:
            both = []
            for _, part in self.parts:
                part.export(Path(name))
                both.append(onnx.load(Path(name) / GRAPH_FILE))
        network, trees = both
        inputs = list(network.graph.input)
        for model, prefix in ((network, "network."), (trees, "trees.")):
            _prefix(model.graph, prefix, {i.name: i.name for i in inputs})
        corrections = [self.calibration.get(t, Calibration()) for t in self.tasks]
        scale = np.array([c.scale for c in corrections], np.float32)
        (a, _), (b, _) = self.parts
        constants = {
            "sure": np.float32(SURE), "unsure": np.float32(1 - SURE), "one": np.float32(1),
            "n_weight": np.float32(a) * scale, "t_weight": np.float32(b) * scale,
            "shift": np.array([c.shift for c in corrections], np.float32),
        }
        node, nodes = helper.make_node, []
        for p, part in (("n_", "network."), ("t_", "trees.")):
            nodes += [
                node("Clip", [f"{part}probabilities", "sure", "unsure"], [f"{p}p"]),
                node("Sub", ["one", f"{p}p"], [f"{p}q"]),
                node("Div", [f"{p}p", f"{p}q"], [f"{p}odds"]),
                node("Log", [f"{p}odds"], [f"{p}logit"]),
                node("Mul", [f"{p}logit", f"{p}weight"], [f"{p}part"]),
            ]
        nodes += [
            node("Add", ["n_part", "t_part"], ["sum"]),
            node("Add", ["sum", "shift"], ["corrected"]),
            node("Sigmoid", ["corrected"], ["probabilities"]),
            node("Identity", ["network.dwell"], ["dwell"]),
        ]
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            [*network.graph.node, *trees.graph.node, *nodes], "ensemble", inputs,
            [
                helper.make_tensor_value_info("probabilities", kind, ["rows", len(self.tasks)]),
                helper.make_tensor_value_info("dwell", kind, ["rows"]),
            ],
            [
                *network.graph.initializer, *trees.graph.initializer,
                *(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()),
            ],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def _prefix(graph: onnx.GraphProto, prefix: str, names: dict[str, str]) -> None:
    """Put a prefix before every name of a graph that `names` does not give another.

    Branches read names of the graph around them (which `onnx.compose.add_prefix` leaves as they were).
    """
    made = [t.name for t in graph.initializer] + [name for node in graph.node for name in node.output]
    names = names | {name: prefix + name for name in made if name}
    for tensor in (*graph.initializer, *graph.output):
        tensor.name = names[tensor.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _prefix(attribute.g, prefix, names)
