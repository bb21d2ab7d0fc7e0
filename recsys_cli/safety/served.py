"""Classifiers as they are served: an ONNX graph, a table of n-grams and a little JSON, without scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson

from recsys_cli.arrays import load_arrays
from recsys_cli.errors import ArtifactError
from recsys_cli.files import file_digest, inside, is_name
from recsys_cli.safety.text import Grams, grams

GRAPH_FILE, TABLE_FILE, MANIFEST_FILE = "model.onnx", "ngrams.bin", "manifest.json"
CLASSIFIER_VERSION = 1
_HINT = "write it again from its checkpoint with `recsys safety export`, or train it with `recsys train-safety`"


def columns_of(found: Grams, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, columns, values) of the n-grams that a model knows; values are 1 + ln(occurrences).

    keys: uint32[V] hashes, ascending; the column of an n-gram is its place among them.
    """
    place = np.minimum(np.searchsorted(keys, found.keys), max(len(keys) - 1, 0))
    known = keys[place] == found.keys if len(keys) else np.zeros(len(place), bool)
    values = (1 + np.log(found.counts[known])).astype(np.float32)
    return found.rows[known], place[known].astype(np.int64), values


@dataclass(frozen=True)
class ServedClassifier:
    """A classifier of texts or of accounts; scores may be asked for from several threads at once."""

    folder: Path
    manifest: dict

    @classmethod
    def load(cls, folder: str | os.PathLike, *, verify: bool = True) -> ServedClassifier:
        """Open a folder that `publish` wrote; raises ArtifactError where a file is missing, altered or of another
        version. The graph is read when the first score is asked for."""
        folder = Path(folder)
        path = folder / MANIFEST_FILE
        try:
            manifest = orjson.loads(path.read_bytes())
            version = manifest["classifier_version"]
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}", _HINT) from None
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise ArtifactError(f"{path} does not describe a classifier", _HINT) from None
        if version != CLASSIFIER_VERSION:
            raise ArtifactError(f"{path} is of version {version}, this program reads {CLASSIFIER_VERSION}", _HINT)
        for name, digest in manifest["files"].items() if verify else ():
            file = inside(folder, name) if is_name(name) else None
            if file is None:
                raise ArtifactError(f"{path} names a file elsewhere, {name[:80]!r}", _HINT)
            if not file.is_file():
                raise ArtifactError(f"{folder / name} is missing", _HINT)
            if file_digest(file) != digest:
                raise ArtifactError(f"{folder / name} was altered after training", _HINT)
        return cls(folder, manifest)

    @property
    def task(self) -> str:
        return self.manifest["task"]

    @property
    def of(self) -> str:
        """"texts" or "accounts"."""
        return self.manifest["of"]

    @property
    def version(self) -> str:
        """Digest of the graph: another training is another version."""
        return self.manifest["files"][GRAPH_FILE][:12]

    @cached_property
    def _session(self):
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(4)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            return onnxruntime.InferenceSession(
                str(self.folder / GRAPH_FILE), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises one class per status of its C++ core
            reason = str(error).splitlines()[0][:120]
            raise ArtifactError(f"{self.folder / GRAPH_FILE} cannot be loaded: {reason}", _HINT) from None

    @cached_property
    def _keys(self) -> np.ndarray:
        return load_arrays(self.folder / TABLE_FILE)[0]["keys"]

    def scores(self, texts: Sequence[str | None]) -> np.ndarray:
        """float32[n] probability of the positive class; NaN where a text has none of the model's n-grams."""
        out = np.full(len(texts), np.nan, np.float32)
        for first, end, found in grams(texts):
            out[first:end] = self.scores_of(found, end - first)
        return out

    def scores_of(self, found: Grams, texts: int) -> np.ndarray:
        """The same for n-grams that were taken already: several models share one pass over the texts."""
        rows, columns, values = columns_of(found, self._keys)
        out = np.full(texts, np.nan, np.float32)
        if len(rows):
            feed = {"rows": rows, "columns": columns, "values": values, "texts": np.array([texts], np.int64)}
            known = np.unique(rows)
            out[known] = self._session.run(None, feed)[0][known]
        return out

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """float32[n] of a classifier of accounts; features: float32[n, F] in the order of the manifest."""
        if not len(features):
            return np.zeros(0, np.float32)
        return self._session.run(None, {"features": np.ascontiguousarray(features, np.float32)})[0]
