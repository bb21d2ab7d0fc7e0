"""Files and functions stay of a size that is read at once; there are no exceptions."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "recsys_cli"
FILE_LINES = 450
FUNCTION_LINES = 60


def long_functions(source: str) -> list[str]:
    """Functions and methods above the bound, decorators not counted, as "name: lines"."""
    found = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [(f.name, f.end_lineno - f.lineno + 1) for f in found]
    return [f"{name}: {lines} lines" for name, lines in lengths if lines > FUNCTION_LINES]


def test_a_function_of_one_line_more_is_found():
    lines = "".join(f"    x = {n}\n" for n in range(FUNCTION_LINES - 1))
    assert long_functions(f"class A:\n def short(self):\n{lines}") == []
    assert long_functions(f"class A:\n async def long(self):\n{lines}    y = 1\n") == ["long: 61 lines"]


def test_no_file_and_no_function_of_the_package_is_longer():
    files = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    assert files
    too_long = []
    for path, source in files.items():
        lines, name = source.count("\n"), path.relative_to(PACKAGE)
        too_long += [f"{name}: {lines} lines"] if lines > FILE_LINES else []
        too_long += [f"{name} {told}" for told in long_functions(source)]
    assert not too_long, "split by what they do: " + "; ".join(too_long)
