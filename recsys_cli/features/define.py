"""Which features a dataset gets: what every family defines for it, in one order of columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.errors import ConfigError
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.family import DatasetFacts, FeatureFamily
from recsys_cli.features.registry import all_families, family_of
from recsys_cli.features.spec import PLACES, Feature, FeatureSpec


def create_spec(config: FeatureConfig, catalogue: Catalogue, **given: Any) -> FeatureSpec:
    """The features that a dataset's columns allow. given: what else `DatasetFacts` holds, by name.

    Raises ConfigError where the settings do not fit the columns.
    """
    return spec_of(DatasetFacts(config, catalogue, **given), all_families().values())


def spec_of(facts: DatasetFacts, families: Iterable[FeatureFamily]) -> FeatureSpec:
    """The features that some families define."""
    by_name = {family.name: family for family in families}
    features = [replace(f, family=name) for name, family in by_name.items() for f in family.define(facts)]
    named = _distinct(features, {name for name, family in by_name.items() if family.named_by_columns})
    ordered = tuple(f for place in PLACES for f in named if f.place == place)
    return FeatureSpec(
        facts.config, ordered, tuple(facts.positive), tuple(facts.negative), len(facts.surfaces), len(facts.devices)
    )


def _distinct(features: list[Feature], by_columns: set[str]) -> list[Feature]:
    """The same features; one that is named by a column and bears the name of another becomes NAME_attribute."""
    own = [f.name for f in features if f.family not in by_columns]
    if len(set(own)) < len(own):
        name = next(n for n in own if own.count(n) > 1)
        told = " and ".join(dict.fromkeys(f.family for f in features if f.name == name))
        raise ConfigError(f"two features are named {name!r}, of {told}", "give one of them another name")
    taken, out = set(own), []
    for f in features:
        while f.family in by_columns and f.name in taken:
            f = replace(f, name=f"{f.name}_attribute")
        taken.add(f.name)
        out.append(f)
    return out


def confined(spec: FeatureSpec, catalogue: Catalogue) -> Catalogue:
    """The catalogue without the lists, texts, vectors and dates that no feature reads: they need not be served."""
    used: dict[str, set[str]] = {"user": set(), "item": set()}
    for f in spec.features:
        for side, name in family_of(f.family).columns(f):
            used[side].add(name)
    columns = {f"{side}_columns": getattr(catalogue, f"{side}_columns").only(names) for side, names in used.items()}
    return replace(catalogue, **columns)
