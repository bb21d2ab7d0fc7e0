"""What a feature table becomes before a network learns from it: how columns enter, weights of rows, groups, stages."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from recsys_cli.data.behaviour import Entities
from recsys_cli.data.schema import DAY
from recsys_cli.errors import DataError
from recsys_cli.features.table import FeatureTable
from recsys_cli.parallel import torch_seed
from recsys_cli.progress import Progress
from recsys_cli.ranking.networks.config import HeavyNetworkConfig
from recsys_cli.ranking.networks.network import InputLayer, InputSpec
from recsys_cli.ranking.serving.side_inputs import SideSpec
from recsys_cli.ranking.standardise import moments

MOMENT_ROWS = 500_000
"""Means and standard deviations of features are taken from about so many rows, evenly spread."""
PREPARED_VALUES = 2**28
"""Features of up to so many values (1 GiB) are normalised once and kept; those of more, batch by batch."""
PREPARE_ROWS = 65_536
MOST_PLACES = 100
"""Positions from here on count as one."""


@dataclass(frozen=True)
class TrainingRows:
    """Tensors of the training rows, on the device that trains."""

    features: torch.Tensor
    """float32[n, F], raw"""
    prepared: tuple[torch.Tensor, torch.Tensor | None] | None
    """what the input layer makes of them, where that fits into memory: numbers float32[n, N], codes int32[n, C]"""
    labels: torch.Tensor
    """float32[n, T]"""
    taught: torch.Tensor | None
    """float32[n, T] labels mixed with what a teacher says; None without one"""
    log_dwell: torch.Tensor | None
    """float32[n] ln(1+seconds), NaN unknown; None for no dwell head"""
    weight: torch.Tensor | None
    """float32[n], None for all one"""
    group: torch.Tensor | None = None
    """int64[n], equal for the rows of one request; None without a loss over requests"""
    place: torch.Tensor | None = None
    """int64[n] codes of position and surface; None without a position tower"""
    entities: Entities | None = None
    """who and what the rows are about; None where no network asks"""

    def __len__(self) -> int:
        return len(self.features)


def input_spec(train: FeatureTable) -> InputSpec:
    """How each column of a table enters the network, with the moments of its training rows."""
    numeric = [j for j, name in enumerate(train.names) if name not in train.categories]
    categorical = [j for j, name in enumerate(train.names) if name in train.categories]
    sample = train.values[:: max(len(train) // MOMENT_ROWS, 1)]
    logged, mean, std = moments(sample[:, numeric])
    order = np.argsort(logged, kind="stable")
    return InputSpec(
        np.array(numeric, np.int64)[order].tolist(), logged[order].tolist(), mean[order].tolist(), std[order].tolist(),
        categorical,
        [train.categories[train.names[j]] for j in categorical],
    )


def complete_spec(
    config: HeavyNetworkConfig, spec: InputSpec, train: FeatureTable, tasks: tuple[str, ...], progress: Progress
) -> InputSpec:
    """With what enters beside the features, as the configuration asks and the data allows.

    A position tower and ids of authors that the data cannot feed step aside, and this is said. Raises DataError
    where the table does not tell whose rows it holds and where the first stage has no head.
    """
    length = 0 if config.history == "none" else config.history_length
    if config.ids or length:
        if train.behaviour is None:
            raise DataError("the training rows do not tell whose they are", "leave out ids and history")
        ids = tuple(config.ids)
        if "author" in ids and not train.behaviour.catalogue.n_authors:
            progress.message("ranking.heavy.ids: items have no author here, their ids step aside")
            ids = tuple(i for i in ids if i != "author")
        if ids or length:
            spec = replace(spec, side=SideSpec.create(ids, length, train.behaviour))
    spec = replace(spec, behind=config.stages(train.labels, tasks))
    if config.position_bias == "tower":
        codes = place_codes(train)
        if codes is None:
            progress.message("ranking.heavy.position_bias: no position was logged, the position tower steps aside")
        else:
            spec = replace(spec, places=(np.bincount(codes) / len(codes)).tolist())
    return spec


def place_codes(table: FeatureTable) -> np.ndarray | None:
    """int64[n]: 0 where the position is unknown, else one code a position and surface; None without positions."""
    if table.position is None or not (table.position >= 0).any():
        return None
    position = np.minimum(table.position.astype(np.int64), MOST_PLACES - 1)
    surface = np.zeros(len(table), np.int64)
    if "surface" in table.categories:
        surface = table.values[:, table.names.index("surface")].astype(np.int64)
    return np.where(position >= 0, 1 + surface * MOST_PLACES + position, 0)


def row_weights(config: HeavyNetworkConfig, train: FeatureTable, progress: Progress) -> np.ndarray | None:
    """float32[n] of mean 1: the table's own weights, times recency and inverse propensity; None for all one."""
    weight = None if train.weight is None else train.weight.astype(np.float64)
    if config.half_life_days is not None:
        age = (train.time.max() - train.time) / DAY
        weight = (1.0 if weight is None else weight) * np.exp2(-age / config.half_life_days)
    if config.position_bias == "propensity":
        if train.propensity is None or not np.isfinite(train.propensity).any():
            progress.message("ranking.heavy.position_bias: no propensity was logged, rows weigh the same")
        else:
            known = np.isfinite(train.propensity)
            inverse = np.where(known, 1 / np.maximum(np.nan_to_num(train.propensity), config.propensity_floor), 0)
            inverse[~known] = inverse[known].mean()
            weight = (1.0 if weight is None else weight) * inverse
    return None if weight is None else (weight / max(weight.mean(), 1e-12)).astype(np.float32)


def groups(table: FeatureTable) -> np.ndarray:
    """int64[n] from 0: rows of one request, or of one user and moment where requests were not logged."""
    keys = (table.request,) if table.request is not None else (table.time, table.user)
    order = np.lexsort(keys)
    fresh = np.zeros(len(table), bool)
    for key in keys:
        fresh[1:] |= key[order][1:] != key[order][:-1]
    out = np.empty(len(table), np.int64)
    out[order] = np.cumsum(fresh)
    return out


def training_rows(
    config: HeavyNetworkConfig, spec: InputSpec, train: FeatureTable, tasks: tuple[str, ...], dwell: bool,
    device: torch.device, progress: Progress, teaching: np.ndarray | None = None,
) -> TrainingRows:
    """Tensors of the rows that a network learns from, on the device that trains.

    teaching: what a teacher says, probabilities [n, T].
    """

    def tensor(values: np.ndarray | None, dtype=np.float32) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(np.ascontiguousarray(values, dtype)).to(device)

    features, prepared = tensor(train.values), None
    if train.values.size <= PREPARED_VALUES:
        with torch_seed(0):  # its weights are drawn and never used
            layer = InputLayer(spec, config.embedding_dim, config.clip).to(device)
        parts = [layer.prepare(features[start : start + PREPARE_ROWS]) for start in range(0, len(train), PREPARE_ROWS)]
        numbers, codes = zip(*parts, strict=True)
        prepared = torch.cat(numbers), torch.cat(codes).to(torch.int32) if spec.categorical else None
    labels = np.stack([train.labels[task] for task in tasks], axis=1)
    taught = None if teaching is None else labels + np.float32(config.teacher_share) * (teaching - labels)
    log_dwell = np.log1p(np.maximum(train.dwell, 0)) if dwell else None
    return TrainingRows(
        features, prepared, tensor(labels), tensor(taught), tensor(log_dwell),
        tensor(row_weights(config, train, progress)),
        group=tensor(groups(train), np.int64) if config.listwise else None,
        place=tensor(place_codes(train), np.int64) if spec.places else None,
        entities=train.entities if spec.side is not None else None,
    )
