"""The terms of an entry's formula, all at once, and which entries of arrays each of them reads.

What :class:`backlit.rules._formula_eval.Evaluation` does number by number is done here on arrays with one axis for the
places of the entry in its formula and one more for every function over an index that is open. Where a branch does not
hold, or an index lies beside its array, is kept in masks.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backlit.core.types import Array, Shape
from backlit.rules._formula_eval import (
    BINARY,
    COMPARE,
    POSITION,
    TRUTH,
    BesideError,
    Evaluation,
    has_sum,
    summed_and_factor,
)
from backlit.rules._formula_syntax import (
    FormulaError,
    function_name,
    index_name,
    indices_of,
    is_calculated,
    is_over_index,
)


@dataclass(frozen=True)
class Read:
    """An array that terms read: for each the position in it, counted in a row, the value, and whether it does."""

    name: str
    shape: Shape
    places: Array
    values: Array
    there: Array

    def deeper(self) -> Read:
        """The same inside one more function over an index."""
        return self._each(lambda a: a[..., None] if a.ndim else a)

    def taken(self, at: Array) -> Read:
        """Of the last axis only the entries ``at``."""
        return self._each(lambda a: _taken(a, at))

    def _each(self, change: Callable[[Array], Array]) -> Read:
        return replace(self, places=change(self.places), values=change(self.values), there=change(self.there))


@dataclass(frozen=True)
class Block:
    """Terms of one kind: ``values[places, …]`` over the indices ``letters``, those ``there``, and what they read."""

    letters: Mapping[str, Array]
    values: Array
    there: Array
    reads: tuple[Read, ...]

    def resting_on(self, reads: list[Read]) -> Block:
        """The same where each term reads these too."""
        deep = self.values.ndim - 1
        return replace(self, reads=(*self.reads, *(r.deeper() if deep else r for r in reads)))


class Reading(Evaluation):
    """A formula whose terms are calculated together. An array inside has an axis for all that is open, or none."""

    grid: Shape = ()
    active: Array = np.ones((), bool)
    """Where the branch holds that is being calculated."""
    beside: Array = np.zeros((), bool)
    """Where an index was found to lie beside its array."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.axes, self.origins, self.reads = dict[str, Array](), dict[ast.expr, Array](), list[Read]()
        super().__init__(*given, **named)

    def blocks(self, index: tuple[int, ...]) -> list[Block]:
        """The terms of one entry of the target."""
        places = np.argwhere(self.entries == self.positions[index])
        self.grid = (len(places),)
        self.axes = {index_name(i): at for i, at in zip(self.items, places.T, strict=True)}
        self.here = dict(self.axes) if len(places) > 1 else {}
        self.active, self.beside = np.ones(self.grid, bool), np.zeros(self.grid, bool)
        with np.errstate(all="ignore"):
            found = self._blocks(self.formula.expression)
        if self.beside.any():
            raise BesideError(f"{self.formula.source!r}: an index lies beside its array")
        return found

    # Terms: an outermost sum taken apart.

    def _blocks(self, node: ast.expr) -> list[Block]:
        self.reads = []
        if isinstance(node, ast.IfExp):
            return self._chosen(node)
        if not has_sum(node):
            return [self._alone(node)]
        if isinstance(node, ast.UnaryOp):
            return [replace(b, values=-b.values) for b in self._blocks(node.operand)]
        if isinstance(node, ast.BinOp):
            return self._of_two(node)
        assert isinstance(node, ast.Call)
        letters, values, there, reads = self._inside(node)
        whole = np.sum(there, axis=-1, keepdims=True) if function_name(node) == "Mean" else 1
        return [Block(self.here | letters, values / whole, there, tuple(reads))]

    def _alone(self, node: ast.expr) -> Block:
        values = np.broadcast_to(self.visit(node), self.grid)
        return Block(self.here, values, self.active, tuple(self.reads))

    def _chosen(self, node: ast.IfExp) -> list[Block]:
        """The terms of the branch that holds, each resting on the condition too."""
        holds, condition, outer, found = self._truth(node.test), self.reads, self.active, list[Block]()
        for branch, chosen in ((node.body, holds), (node.orelse, ~holds)):
            if (outer & chosen).any():
                self.active = outer & chosen
                found += (b.resting_on(condition) for b in self._blocks(branch))
        self.active = outer
        return found

    def _of_two(self, node: ast.BinOp) -> list[Block]:
        """What a sum is multiplied or divided by is read by each of its terms."""
        if isinstance(node.op, ast.Add):
            return self._blocks(node.left) + self._blocks(node.right)
        if isinstance(node.op, ast.Sub):
            return self._blocks(node.left) + [replace(b, values=-b.values) for b in self._blocks(node.right)]
        summed, factor = summed_and_factor(node)
        found = self._blocks(summed)
        self.reads, operation = [], BINARY[type(node.op)]
        by = np.asarray(self.visit(factor))
        scaled = (replace(b, values=operation(b.values, _lengthened(by, b.values.ndim))) for b in found)
        return [b.resting_on(self.reads) for b in scaled]

    # Functions over an index.

    def _inside(self, node: ast.Call) -> Any:
        """(the indices, the values, which of them are there, what they read) of a function's body."""
        sizes = {index_name(i): math.prod(self._extent(index_name(i))) for i in indices_of(node)}
        steps = np.indices(tuple(sizes.values())).reshape(len(sizes), -1)
        outer = self.axes, self.grid, self.active, self.beside, self.reads
        letters = {name: at.reshape((1,) * len(self.grid) + at.shape) for name, at in zip(sizes, steps, strict=True)}
        self.axes, self.grid = self.axes | letters, (*self.grid, steps.shape[1])
        self.active, self.reads = self.active[..., None], []
        self.beside = np.zeros((1,) * len(self.grid), bool)
        values = np.broadcast_to(self.visit(node.args[-1]), self.grid)
        there, reads = np.broadcast_to(self.active & ~self.beside, self.grid), self.reads
        self.axes, self.grid, self.active, self.beside, self.reads = outer
        return letters, values, there, reads

    def _over(self, node: ast.Call) -> Any:
        """The function's value; of what its body reads, that of the largest or of the extreme part."""
        _, values, there, reads = self._inside(node)
        name = function_name(node)
        signed = {"Max": 1.0, "Min": -1.0}.get(name)
        sizes = np.where(there, np.abs(values) if signed is None else signed * values, -np.inf)
        if self.grid and values.shape[-1]:
            decisive, some = np.argmax(sizes, axis=-1), there.any(axis=-1)
            self.reads += (replace(r, there=r.there & some) for r in (r.taken(decisive) for r in reads))
        return _OVER[name](values, there)

    # Values: one method for each kind of expression.

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self.axes:
            return _lengthened(self.axes[node.id], len(self.grid)).astype(np.float64)
        value: Any = np.pi if node.id == "pi" else self.values.get(node.id)
        if not hasattr(value, "shape"):
            return self._as_number(value)
        if self.formula.elementwise:
            return self._entry(node, value, POSITION)
        found = self.number(np.asarray(value).item())
        self.reads.append(self._read(node.id, value, np.asarray(0), np.asarray(found)))
        return found

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        holds, outer, found = self._truth(node.test), self.active, []
        for branch, chosen in ((node.body, holds), (node.orelse, ~holds)):
            self.active = outer & chosen
            found += [self.visit(branch)] if self.active.any() else []
        self.active = outer
        return np.where(holds, *found) if len(found) == 2 else (*found, np.float64(0))[0]

    def visit_Compare(self, node: ast.Compare) -> Any:
        values = [self.visit(v) for v in (node.left, *node.comparators)]
        pairs = zip(node.ops, values[:-1], values[1:], strict=True)
        return np.logical_and.reduce([COMPARE[type(op)](a, b) for op, a, b in pairs]).astype(np.float64)

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        """Of an ``and`` what comes after is looked at only where all before holds."""
        outer, both = self.active, isinstance(node.op, ast.And)
        found = np.asarray(both)
        for value in node.values:
            if self.active.any():
                found = (operator.and_ if both else operator.or_)(found, self._truth(value))
                self.active = outer & (found if both else ~found)
        self.active = outer
        return found.astype(np.float64)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return (~self._truth(node.operand)).astype(np.float64)
        value = self.visit(node.operand)
        return -value if isinstance(node.op, ast.USub) else value

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        left, outer = self.visit(node.left), self.active
        if isinstance(node.op, ast.Mult) and isinstance(node.left, TRUTH):
            self.active = outer & (left != 0)
            right = self.visit(node.right) if self.active.any() else 0.0
            self.active = outer
            return np.where(left != 0, left * right, 0.0)
        return BINARY[type(node.op)](left, self.visit(node.right))

    def visit_Call(self, node: ast.Call) -> Any:
        name = function_name(node)
        if name == "Count":
            return self._over_count(node)
        if is_over_index(node):
            return self._over(node)
        function = _PLAIN.get(name) or getattr(self, f"_{name}", None) or getattr(self.arithmetic.functions, name)
        return function(*(self.visit(a) for a in node.args))

    def _truth(self, node: ast.expr) -> Array:
        return np.asarray(self.visit(node)) != 0

    def _entry(self, node: ast.expr, array: Array, items: list[ast.expr]) -> Any:
        if node not in self.views:
            self.views[node] = self._view(array, items)
            self.origins[node] = self._view(np.arange(array.size).reshape(array.shape), items)
        view = self.views[node]
        at = tuple(self._place(item, size) for item, size in zip(items, view.shape, strict=True))
        name = node.value if isinstance(node, ast.Subscript) else node
        assert isinstance(name, ast.Name)
        value = np.asarray(view[at], np.float64)
        self.reads.append(self._read(name.id, array, self.origins[node][at], value))
        return value

    def _read(self, name: str, array: Array, places: Array, values: Array) -> Read:
        return Read(name, tuple(array.shape), np.asarray(places), values, self.active)

    def _place(self, item: ast.expr, size: int) -> Any:
        if isinstance(item, (ast.Name, ast.Starred)):
            return _lengthened(self.axes[index_name(item)], len(self.grid))
        value = np.asarray(self.visit(item))
        found = (value == np.floor(value)) & (value >= 0) & (value < size)
        if is_calculated(item):
            self.beside = self.beside | (self.active & ~found)
        elif (self.active & ~found).any():
            raise FormulaError(f"{self.formula.source!r}: {ast.unparse(item)} lies beside 0 … {size - 1}")
        return np.where(found, value, 0).astype(np.int64)

    def _sign(self, x: Any) -> Any:
        return np.sign(x)

    def _floor(self, x: Any) -> Any:
        return np.floor(x)


def _lengthened(a: Array, ndim: int) -> Array:
    """``a`` with axes of length 1 at the end until there are ``ndim``; a number as it is."""
    return a.reshape(a.shape + (1,) * (ndim - a.ndim)) if a.ndim else a


def _taken(a: Array, at: Array) -> Array:
    if not a.ndim:
        return a
    if a.shape[-1] == 1:
        return a[..., 0]
    whole = np.broadcast_to(a, (*at.shape, a.shape[-1]))
    return np.take_along_axis(whole, at[..., None], axis=-1)[..., 0]


def _mean(values: Array, there: Array) -> Array:
    return np.sum(values, axis=-1, where=there) / np.sum(there, axis=-1)


_OVER: dict[str, Callable[[Array, Array], Array]] = {
    "Sum": lambda values, there: np.sum(values, axis=-1, where=there),
    "Prod": lambda values, there: np.prod(values, axis=-1, where=there),
    "Mean": _mean,
    "Max": lambda values, there: np.max(values, axis=-1, where=there, initial=-np.inf),
    "Min": lambda values, there: np.min(values, axis=-1, where=there, initial=np.inf),
}
_PLAIN: dict[str, Any] = {
    "abs": np.abs,
    "max": lambda a, b: np.where(b > a, b, a),
    "min": lambda a, b: np.where(b < a, b, a),
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
}
