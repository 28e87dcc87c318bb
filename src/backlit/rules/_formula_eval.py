"""Evaluation of index formulas: plain loops over the indices, one number at a time.

It shares nothing with the rules' own functions, so it can be their judge.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from math import prod
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from backlit.core.types import Array, Shape
from backlit.rules._formula_syntax import (
    FormulaError,
    bound_of,
    function_name,
    index_name,
    indices_of,
    is_calculated,
    is_over_index,
    subscripts,
)

if TYPE_CHECKING:
    from backlit.rules.formula import Formula


@dataclass(frozen=True)
class Arithmetic:
    """What numbers are made with and calculated by; ``Arithmetic(mpmath.mpf, mpmath, object)`` gives any precision."""

    number: Any
    """Makes a number out of Python's."""

    functions: Any
    """Where exp, expm1, log, log1p, sqrt, sin, cos, tanh, erf and pi are found."""

    dtype: Any = object
    """Of the array that results are put in."""


FLOAT = Arithmetic(
    np.float64,
    SimpleNamespace(
        **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh")},
        erf=math.erf,
        pi=math.pi,
    ),
    np.float64,
)
"""float64, as NumPy calculates it."""


class BesideError(FormulaError):
    """A calculated index lies beside its array: the term that it stands in is left out."""


POSITION: list[ast.expr] = [ast.Starred(ast.Name("p"))]
BINARY: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
COMPARE: dict[type, Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
TRUTH = (ast.Compare, ast.BoolOp)
_PLAIN: dict[str, Any] = {"abs": abs, "max": max, "min": min}


class Evaluation(ast.NodeVisitor):
    """One formula with the numbers filled in. See :meth:`backlit.rules.formula.Formula.evaluate`."""

    def __init__(
        self,
        formula: Formula,
        arrays: Mapping[str, Any],
        attributes: Mapping[str, Any],
        shape: Shape,
        *,
        arithmetic: Arithmetic,
    ) -> None:
        self.formula, self.arithmetic, self.number = formula, arithmetic, arithmetic.number
        self.positions = np.arange(prod(shape)).reshape(shape)
        self.values = {formula.target: self.positions, **attributes, **arrays}  # a recursion reads its own target
        self.shape, self.views, self.env = shape, dict[ast.expr, Array](), dict[str, int]()
        self.at_last: tuple[int, ...] = ()
        self.rank = max(v.ndim for v in self.values.values() if hasattr(v, "ndim"))
        self.extents = self._extents((formula, *formula.others))
        self.extents |= self._bounds()
        self.items = _items(formula)
        self.entries = self._view(self.positions, self.items)
        if self.entries.size != prod(shape) and not formula.target.startswith("d"):
            raise FormulaError(f"{formula.source!r}: the right side has shape {self.entries.shape}, the target {shape}")

    def array(self) -> Array:
        """All entries of the target."""
        with np.errstate(all="ignore"):
            found = np.full(prod(self.shape), self.number(0), dtype=self.arithmetic.dtype)
            for place in np.ndindex(self.entries.shape):
                found[self.entries[place]] += self._value(place)
            return found.reshape(self.shape)

    def at(self, index: tuple[int, ...]) -> Any:
        """One entry of the target."""
        with np.errstate(all="ignore"):
            return sum((self._value(place) for place in self._places(index)), self.number(0))

    def terms(self, index: tuple[int, ...]) -> list[tuple[dict[str, Any], Any]]:
        """(values of the indices summed over, value) of the terms of one entry of the target."""
        places, found = self._places(index), []
        with np.errstate(all="ignore"):
            for place in places:
                self._enter(place)
                here = self._shown(self.env) if len(places) > 1 else {}
                found += [(here | self._shown(there), value) for there, value in self._terms(self.formula.expression)]
        return found

    # Places: where an index stands in an array.

    def _places(self, index: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [tuple(map(int, place)) for place in np.argwhere(self.entries == self.positions[index])]

    def _enter(self, place: tuple[int, ...]) -> None:
        self.env = {index_name(item): i for item, i in zip(self.items, place, strict=True)}

    def _value(self, place: tuple[int, ...]) -> Any:
        self._enter(place)
        return self.visit(self.formula.expression)

    def _shown(self, env: Mapping[str, int]) -> dict[str, Any]:
        at = {letter: tuple(map(int, np.unravel_index(i, self.extents[letter]))) for letter, i in env.items()}
        return {letter: i[0] if len(i) == 1 else i for letter, i in at.items()}

    def _extents(self, formulas: tuple[Formula, ...]) -> dict[str, Shape]:
        """The shape that each index runs over. A formula other than the first only adds indices that have none yet."""
        found: dict[str, Shape] = {}
        for formula in formulas:
            here: dict[str, Shape] = {}
            for items, array in self._references(formula):
                for letter, shape in self._runs(items, array):
                    here[letter] = self._common(letter, here.get(letter, shape), shape)
            found = here | found
        return found

    def _bounds(self) -> dict[str, Shape]:
        """How far the bounded indices run, from numbers that are the same everywhere."""
        items = (i for n in ast.walk(self.formula.expression) if _is_call_over_index(n) for i in indices_of(n))
        bounds = ((index_name(i), bound_of(i)) for i in items)
        return {letter: (int(self.visit(bound)),) for letter, bound in bounds if bound is not None}

    def _references(self, formula: Formula) -> Iterator[tuple[list[ast.expr], Array]]:
        named = [(_items(formula), formula.target)]
        named += [(subscripts(n), _name(n)) for n in ast.walk(formula.expression) if isinstance(n, ast.Subscript)]
        named += [(POSITION, name) for name in formula.names if formula.elementwise]
        for items, name in named:
            if hasattr(array := self.values.get(name), "shape"):
                yield items, array

    def _runs(self, items: list[ast.expr], array: Array) -> Iterator[tuple[str, Shape]]:
        shape = self._arranged(array).shape
        before, star, after = _split(shape, items)
        sizes = [(n,) for n in before] + ([star] if len(items) > len(before + after) else []) + [(n,) for n in after]
        return ((index_name(i), s) for i, s in zip(items, sizes, strict=True) if isinstance(i, (ast.Name, ast.Starred)))

    def _common(self, letter: str, one: Shape, other: Shape) -> Shape:
        if prod(one) == prod(other):
            return max(one, other, key=len)
        try:
            return np.broadcast_shapes(one, other)
        except ValueError:
            raise FormulaError(f"{self.formula.source!r}: index {letter} runs over both {one} and {other}") from None

    def _arranged(self, array: Array) -> Array:
        """The array with the axes of the attribute ``axis`` moved to the end as one; flat where the formula moves."""
        array = np.asarray(array)
        if self.formula.moves:
            return array.reshape(-1)
        if "axis" not in self.values or array.ndim < self.rank:
            return array
        axis = self.values["axis"]
        axes = range(array.ndim) if axis is None else np.atleast_1d(np.asarray(axis, dtype=int)) % max(array.ndim, 1)
        last = range(array.ndim - len(axes), array.ndim)
        moved = np.moveaxis(array, tuple(axes), tuple(last))
        kept = moved.shape[: array.ndim - len(axes)]
        return moved.reshape((*kept, prod(moved.shape[len(kept) :])))

    def _view(self, array: Array, items: list[ast.expr]) -> Array:
        """The array with one axis for each of ``items``: broadcast, and flattened, along the starred one."""
        array = self._arranged(array)
        before, star, after = _split(array.shape, items)
        plain = (i for i in items if not isinstance(i, ast.Starred))
        for item, size in zip(plain, before + after, strict=True):
            if isinstance(item, ast.Name) and size != (full := prod(self.extents[item.id])):
                raise FormulaError(f"{self.formula.source!r}: index {item.id} runs over both {size} and {full}")
        if len(items) == len(before + after):
            return array
        extent = self.extents[index_name(items[len(before)])]
        if prod(star) != prod(extent):
            array = array.reshape((*before, *(1,) * (len(extent) - len(star)), *star, *after))
            array = np.broadcast_to(array, (*before, *extent, *after))
        return array.reshape((*before, prod(extent), *after))

    # Values: one method for each kind of expression.

    def visit_Constant(self, node: ast.Constant) -> Any:
        return self._as_number(node.value)

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self.env:
            return self.number(self.env[node.id])
        value: Any = self.arithmetic.functions.pi if node.id == "pi" else self.values.get(node.id)
        if not hasattr(value, "shape"):
            return self._as_number(value)
        if self.formula.elementwise:
            return self._entry(node, value, POSITION)
        if value.size != 1:
            raise FormulaError(f"{self.formula.source!r}: {node.id} has shape {value.shape}, so it needs indices")
        return self.number(value.item())

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        value: Any = self.values[_name(node)]
        if hasattr(value, "shape"):
            return self._entry(node, value, subscripts(node))
        return self._as_number(setting(value, subscripts(node)))

    def visit_Call(self, node: ast.Call) -> Any:
        name = function_name(node)
        if is_over_index(node):
            return getattr(self, f"_over_{name.lower()}")(node)
        arguments = [self.visit(a) for a in node.args]
        function = _PLAIN.get(name) or getattr(self, f"_{name}", None) or getattr(self.arithmetic.functions, name)
        return function(*arguments)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        return self.visit(node.body if self.visit(node.test) else node.orelse)

    def visit_Compare(self, node: ast.Compare) -> Any:
        values = [self.visit(v) for v in (node.left, *node.comparators)]
        pairs = zip(node.ops, values[:-1], values[1:], strict=True)
        return self.number(all(COMPARE[type(op)](a, b) for op, a, b in pairs))

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        decide = all if isinstance(node.op, ast.And) else any
        return self.number(decide(self.visit(v) for v in node.values))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            return self.number(not value)
        return -value if isinstance(node.op, ast.USub) else value

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        left = self.visit(node.left)
        if isinstance(node.op, ast.Mult) and isinstance(node.left, TRUTH) and not left:
            return left
        return BINARY[type(node.op)](left, self.visit(node.right))

    def _as_number(self, value: Any) -> Any:
        return value if value is None or isinstance(value, str) else self.number(value)

    def _entry(self, node: ast.expr, array: Array, items: list[ast.expr]) -> Any:
        if node not in self.views:
            self.views[node] = self._view(array, items)
        at = self._at(items, self.views[node].shape)
        if any(i < 0 for i in at):
            raise FormulaError(f"{self.formula.source!r}: {ast.unparse(node)} at {list(at)}")
        self.at_last = at
        return self.number(self.views[node][at].item())

    def _at(self, items: list[ast.expr], shape: Shape) -> tuple[int, ...]:
        """Where the entry lies; BesideError where a calculated index is no whole number or not within ``shape``."""
        return tuple(self._place(i, n) for i, n in zip(items, shape, strict=True))

    def _place(self, item: ast.expr, size: int) -> int:
        if isinstance(item, (ast.Name, ast.Starred)):
            return self.env[index_name(item)]
        value = self.visit(item)
        at = int(value)
        if is_calculated(item) and not (value == at and 0 <= at < size):
            raise BesideError(f"{self.formula.source!r}: {ast.unparse(item)} = {value} of {size}")
        return at

    # Functions: those over an index, and those that the arithmetic does not bring.

    def _each(self, node: ast.Call) -> list[tuple[dict[str, int], Any]]:
        found = []
        for inside in self._inside(node):
            with suppress(BesideError):
                found.append((inside, self.visit(node.args[-1])))
        return found

    def _inside(self, node: ast.Call) -> Iterator[dict[str, int]]:
        """The values of the indices that a function runs over, each entered while it is given."""
        letters, outside = [index_name(i) for i in indices_of(node)], self.env
        for at in product(*(range(prod(self._extent(letter))) for letter in letters)):
            inside = dict(zip(letters, at, strict=True))
            self.env = outside | inside
            yield inside
        self.env = outside

    def _extent(self, letter: str) -> Shape:
        if letter not in self.extents:
            raise FormulaError(f"{self.formula.source!r}: no array tells how far index {letter} runs")
        return self.extents[letter]

    def _over_sum(self, node: ast.Call) -> Any:
        return sum((value for _, value in self._each(node)), self.number(0))

    def _over_prod(self, node: ast.Call) -> Any:
        return prod((value for _, value in self._each(node)), start=self.number(1))

    def _over_mean(self, node: ast.Call) -> Any:
        values = [value for _, value in self._each(node)]
        return sum(values, self.number(0)) / self.number(len(values))

    def _over_max(self, node: ast.Call) -> Any:
        return max(value for _, value in self._each(node))

    def _over_min(self, node: ast.Call) -> Any:
        return min(value for _, value in self._each(node))

    def _over_count(self, node: ast.Call) -> Any:
        return self.number(prod(prod(self._extent(index_name(i))) for i in indices_of(node)))

    def _sigmoid(self, x: Any) -> Any:
        return 1 / (1 + self.arithmetic.functions.exp(-x))

    def _sign(self, x: Any) -> Any:
        return self.number(int(x > 0) - int(x < 0))

    def _floor(self, x: Any) -> Any:
        return self.number(math.floor(x))

    def _source(self, position: Any) -> Any:
        return self.number(int(self.values["source"].reshape(-1)[int(position)]))

    # Terms: an outermost sum taken apart.

    def _terms(self, node: ast.expr) -> list[tuple[dict[str, int], Any]]:
        if not has_sum(node):
            return [({}, self.visit(node))]
        if isinstance(node, ast.IfExp):
            return self._terms(node.body if self.visit(node.test) else node.orelse)
        if isinstance(node, ast.UnaryOp):
            return [(at, -value) for at, value in self._terms(node.operand)]
        if isinstance(node, ast.BinOp):
            return self._terms_of_two(node)
        assert isinstance(node, ast.Call)
        found = self._each(node)
        whole = self.number(len(found)) if function_name(node) == "Mean" else 1
        return [(at, value / whole) for at, value in found]

    def _terms_of_two(self, node: ast.BinOp) -> list[tuple[dict[str, int], Any]]:
        if isinstance(node.op, ast.Add):
            return self._terms(node.left) + self._terms(node.right)
        if isinstance(node.op, ast.Sub):
            return self._terms(node.left) + [(at, -value) for at, value in self._terms(node.right)]
        summed, factor = summed_and_factor(node)
        by = self.visit(factor)
        return [(at, BINARY[type(node.op)](value, by)) for at, value in self._terms(summed)]


def summed_and_factor(node: ast.BinOp) -> tuple[ast.expr, ast.expr]:
    """Of a product or quotient with an outermost sum: (the side with the sum, what its terms are multiplied by)."""
    return (node.left, node.right) if has_sum(node.left) else (node.right, node.left)


def setting(value: Any, items: list[ast.expr]) -> Any:
    """``padding[0, 1]`` of an attribute that is a tuple; one that is a number is that, whatever its indices."""
    for item in items:
        if isinstance(value, tuple) and isinstance(item, ast.Constant) and isinstance(item.value, int):
            value = value[item.value]
    return value


def _is_call_over_index(node: ast.AST) -> TypeGuard[ast.Call]:
    return is_over_index(node)


def has_sum(node: ast.expr) -> bool:
    """True where the value is linear in an outermost Sum or Mean."""
    if isinstance(node, ast.Call):
        return function_name(node) in ("Sum", "Mean")
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and has_sum(node.operand)
    if isinstance(node, ast.IfExp):
        return has_sum(node.body) or has_sum(node.orelse)
    if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Pow):
        return has_sum(node.left) or (has_sum(node.right) and not isinstance(node.op, ast.Div))
    return False


def _items(formula: Formula) -> list[ast.expr]:
    """The indices of the target, as the expressions they are elsewhere."""
    if formula.elementwise:
        return POSITION
    return [ast.Starred(ast.Name(i[1:])) if i.startswith("*") else ast.Name(i) for i in formula.indices or ()]


def _name(node: ast.Subscript) -> str:
    assert isinstance(node.value, ast.Name)
    return node.value.id


def _split(shape: Shape, items: list[ast.expr]) -> tuple[Shape, Shape, Shape]:
    """The axes before, under and after the starred index; all are before where there is none."""
    star = next((k for k, item in enumerate(items) if isinstance(item, ast.Starred)), None)
    plain = len(items) - (star is not None)
    if len(shape) < plain or (star is None and len(shape) > plain):
        raise FormulaError(
            f"{plain} plain indices [{', '.join(map(ast.unparse, items))}] for an array of shape {shape}"
        )
    if star is None:
        return shape, (), ()
    after = len(shape) - (plain - star)
    return shape[:star], shape[star:after], shape[after:]
