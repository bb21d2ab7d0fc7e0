"""A network of the heavy ranker as it was trained: its checkpoint and its ONNX graph."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys_cli.data.behaviour import Entities
from recsys_cli.parallel import torch_threads, train_on
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.heavy_config import with_common
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.networks.as_arrays import dense_layers
from recsys_cli.ranking.networks.attribution import integrated_gradients
from recsys_cli.ranking.networks.config import HeavyNetworkConfig
from recsys_cli.ranking.networks.network import HeavyNetwork, InputSpec, ServedNetwork, batches
from recsys_cli.ranking.networks.training_loop import TrainingLoop
from recsys_cli.ranking.networks.training_rows import complete_spec, input_spec, place_codes, training_rows
from recsys_cli.ranking.networks.warm_start import earlier_input_spec
from recsys_cli.ranking.serving.dense import DENSE_FILE
from recsys_cli.ranking.serving.side_inputs import SIZES, SideSpec
from recsys_cli.ranking.trained import Explained, TrainedRanker
from recsys_cli.ranking.training_inputs import TrainingInputs
from recsys_cli.ranking.trees.ranker import fit_trees

PREDICT_ROWS = 65_536
SIDE_ROWS = 4_096
"""Rows scored at once with histories, of which each row has its own."""
PARALLEL_STEP = 2**30
"""Multiplications a step from which more than one thread pays; below, they wait for each other."""


@dataclass(kw_only=True)
class NetworkRanker(TrainedRanker):
    """A trained multi-task network."""

    config: HeavyNetworkConfig
    spec: InputSpec
    network: ServedNetwork

    @property
    def side(self) -> SideSpec | None:
        return self.spec.side

    def set_calibration(self, calibration: dict[str, Calibration]) -> None:
        """Take corrections over: the affine part goes into the graph."""
        super().set_calibration(calibration)
        ordered = [self.correction(task) for task in self.tasks]
        with torch.no_grad():
            self.network.scale.copy_(torch.tensor([c.scale for c in ordered]))
            self.network.shift.copy_(torch.tensor([c.shift for c in ordered]))

    def _each_batch(self, run, values: np.ndarray, entities: Entities | None) -> list[list[np.ndarray]]:
        """What `run` gives for some rows at a time."""
        rows = PREDICT_ROWS if self.side is None else SIDE_ROWS
        self.network.eval()
        with torch.inference_mode():
            return [
                [part.cpu().numpy() for part in run(*x)]
                for x in batches(values, entities, self.side, rows, self.network.scale.device)
            ]

    def logits(
        self, values: np.ndarray, entities: Entities | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = self._each_batch(self.network.logits, values, entities)
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def predict(self, values: np.ndarray, entities: Entities | None = None) -> dict[str, np.ndarray]:
        parts = self._each_batch(self.network, values, entities)
        if not parts:
            parts = [[np.zeros((0, len(self.tasks)), np.float32), np.zeros(0, np.float32)]]
        probabilities, dwell = (np.concatenate(column) for column in zip(*parts, strict=True))
        out = {task: self.correction(task).curve(probabilities[:, t]) for t, task in enumerate(self.tasks)}
        return out | {"dwell": dwell} if self.dwell else out

    def explain(self, values: np.ndarray, action: str, entities: Entities | None = None) -> Explained:
        """Integrated gradients; see `networks.attribution`."""
        place = None if action == "dwell" else self.tasks.index(action)
        return integrated_gradients(self.network, self.spec, len(self.names), values, place, entities)

    def release(self) -> None:
        self.network.cpu()

    def state(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_dict(), "members": len(self.network.members), "dwell_max": self.network.dwell_max,
            "state": {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()},
        }

    @classmethod
    def from_state(cls, config: HeavyNetworkConfig, state: dict[str, Any]) -> dict[str, Any]:
        spec = InputSpec.from_dict(state["spec"])
        members = [HeavyNetwork(config, spec, len(state["tasks"]), state["dwell"]) for _ in range(state["members"])]
        network = ServedNetwork(members, state["dwell_max"])
        network.load_state_dict(state["state"])
        return {"spec": spec, "network": network.eval()}

    def export(self, folder: str | os.PathLike, *, graph: bool = False) -> None:
        layers = None if graph else dense_layers(self.network, self.spec, len(self.names))
        if layers is None:
            super().export(folder)
        else:
            layers.save(Path(folder) / DENSE_FILE)
            replace(self.description(), dense=True).write(folder)

    def graph(self) -> bytes:
        network = self.network.cpu().eval()
        inputs, names, axes = [torch.zeros(2, len(self.names))], ["features"], {"features": {0: "rows"}}
        if self.side is not None:
            inputs += [torch.from_numpy(a) for a in self.side.example().values()]
            names += self.side.inputs
            axes |= {name: {0: SIZES[name]} for name in self.side.inputs}
        out = io.BytesIO()
        with warnings.catch_warnings():
            # the exporter that needs no further package is marked as the old one
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            torch.onnx.export(
                network, tuple(inputs), out, dynamo=False, opset_version=17, do_constant_folding=True,
                input_names=names, output_names=["probabilities", "dwell"],
                dynamic_axes=axes | {"probabilities": {0: "rows"}, "dwell": {0: "rows"}},
            )
        return out.getvalue()


def fit_network(config: HeavyNetworkConfig, inputs: TrainingInputs) -> NetworkRanker:
    """The network of a configuration, trained and not yet calibrated."""
    train, valid, tasks = inputs.train, inputs.valid, inputs.tasks
    spec = complete_spec(config, input_spec(train), train, tasks, inputs.progress)
    if inputs.warm is not None:
        spec = earlier_input_spec(inputs.warm, spec, train.names)
    dwell = config.dwell and train.dwell is not None and bool(np.isfinite(train.dwell).sum() >= 2)
    teaching = None
    if config.teacher is not None:
        settings = with_common(config.teacher, config, dwell=False)
        teaching = sigmoid(fit_trees(settings, replace(inputs.aside("teacher"), warm=None)).logits(train.values)[0])

    def run(device: torch.device, parts: int) -> tuple[ServedNetwork, list[dict]]:
        cut = config.model_copy(update={"batch_size": -(-config.batch_size // parts)})
        asked = inputs if parts == 1 else inputs.aside(f"batches-{parts}")
        data = training_rows(cut, spec, train, tasks, dwell, device, inputs.progress, teaching)
        loop = TrainingLoop(cut, spec, data, asked, valid_place=place_codes(valid) if spec.places else None)
        with torch_threads(inputs.threads if loop.multiplications >= PARALLEL_STEP else 1):
            members, history = loop.run()
        longest = float(np.nanmax(train.dwell)) if dwell else 0.0
        return ServedNetwork(members, longest).to(device).eval(), history

    network, history = train_on(inputs.device, "heavy ranker", inputs.progress, run)
    return NetworkRanker(
        config=config, names=train.names, tasks=tasks, spec=spec, network=network, dwell=dwell,
        dropped=inputs.dropped, history=history,
    )

