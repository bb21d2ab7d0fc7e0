"""A heavy ranker as it was trained, whichever its kind: what is measured, saved in a checkpoint and exported."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.data.behaviour import Entities
from recsys_cli.errors import ArtifactError, RecsysError
from recsys_cli.files import write_bytes
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.heavy_config import HeavyConfig
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.serving.served import (
    GRAPH_FILE,
    RANKER_VERSION,
    Description,
    GraphRanker,
    ServedRanker,
    check_version,
)
from recsys_cli.ranking.serving.side_inputs import SideSpec

ARRAY_FILE = "heavy.bin"
Explained = tuple[str, str, float, np.ndarray, float]
"""method and baseline in words, score at the baseline, contribution of each feature float64[F], score"""


@dataclass(kw_only=True)
class TrainedRanker:
    """What all kinds have in common. A kind gives `logits`, `state`, `from_state` and `graph`."""

    config: HeavyConfig
    names: tuple[str, ...]
    """the F features in the order of the columns that it takes"""
    tasks: tuple[str, ...]
    """the T actions that it predicts"""
    calibration: dict[str, Calibration] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    """action → why it has no head"""
    metrics: dict[str, dict] = field(default_factory=dict)
    """task → figures on the validation rows; see `trainer.fit_heavy`"""
    history: list[dict] = field(default_factory=list)
    """one entry an epoch or a model: "epoch", "best" and what else the kind tells"""
    dwell: bool = False
    """whether it predicts dwell time too"""

    @property
    def side(self) -> SideSpec | None:
        """Ids and histories that it reads beside the features; None for neither."""
        return None

    def logits(
        self, values: np.ndarray, entities: Entities | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Raw features float32[n, F] → uncorrected logits float32[n, T], and mean and log-variance of ln(1+dwell)
        float32[n], zero without dwell time.

        entities: who and what the rows are about, for rankers with ids or histories (`FeatureTable.entities`).
        """
        raise NotImplementedError

    def predict(self, values: np.ndarray, entities: Entities | None = None) -> dict[str, np.ndarray]:
        """float32[n, F] raw features → action (and "dwell", in seconds) → float32[n]; entities as for `logits`."""
        logits, *_ = self.logits(values, entities)
        return {task: self.correction(task).apply(logits[:, t]) for t, task in enumerate(self.tasks)}

    def correction(self, task: str) -> Calibration:
        """What turns the logit of a task into its probability."""
        return self.calibration.get(task, Calibration())

    def set_calibration(self, calibration: dict[str, Calibration]) -> None:
        """Take corrections over."""
        self.calibration = calibration

    def explain(self, values: np.ndarray, action: str, entities: Entities | None = None) -> Explained:
        """What each feature of one case float32[F] contributes to its score before calibration."""
        raise RecsysError(f"rankers of kind {self.config.kind} do not tell what features contribute")

    def release(self) -> None:
        """Give back the accelerator that it was trained on."""

    def state(self) -> dict[str, Any]:
        """What was learned, as tensors and plain values."""
        raise NotImplementedError

    @classmethod
    def from_state(cls, config: HeavyConfig, state: dict[str, Any]) -> dict[str, Any]:
        """What the class is made of beside the fields of `TrainedRanker`, from what `state` gave."""
        raise NotImplementedError

    def checkpoint(self) -> dict[str, Any]:
        """For `artifacts.checkpoint.save_checkpoint`."""
        return {
            "ranker_version": RANKER_VERSION, "config": self.config.model_dump(mode="json"), "names": list(self.names),
            "tasks": list(self.tasks), "dropped": self.dropped, "metrics": self.metrics, "history": self.history,
            "dwell": self.dwell, "calibration": {task: asdict(c) for task, c in self.calibration.items()},
        } | self.state()

    @classmethod
    def restore(cls, config: HeavyConfig, content: dict[str, Any]) -> Self:
        """From what `load_checkpoint` gives; raises ArtifactError where it holds no such ranker of this version."""
        try:
            check_version(content)
            common = {name: content[name] for name in ("dropped", "metrics", "history", "dwell")}
            calibration = {task: Calibration(**c) for task, c in content["calibration"].items()}
            return cls(
                config=config, names=tuple(content["names"]), tasks=tuple(content["tasks"]), calibration=calibration,
                **common | cls.from_state(config, content),
            )
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__} {(str(error).splitlines() or [''])[0]}"
            raise ArtifactError(
                f"not a checkpoint of a heavy ranker of kind {config.kind}: {reason}", "train again"
            ) from None

    def description(self) -> Description:
        """What stands beside the served model."""
        return Description(self.config.kind, self.names, self.tasks, self.dwell, self.calibration, self.side)

    def graph(self) -> bytes:
        """The ONNX model: `features` float32[n, F] (and the arrays of `side`) → probabilities float32[n, T] after the
        affine part of the calibration, and dwell float32[n] in seconds."""
        raise NotImplementedError

    def export(self, folder: str | os.PathLike, *, graph: bool = False) -> None:
        """Write the served form into a folder, from which `registry.load_ranker` reads it.

        graph: as a graph also where fewer arrays would do, as `quantise` needs it. Raises RecsysError where what was
        written cannot be run.
        """
        write_bytes(Path(folder) / GRAPH_FILE, self.graph())
        self.description().write(folder)
        GraphRanker.load(folder).try_out()


@dataclass(kw_only=True)
class ArrayRanker(TrainedRanker):
    """A ranker that is a few arrays in both of its lives. A kind gives `logits` with numpy alone; actions only."""

    config_type: ClassVar[type[HeavyConfig]]
    arrays: dict[str, np.ndarray]

    def state(self) -> dict[str, Any]:
        import torch

        return {"arrays": {name: torch.from_numpy(np.array(a)) for name, a in self.arrays.items()}}

    @classmethod
    def from_state(cls, config: HeavyConfig, state: dict[str, Any]) -> dict[str, Any]:
        return {"arrays": {name: tensor.numpy() for name, tensor in state["arrays"].items()}}

    def export(self, folder: str | os.PathLike, *, graph: bool = False) -> None:
        save_arrays(Path(folder) / ARRAY_FILE, self.arrays, {"config": self.config.model_dump(mode="json")})
        self.description().write(folder)

    @classmethod
    def serve(cls, folder: str | os.PathLike, threads: int = 1) -> ServedRanker:
        """What `export` wrote, for the registry; raises ArtifactError where it is damaged."""
        told = Description.read(folder)
        arrays, meta = load_arrays(Path(folder) / ARRAY_FILE)
        ranker = cls(
            config=cls.config_type.model_validate(meta["config"]), names=told.names, tasks=told.tasks,
            calibration=told.calibration, arrays=arrays,
        )
        return ServedRanker(told, ranker.probabilities)

    def probabilities(self, values: np.ndarray, entities: Entities | None) -> tuple[np.ndarray, np.ndarray]:
        """As a served model gives them: see `serving.served.Run`."""
        affine = [self.correction(task) for task in self.tasks]
        scaled = self.logits(values, entities)[0] * [c.scale for c in affine] + [c.shift for c in affine]
        return sigmoid(scaled).astype(np.float32), np.zeros(len(values), np.float32)
