"""The list of features of a dataset: what each is, means and is computed by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from recsys_cli.errors import ArtifactError
from recsys_cli.features.config import Becomes, FeatureConfig, Smoothing
from recsys_cli.features.keys import CROSS, KEYS, VALUE, counting_key

PLACES = ("user", "context", "item", "pair")
"""Order of the columns: features of one place stand together."""
GROUPS = ("user", "author", "item", "pair", "context")


@dataclass(frozen=True)
class Feature:
    """One column: its definition."""

    name: str
    group: str
    """What it tells of, see GROUPS."""
    place: str
    """Where it varies, see PLACES."""
    measure: str
    """What is read: rate, shown, dwell, … Families tell their features apart by it."""
    meaning: str
    """In words, for people."""
    formula: str
    """How the number comes about, for people."""
    argument: str = ""
    """Action, column or retriever that it is about."""
    span: int = 0
    """Window or half-life in µs, or number of impressions."""
    codes: int = 0
    """Number of codes of a categorical feature, 0 for a numeric one."""
    key: str = ""
    """What it is counted over, see `keys.KEYS`; nothing where it is not counted."""
    unit: str = ""
    """What its numbers are in, see `readings.UNITS`; nothing where kind and formula tell."""
    family: str = ""
    """Name of the family that defines it; filled in by `define.create_spec`."""

    @property
    def kind(self) -> str:
        """categorical or numeric"""
        return "categorical" if self.codes else "numeric"

    @property
    def vocabulary(self) -> str:
        """Where `Catalogue.names` has the names of its codes: "surface", "item.language"."""
        return self.argument if self.place == "context" else f"{self.place}.{self.argument}"


Features = Sequence[Feature]
Definitions = Iterable[Feature]


@dataclass(frozen=True)
class Column:
    """One column of users or items, with what it becomes."""

    side: str
    """user or item"""
    name: str
    becomes: Becomes
    dims: int
    """numbers of the vector that is made of it; 0 for none"""
    compared_with: tuple[str, ...] | None
    """columns of items; None for those that hold the same"""

    @property
    def path(self) -> str:
        """Side and name: "item.text"."""
        return f"{self.side}.{self.name}"


@dataclass(frozen=True)
class FeatureSpec:
    """The features of one dataset, in the order of their columns; `define.create_spec` makes it."""

    config: FeatureConfig
    features: tuple[Feature, ...]
    positive: tuple[str, ...]
    """actions of the dataset"""
    negative: tuple[str, ...]
    """likewise"""
    n_surfaces: int
    n_devices: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the features, in the order of the columns."""
        return tuple(f.name for f in self.features)

    @cached_property
    def column(self) -> dict[str, int]:
        """Feature name → column."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def categories(self) -> dict[str, int]:
        """Categorical feature → number of codes."""
        return {f.name: f.codes for f in self.features if f.codes}

    def of_family(self, name: str) -> tuple[Feature, ...]:
        """The features of one family."""
        return tuple(f for f in self.features if f.family == name)

    @cached_property
    def similarities(self) -> tuple[str, ...]:
        """Retrievers whose scores are features."""
        return tuple(f.argument for f in self.of_family("similarity"))

    @cached_property
    def dims(self) -> dict[str, int]:
        """Column of users or items ("item.text") → numbers of its vector."""
        numbers = [f.argument for f in self.of_family("vectors") if f.measure == "number"]
        return {path: numbers.count(path) for path in dict.fromkeys(numbers)}

    @cached_property
    def context_columns(self) -> dict[str, str]:
        """Further column of impressions that a feature reads → "category" of named values, or "number"."""
        told = {f.argument.partition(".")[2]: f for f in self.of_family("request") if "." in f.argument}
        return {name: "category" if f.measure == "category" else "number" for name, f in told.items()}

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Counting keys in use, parents first."""
        used = {f.key for f in self.features}
        told = tuple(sorted(n for n in used if n.startswith(VALUE)))
        return tuple(n for n in KEYS if n in used) + told + self.crosses

    @cached_property
    def crosses(self) -> tuple[str, ...]:
        """Keys of two things at once, as `features.crosses` names them."""
        return tuple(sorted({f.key for f in self.features if CROSS in f.key}))

    def parents(self, key: str) -> tuple[str, ...]:
        """The keys in use whose log-odds add up to the prior of a key's rates."""
        return tuple(p for p in counting_key(key).parents if p in self.keys)

    def strength(self, key: str) -> float:
        """Impressions that the prior of a key's rates is worth."""
        return strength_of(self.config.smoothing, key)

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return {
            "config": self.config.model_dump(mode="json"), "features": [asdict(f) for f in self.features],
            "positive": self.positive, "negative": self.negative, "n_surfaces": self.n_surfaces,
            "n_devices": self.n_devices,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> FeatureSpec:
        """What `to_json` gave; raises ArtifactError for what another version of the program wrote."""
        known = Feature.__dataclass_fields__.keys()
        if any(f.keys() != known for f in content["features"]):
            raise ArtifactError("the run's features are those of another version of the program", "train again")
        return cls(
            FeatureConfig.model_validate(content["config"]),
            tuple(Feature(**f) for f in content["features"]),
            tuple(content["positive"]), tuple(content["negative"]), content["n_surfaces"], content["n_devices"],
        )


def strength_of(smoothing: Smoothing, key: str) -> float:
    """Impressions that the prior of a key's rates is worth."""
    return getattr(smoothing, "attribute" if key.startswith(VALUE) else "cross" if CROSS in key else key)
