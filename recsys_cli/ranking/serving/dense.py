"""A network of dense layers as it is served: products of arrays that numpy takes, without a graph.

The first layer is a sum over features, and most features are not of the pair: what the user's and the request's add is
the same for all candidates, and what an item's add is the same for all users (`features.parts`). So the product that
costs most is taken of the few features of pairs alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.errors import ArtifactError
from recsys_cli.ranking.serving.served import DESCRIPTION_FILE, Description, GraphRanker, ServedRanker

if TYPE_CHECKING:
    from recsys_cli.data.behaviour import Entities
    from recsys_cli.features.parts import FeatureParts

DENSE_FILE = "heavy.dense.bin"
ROWS_AT_ONCE = 1024
"""Rows whose activations stay near the processor."""


@dataclass(frozen=True)
class DenseLayers:
    """Raw features → logits: standardised numbers and looked-up codes, dense layers with ReLU, heads."""

    columns: int
    """features that it takes"""
    numeric: np.ndarray
    """int[N] columns of numbers"""
    logged: np.ndarray
    """bool[N] which of them are compressed to sign(x)·ln(1+|x|) first"""
    mean: np.ndarray
    scale: np.ndarray
    """float32[N] what is taken off, and what the rest is multiplied by"""
    numbers: np.ndarray
    """float32[N, W] first layer of the numbers"""
    categorical: np.ndarray
    """int[C] columns of codes"""
    sizes: np.ndarray
    """int[C] codes of each; those outside count as 0"""
    codes: np.ndarray
    """float32[Σ sizes, W] first layer of each code"""
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    """(weights, bias) of the layers: of the first one [0, W] the bias alone, ReLU behind each"""
    heads: tuple[np.ndarray, np.ndarray]
    """float32[width, T], or T + 2 with mean and log-variance of ln(1 + dwell), and bias"""
    clip: float
    dwell_max: float | None
    """seconds; None where dwell is not predicted"""
    quantile: bool
    """whether the dwell head gives a quantile, not a mean"""
    log_variance: Sequence[float]

    def save(self, path: Path) -> None:
        """Write to one file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        for place, (weights, bias) in enumerate((*self.layers, self.heads)):
            arrays |= {f"layers/{place}/weights": weights, f"layers/{place}/bias": bias}
        meta = {name: getattr(self, name) for name in _NUMBERS}
        save_arrays(path, arrays, meta | {"layers": len(self.layers)})

    @classmethod
    def load(cls, path: Path) -> DenseLayers:
        """What `save` wrote; raises ArtifactError where it is damaged."""
        arrays, meta = load_arrays(path)
        try:
            pairs = [(arrays[f"layers/{i}/weights"], arrays[f"layers/{i}/bias"]) for i in range(meta["layers"] + 1)]
            return cls(
                **{name: arrays[name] for name in _ARRAYS}, layers=tuple(pairs[:-1]), heads=pairs[-1],
                **{name: meta[name] for name in _NUMBERS},
            )
        except KeyError as error:
            raise ArtifactError(f"{path} lacks {error}", "train again, or use another run") from None

    def outputs(self, first: np.ndarray) -> np.ndarray:
        """float32[n, heads] of the sums of the first layer float32[n, W], which are overwritten; ReLU is to come."""
        hidden = np.maximum(first, 0, out=first)
        for weights, bias in self.layers[1:]:
            hidden = hidden @ weights
            hidden += bias
            np.maximum(hidden, 0, out=hidden)
        return hidden @ self.heads[0] + self.heads[1]


_NUMBERS = ("columns", "clip", "dwell_max", "quantile", "log_variance")
_ARRAYS = ("numeric", "logged", "mean", "scale", "numbers", "categorical", "sizes", "codes")


class FirstLayer:
    """The share of some features in the first layer."""

    def __init__(self, of: DenseLayers, at: Sequence[int]):
        """at: columns of the model that the features are, in their order."""
        place = {column: i for i, column in enumerate(at)}
        mine = [j for j, column in enumerate(of.numeric.tolist()) if column in place]
        # numbers stand in the order of the features, so that they need not be moved where all are numbers
        mine.sort(key=lambda j: place[int(of.numeric[j])])
        columns = [place[int(of.numeric[j])] for j in mine]
        self._columns = None if columns == list(range(len(at))) else np.array(columns, np.int64)
        self._logged = np.flatnonzero(of.logged[mine])
        self._mean, self._scale, self._clip = of.mean[mine], of.scale[mine], of.clip
        self._weights, self.width = np.ascontiguousarray(of.numbers[mine]), of.numbers.shape[1]
        offsets = np.cumsum(of.sizes) - of.sizes
        self._codes, coded = of.codes, enumerate(of.categorical.tolist())
        self._coded = [(place[c], int(of.sizes[i]), int(offsets[i])) for i, c in coded if c in place]

    def __call__(self, values: np.ndarray, constant: np.ndarray | None = None) -> np.ndarray:
        """float32[n, W] of raw features float32[n, len(at)], which are overwritten; constant: float32[W] to add."""
        raw = values if self._columns is None else values.take(self._columns, axis=1)
        if len(self._logged):
            tails = raw[:, self._logged]
            raw[:, self._logged] = np.copysign(np.log1p(np.abs(tails)), tails)
        raw -= self._mean
        raw *= self._scale
        np.clip(raw, -self._clip, self._clip, out=raw)
        weights = self._weights
        if constant is not None:  # as one more number that is always 1: a pass over all rows would cost more
            raw = np.concatenate([raw, np.ones((len(raw), 1), np.float32)], axis=1)
            weights = np.concatenate([weights, constant[None]])
        share = raw @ weights
        for place, size, offset in self._coded:
            codes = values[:, place].astype(np.int64)
            share += self._codes.take(np.where((codes >= 0) & (codes < size), codes, 0) + offset, axis=0)
        return share


class DenseRanker(ServedRanker):
    """A ranker of dense layers; `predict_parts` gives the same as `predict` for less."""

    def __init__(self, told: Description, layers: DenseLayers):
        super().__init__(told, self._whole)
        affine = [told.calibration.get(task) for task in told.tasks]
        self._factor = np.array([1.0 if c is None else c.scale for c in affine], np.float32)
        self._shift = np.array([0.0 if c is None else c.shift for c in affine], np.float32)
        self._layers, self._every = layers, FirstLayer(layers, range(len(told.names)))
        self._firsts: dict[tuple[str, ...], FirstLayer] = {}

    @classmethod
    def load(cls, folder: str | os.PathLike) -> DenseRanker:
        """What `TrainedRanker.export` wrote; raises ArtifactError where a file is missing or damaged."""
        told, path = Description.read(folder), Path(folder) / DENSE_FILE
        layers = DenseLayers.load(path)
        if layers.columns != len(told.names):
            raise ArtifactError(
                f"{path} takes {layers.columns} features, {DESCRIPTION_FILE} names {len(told.names)}",
                "use another run (`recsys runs list`, `recsys runs use ID`) or train again",
            )
        return cls(told, layers)

    def _whole(self, values: np.ndarray, entities: Entities | None) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for start in range(0, len(values), ROWS_AT_ONCE):
            rows = values[start : start + ROWS_AT_ONCE].copy()
            parts.append(self._layers.outputs(self._every(rows, self._layers.layers[0][1])))
        return self._told(np.concatenate(parts))

    def _told(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32[n, T] and seconds float32[n] of what the heads give."""
        tasks, told = len(self.tasks), self._layers
        logits = outputs[:, :tasks] * self._factor + self._shift
        probabilities = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        if told.dwell_max is None:
            return probabilities, np.zeros(len(outputs), np.float32)
        mean = outputs[:, tasks]
        if not told.quantile:  # the mean of a log-normal
            mean = mean + np.float32(0.5) * np.exp(np.clip(outputs[:, tasks + 1], *told.log_variance))
        seconds = np.exp(np.minimum(mean, np.float32(20))) - 1
        return probabilities, np.clip(seconds, 0, told.dwell_max)

    def _first(self, names: tuple[str, ...]) -> FirstLayer:
        if names not in self._firsts:
            self._firsts[names] = FirstLayer(self._layers, [self.names.index(name) for name in names])
        return self._firsts[names]

    def predict_parts(self, parts: FeatureParts) -> dict[str, np.ndarray]:
        """As `predict`, of features in parts: action (and "dwell") → float32[B, K]."""
        plan, (batch, slots) = parts.plan, parts.items.shape
        of_items = self._first(plan.items)
        items = plan.of_items(self, of_items.width, of_items)
        heads = self._first(plan.head)(parts.head.copy(), self._layers.layers[0][1])
        pairs = self._first(plan.pairs)
        values = parts.pairs.reshape(batch * slots, -1)
        who, outputs = parts.items.reshape(-1), []
        for b in range(batch):
            for start in range(b * slots, (b + 1) * slots, ROWS_AT_ONCE):
                rows = slice(start, min(start + ROWS_AT_ONCE, (b + 1) * slots))
                first = pairs(values[rows], heads[b])
                first += items.take(who[rows])
                outputs.append(self._layers.outputs(first))
        told = np.concatenate(outputs) if len(outputs) > 1 else outputs[0]
        named = self._named(*self._told(told))
        return {name: column.reshape(batch, slots) for name, column in named.items()}


def load_exported(folder: str | os.PathLike, threads: int = 1, *, later: bool = False) -> ServedRanker:
    """The dense layers of a folder, or its graph, whichever its description tells; see `GraphRanker.load`."""
    if Description.read(folder).dense:
        return DenseRanker.load(folder)
    return GraphRanker.load(folder, threads, later=later)
