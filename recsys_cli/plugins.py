"""What installed packages add to a registry, by the entry points of a group."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, distributions
from typing import Any, TypeVar

from recsys_cli.errors import ConfigError

T = TypeVar("T")


@functools.cache
def _entry_points() -> tuple[tuple[str, EntryPoint], ...]:
    """(package, entry point) of every group of this program, by package and name."""
    found: dict[tuple[str, str, str], EntryPoint] = {}
    for package in distributions():
        text = package.read_text("entry_points.txt")
        if text and "[recsys." in text:  # few packages do, and parsing all takes longer than reading them
            for point in package.entry_points:
                found.setdefault((package.name, point.group, point.name), point)
    return tuple((package, point) for (package, _, _), point in sorted(found.items()))


def installed(group: str, known: Mapping[str, T], config_of: Callable[[Any], type | None]) -> dict[str, T]:
    """`kind` → what installed packages add under the entry points of a group.

    known: what is in the registry already. config_of: settings class of an entry, nothing for what is none. Raises
    ConfigError that names the package where it cannot be imported, is no such entry, or takes a kind twice.
    """
    out: dict[str, T] = {}
    for package, point in _entry_points():
        if point.group != group:
            continue
        where, hint = f"package {package} ({group}: {point.name} = {point.value})", "update or uninstall it"
        if point.name in known or point.name in out:
            raise ConfigError(f"{where}: there is a kind {point.name!r} already", hint)
        try:
            entry = point.load()
        except Exception as error:  # whatever somebody else's module raises
            raise ConfigError(f"{where} cannot be imported: {type(error).__name__}: {error}", hint) from None
        config = config_of(entry)
        if not config:
            raise ConfigError(f"{where} is nothing that can be registered there", hint)
        if config.model_fields["kind"].default != point.name:
            raise ConfigError(f"{where}: its settings are of kind {config.model_fields['kind'].default!r}", hint)
        out[point.name] = entry
    return out
