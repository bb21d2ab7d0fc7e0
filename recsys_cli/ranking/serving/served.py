"""The heavy ranker as it is served: a model, most often an ONNX graph, and a little JSON; without torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson

from recsys_cli.data.behaviour import Entities
from recsys_cli.errors import ArtifactError, DataError, RecsysError
from recsys_cli.files import write_bytes
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.serving.side_inputs import SideSpec

GRAPH_FILE, DESCRIPTION_FILE = "heavy.onnx", "heavy.json"
RANKER_VERSION = 1
ROWS_AT_ONCE = 1024
GRAPHS = frozenset({
    "shared_bottom", "mmoe", "ple", "dcn_v2", "masknet", "wide_deep", "deepfm", "esmm", "fm", "ncf", "din",
    "transformer", "lightgbm", "lambdamart", "ensemble",
})
"""Built-in kinds, which are all served as graphs: to open one takes no registry."""
_HINT = "use another run (`recsys runs list`, `recsys runs use ID`) or train again"


@dataclass(frozen=True)
class Description:
    """What stands beside a served model: `heavy.json` of a bundle."""

    kind: str
    names: tuple[str, ...]
    """the F features in the order of the columns"""
    tasks: tuple[str, ...]
    """actions predicted"""
    dwell: bool
    """whether dwell time is predicted too"""
    calibration: dict[str, Calibration] = field(default_factory=dict)
    side: SideSpec | None = None
    """ids and histories that the model reads beside the features; None for neither"""
    dense: bool = False
    """whether it is the arrays of dense layers, not a graph"""

    def write(self, folder: str | os.PathLike) -> None:
        """Write into the folder of the model."""
        content = {"ranker_version": RANKER_VERSION, **asdict(self)}
        write_bytes(Path(folder) / DESCRIPTION_FILE, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Description:
        """What `write` wrote; raises ArtifactError where it is missing, damaged or of another version."""
        path = Path(folder) / DESCRIPTION_FILE
        try:
            content = orjson.loads(path.read_bytes())
            version = content["ranker_version"]
            if version != RANKER_VERSION:
                raise ArtifactError(f"{path} is of version {version}, this program reads {RANKER_VERSION}", _HINT)
            return cls(
                content["kind"], tuple(content["names"]), tuple(content["tasks"]), content["dwell"],
                {task: Calibration(**c) for task, c in content["calibration"].items()},
                None if content.get("side") is None else SideSpec.from_dict(content["side"]),
                bool(content.get("dense", False)),
            )
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}", _HINT) from None
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} does not describe a heavy ranker: {error}", _HINT) from None


Run = Callable[[np.ndarray, "Entities | None"], tuple[np.ndarray, np.ndarray]]
"""Raw features float32[n, F] and entities → probabilities float32[n, T] after the affine part of the calibration, and
seconds of dwell time float32[n]; n is at least 1."""


class ServedRanker:
    """A loaded heavy ranker; `predict` may be called from several threads at once."""

    def __init__(self, told: Description, run: Run):
        self.kind, self.names, self.tasks, self.dwell, self.side = (
            told.kind, told.names, told.tasks, told.dwell, told.side
        )
        self._run, self._curves = run, {task: c for task, c in told.calibration.items() if c.knots}

    def predict(self, values: np.ndarray, entities: Entities | None = None) -> dict[str, np.ndarray]:
        """float32[n, F] raw features → action (and "dwell", in seconds) → float32[n].

        entities: who and what the rows are about; rankers without ids or histories do not look at them. Raises
        DataError for another number of features.
        """
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise DataError(f"features of shape {values.shape}, the ranker takes [n, {len(self.names)}]")
        values = np.ascontiguousarray(values, np.float32)
        if len(values):
            probabilities, dwell = self._run(values, entities)
        else:  # onnxruntime's matrix products divide by the number of rows
            probabilities, dwell = np.zeros((0, len(self.tasks)), np.float32), np.zeros(0, np.float32)
        return self._named(probabilities, dwell)

    def _named(self, probabilities: np.ndarray, dwell: np.ndarray) -> dict[str, np.ndarray]:
        out = {}
        for t, task in enumerate(self.tasks):
            column = np.ascontiguousarray(probabilities[:, t])
            out[task] = self._curves[task].curve(column) if task in self._curves else column
        if self.dwell:
            out["dwell"] = dwell
        return out


class GraphRanker(ServedRanker):
    """A ranker that is an ONNX graph."""

    def __init__(self, told: Description, path: Path, threads: int = 1):
        super().__init__(told, self._batches)
        self._path, self._threads = path, threads

    @classmethod
    def load(cls, folder: str | os.PathLike, threads: int = 1, *, later: bool = False) -> GraphRanker:
        """Read what `TrainedRanker.export` wrote; raises ArtifactError where a file is missing or damaged.

        later: the graph is opened when it is first asked, for rankers that most requests do without.
        """
        out = cls(Description.read(folder), Path(folder) / GRAPH_FILE, threads)
        return out if later else out._opened()

    @cached_property
    def _session(self):
        session = _open_session(self._path, self._threads)
        columns = session.get_inputs()[0].shape[-1]
        if columns != len(self.names):
            raise ArtifactError(
                f"{self._path} takes {columns} features, {DESCRIPTION_FILE} names {len(self.names)}", _HINT
            )
        return session

    @cached_property
    def _inputs(self) -> frozenset[str]:
        return frozenset(i.name for i in self._session.get_inputs())

    def _opened(self) -> GraphRanker:
        """Itself, with its graph read and checked."""
        self._session  # noqa: B018
        return self

    def _batches(self, values: np.ndarray, entities: Entities | None) -> tuple[np.ndarray, np.ndarray]:
        # a layer's activations of so few rows stay in the cache: twice as fast as all rows at once
        starts = range(0, len(values), ROWS_AT_ONCE)
        parts = [self._session.run(None, self.feeds(values, entities, i)) for i in starts]
        return tuple(np.concatenate(p) for p in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]

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


def check_version(content: dict) -> None:
    """Raises ArtifactError where a heavy ranker's checkpoint is of another version, KeyError where it names none."""
    if content["ranker_version"] != RANKER_VERSION:
        raise ArtifactError(
            f"the heavy ranker's checkpoint is of version {content['ranker_version']}, "
            f"this program reads {RANKER_VERSION}", "train again",
        )


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
