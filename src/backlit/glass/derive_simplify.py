"""A rule's formula as it stands for one node: what this call fixes is worked out, what it leaves open stays.

A loss rule knows weights, ignored labels and smoothing; a model without them should read ``(p - [y = c]) / N``. The
steps are those of school algebra and change no value: 1·x = x, x + 0 = x, a sum of ones is a count, a decided
condition is gone, and ``Sum(c, [y = c]·f(c)) = f(y)`` where the labels y lie among the values of c.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backlit.core.types import Shape
from backlit.rules import Rule
from backlit.rules._formula_eval import setting
from backlit.rules._formula_syntax import (
    bound_of,
    function_name,
    index_name,
    indices_of,
    is_over_index,
    subscripts,
)
from backlit.rules.formula import Formula, parse

_COMPARE: dict[type, Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True)
class Facts:
    """What is known of a call."""

    numbers: Mapping[str, Any]
    """Names that are this number everywhere: absent inputs, neutral attributes, ∂L/∂L = 1."""
    decides: Mapping[str, Any]
    """Scalars that decide conditions, but keep their name elsewhere: the mass of a batch."""
    axes: Mapping[str, Shape]
    """The axes that each starred index stands for."""


def simplified(formula: Formula, facts: Facts) -> Formula:
    """The same function of what is left open. Its value is that of ``formula`` wherever the facts hold."""
    work = _Simplifier(facts)
    left = ", ".join(i for i in formula.indices or () if not (i.startswith("*") and work.empty(i[1:])))
    right = ast.unparse(work.visit(copy.deepcopy(formula.expression)))
    return replace(parse(f"{formula.target}{f'[{left}]' if left else ''} = {right}"), others=formula.others)


def slope(formula: Formula, gradient: str) -> Formula:
    """F' of an elementwise rule: its gradient formula, which is linear in ``gradient``, with 1 put for that."""
    return simplified(formula, Facts({gradient: 1}, {}, {}))


class _Simplifier(ast.NodeTransformer):
    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def empty(self, letter: str) -> bool:
        """True for an index over no axes at all, which can be left out."""
        return self.facts.axes.get(letter) == ()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self.facts.numbers[node.id]) if node.id in self.facts.numbers else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        assert isinstance(node.value, ast.Name)
        if node.value.id in self.facts.numbers:
            return ast.Constant(setting(self.facts.numbers[node.value.id], subscripts(node)))
        kept = [self.visit(i) for i in subscripts(node) if not self._vanishes(i)]
        if not kept:
            return node.value
        return ast.Subscript(node.value, kept[0] if len(kept) == 1 else ast.Tuple(kept))

    def _vanishes(self, item: ast.expr) -> bool:
        return isinstance(item, ast.Starred) and self.empty(index_name(item))

    def visit_Starred(self, node: ast.Starred) -> ast.Starred:
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if not is_over_index(node):
            node.args = [self.visit(a) for a in node.args]
            return ast.Constant(0) if _is_first_of_one(node) else node
        letters = [self._bounded(i) for i in indices_of(node) if not self.empty(index_name(i))]
        name = function_name(node)
        body = None if name == "Count" else self.visit(node.args[-1])
        if not letters:
            return ast.Constant(1) if body is None else body
        if name in ("Sum", "Mean") and body is not None and _is(body, 0):
            return ast.Constant(0)
        return _sum(letters, body) if name == "Sum" and body is not None else _over(name, letters, body)

    def _bounded(self, index: ast.expr) -> ast.expr:
        bound = bound_of(index)
        return index if bound is None else ast.Compare(ast.Name(index_name(index)), [ast.Lt()], [self.visit(bound)])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        node.operand = self.visit(node.operand)
        return node.operand if _is(node.operand, 0) and isinstance(node.op, ast.USub) else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        node.left, node.right = self.visit(node.left), self.visit(node.right)
        return _folded(node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        node.left, node.comparators = self.visit(node.left), [self.visit(c) for c in node.comparators]
        if len(node.ops) != 1:
            return node
        (op,), (right,) = node.ops, node.comparators
        if isinstance(node.left, ast.Constant) and isinstance(right, ast.Constant):
            return ast.Constant(int(_COMPARE[type(op)](node.left.value, right.value)))
        absent = isinstance(right, ast.Constant) and right.value is None
        return ast.Constant(int(isinstance(op, ast.NotEq))) if absent else node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        values, deciding = [self.visit(v) for v in node.values], isinstance(node.op, ast.Or)
        known = [bool(v.value) for v in values if isinstance(v, ast.Constant)]
        left = [v for v in values if not isinstance(v, ast.Constant)]
        if deciding in known or not left:
            return ast.Constant(int(deciding if deciding in known else not deciding))
        return left[0] if len(left) == 1 else ast.BoolOp(node.op, left)

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        test = self.visit(_Deciding(self.facts.decides).visit(copy.deepcopy(node.test)))
        if isinstance(test, ast.Constant):
            return self.visit(node.body if test.value else node.orelse)  # type: ignore[no-any-return]
        node.test, node.body, node.orelse = self.visit(node.test), self.visit(node.body), self.visit(node.orelse)
        return node


class _Deciding(ast.NodeTransformer):
    def __init__(self, numbers: Mapping[str, Any]) -> None:
        self.numbers = numbers

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(float(self.numbers[node.id])) if node.id in self.numbers else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """A scalar may carry an index over no axes."""
        bare = isinstance(node.value, ast.Name) and node.value.id in self.numbers
        return self.visit(node.value) if bare else self.generic_visit(node)


def _is_first_of_one(node: ast.Call) -> bool:
    """True for ``floor(c / Count(c))``: an index is smaller than how many there are."""
    return function_name(node) == "floor" and ast.unparse(node.args[0]) in {
        f"{n.id} / Count({n.id})" for n in ast.walk(node) if isinstance(n, ast.Name)
    }


def _is(node: ast.expr, number: float) -> bool:
    return isinstance(node, ast.Constant) and node.value is not None and node.value == number


def _folded(node: ast.BinOp) -> ast.expr:
    """The node without a 0 or a 1 that does nothing."""
    left, right, op = node.left, node.right, type(node.op)
    if op is ast.Div and _is_share(left):
        return _one_fraction(left, right)
    if op is ast.Mult and (_is(left, 0) or _is(right, 0)):
        return ast.Constant(0)
    if op is ast.Div and _is(left, 0):
        return ast.Constant(0)
    if (op in (ast.Mult, ast.Div, ast.Pow) and _is(right, 1)) or (op in (ast.Add, ast.Sub) and _is(right, 0)):
        return left
    if (op is ast.Mult and _is(left, 1)) or (op is ast.Add and _is(left, 0)):
        return right
    return ast.UnaryOp(ast.USub(), right) if op is ast.Sub and _is(left, 0) else node


def _is_share(node: ast.expr) -> bool:
    """True for ``a / b * c``."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and _is_ratio(node.left)


def _is_ratio(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)


def _one_fraction(share: Any, by: ast.expr) -> ast.expr:
    """``a / b * c / d`` as ``a * c / (b * d)``."""
    above = _folded(ast.BinOp(share.left.left, ast.Mult(), share.right))
    below = _folded(ast.BinOp(share.left.right, ast.Mult(), by))
    return _folded(ast.BinOp(above, ast.Div(), below))


def _over(name: str, letters: list[ast.expr], body: ast.expr | None) -> ast.Call:
    return ast.Call(ast.Name(name), [*letters, *([] if body is None else [body])], [])


def _sum(letters: list[ast.expr], body: ast.expr) -> ast.expr:
    if _is(body, 1):
        return _over("Count", letters, None)
    if len(letters) == 1 and (found := _sifted(index_name(letters[0]), body)) is not None:
        return found
    return _over("Sum", letters, body)


def _sifted(letter: str, body: ast.expr) -> ast.expr | None:
    """``f(y)`` for the sum of ``[y = c]·f(c)`` over c; None for any other sum."""
    factors = [body.left, body.right] if isinstance(body, ast.BinOp) and isinstance(body.op, ast.Mult) else [body]
    for factor in factors:
        if (where := _marked(letter, factor)) is not None:
            rest = [f for f in factors if f is not factor]
            return _Substitution(letter, where).visit(rest[0]) if rest else ast.Constant(1)
    return None


def _marked(letter: str, node: ast.expr) -> ast.expr | None:
    """y, where the node is ``[y = c]`` and y does not depend on c."""
    if not (isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq)):
        return None
    mark, index = node.left, node.comparators[0]
    free = not any(isinstance(n, ast.Name) and n.id == letter for n in ast.walk(mark))
    return (
        mark
        if isinstance(mark, ast.Subscript) and isinstance(index, ast.Name) and index.id == letter and free
        else None
    )


class _Substitution(ast.NodeTransformer):
    def __init__(self, letter: str, by: ast.expr) -> None:
        self.letter, self.by = letter, by

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A function over an index of the same letter means its own."""
        own = is_over_index(node) and self.letter in map(index_name, indices_of(node))
        return node if own else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self.by) if node.id == self.letter else node


def facts(rule: Rule, arrays: Mapping[str, Any], known: Mapping[str, float]) -> Facts:
    """Besides the ``known`` numbers: absent inputs, neutral attributes, and the axes of starred indices."""
    numbers = dict(known) | {n: whole(v) for n, v in rule.absent.items() if _is_absent(arrays.get(n), v)}
    numbers |= {n: arrays[n] for n in rule.attributes if n != "axis" and _neutral(arrays[n])}
    numbers |= {d: 0 for o in rule.differentiated if isinstance(arrays.get(d := f"d{o}"), int)}  # none comes back
    decides = {
        n: a
        for n, a in arrays.items()
        if np.ndim(a) == 0 and not isinstance(a, str) and a is not None and n not in numbers
    }
    return Facts(numbers, decides, _axes(rule, arrays))


def _is_absent(given: Any, stands_for: float) -> bool:
    """True for None, and for the number that binding puts in its place."""
    return given is None or (not hasattr(given, "shape") and given == stands_for)


def whole(value: float) -> float:
    """A number that prints without a decimal point where it needs none."""
    return int(value) if float(value).is_integer() else value


def _neutral(value: Any) -> bool:
    """True for what is worked out: nothing, 0 and 1, words, and tuples, whose entries have no names."""
    return (
        value is None
        or isinstance(value, tuple | str)
        or (isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1))
    )


def _axes(rule: Rule, arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The axes of each starred index that stands for none."""
    if arrays.get("axis", ()) is None:
        return {"n": ()}
    found: dict[str, tuple[int, ...]] = {}
    for line in rule.formulas:
        formula = parse(line)
        for node in ast.walk(formula.expression):
            a: Any = (
                arrays.get(node.value.id)
                if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)
                else None
            )
            if isinstance(node, ast.Subscript) and hasattr(a, "shape"):
                items = subscripts(node)
                star = next((index_name(i) for i in items if isinstance(i, ast.Starred)), None)
                if star is not None and "axis" not in arrays and not formula.moves:
                    found[star] = max(found.get(star, ()), (1,) * (a.ndim - len(items) + 1))
    return {letter: axes for letter, axes in found.items() if axes == ()}
