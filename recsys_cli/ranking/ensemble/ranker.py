"""A network and boosted trees as one heavy ranker: the weighted mean of their log-odds, served as one graph.

What trees find (sharp thresholds, few leaves) and what a network finds (products, embeddings, one representation for
all actions) errs in different places, so that the mean of both orders better than either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.behaviour import Entities
from recsys_cli.ranking.ensemble.config import EnsembleConfig
from recsys_cli.ranking.networks.ranker import NetworkRanker, fit_network
from recsys_cli.ranking.serving.onnx_model import model_of
from recsys_cli.ranking.serving.side_inputs import SideSpec
from recsys_cli.ranking.trained import Explained, TrainedRanker
from recsys_cli.ranking.training_inputs import TrainingInputs
from recsys_cli.ranking.trees.ranker import TreeRanker, fit_trees

if TYPE_CHECKING:
    import onnx

SURE = 1e-7
"""Probabilities are kept so far from 0 and 1 before they are turned back into log-odds, in float32."""


@dataclass(kw_only=True)
class EnsembleRanker(TrainedRanker):
    """A trained network and trained trees; dwell time is the network's.

    The parts are not calibrated by themselves: the corrections are of the mean.
    """

    share: float
    """weight of the trees' log-odds"""
    network: NetworkRanker
    trees: TreeRanker

    @property
    def side(self) -> SideSpec | None:
        return self.network.side

    @property
    def parts(self) -> tuple[tuple[float, TrainedRanker], ...]:
        """(weight of its log-odds, part)"""
        return (1 - self.share, self.network), (self.share, self.trees)

    def logits(
        self, values: np.ndarray, entities: Entities | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        (a, network), (b, trees) = self.parts
        logits, mean, log_variance = network.logits(values, entities)
        return a * logits + b * trees.logits(values)[0], mean, log_variance

    def predict(self, values: np.ndarray, entities: Entities | None = None) -> dict[str, np.ndarray]:
        out = super().predict(values, entities)
        return out | {"dwell": self.network.predict(values, entities)["dwell"]} if self.dwell else out

    def explain(self, values: np.ndarray, action: str, entities: Entities | None = None) -> Explained:
        """The weighted mean of what explains the parts."""
        if action == "dwell":
            return self.network.explain(values, action, entities)
        found = [(weight, part.explain(values, action, entities)) for weight, part in self.parts]
        methods, baselines = (" and ".join(f[i] for _, f in found) for i in range(2))
        return methods, baselines, *(sum(weight * f[i] for weight, f in found) for i in (2, 3, 4))

    def release(self) -> None:
        self.network.release()

    def state(self) -> dict[str, Any]:
        return {"parts": {"network": self.network.checkpoint(), "trees": self.trees.checkpoint()}}

    @classmethod
    def from_state(cls, config: EnsembleConfig, state: dict[str, Any]) -> dict[str, Any]:
        parts = state["parts"]
        return {
            "share": config.trees_share,
            "network": NetworkRanker.restore(config.part("network"), parts["network"]),
            "trees": TreeRanker.restore(config.part("trees"), parts["trees"]),
        }

    def graph(self) -> bytes:
        """The graphs of both parts side by side, their probabilities as log-odds, the mean of those corrected."""
        import onnx
        from onnx import helper

        network, trees = (onnx.load_from_string(part.graph()) for _, part in self.parts)
        inputs = list(network.graph.input)
        for model, prefix in ((network, "network."), (trees, "trees.")):
            _prefix(model.graph, prefix, {i.name: i.name for i in inputs})
        corrections = [self.correction(t) for t in self.tasks]
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
        return model_of(
            [*network.graph.node, *trees.graph.node, *nodes], inputs, {"probabilities": len(self.tasks), "dwell": None},
            constants, [*network.graph.initializer, *trees.graph.initializer],
        )


def fit_ensemble(config: EnsembleConfig, inputs: TrainingInputs) -> EnsembleRanker:
    """Both parts, each with a progress file and the part of the earlier run that is its own."""
    parts = {}
    for name, fit in (("network", fit_network), ("trees", fit_trees)):
        part, given = config.part(name), inputs.part(name)
        if given.warm is not None:
            given.warm.check(part, given.train.names, given.tasks)
        parts[name] = fit(part, given)
    network = parts["network"]
    return EnsembleRanker(
        config=config, names=network.names, tasks=network.tasks, dwell=network.dwell, history=network.history,
        dropped=inputs.dropped, share=config.trees_share, **parts,
    )


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
