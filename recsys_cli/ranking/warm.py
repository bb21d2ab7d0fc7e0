"""Warm start: a ranker begins where the ranker of an earlier run ended, on newer rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import orjson

from recsys_cli.errors import ArtifactError
from recsys_cli.ranking.config import HeavyNetworkConfig

if TYPE_CHECKING:
    import torch

    from recsys_cli.features.table import FeatureTable
    from recsys_cli.ranking.config import HeavyConfig
    from recsys_cli.ranking.light import LightRanker
    from recsys_cli.ranking.networks import HeavyNetwork, InputSpec

HINT = "train without --warm-start, or bring back what the run was trained with"
_TABLE = "input.embedding.weight"
_SHAPING = ("embedding_dim", "batch_norm", "dwell")


@dataclass(frozen=True)
class WarmStart:
    """What an earlier run leaves to the rankers that begin with it."""

    run: str
    """its id"""
    heavy: dict
    """its checkpoint `heavy.pt`"""
    light: LightRanker | None
    before: dict[str, list[str]] = field(default_factory=dict)
    """categorical feature → names of its codes 1, 2, … then; features of other codes are left out"""
    now: dict[str, list[str]] = field(default_factory=dict)
    """the same in the data that is trained on"""

    @property
    def digest(self) -> str:
        """Of everything that a training takes over."""
        text = orjson.dumps([self.run, self.before, self.now], option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def part(self, name: str) -> WarmStart:
        """What the network or the trees of an ensemble begin with."""
        return replace(self, heavy=self.heavy["parts"][name])

    def check_kind(self, config: HeavyConfig) -> None:
        """Raises ArtifactError where the run's ranker is of another kind: known before anything is fitted."""
        theirs = self.heavy["config"]["kind"]
        if theirs != config.kind:
            raise ArtifactError(f"run {self.run} has a heavy ranker of kind {theirs}, this one is {config.kind}", HINT)

    def check(self, config: HeavyConfig, train: FeatureTable, tasks: Sequence[str]) -> None:
        """Raises ArtifactError naming the first difference of kind, features, tasks or codes."""
        self.check_kind(config)
        self._compare("features", self.heavy["names"], train.names)
        self._compare("tasks", self.heavy["tasks"], tasks)
        if config.kind in ("lightgbm", "lambdamart"):
            for name in sorted(self.before.keys() | self.now.keys()):
                if self.before.get(name) != self.now.get(name):
                    raise ArtifactError(
                        f"trees cannot go on from run {self.run}: the codes of {name} mean other values now "
                        f"({_change(self.before.get(name, ()), self.now.get(name, ()))})", HINT,
                    )

    def _compare(self, what: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
        if list(theirs) != list(ours):
            raise ArtifactError(f"run {self.run} was trained with other {what}: {_change(theirs, ours)}", HINT)

    def input_spec(self, fresh: InputSpec, names: Sequence[str]) -> InputSpec:
        """How columns enter the network: as they did then, so that the weights mean what they meant; codes as now.

        Raises ArtifactError where codes without names are of another number.
        """
        old = self.heavy["spec"]
        if old["categorical"] != fresh.categorical:
            raise ArtifactError(f"run {self.run} took other features as categories", HINT)
        for column, theirs, ours in zip(fresh.categorical, old["sizes"], fresh.sizes, strict=True):
            if theirs != ours and names[column] not in self.before:
                raise ArtifactError(f"run {self.run}: feature {names[column]} had {theirs} codes, it has {ours}", HINT)
        return replace(fresh, **{k: old[k] for k in ("numeric", "logged", "mean", "std")})

    def weights(
        self, config: HeavyConfig, blank: HeavyNetwork, spec: InputSpec, names: Sequence[str], number: int
    ) -> dict[str, torch.Tensor]:
        """State of network `number`: that of the run's, rows of embeddings moved to where their categories are now.

        A category that the run did not know starts as the unknown. Raises ArtifactError where the network has
        another shape, naming the settings that differ.
        """
        prefix = f"members.{number % self.heavy['members']}."
        state = {k.removeprefix(prefix): v for k, v in self.heavy["state"].items() if k.startswith(prefix)}
        wanted = blank.state_dict()
        if _TABLE in state and _TABLE in wanted:
            state[_TABLE] = state[_TABLE][self._rows(spec, names)].clone()
        # columns and sizes of the input layer are those of the spec, weights those of the run
        for key in ("input.categorical", "input.sizes", "input.offsets"):
            if key in wanted:
                state[key] = wanted[key]
        other = [k for k in state.keys() | wanted.keys()
                 if k not in state or k not in wanted or state[k].shape != wanted[k].shape]
        if other:
            raise ArtifactError(
                f"the networks of run {self.run} have another shape: {self._settings(config)}", HINT
            )
        return state

    def _settings(self, config: HeavyConfig) -> str:
        ours, theirs = config.model_dump(mode="json"), self.heavy["config"]
        told = {k: f"{k} was {theirs.get(k)!r}, is {v!r}" for k, v in ours.items() if theirs.get(k) != v}
        # how it is trained shapes nothing, unless nothing else has changed
        own = [text for k, text in told.items() if k not in HeavyNetworkConfig.model_fields or k in _SHAPING]
        return ", ".join((own or list(told.values()))[:4]) or "they were built by another version of this program"

    def _rows(self, spec: InputSpec, names: Sequence[str]) -> np.ndarray:
        """Row of the run's embeddings for each row of now."""
        sizes = self.heavy["spec"]["sizes"]
        starts = np.cumsum(sizes) - sizes
        rows = []
        for column, start, size, n in zip(spec.categorical, starts, sizes, spec.sizes, strict=True):
            codes = np.arange(n)
            if names[column] in self.before:
                place = {name: i + 1 for i, name in enumerate(self.before[names[column]])}
                told = self.now.get(names[column], [])
                codes = np.array([place.get(told[c - 1], 0) if 0 < c <= len(told) else 0 for c in range(n)])
            rows.append(start + np.where(codes < size, codes, 0))
        return np.concatenate(rows)


def _change(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """What went and what came, a few of each."""
    gone, new = [x for x in theirs if x not in set(ours)], [x for x in ours if x not in set(theirs)]
    parts = [
        f"{what} {', '.join(map(str, some[:3]))}{f' and {len(some) - 3} more' if len(some) > 3 else ''}"
        for what, some in (("it had", gone), ("it lacked", new)) if some
    ]
    return "; ".join(parts) or "the same in another order"


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

