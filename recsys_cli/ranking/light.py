"""The light ranker: a linear score over cheap features that cuts many candidates down to those worth the network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from recsys_cli.errors import ArtifactError
from recsys_cli.files import write_bytes
from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.light_config import LightRankerConfig
from recsys_cli.ranking.logistic import fit_logistic, sigmoid
from recsys_cli.ranking.standardise import CLIP, check_finite, moments, standardise

if TYPE_CHECKING:
    from recsys_cli.features.parts import FeatureParts

LIGHT_VERSION = 1


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
        logged, mean, std, weights = self._columns
        return sigmoid(standardise(np.asarray(values, np.float32), logged, mean, std) @ weights + self.intercept)

    def predict_parts(self, names: tuple[str, ...], values: np.ndarray, parts: FeatureParts | None) -> np.ndarray:
        """As `predict`, of features in parts: float32[B, K].

        names, values: features of the request and their values float32[len(names), B, K], which are overwritten. parts:
        all others; None where there are none.
        """
        logged, mean, std, weights = self._some(names)
        for j in logged.nonzero()[0]:
            values[j] = np.copysign(np.log1p(np.abs(values[j])), values[j])
        flat = values.reshape(len(names), -1)
        flat -= mean[:, None]
        flat /= std[:, None]
        np.clip(flat, -CLIP, CLIP, out=flat)
        score = (weights @ flat).reshape(values.shape[1:])
        if parts is not None:
            plan = parts.plan
            score += self._share(plan.pairs, parts.pairs)
            score += self._share(plan.head, parts.head)[:, None]
            kept = plan.of_items(self, 1, lambda of_items: self._share(plan.items, of_items)[:, None])
            score += kept.take(parts.items.reshape(-1)).reshape(score.shape)
        return sigmoid(score + np.float32(self.intercept))

    def _share(self, names: tuple[str, ...], values: np.ndarray) -> np.ndarray:
        """float32[...] what features float32[..., len(names)] add to the score."""
        logged, mean, std, weights = self._some(names)
        return standardise(values, logged, mean, std) @ weights

    def _some(self, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`_columns` of some of the features."""
        found = self._chosen.get(names)
        if found is None:
            at = [self.names.index(name) for name in names]
            found = self._chosen[names] = tuple(column[at] for column in self._columns)
        return found

    @cached_property
    def _chosen(self) -> dict[tuple[str, ...], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        return {}

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`logged`, `mean`, `std` and `weights` as arrays."""
        return np.array(self.logged), *(np.array(c, np.float32) for c in (self.mean, self.std, self.weights))

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


def light_start(previous: LightRanker | None, names: Sequence[str], logged, mean, std) -> np.ndarray | None:
    """float64[C + 1] coefficients and intercept at which Newton's method begins; None where there is nothing to take.

    The weights of the earlier ranker, moved to the moments of the rows that are fitted now. Features that it did not
    know, or compressed otherwise, begin at zero. The problem is convex: where one begins decides how many steps it
    takes, not where it ends.
    """
    if previous is None:
        return None
    held = {n: i for i, n in enumerate(previous.names)}
    out = np.zeros(len(names) + 1)
    out[-1] = previous.intercept
    for j, name in enumerate(names):
        i = held.get(name)
        if i is not None and previous.logged[i] == bool(logged[j]):
            slope = previous.weights[i] / previous.std[i]
            out[j] = slope * std[j]
            out[-1] += slope * (mean[j] - previous.mean[i])
    return out
