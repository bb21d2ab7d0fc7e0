"""The heavy ranker as it is served: an ONNX graph and a little JSON, without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson

from recsys_cli.data.behaviour import Entities
from recsys_cli.errors import ArtifactError, DataError, RecsysError
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.sides import SideSpec

GRAPH_FILE, SIDE_FILE = "heavy.onnx", "heavy.json"
RANKER_VERSION = 1
ROWS_AT_ONCE = 1024
_HINT = "use another run (`recsys runs list`, `recsys runs use ID`) or train again"


@dataclass(frozen=True)
class ServedRanker:
    """A loaded heavy ranker; `predict` may be called from several threads at once."""

    names: tuple[str, ...]
    """the F features in the order of the columns of `predict`"""
    tasks: tuple[str, ...]
    """actions predicted"""
    dwell: bool
    """whether `predict` gives "dwell" as well"""
    kind: str
    _session: object
    _curves: dict[str, Calibration]
    side: SideSpec | None = None
    """ids and histories that it reads beside the features; None for neither"""

    @classmethod
    def load(cls, folder: str | os.PathLike, threads: int = 1) -> ServedRanker:
        """Read what `HeavyRanker.export` wrote; raises ArtifactError where a file is missing or damaged."""
        folder = Path(folder)
        side = _read_side(folder / SIDE_FILE)
        session = _open_session(folder / GRAPH_FILE, threads)
        columns = session.get_inputs()[0].shape[-1]
        if columns != len(side["names"]):
            raise ArtifactError(
                f"{folder / GRAPH_FILE} takes {columns} features, {SIDE_FILE} names {len(side['names'])}", _HINT
            )
        calibration = {task: Calibration(**c) for task, c in side["calibration"].items()}
        return cls(
            tuple(side["names"]), tuple(side["tasks"]), side["dwell"], side["kind"], session,
            {task: c for task, c in calibration.items() if c.knots},
            None if side.get("side") is None else SideSpec.from_dict(side["side"]),
        )

    def predict(self, values: np.ndarray, entities: Entities | None = None) -> dict[str, np.ndarray]:
        """float32[n, F] raw features → action (and "dwell", in seconds) → float32[n].

        entities: who and what the rows are about; rankers without ids or histories do not look at them.
        """
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise DataError(f"features of shape {values.shape}, the ranker takes [n, {len(self.names)}]")
        values = np.ascontiguousarray(values, np.float32)
        if len(values):
            # a layer's activations of so few rows stay in the cache: twice as fast as all rows at once
            starts = range(0, len(values), ROWS_AT_ONCE)
            parts = [self._session.run(None, self.feeds(values, entities, i)) for i in starts]
            probabilities, dwell = (np.concatenate(p) for p in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]
        else:  # onnxruntime's matrix products divide by the number of rows
            probabilities, dwell = np.zeros((0, len(self.tasks)), np.float32), np.zeros(0, np.float32)
        out = {}
        for t, task in enumerate(self.tasks):
            column = np.ascontiguousarray(probabilities[:, t])
            out[task] = self._curves[task].curve(column) if task in self._curves else column
        if self.dwell:
            out["dwell"] = dwell
        return out

    def feeds(self, values: np.ndarray, entities: Entities | None, start: int) -> dict[str, np.ndarray]:
        """Inputs of the graph for ROWS_AT_ONCE rows from `start` on."""
        rows = slice(start, start + ROWS_AT_ONCE)
        out = {"features": values[rows]}
        if self.side is None:
            return out
        arrays = self.side.arrays(None if entities is None else entities.take(rows))
        # an array that no weight reads is no input of the graph
        return out | {name: a for name, a in arrays.items() if name in self._inputs}

    def try_out(self) -> None:
        """Score two rows of zeros; raises RecsysError where the graph loads and cannot be run."""
        feeds = {} if self.side is None else {n: a for n, a in self.side.example().items() if n in self._inputs}
        try:
            self._session.run(None, {"features": np.zeros((2, len(self.names)), np.float32)} | feeds)
        except Exception as error:  # onnxruntime raises one class per status of its C++ core
            raise RecsysError(
                f"the served form of the heavy ranker ({self.kind}) does not run: {str(error).splitlines()[0][:200]}",
                "set ranking.precision to float32, or take another ranking.heavy.kind, and report it",
            ) from None

    @cached_property
    def _inputs(self) -> frozenset[str]:
        return frozenset(i.name for i in self._session.get_inputs())


def check_version(content: dict) -> None:
    """Raises ArtifactError where a heavy ranker's checkpoint is of another version, KeyError where it names none."""
    if content["ranker_version"] != RANKER_VERSION:
        raise ArtifactError(
            f"the heavy ranker's checkpoint is of version {content['ranker_version']}, "
            f"this program reads {RANKER_VERSION}", "train again",
        )


def _read_side(path: Path) -> dict:
    try:
        side = orjson.loads(path.read_bytes())
        version = side["ranker_version"]
        if version == RANKER_VERSION:
            missing = {"names", "tasks", "dwell", "kind", "calibration"} - side.keys()
            if missing:
                raise KeyError(*sorted(missing))
            return side
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}", _HINT) from None
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} does not describe a heavy ranker: {error}", _HINT) from None
    raise ArtifactError(f"{path} is of version {version}, this program reads {RANKER_VERSION}", _HINT)


def _open_session(path: Path, threads: int):
    if not path.is_file():
        raise ArtifactError(f"{path} is missing", _HINT)
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(threads, 1)
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # waiting threads that spin would take the core from whoever prepares the next request
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises one class per status of its C++ core
        reason = str(error).splitlines()[0][:120]
        raise ArtifactError(f"{path} cannot be loaded: {reason}", _HINT) from None
