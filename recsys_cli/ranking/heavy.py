"""The heavy ranker as it was trained: networks, calibration and what was measured; its checkpoint and its export."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import orjson
import torch
from pydantic import TypeAdapter, ValidationError

from recsys_cli.data.behaviour import Entities
from recsys_cli.errors import ArtifactError
from recsys_cli.files import atomic_file, write_bytes
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.config import HeavyNetworkConfig, HeavyRankerConfig
from recsys_cli.ranking.networks import HeavyNetwork, InputSpec, ServedNetwork, batches
from recsys_cli.ranking.serving import GRAPH_FILE, RANKER_VERSION, SIDE_FILE, ServedRanker, check_version
from recsys_cli.ranking.sides import SIZES

PREDICT_ROWS = 65_536
SIDE_ROWS = 4_096
"""Rows scored at once with histories, of which each row has its own."""


@dataclass
class HeavyRanker:
    """A trained multi-task network.

    names: the F features in the order of the columns that it takes. tasks: the actions it predicts. dwell: whether
    it predicts dwell time too.
    """

    config: HeavyNetworkConfig
    names: tuple[str, ...]
    tasks: tuple[str, ...]
    spec: InputSpec
    network: ServedNetwork
    dwell: bool
    calibration: dict[str, Calibration] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    """action → why it has no head"""
    metrics: dict[str, dict] = field(default_factory=dict)
    """task → figures on the validation rows; see `trainer.fit_heavy`"""
    history: list[dict] = field(default_factory=list)
    """one entry an epoch"""

    def set_calibration(self, calibration: dict[str, Calibration]) -> None:
        """Take corrections over: the affine part goes into the graph."""
        self.calibration = calibration
        ordered = [calibration.get(task, Calibration()) for task in self.tasks]
        with torch.no_grad():
            self.network.scale.copy_(torch.tensor([c.scale for c in ordered]))
            self.network.shift.copy_(torch.tensor([c.shift for c in ordered]))

    def _batches(self, values: np.ndarray, entities: Entities | None):
        rows = PREDICT_ROWS if self.spec.side is None else SIDE_ROWS
        return batches(values, entities, self.spec.side, rows, self.network.scale.device)

    def logits(
        self, values: np.ndarray, entities: Entities | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Uncorrected logits float32[n, T], and mean and log-variance of ln(1+dwell) float32[n].

        entities: who and what the rows are about, for networks with ids or histories (`FeatureTable.entities`).
        """
        self.network.eval()
        with torch.inference_mode():
            parts = [[p.cpu().numpy() for p in self.network.logits(*x)] for x in self._batches(values, entities)]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def predict(self, values: np.ndarray, entities: Entities | None = None) -> dict[str, np.ndarray]:
        """float32[n, F] raw features → action (and "dwell", in seconds) → float32[n]; entities as for `logits`."""
        self.network.eval()
        with torch.inference_mode():
            parts = [[p.cpu().numpy() for p in self.network(*x)] for x in self._batches(values, entities)]
        if not parts:
            parts = [[np.zeros((0, len(self.tasks)), np.float32), np.zeros(0, np.float32)]]
        probabilities, dwell = (np.concatenate(column) for column in zip(*parts, strict=True))
        out = {
            task: self.calibration.get(task, Calibration()).curve(probabilities[:, t])
            for t, task in enumerate(self.tasks)
        }
        return out | {"dwell": dwell} if self.dwell else out

    def checkpoint(self) -> dict:
        """For `artifacts.checkpoint.save_checkpoint`."""
        return {
            "ranker_version": RANKER_VERSION, "config": self.config.model_dump(mode="json"), "names": list(self.names),
            "tasks": list(self.tasks), "spec": self.spec.to_dict(), "members": len(self.network.members),
            "dwell": self.dwell, "dwell_max": self.network.dwell_max, "dropped": self.dropped,
            "calibration": {task: asdict(c) for task, c in self.calibration.items()},
            "metrics": self.metrics, "history": self.history,
            "state": {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()},
        }

    @classmethod
    def restore(cls, content: dict) -> HeavyRanker:
        """From what `load_checkpoint` gives; raises ArtifactError where it is no heavy ranker of this version."""
        try:
            check_version(content)
            config = TypeAdapter(HeavyRankerConfig).validate_python(content["config"])
            spec = InputSpec.from_dict(content["spec"])
            members = [
                HeavyNetwork(config, spec, len(content["tasks"]), content["dwell"]) for _ in range(content["members"])
            ]
            network = ServedNetwork(members, content["dwell_max"])
            network.load_state_dict(content["state"])
            calibration = {task: Calibration(**c) for task, c in content["calibration"].items()}
            names, tasks = tuple(content["names"]), tuple(content["tasks"])
        except (KeyError, TypeError, RuntimeError, ValidationError) as error:
            reason = f"{type(error).__name__} {(str(error).splitlines() or [''])[0]}"
            raise ArtifactError(f"not a checkpoint of a heavy ranker: {reason}", "train again") from None
        return cls(
            config, names, tasks, spec, network.eval(), content["dwell"], calibration,
            content["dropped"], content["metrics"], content["history"],
        )

    def export(self, folder: str | os.PathLike) -> None:
        """Write `heavy.onnx` and `heavy.json` into a folder, from which `ServedRanker.load` reads them.

        Raises RecsysError where what was written cannot be run.
        """
        folder = Path(folder)
        network = self.network.cpu().eval()
        inputs, axes = [torch.zeros(2, len(self.names))], {"features": {0: "rows"}}
        names = ["features"]
        if self.spec.side is not None:
            inputs += [torch.from_numpy(a) for a in self.spec.side.example().values()]
            names += self.spec.side.inputs
            axes |= {name: {0: SIZES[name]} for name in self.spec.side.inputs}
        with atomic_file(folder / GRAPH_FILE) as temporary, warnings.catch_warnings():
            # the exporter that needs no further package is marked as the old one
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            torch.onnx.export(
                network, tuple(inputs), str(temporary), dynamo=False, opset_version=17, do_constant_folding=True,
                input_names=names, output_names=["probabilities", "dwell"],
                dynamic_axes=axes | {"probabilities": {0: "rows"}, "dwell": {0: "rows"}},
            )
        side = {
            "ranker_version": RANKER_VERSION, "kind": self.config.kind, "names": list(self.names),
            "tasks": list(self.tasks), "dwell": self.dwell,
            "side": None if self.spec.side is None else self.spec.side.to_dict(),
            "calibration": {task: asdict(c) for task, c in self.calibration.items()},
        }
        write_bytes(folder / SIDE_FILE, orjson.dumps(side, option=orjson.OPT_INDENT_2))
        ServedRanker.load(folder).try_out()
