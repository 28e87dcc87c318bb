"""The syntax of index formulas: which Python expressions are formulas, and how their parts are taken apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator

OVER_INDEX = ("Sum", "Prod", "Mean", "Max", "Min", "Count")
"""Functions whose first arguments are the indices they run over."""

_ARGUMENTS = {"max": 2, "min": 2} | dict.fromkeys(
    ["exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "sigmoid", "erf", "abs", "sign", "floor", "source"],
    1,
)
_ALLOWED = (
    *(ast.Name, ast.Constant, ast.Call, ast.Subscript, ast.Starred, ast.Tuple, ast.Load),
    *(ast.IfExp, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.USub, ast.UAdd, ast.Not, ast.And, ast.Or),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


class FormulaError(ValueError):
    """A line that is not a formula, or a formula that does not fit the arrays."""


def target(node: ast.expr) -> tuple[str, tuple[str, ...] | None]:
    """The name on the left side and its indices, a starred one with its star; FormulaError where it is none."""
    if isinstance(node, ast.Name):
        return node.id, None
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        raise FormulaError("the target is a name, or a name with indices in brackets")
    return node.value.id, tuple(("*" if isinstance(e, ast.Starred) else "") + index_name(e) for e in subscripts(node))


def subscripts(node: ast.Subscript) -> list[ast.expr]:
    """What stands in the brackets."""
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def index_name(node: ast.expr) -> str:
    """The letter of an index, starred, bounded (``p < k``) or neither; FormulaError where it is none."""
    inner: ast.expr = node
    if isinstance(node, ast.Starred):
        inner = node.value
    elif isinstance(node, ast.Compare) and bound_of(node) is not None:
        inner = node.left
    if not isinstance(inner, ast.Name):
        raise FormulaError(f"{ast.unparse(node)} is not an index; write a letter, or *letter")
    return inner.id


def bound_of(node: ast.AST) -> ast.expr | None:
    """``k`` for the index ``p < k``, which runs from 0 to k - 1; None where the arrays tell how far an index runs."""
    if not isinstance(node, ast.Compare) or not isinstance(node.left, ast.Name) or len(node.ops) != 1:
        return None
    return node.comparators[0] if isinstance(node.ops[0], ast.Lt) else None


def is_calculated(item: ast.expr) -> bool:
    """True for an index that is calculated, such as ``i + p - 1``: it may lie beside its array."""
    return isinstance(item, ast.BinOp)


def is_setting(node: ast.Subscript) -> bool:
    """True for an entry of an attribute that is a tuple: ``stride[0]``, with numbers for indices."""
    return all(isinstance(i, ast.Constant) for i in subscripts(node))


def function_name(node: ast.Call) -> str:
    """What is called."""
    return node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)


def is_over_index(node: ast.AST) -> bool:
    """True for a call of Sum and its like."""
    return isinstance(node, ast.Call) and function_name(node) in OVER_INDEX


def check(node: ast.AST, bound: frozenset[str]) -> None:
    """Raise FormulaError at the first thing that cannot stand in a formula; ``bound`` indices have a value."""
    if not isinstance(node, _ALLOWED):
        raise FormulaError(f"{ast.unparse(node) or type(node).__name__} cannot stand in a formula")
    if isinstance(node, ast.Subscript):
        _check_subscript(node, bound)
    elif isinstance(node, ast.Call):
        _check_call(node, bound)
    else:
        for child in ast.iter_child_nodes(node):
            check(child, bound)


def _check_subscript(node: ast.Subscript, bound: frozenset[str]) -> None:
    if not isinstance(node.value, ast.Name):
        raise FormulaError(f"{ast.unparse(node)}: only a name can be indexed")
    items = subscripts(node)
    if sum(isinstance(e, ast.Starred) for e in items) > 1:
        raise FormulaError(f"{ast.unparse(node)}: at most one index can be starred")
    for item in items:
        if isinstance(item, (ast.Name, ast.Starred)) and (name := index_name(item)) not in bound:
            raise FormulaError(f"{ast.unparse(node)}: index {name} is neither on the left nor summed over")
        check(item, bound)


def _check_call(node: ast.Call, bound: frozenset[str]) -> None:
    name, given = function_name(node), len(node.args)
    if name in OVER_INDEX:
        indices = [index_name(i) for i in indices_of(node)]
        if node.keywords or not indices or (name != "Count" and given < 2):
            raise FormulaError(f"{ast.unparse(node)}: write {name}(index{'' if name == 'Count' else ', expression'})")
        for body in [*filter(None, map(bound_of, indices_of(node))), *node.args[len(indices) :]]:
            check(body, bound | {*indices})
    elif _ARGUMENTS.get(name) != given or node.keywords:
        known = f"is not a function of formulas; known are {', '.join((*OVER_INDEX, *_ARGUMENTS))}"
        wrong = f"takes {_ARGUMENTS[name]} argument(s), not {given}" if name in _ARGUMENTS else known
        raise FormulaError(f"{ast.unparse(node)}: {name} {wrong}")
    else:
        for argument in node.args:
            check(argument, bound)


def indices_of(node: ast.Call) -> list[ast.expr]:
    """The arguments of Sum and its like that are indices."""
    return node.args if function_name(node) == "Count" else node.args[:-1]


def free_names(node: ast.AST, bound: frozenset[str]) -> Iterator[str]:
    """Names of arrays and attributes in an expression; ``bound`` are the indices."""
    if isinstance(node, ast.Name):
        yield from {node.id} - bound - {"pi"}
    elif isinstance(node, ast.Call):
        inner = bound | {index_name(i) for i in indices_of(node)} if function_name(node) in OVER_INDEX else bound
        for argument in node.args:
            yield from free_names(argument, inner)
    else:
        for child in ast.iter_child_nodes(node):
            yield from free_names(child, bound)
