"""What a family of features is: the one thing to write, in one file, to add features.

A family is asked five things: what it defines for a dataset, how it computes as of each row of a log, what it freezes
for serving, how it serves, and which arrays it keeps (those that it froze). `families/` holds those of the toolkit,
`registry` knows them and those of installed packages, `recsys_cli.testing.check_feature_family` proves that training
and serving agree on one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.features.as_of import AsOf, Past
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.dataset_columns import columns_of
from recsys_cli.features.history import View
from recsys_cli.features.keys import ItemKeys, configured_keys
from recsys_cli.features.request import FrozenFeatures, Request
from recsys_cli.features.spec import Column, Definitions, Feature, Features, FeatureSpec

__all__ = [
    "Arrays", "AsOf", "CountedFamily", "DatasetFacts", "FeatureFamily", "FrozenFeatures", "ItemKeys", "Past", "Request",
    "Served", "SnapshotInputs", "TimelessFamily", "Values", "View",
]

Values = Iterator[tuple[str, np.ndarray]]
"""(name of a feature, its values) one after the other"""
Served = Iterator[tuple[str | tuple[str, ...], np.ndarray]]
"""Likewise, or names of several features and their values"""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset offers to the definitions of features."""

    config: FeatureConfig
    catalogue: Catalogue
    positive: Sequence[str]
    """actions of the log"""
    negative: Sequence[str] = ()
    """likewise"""
    has_dwell: bool = False
    """the log tells how long items were looked at"""
    surfaces: Sequence[str] = ()
    """names of their codes, empty where the log has none"""
    devices: Sequence[str] = ()
    """likewise"""
    similarities: Sequence[str] = ()
    """names of the retrievers that score pairs"""
    context: Mapping[str, np.ndarray] = field(default_factory=dict)
    """further columns of the log, as `Log.context` has them"""

    @cached_property
    def keys(self) -> list[str]:
        """What impressions are counted over, see `keys.KEYS`; parents first."""
        return configured_keys(self.config, self.catalogue, self.surfaces)

    @cached_property
    def columns(self) -> list[Column]:
        """Columns of users and items that become features."""
        return columns_of(self.config, self.catalogue)


class SnapshotInputs:
    """What a snapshot is made of: the log strictly before a moment."""

    def __init__(self, past: Past, now: int, compute: Callable[..., np.ndarray]):
        """now: µs. compute: (features, n, **codes) → float32[n, F]"""
        self.past, self.now, self._compute = past, now, compute

    def values(self, features: Sequence[Feature], side: str, n: int) -> np.ndarray:
        """float32[n + 1, F]: features of every user, item or surface (`side`) now; the last row is the unknown one."""
        who = np.append(np.arange(n, dtype=np.int32), np.int32(-1))
        return self._compute(features, n + 1, **{side: who})

    @cached_property
    def users(self) -> View:
        """What every user did so far; the last row is the unknown user."""
        return self.past.users_at(self.now)


class FeatureFamily(ABC):
    """Features that belong together."""

    name: ClassVar[str]
    """Unique among families; a bundle remembers it."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Families whose features or arrays this one reads."""
    named_by_columns: ClassVar[bool] = False
    """Its features bear names of the dataset's columns and give way where such a name is taken."""

    @abstractmethod
    def define(self, facts: DatasetFacts) -> Definitions:
        """The features that a dataset gets, none where it lacks what they need.

        Raises ConfigError where settings do not fit the dataset.
        """

    @abstractmethod
    def compute(self, features: Features, rows: AsOf) -> Values:
        """(name, [n]) of features as of each row, from what was known strictly before its moment."""

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        """Arrays that serving needs, by name; beside them a snapshot keeps what `compute` gives for every user and
        item now."""
        return {}

    def prepare(self, features: Features, frozen: FrozenFeatures) -> Any:
        """What `serve` holds for one choice of features, made once for many requests: what `freeze` gave, unless a
        family makes more of it."""
        return frozen.arrays.get(self.name, {})

    def serve(self, features: Features, request: Request, held: Any) -> Served:
        """(name, values) of features for a batch of B requests of K items.

        Features of users or items may be left to the snapshot, which serves what `compute` gave; those of requests
        and pairs must be given. Values: [B] for features of users and requests, [B, K] for those of items and pairs,
        or what broadcasts to it; several features at once have a last axis over them. features: those asked for.
        held: what `prepare` gave.
        """
        yield from ()

    def moves(self, feature: Feature) -> bool:
        """Whether `serve` may give this feature of items in place of what the snapshot keeps of it: of all others,
        rankers keep what follows from an item until the snapshot changes."""
        return type(self).serve is not FeatureFamily.serve

    def columns(self, feature: Feature) -> Iterable[tuple[str, str]]:
        """(user or item, name) of lists, texts, vectors and dates of the catalogue that a feature reads."""
        return ()


class CountedFamily(FeatureFamily):
    """Features that are counted over keys (`Feature.key`): asked one key after the other, which share a view.

    For keys of pairs a snapshot keeps the counters of every pair that occurred.
    """

    def counters(self, features: Features, view: View, inputs: SnapshotInputs, users: np.ndarray) -> Arrays:
        """Counters of every pair of one key that serving needs, [m] each: "shown", an action, …, or "since_…" for
        moments (int64 µs, 0 never). Families of one key share counters of one name.

        view: of all pairs that occurred, now. users: int64[m], the first part of each key.
        """
        return {}


class TimelessFamily(FeatureFamily):
    """Features that need no log: what is read from the catalogue, the same at every moment.

    Training and serving read the same arrays with the same function. Features of users or items are served by the
    snapshot, those of pairs by `values`.
    """

    @abstractmethod
    def tables(self, features: Features, past: Past) -> Arrays:
        """Arrays that the values are read from, made once for all features of the family."""

    def held(self, spec: FeatureSpec, arrays: Arrays) -> Any:
        """What `values` reads; the arrays, unless a family makes more of them."""
        return arrays

    @abstractmethod
    def values(self, features: Features, held: Any, keys: ItemKeys, users: np.ndarray, items: np.ndarray) -> Values:
        """(name, values) for users and items of shapes that broadcast; -1 is unknown."""

    def _tables(self, past: Past) -> Arrays:
        return past.once(f"tables of {self.name}", lambda: self.tables(past.spec.of_family(self.name), past))

    def compute(self, features: Features, rows: AsOf) -> Values:
        past = rows.past
        held = past.once(f"held by {self.name}", lambda: self.held(past.spec, self._tables(past)))
        yield from self.values(features, held, past.keys, rows.user, rows.item)

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        return self._tables(inputs.past)

    def prepare(self, features: Features, frozen: FrozenFeatures) -> Any:
        return self.held(frozen.spec, frozen.arrays[self.name])

    def moves(self, feature: Feature) -> bool:
        return type(self).serve is not TimelessFamily.serve

    def serve(self, features: Features, request: Request, held: Any) -> Served:
        pairs = [f for f in features if f.place == "pair"]
        yield from self.values(pairs, held, request.frozen.keys, request.users[:, None], request.items)
