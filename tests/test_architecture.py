"""Imports run down the floors that the page "architecture" draws, and none goes round in a circle.

Read from the source, so that imports within functions and imports of types alone count like any other. A registry that
names a function by a string (`ranking.kind.later`, entry points) imports nothing until it is asked, and is left out.
"""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "recsys_cli"
PAGE = PACKAGE / "docs" / "architecture.md"

TO_MEND: dict[tuple[str, str], str] = {
}
"""Imports that break the rules still, and why. Nothing is added; what is mended must go from here."""


def modules() -> dict[str, Path]:
    """Dotted name → file of every module of the package."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(source: str, known: set[str]) -> set[str]:
    """Those of the known modules that a source text imports, at the top or within, for types alone or not."""
    named = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            named |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
    out = set()
    for name in named:
        while name and name not in known:  # a name within a module
            name = name.rpartition(".")[0]
        out.add(name)
    return out - {""}


@cache
def edges() -> dict[str, frozenset[str]]:
    """Module → the modules that it imports."""
    known = modules()
    return {name: frozenset(imports_of(file.read_text(), set(known)) - {name}) for name, file in known.items()}


def drawn_floors(page: str) -> dict[str, int]:
    """Module or package → its floor, as the drawing has it; 0 for what stands apart."""
    floors, floor = {}, None
    for line in page.split("```text\n", 1)[1].split("```", 1)[0].splitlines():
        found = re.match(r"(?:floor (\d+)|\((apart)\)|)\s+(\S+(?:/|\.py))(?:\s|$)", line)
        if found:
            floor = int(found[1]) if found[1] else 0 if found[2] else floor
            name = found[3].removesuffix("/").removesuffix(".py").replace("/", ".")
            floors["recsys_cli" if name == "__init__" else f"recsys_cli.{name}"] = floor
    return floors


FLOORS = drawn_floors(PAGE.read_text())


def room_of(module: str) -> str:
    """The nearest place of the drawing that a module is in."""
    if module == "recsys_cli":
        return module
    while module and module not in FLOORS:
        module = module.rpartition(".")[0]
    return "" if module == "recsys_cli" else module


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def mended() -> dict[str, set[str]]:
    """The imports without those that are known to break the rules."""
    return {name: {other for other in others if (name, other) not in TO_MEND} for name, others in edges().items()}


def test_every_module_has_a_floor_and_every_place_of_the_drawing_exists():
    assert not [name for name in modules() if not room_of(name)]
    assert not set(FLOORS) - set(modules())
    assert sorted(set(FLOORS.values())) == [0, 1, 3, 4, 5, 6, 7, 8]


def test_no_import_goes_up_the_floors():
    up = [
        f"{name} → {other}" for name, others in mended().items() for other in sorted(others)
        if FLOORS[room_of(other)] > FLOORS[room_of(name)] and other != "recsys_cli"
    ]
    assert not up


def test_no_chain_of_imports_comes_back_to_where_it_began():
    assert not circle_in(mended())


def test_no_chain_of_imports_between_places_of_the_drawing_does_either():
    rooms: dict[str, set[str]] = {}
    for name, others in mended().items():
        rooms.setdefault(room_of(name), set()).update(room_of(other) for other in others)
    assert not circle_in({room: others - {room} for room, others in rooms.items()})


def test_what_is_mended_is_no_longer_listed():
    gone = [pair for pair in TO_MEND if pair[1] not in edges().get(pair[0], ())]
    assert not gone, "take them out of TO_MEND"


@pytest.mark.parametrize(
    "source",
    [
        "from recsys_cli.data.log import Log",
        "from recsys_cli.data import log",
        "import recsys_cli.data.log",
        "def f():\n    from recsys_cli.data.log import Log",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from recsys_cli.data.log import Log",
    ],
)
def test_imports_of_every_sort_are_read(source):
    assert imports_of(source, {"recsys_cli", "recsys_cli.data", "recsys_cli.data.log"}) == {"recsys_cli.data.log"}


def test_circles_are_found():
    assert set(circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
