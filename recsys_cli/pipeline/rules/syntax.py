"""The grammar of conditions: a small part of Python's, read into its syntax tree and never run as a program."""

from __future__ import annotations

import ast

MAX_LENGTH, MAX_PARTS = 1000, 200
"""Characters and parts that a condition may have."""
_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add, ast.Sub, ast.Mult,
    ast.Div, ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.Attribute,
    ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple,
)
SIDES = ("item", "user", "request")
TRUTHS = {"true": True, "false": False}


class ConditionError(ValueError):
    """A condition that says nothing that could be decided."""

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


def parse(text: str) -> ast.expr:
    """The syntax tree of a condition; raises ConditionError for what does not end or goes beyond the grammar:
    and, or, not, comparisons, in, + − * /, item.NAME, user.NAME, request.NAME, numbers, texts and lists of them."""
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"a condition of {len(text):,} characters; {MAX_LENGTH:,} are allowed")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" at column {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        told = error.msg if isinstance(error, SyntaxError) else "too deep or not a text"
        raise ConditionError(f"{text!r} does not read as a condition{where}: {told}") from None
    parts = list(ast.walk(tree))
    if len(parts) > MAX_PARTS:
        raise ConditionError(f"a condition of {len(parts):,} parts; {MAX_PARTS} are allowed", "split it into rules")
    for part in parts:
        if not isinstance(part, _ALLOWED):
            what = ast.unparse(part) if isinstance(part, ast.expr) else type(part).__name__
            raise ConditionError(
                f"{what!r} has no place in a condition",
                "and, or, not, comparisons, in, + - * /, item.NAME, user.NAME, request.NAME, numbers, texts",
            )
        if isinstance(part, ast.Attribute) and not (isinstance(part.value, ast.Name) and part.value.id in SIDES):
            raise ConditionError(f"{ast.unparse(part)!r} is no attribute", "write item.NAME, user.NAME or request.NAME")
        if isinstance(part, ast.Constant) and not isinstance(part.value, bool | int | float | str):
            raise ConditionError(f"{part.value!r} is neither a number nor a text")
    named = {id(part.value) for part in parts if isinstance(part, ast.Attribute)}
    for part in parts:
        if isinstance(part, ast.Name) and id(part) not in named and part.id not in TRUTHS:
            hint = f"a text stands in quotes; attributes are written item.{part.id} or user.{part.id}"
            raise ConditionError(f"{part.id!r} says nothing", hint)
    return tree.body
