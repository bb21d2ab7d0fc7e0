"""Conditions compiled once to operations on columns: bool[B, K] for the candidates of a request."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import nearest
from recsys_cli.pipeline.rules.attributes import Attribute
from recsys_cli.pipeline.rules.syntax import TRUTHS, ConditionError, parse
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.features.context import Context

NUMERIC = ("number", "truth")
_COMPARE = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


@dataclass(frozen=True)
class Scope:
    """What a condition is asked of: candidates of a request, or a whole catalogue where `items` is None."""

    state: State
    context: Context | None = None
    users: np.ndarray | None = None
    """int32[B], -1 unknown"""
    items: np.ndarray | None = None
    """int32[B, K]"""

    @property
    def asked(self) -> np.ndarray:
        """`items` of a request."""
        if self.items is None:
            raise ValueError("this is asked of candidates, not of a whole catalogue")
        return self.items

    def of_users(self, values: np.ndarray, unknown: Any) -> np.ndarray:
        """[B, 1]: `values` of the users of a request."""
        if self.users is None:
            raise ValueError("this is asked of users, not of a whole catalogue")
        return np.where(self.users >= 0, values[self.users], unknown)[:, None]


@dataclass(frozen=True)
class Node:
    """A part of a condition: a kind, what it depends on, and how to work it out."""

    kind: str
    sides: frozenset[str]
    run: Callable[[Scope], Any]
    """→ an array that broadcasts to [B, K], or to [n_items] for a catalogue"""
    attribute: Attribute | None = None
    value: Any = None
    """of a constant"""


def compile_condition(text: str, attributes: dict[str, dict[str, Attribute]]) -> Node:
    """A condition as a node of kind "truth"; raises ConditionError for an attribute or value that is not there and
    for what is neither true nor false."""
    node = _Compiler(attributes).build(parse(text))
    if node.kind != "truth" or not node.sides:
        what = "always the same" if node.kind == "truth" else f"a {node.kind}, neither true nor false"
        raise ConditionError(f"{text!r} is {what}", "compare it with something, as in item.age_days < 7")
    return _kept(node)


def holds(node: Node, scope: Scope) -> np.ndarray:
    """bool[B, K]: where a compiled condition holds; what is unknown meets no comparison."""
    found = np.asarray(node.run(scope))
    return np.broadcast_to(_truth(found), scope.asked.shape) & (scope.asked >= 0)


def _truth(values: Any) -> np.ndarray:
    values = np.asarray(values)
    return values if values.dtype == bool else values > 0


def _kept(node: Node) -> Node:
    """The same, worked out for the whole catalogue once a state where it depends on items alone."""
    if node.sides != {"item"} or node.kind not in ("truth", "number"):
        return node
    column = PerState(lambda state: np.asarray(node.run(Scope(state))))

    def run(scope: Scope) -> np.ndarray:
        found = column(scope.state)
        return found if scope.items is None else found[scope.items]

    return Node(node.kind, node.sides, run)


class _Compiler:
    def __init__(self, attributes: dict[str, dict[str, Attribute]]):
        self._attributes = attributes

    def build(self, tree: ast.expr) -> Node:
        if isinstance(tree, ast.BoolOp):
            return self._logic(tree)
        if isinstance(tree, ast.UnaryOp):
            return self._unary(tree)
        if isinstance(tree, ast.BinOp):
            parts = [self._number(side) for side in (tree.left, tree.right)]
            return _joined("number", parts, _quiet(_ARITHMETIC[type(tree.op)]))
        if isinstance(tree, ast.Compare):
            return self._comparison(tree)
        if isinstance(tree, ast.Attribute):
            return self._attribute(tree)
        return self._constant(tree)

    def _logic(self, tree: ast.BoolOp) -> Node:
        every = isinstance(tree.op, ast.And)
        parts = [self._truth(value) for value in tree.values]
        if len({part.sides for part in parts}) > 1:  # only those of items alone are the same for every request
            parts = [_kept(part) for part in parts]

        def run(*values: Any) -> np.ndarray:
            out = _truth(values[0])
            for value in values[1:]:
                out = out & _truth(value) if every else out | _truth(value)
            return out

        return _joined("truth", parts, run)

    def _unary(self, tree: ast.UnaryOp) -> Node:
        if isinstance(tree.op, ast.Not):
            return _joined("truth", [self._truth(tree.operand)], lambda value: ~_truth(value))
        part = self._number(tree.operand)
        value = None if part.value is None else -part.value
        return Node("number", part.sides, lambda scope: -np.asarray(part.run(scope), np.float64), value=value)

    def _truth(self, tree: ast.expr) -> Node:
        node = self.build(tree)
        if node.kind != "truth":
            raise ConditionError(
                f"{ast.unparse(tree)!r} is a {node.kind}, neither true nor false", "compare it with something"
            )
        return node

    def _number(self, tree: ast.expr) -> Node:
        node = self.build(tree)
        if node.kind not in NUMERIC:
            raise ConditionError(f"{ast.unparse(tree)!r} is a {node.kind}, no number")
        return node

    def _constant(self, tree: ast.expr) -> Node:
        if isinstance(tree, ast.Name):
            value: Any = TRUTHS[tree.id]
        elif isinstance(tree, ast.List | ast.Tuple):
            parts = [self._constant(part) for part in tree.elts if isinstance(part, ast.Constant)]
            if len(parts) < len(tree.elts) or len({part.kind in NUMERIC for part in parts}) != 1:
                raise ConditionError(f"{ast.unparse(tree)!r} is no list of texts or of numbers")
            value = [part.value for part in parts]
            kind = "texts" if parts[0].kind == "text" else "numbers"
            return Node(kind, frozenset(), lambda scope: value, value=value)
        else:
            assert isinstance(tree, ast.Constant)  # `parse` lets nothing else pass
            value = tree.value
        kind = "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        return Node(kind, frozenset(), lambda scope: value, value=value)

    def _attribute(self, tree: ast.Attribute) -> Node:
        assert isinstance(tree.value, ast.Name)  # as `parse` sees to
        side, name = tree.value.id, tree.attr
        known = self._attributes[side]
        if name not in known:
            close = nearest(name, known)
            hint = f"did you mean {side}.{close}?" if close else f"there are: {', '.join(known)}"
            raise ConditionError(f"{side}s have no attribute {name!r}", hint)
        attribute = known[name]
        return Node(attribute.kind, frozenset({side}), _reader(side, attribute), attribute)

    def _comparison(self, tree: ast.Compare) -> Node:
        operands = [self.build(part) for part in (tree.left, *tree.comparators)]
        steps = zip(operands, tree.ops, operands[1:], strict=False)
        parts = [self._step(left, op, right, ast.unparse(tree)) for left, op, right in steps]
        if len(parts) == 1:
            return parts[0]
        return _joined("truth", parts, lambda *values: np.logical_and.reduce(np.broadcast_arrays(*values)))

    def _step(self, left: Node, op: ast.cmpop, right: Node, told: str) -> Node:
        if isinstance(op, ast.In | ast.NotIn):
            found = _membership(left, right, told)
            return found if isinstance(op, ast.In) else _joined("truth", [found], lambda value: ~value)
        kinds = {left.kind, right.kind}
        if kinds <= set(NUMERIC):
            return _joined("truth", [left, right], _compare(_COMPARE[type(op)], isinstance(op, ast.NotEq)))
        if kinds == {"text"} and isinstance(op, ast.Eq | ast.NotEq):
            return _same_text(left, right, isinstance(op, ast.NotEq), told)
        raise ConditionError(
            f"{told!r} compares a {left.kind} with a {right.kind} by {_SIGNS[type(op)]}",
            "texts can be == and !=, numbers anything, lists take in",
        )


def _reader(side: str, attribute: Attribute) -> Callable[[Scope], Any]:
    def run(scope: Scope) -> Any:
        column = attribute.column(scope.state, scope.context)
        if isinstance(column, Ragged):
            return column
        if side == "item":
            return column if scope.items is None else column[scope.items]
        if side == "user":
            unknown = np.nan if attribute.kind in NUMERIC else -1
            return scope.of_users(np.asarray(column), unknown)
        column = np.asarray(column)
        return column[:, None] if column.ndim else column

    return run


def _joined(kind: str, parts: list[Node], run: Callable[..., Any]) -> Node:
    sides = frozenset[str]().union(*(part.sides for part in parts))
    return Node(kind, sides, lambda scope: run(*(part.run(scope) for part in parts)))


def _quiet(call: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic in which a division by zero is unknown, as other numbers that there are not."""

    def run(left: Any, right: Any) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            out = call(np.asarray(left, np.float64), np.asarray(right, np.float64))
        return np.where(np.isfinite(out), out, np.nan)

    return run


def _compare(call: Callable[..., Any], unequal: bool) -> Callable[..., Any]:
    def run(left: Any, right: Any) -> np.ndarray:
        left, right = np.asarray(left, np.float32), np.asarray(right, np.float32)
        found = call(left, right)
        return found & ~(np.isnan(left) | np.isnan(right)) if unequal else found

    return run


def _code(attribute: Attribute, word: str, told: str) -> int:
    """Code of a text among those of an attribute."""
    code = attribute.code(word)
    if code is None:
        names = attribute.names or ()
        close = nearest(word, names)
        shown = f"there are: {', '.join(names[:20])}" if names else None
        hint = f"did you mean {close!r}?" if close else shown
        raise ConditionError(f"{told!r}: nothing is {word!r} in this data", hint)
    return code


def _same_text(left: Node, right: Node, unequal: bool, told: str) -> Node:
    if left.attribute is None:
        left, right = right, left
    if left.attribute is None:
        raise ConditionError(f"{told!r} compares two texts that are written out")
    if right.attribute is None:
        code = _code(left.attribute, right.value, told)
        run: Callable[..., Any] = lambda mine: (mine != code) & (mine >= 0) if unequal else mine == code  # noqa: E731
        return _joined("truth", [left], run)
    if left.attribute.names is None or right.attribute.names is None:
        raise ConditionError(f"{told!r} compares ids with each other", "compare an id with one that is written out")
    table = np.array([_or_unknown(left.attribute.code(name)) for name in right.attribute.names] + [-1])

    def compared(mine: Any, theirs: Any) -> np.ndarray:
        known = (np.asarray(mine) >= 0) & (np.asarray(theirs) >= 0)
        same = np.asarray(mine) == table[theirs]
        return known & (~same if unequal else same)

    return _joined("truth", [left, right], compared)


def _or_unknown(code: int | None) -> int:
    return -2 if code is None else code


def _membership(left: Node, right: Node, told: str) -> Node:
    if right.kind == "texts" and left.kind == "text" and left.attribute is not None:
        codes = np.array([_code(left.attribute, word, told) for word in right.value])
        return _joined("truth", [left], lambda mine: np.isin(mine, codes))
    if right.kind == "numbers" and left.kind in NUMERIC:
        numbers = np.array(right.value, np.float32)
        return _joined("truth", [left], lambda mine: np.isin(np.asarray(mine, np.float32), numbers))
    if right.kind == "list" and left.kind == "text" and left.attribute is None:
        assert right.attribute is not None  # lists are never written out
        return _in_list(right, _code(right.attribute, left.value, told))
    raise ConditionError(
        f"{told!r}: a {left.kind} in a {right.kind} says nothing",
        'write "word" in item.LIST, item.NAME in ["one", "other"] or user.NUMBER in [1, 2]',
    )


def _in_list(node: Node, code: int) -> Node:
    """Whether the lists of the items, or of the users, hold a code."""
    side = next(iter(node.sides))
    rows = PerState(lambda state: _rows_with(node.run(Scope(state)), code))

    def run(scope: Scope) -> np.ndarray:
        held = rows(scope.state)
        if side == "item":
            return held if scope.items is None else held[scope.items]
        return scope.of_users(held, False)

    return Node("truth", node.sides, run)


def _rows_with(lists: Ragged, code: int) -> np.ndarray:
    out = np.zeros(len(lists), bool)
    out[lists.rows[lists.values == code]] = True
    return out
