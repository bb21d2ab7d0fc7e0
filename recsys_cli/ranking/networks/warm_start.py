"""A network that begins with the weights of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from recsys_cli.errors import ArtifactError
from recsys_cli.ranking.networks.config import HeavyNetworkConfig
from recsys_cli.ranking.networks.network import HeavyNetwork, InputSpec
from recsys_cli.ranking.warm_start import HINT, WarmStart

_TABLE = "input.embedding.weight"
_SHAPING = ("embedding_dim", "batch_norm", "dwell")
"""Settings of all networks that shape their weights."""


def earlier_input_spec(warm: WarmStart, fresh: InputSpec, names: Sequence[str]) -> InputSpec:
    """How columns enter the network: as they did then, so that the weights mean what they meant; codes as now.

    Raises ArtifactError where codes without names are of another number.
    """
    old = warm.heavy["spec"]
    if old["categorical"] != fresh.categorical:
        raise ArtifactError(f"run {warm.run} took other features as categories", HINT)
    for column, theirs, ours in zip(fresh.categorical, old["sizes"], fresh.sizes, strict=True):
        if theirs != ours and names[column] not in warm.before:
            raise ArtifactError(f"run {warm.run}: feature {names[column]} had {theirs} codes, it has {ours}", HINT)
    return replace(fresh, **{k: old[k] for k in ("numeric", "logged", "mean", "std")})


def earlier_weights(
    warm: WarmStart, config: HeavyNetworkConfig, blank: HeavyNetwork, spec: InputSpec, names: Sequence[str], number: int
) -> dict[str, torch.Tensor]:
    """State of network `number`: that of the run's, rows of embeddings moved to where their categories are now.

    A category that the run did not know starts as the unknown. Raises ArtifactError where the network has
    another shape, naming the settings that differ.
    """
    prefix = f"members.{number % warm.heavy['members']}."
    state = {k.removeprefix(prefix): v for k, v in warm.heavy["state"].items() if k.startswith(prefix)}
    wanted = blank.state_dict()
    if _TABLE in state and _TABLE in wanted:
        state[_TABLE] = state[_TABLE][_rows(warm, spec, names)].clone()
    # columns and sizes of the input layer are those of the spec, weights those of the run
    for key in ("input.categorical", "input.sizes", "input.offsets"):
        if key in wanted:
            state[key] = wanted[key]
    other = [k for k in state.keys() | wanted.keys()
             if k not in state or k not in wanted or state[k].shape != wanted[k].shape]
    if other:
        raise ArtifactError(
            f"the networks of run {warm.run} have another shape: {_settings(warm, config)}", HINT
        )
    return state


def _settings(warm: WarmStart, config: HeavyNetworkConfig) -> str:
    ours, theirs = config.model_dump(mode="json"), warm.heavy["config"]
    told = {k: f"{k} was {theirs.get(k)!r}, is {v!r}" for k, v in ours.items() if theirs.get(k) != v}
    # how it is trained shapes nothing, unless nothing else has changed
    own = [text for k, text in told.items() if k not in HeavyNetworkConfig.model_fields or k in _SHAPING]
    return ", ".join((own or list(told.values()))[:4]) or "they were built by another version of this program"


def _rows(warm: WarmStart, spec: InputSpec, names: Sequence[str]) -> np.ndarray:
    """Row of the run's embeddings for each row of now."""
    sizes = warm.heavy["spec"]["sizes"]
    starts = np.cumsum(sizes) - sizes
    rows = []
    for column, start, size, n in zip(spec.categorical, starts, sizes, spec.sizes, strict=True):
        codes = np.arange(n)
        if names[column] in warm.before:
            place = {name: i + 1 for i, name in enumerate(warm.before[names[column]])}
            told = warm.now.get(names[column], [])
            codes = np.array([place.get(told[c - 1], 0) if 0 < c <= len(told) else 0 for c in range(n)])
        rows.append(start + np.where(codes < size, codes, 0))
    return np.concatenate(rows)
