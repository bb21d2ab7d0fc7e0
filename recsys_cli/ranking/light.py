"""The light ranker: a linear score over cheap features that cuts many candidates down to those worth the network."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson

from recsys_cli.data.schema import NEGATIVE_ACTIONS
from recsys_cli.errors import ArtifactError, DataError
from recsys_cli.features.table import FeatureTable
from recsys_cli.files import write_bytes
from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.config import LightRankerConfig
from recsys_cli.ranking.logistic import fit_logistic, sigmoid
from recsys_cli.ranking.warm import light_start

LIGHT_VERSION = 1
LOG_ABOVE = 10.0
"""Features whose largest value is more than this many standard deviations off are compressed by a logarithm."""
CLIP = 5.0


@dataclass(frozen=True)
class LightRanker:
    """Logistic regression of "any positive action" on standardised features."""

    names: tuple[str, ...]
    """the C features, in the order of `predict`'s last axis"""
    logged: tuple[bool, ...]
    """which are compressed to sign(x)·ln(1+|x|) first"""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: tuple[float, ...]
    """of the standardised features"""
    intercept: float
    auc: float = float("nan")
    """ROC-AUC on the rows it was fitted on"""

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Raw features float32[..., C] → probability of a positive action float32[...]."""
        z = standardise(np.asarray(values, np.float32), np.array(self.logged), self.mean, self.std)
        return sigmoid(z @ np.array(self.weights, np.float32) + np.float32(self.intercept))

    def save(self, path: str | os.PathLike) -> None:
        """Write as JSON, whole or not at all."""
        content = {"light_version": LIGHT_VERSION, **asdict(self)}
        write_bytes(path, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    @classmethod
    def load(cls, path: str | os.PathLike) -> LightRanker:
        """Read what `save` wrote; raises ArtifactError where the file is missing or damaged."""
        hint = "use another run (`recsys runs list`, `recsys runs use ID`) or train again"
        try:
            content = orjson.loads(Path(path).read_bytes())
            version = content.pop("light_version")
            if version != LIGHT_VERSION:
                raise ArtifactError(f"{path} is of version {version}, this program reads {LIGHT_VERSION}", hint)
            columns = {k: tuple(content.pop(k)) for k in ("names", "logged", "mean", "std", "weights")}
            if len({len(c) for c in columns.values()}) != 1:
                raise ValueError("its lists differ in length")
            auc = content.pop("auc")  # NaN is null in JSON
            return cls(**columns, **content, auc=float("nan") if auc is None else auc)
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}", hint) from None
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path} is not a light ranker: {error}", hint) from None


def standardise(values: np.ndarray, logged: np.ndarray, mean, std) -> np.ndarray:
    """Raw float32[..., C] → compressed where `logged`, standardised and clipped to ±CLIP."""
    z = values.copy()
    long_tails = np.flatnonzero(logged)
    if len(long_tails):
        # logarithms are dear: of these columns only
        raw = values[..., long_tails]
        z[..., long_tails] = np.copysign(np.log1p(np.abs(raw)), raw)
    z -= np.asarray(mean, np.float32)
    z /= np.asarray(std, np.float32)
    return np.clip(z, -CLIP, CLIP, out=z)


def fit_light(
    config: LightRankerConfig, table: FeatureTable, positive_actions: Collection[str] | None = None,
    start: LightRanker | None = None,
) -> LightRanker:
    """Fit on a training table; the target is any of `positive_actions` (by default all but the negative ones).

    Raises DataError where the table has none of the configured features, or where all rows or none are positive.
    """
    names = [name for name in config.features if name in table.names and name not in table.categories]
    if not names:
        raise DataError(
            "the light ranker has none of the features it may use",
            "name some that the dataset has in ranking.light.features",
        )
    actions = [a for a in table.labels if a not in NEGATIVE_ACTIONS] if positive_actions is None else positive_actions
    rows = slice(max(len(table) - config.max_rows, 0), None)
    target = np.zeros(len(table), bool)
    for action in actions:
        target |= table.labels.get(action, False)
    target = target[rows]
    if target.all() or not target.any():
        raise DataError(
            f"the light ranker has {len(target):,} training rows and {int(target.sum()):,} positive ones",
            "it needs rows with and without a positive action; widen the ranker's window",
        )
    x = table.values[rows][:, [table.names.index(name) for name in names]]
    return fit_linear(config, names, x, target, None if table.weight is None else table.weight[rows], start)


def fit_linear(
    config: LightRankerConfig, names: Sequence[str], x: np.ndarray, target: np.ndarray,
    weight: np.ndarray | None = None, start: LightRanker | None = None, group: np.ndarray | None = None,
) -> LightRanker:
    """Fit on raw features float32[n, C] and a target bool[n].

    group: int[n], rows of a user; with it features are taken as differences from the user's mean, so that weights are
    spent on the order within users alone.
    """
    check_finite(x, names)
    logged, mean, std = moments(x)
    z = standardise(x, logged, mean, std)
    if group is not None:
        count = np.maximum(np.bincount(group), 1)
        for j in range(z.shape[1]):
            z[:, j] -= (np.bincount(group, z[:, j]) / count)[group]
    design = np.column_stack([z, np.ones(len(z), np.float32)])
    penalty = np.full(design.shape[1], config.l2)
    penalty[-1] = 0
    beta = fit_logistic(
        design, target, penalty=penalty, weight=weight, max_iterations=config.max_iterations,
        start=light_start(start, names, logged, mean, std),
    )
    return LightRanker(
        tuple(names), tuple(logged.tolist()), tuple(mean.tolist()), tuple(std.tolist()), tuple(beta[:-1].tolist()),
        float(beta[-1]), roc_auc(target, design @ beta),
    )


def check_finite(values: np.ndarray, names) -> None:
    """Raises DataError naming the first column that holds NaN or infinite numbers, and how many."""
    for j, name in enumerate(names):
        bad = ~np.isfinite(values[:, j])
        if bad.any():
            raise DataError(
                f"feature {name!r} holds {int(bad.sum()):,} values that are NaN or infinite in {len(bad):,} rows, "
                f"the first in row {int(bad.argmax())}",
                "features must be finite: check the dataset's column behind it with `recsys data validate`",
            )


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per column: whether its tail calls for a logarithm bool[C], and mean and standard deviation float32[C] after it.

    A constant column gets the standard deviation 1, so that it enters as 0.
    """
    n = values.shape[1]
    logged, mean, std = np.zeros(n, bool), np.zeros(n, np.float32), np.ones(n, np.float32)
    for j in range(n):
        column = values[:, j].astype(np.float64)
        spread = column.std()
        if spread > 0 and np.abs(column - column.mean()).max() > LOG_ABOVE * spread:
            logged[j] = True
            column = np.sign(column) * np.log1p(np.abs(column))
            spread = column.std()
        mean[j] = column.mean()
        if spread > 1e-6 * max(1.0, abs(mean[j])):
            std[j] = spread
    return logged, mean, std
