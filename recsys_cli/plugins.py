"""What installed packages add to a registry, by the entry points of a group."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from recsys_cli.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

T = TypeVar("T")


@functools.cache
def _entry_points() -> tuple[tuple[str, EntryPoint], ...]:
    """(package, entry point) of every group of this program, by package and name."""
    found: dict[tuple[str, str, str], EntryPoint] = {}
    for package in _packages():
        for point in package.entry_points:
            found.setdefault((package.name, point.group, point.name), point)
    return tuple((package, point) for (package, _, _), point in sorted(found.items()))


def _packages() -> Iterator[Distribution]:
    """Installed packages with entry points of this program, in the order of the search path.

    Few have any: the files are looked at as they are, since to open and parse every package takes several times as
    long, and what does it is imported where one is found. What no folder holds, as an archive on the path, is asked for
    in the usual way.
    """
    for place in sys.path:
        try:
            names = sorted(os.listdir(place or "."))
        except NotADirectoryError:
            from importlib.metadata import distributions

            yield from (p for p in distributions(path=[place]) if "[recsys." in (p.read_text("entry_points.txt") or ""))
            continue
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                folder = os.path.join(place, name)
                try:
                    with open(os.path.join(folder, "entry_points.txt"), "rb") as handle:
                        mine = b"[recsys." in handle.read()
                except OSError:
                    continue
                if mine:
                    from importlib.metadata import Distribution

                    yield Distribution.at(folder)


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
