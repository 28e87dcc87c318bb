"""What an entry is made of: the terms of its formula, each with the entries of arrays that it reads."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.core.types import Array
from backlit.rules._formula_eval import FLOAT, BesideError, Evaluation, summed_and_factor
from backlit.rules._formula_syntax import function_name, is_over_index
from backlit.rules.formula import Formula

Read = tuple[Any, tuple[int, ...], float]
"""(name in the formula, or the entry itself where a rule only copies; index in that array; value)."""


@dataclass(frozen=True)
class Part:
    """One term of an entry: the indices summed over, its value in float64, and what it reads."""

    indices: Mapping[str, Any]
    value: float
    reads: tuple[Read, ...]


class _Reading(Evaluation):
    """An evaluation that notes which entries each term reads; of a sum inside a term, those of its largest part."""

    inner = 0
    """How many functions over an index are open."""

    def parts(self, index: tuple[int, ...]) -> list[Part]:
        self.places = dict[ast.expr, Array]()
        self.inner, self.reads, self.noted = 0, list[Read](), list[tuple[Read, ...]]()
        found = self.terms(index)
        return [Part(at, float(value), reads) for (at, value), reads in zip(found, self.noted, strict=True)]

    def visit_Call(self, node: ast.Call) -> Any:
        summed = is_over_index(node)
        self.inner += summed
        value = super().visit_Call(node)
        self.inner -= summed
        return value

    def _each(self, node: ast.Call) -> list[tuple[dict[str, int], Any]]:
        """Only the outermost sum comes here with nothing open: each of its terms is noted."""
        before, found, reads = self.reads, [], []
        for inside in self._inside(node):
            self.reads = []
            with suppress(BesideError):
                found.append((inside, self.visit(node.args[-1])))
                reads.append(tuple(self.reads))
        if self.inner:
            self.reads = [*before, *(reads[_decisive(node, found)] if found else ())]
        else:
            self.noted += reads
        return found

    def _terms(self, node: ast.expr) -> list[tuple[dict[str, int], Any]]:
        before, self.reads = len(self.noted), []
        if isinstance(node, ast.IfExp):
            return self._chosen(node)
        found = super()._terms(node)
        if len(self.noted) == before and found:
            self.noted.append(tuple(self.reads))
        return found

    def _chosen(self, node: ast.IfExp) -> list[tuple[dict[str, int], Any]]:
        """The terms of the branch that holds, each resting on the condition too."""
        holds, condition = self.visit(node.test), self.reads
        start, found = len(self.noted), self._terms(node.body if holds else node.orelse)
        self.noted[start:] = [(*reads, *condition) for reads in self.noted[start:]]
        return found

    def _terms_of_two(self, node: ast.BinOp) -> list[tuple[dict[str, int], Any]]:
        """What a sum is multiplied or divided by is read by each of its terms."""
        start, found = len(self.noted), super()._terms_of_two(node)
        if not isinstance(node.op, (ast.Add, ast.Sub)):
            self.reads = []
            self.visit(summed_and_factor(node)[1])
            self.noted[start:] = [(*reads, *self.reads) for reads in self.noted[start:]]
        return found

    def visit_Name(self, node: ast.Name) -> Any:
        """An array of one entry may stand without an index."""
        value = super().visit_Name(node)
        array: Any = self.values.get(node.id)
        if node.id not in self.env and hasattr(array, "shape") and not self.formula.elementwise:
            self.reads.append((node.id, (0,) * array.ndim, float(value)))
        return value

    def _entry(self, node: ast.expr, array: Array, items: list[ast.expr]) -> Any:
        value = super()._entry(node, array, items)
        name = node.value if isinstance(node, ast.Subscript) else node
        assert isinstance(name, ast.Name)
        if node not in self.places:
            self.places[node] = self._view(np.arange(array.size).reshape(array.shape), items)
        origin = np.unravel_index(int(self.places[node][self.at_last]), array.shape)
        self.reads.append((name.id, tuple(map(int, origin)), float(value)))
        return value


def _decisive(node: ast.Call, found: list[tuple[dict[str, int], Any]]) -> int:
    """Which part of an inner function over an index stands for it: the extreme one, or the largest of a sum."""
    signed = {"Max": 1.0, "Min": -1.0}.get(function_name(node))
    sizes = [abs(float(v)) if signed is None else signed * float(v) for _, v in found]
    return max(range(len(found)), key=sizes.__getitem__)


def parts(
    formula: Formula, arrays: Mapping[str, Any], attributes: Mapping[str, Any], index: tuple[int, ...]
) -> list[Part]:
    """The terms of one entry of the formula's target, whose shape is taken from ``arrays``."""
    like = arrays.get(formula.target, arrays.get(formula.target.removeprefix("d")))
    return _Reading(formula, arrays, attributes, tuple(like.shape), arithmetic=FLOAT).parts(index)
