"""The families of features that there are: the toolkit's, those of installed packages, and those of a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from recsys_cli.errors import ArtifactError, ConfigError
from recsys_cli.features.families import FAMILIES
from recsys_cli.features.family import FeatureFamily

ENTRY_POINTS = "recsys.features"
"""Group of entry points by which an installed package adds families: each names a class or an instance of one."""
_BUILT_IN = {family.name: family for family in FAMILIES}
_registered: dict[str, FeatureFamily] = {}


def register(family: FeatureFamily) -> None:
    """Add a family for the rest of the process; raises ConfigError where its name is taken."""
    if family.name in all_families():
        raise ConfigError(f"there is a feature family {family.name!r} already", "give it another name")
    _registered[family.name] = family


@contextmanager
def registered(family: FeatureFamily) -> Iterator[None]:
    """A family that is there for the time of a `with` block, in place of another of its name if there is one."""
    before = dict(_registered)
    _registered[family.name] = family
    try:
        yield
    finally:
        _registered.clear()
        _registered.update(before)


def all_families() -> dict[str, FeatureFamily]:
    """Name → family, in the order of the columns: the toolkit's, those of installed packages, those registered."""
    return _BUILT_IN | _installed() | _registered


def family_of(name: str) -> FeatureFamily:
    """A family by name; raises ArtifactError where no installed package brings it."""
    found = _registered.get(name) or _BUILT_IN.get(name) or _installed().get(name)
    if found is None:
        raise ArtifactError(
            f"the features of this run are of the family {name!r}, which is not there",
            "install the package that brings it, or train again without",
        )
    return found


@cache
def _installed() -> dict[str, FeatureFamily]:
    from importlib.metadata import entry_points  # reading what is installed takes time that serving does not have

    out: dict[str, FeatureFamily] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        package = entry.dist.name if entry.dist else "?"
        try:
            found = entry.load()
            family = found() if isinstance(found, type) else found
        except Exception as error:
            raise ConfigError(
                f"feature family {entry.name!r} of the package {package} cannot be loaded: {error}",
                "update or uninstall the package",
            ) from error
        if not isinstance(family, FeatureFamily) or family.name in _BUILT_IN | out:
            raise ConfigError(
                f"entry point {entry.name!r} of the package {package} is no feature family of a new name",
                "update or uninstall the package",
            )
        out[family.name] = family
    return out
