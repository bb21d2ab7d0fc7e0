"""Whoever reads the evaluation finds every public part of it explained."""

import ast
from pathlib import Path

import recsys_cli.evaluation

DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def unexplained(node: ast.AST, name: str = "") -> list[str]:
    """Public classes, functions and methods without a docstring."""
    out = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DEFINITIONS) and not child.name.startswith("_"):
            if ast.get_docstring(child) is None:
                out.append(f"{name}{child.name}")
            if isinstance(child, ast.ClassDef):
                out += unexplained(child, f"{child.name}.")
    return out


def test_what_has_no_docstring_is_found():
    source = "class A:\n  def b(self): ...\n  def _c(self): ...\ndef d():\n  'told'\n  def e(): ...\n"
    assert unexplained(ast.parse(source)) == ["A", "A.b"]


def test_every_public_class_and_function_of_evaluation_has_a_docstring():
    folder = Path(recsys_cli.evaluation.__file__).parent
    found = {p.name: names for p in folder.rglob("*.py") if (names := unexplained(ast.parse(p.read_text("utf-8"))))}
    assert not found
