"""The list of features of a dataset: what each is, means and is computed by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.schema import DAY, HOUR
from recsys_cli.features.config import FeatureConfig, Smoothing
from recsys_cli.features.families import CROSS, CROSSES, FAMILIES, family

PLACES = ("user", "context", "item", "pair")
"""Order of the columns: features of one place stand together."""


_WITH_INTERACTIONS = ("user", "author", "item", "topic", "user_author", "user_topic")
"""Families that also count interactions, whatever the actions of the dataset are called."""


@dataclass(frozen=True)
class Feature:
    """One column."""

    name: str
    group: str
    """user, author, item, pair or context"""
    place: str
    """Where it varies, see PLACES."""
    source: str
    """The family whose counters it reads, or what else it is taken from: attribute, created, social, session, …"""
    measure: str
    """What is read from the source: rate, shown, dwell, …"""
    meaning: str
    formula: str
    argument: str = ""
    """Action, attribute or similarity that it is about."""
    span: int = 0
    """Window or half-life in µs, or number of impressions."""
    codes: int = 0
    """Number of codes of a categorical feature, 0 for a numeric one."""

    @property
    def kind(self) -> str:
        return "categorical" if self.codes else "numeric"


@dataclass(frozen=True)
class FeatureSpec:
    """The features of one dataset, in the order of their columns."""

    config: FeatureConfig
    features: tuple[Feature, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    n_surfaces: int
    n_devices: int

    @classmethod
    def create(
        cls,
        config: FeatureConfig,
        catalogue: Catalogue,
        *,
        positive: Sequence[str],
        negative: Sequence[str],
        has_dwell: bool = False,
        surfaces: Sequence[str] = (),
        devices: Sequence[str] = (),
        similarities: Sequence[str] = (),
        context: Mapping[str, np.ndarray] | None = None,
    ) -> FeatureSpec:
        """The features that a dataset's columns allow.

        positive, negative: its actions. surfaces, devices: names of their codes, empty where the log has none.
        similarities: names of the retrievers whose scores become features of the pair. context: further columns of
        the log, as `Log.context` has them. Raises ConfigError where the settings do not fit the columns.
        """
        from recsys_cli.features.define import define

        actions = tuple(positive), tuple(negative)
        features = define(config, catalogue, *actions, has_dwell, surfaces, devices, similarities, context or {})
        ordered = tuple(f for place in PLACES for f in features if f.place == place)
        return cls(config, ordered, tuple(positive), tuple(negative), len(surfaces), len(devices))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.features)

    @cached_property
    def column(self) -> dict[str, int]:
        """Feature name → column."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def categories(self) -> dict[str, int]:
        """Categorical feature → number of codes."""
        return {f.name: f.codes for f in self.features if f.codes}

    @cached_property
    def similarities(self) -> tuple[str, ...]:
        return tuple(f.argument for f in self.features if f.source == "similarity")

    @cached_property
    def dims(self) -> dict[str, int]:
        """Column of users or items ("item.text") → numbers of its vector."""
        numbers = [f.argument for f in self.features if f.source == "vector" and f.measure == "number"]
        return {path: numbers.count(path) for path in dict.fromkeys(numbers)}

    @cached_property
    def context_columns(self) -> dict[str, str]:
        """Further column of impressions that a feature reads → "category" of named values, or "number"."""
        told = {f.argument.partition(".")[2]: f for f in self.features if f.source == "request" and "." in f.argument}
        return {name: "category" if f.measure == "category" else "number" for name, f in told.items()}

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Families in use, parents first."""
        used = {f.source for f in self.features}
        told = tuple(sorted(n for n in used if n.startswith("value_")))
        return tuple(n for n in FAMILIES if n in used) + told + tuple(sorted(n for n in used if CROSS in n))

    @cached_property
    def crosses(self) -> tuple[str, ...]:
        """Families that count over two things at once, as `features.crosses` names them."""
        return tuple(n for n in self.sources if CROSS in n)

    @cached_property
    def value_families(self) -> tuple[str, ...]:
        return tuple(n.removeprefix("value_") for n in self.sources if n.startswith("value_"))

    def place(self, place: str) -> slice:
        """Columns of one place."""
        at = [i for i, f in enumerate(self.features) if f.place == place]
        return slice(at[0], at[-1] + 1) if at else slice(0, 0)

    def parents(self, source: str) -> tuple[str, ...]:
        """The families in use whose log-odds add up to the prior of a family's rates."""
        return tuple(p for p in family(source).parents if p in self.sources)

    def strength(self, source: str) -> float:
        """Impressions that the prior of a family's rates is worth."""
        return strength_of(self.config.smoothing, source)

    def to_json(self) -> dict:
        return {
            "config": self.config.model_dump(mode="json"),
            "features": [asdict(f) for f in self.features],
            "positive": self.positive,
            "negative": self.negative,
            "n_surfaces": self.n_surfaces,
            "n_devices": self.n_devices,
        }

    @classmethod
    def from_json(cls, content: dict) -> FeatureSpec:
        return cls(
            FeatureConfig.model_validate(content["config"]),
            tuple(Feature(**f) for f in content["features"]),
            tuple(content["positive"]),
            tuple(content["negative"]),
            content["n_surfaces"],
            content["n_devices"],
        )


def strength_of(smoothing: Smoothing, source: str) -> float:
    """Impressions that the prior of a family's rates is worth."""
    return getattr(smoothing, "attribute" if source.startswith("value_") else "cross" if CROSS in source else source)


def actions_of(positive: Sequence[str], negative: Sequence[str], source: str) -> tuple[str, ...]:
    """Actions whose rates a family counts.

    "positive" and "negative" stand for any of them. Crosses and surfaces take the negative ones
    together only: they are rare.
    """
    several = ("negative",) if len(negative) > 1 else ()
    together = several or tuple(negative)
    out = (*positive, *together) if source in (*CROSSES, "surface") else (*positive, *negative, *several)
    return (*out, "positive") if source in _WITH_INTERACTIONS else out


def share_missing(values: np.ndarray) -> float:
    return float(np.mean(~np.isfinite(values))) if len(values) else 0.0


def transform_of(values: np.ndarray) -> str:
    """ "log1p" for non-negative numbers with a heavy tail (the 99th percentile over three medians), else "plain"."""
    values = values[np.isfinite(values)]
    if not len(values) or values.min() < 0:
        return "plain"
    middle, high = np.quantile(values, [0.5, 0.99])
    return "log1p" if high > max(10, 3 * middle) or high > 1000 else "plain"


def hours(spans: Iterable[float]) -> list[tuple[str, int]]:
    """(name, µs) of spans in hours: 1 → "1h", 24 → "1d"."""
    out = []
    for h in dict.fromkeys(spans):
        span = round(h * HOUR)
        out.append((f"{span // DAY}d" if span % DAY == 0 else f"{h:g}h", span))
    return out
