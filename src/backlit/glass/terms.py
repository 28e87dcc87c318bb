"""What an entry is made of: the terms of its formula, each with the entries of arrays that it reads."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.core.types import Array
from backlit.rules._formula_eval import FLOAT, Evaluation
from backlit.rules._formula_syntax import is_over_index
from backlit.rules.formula import Formula

Read = tuple[str, tuple[int, ...], float]
"""(name in the formula, index in that array, value)."""


@dataclass(frozen=True)
class Part:
    """One term of an entry: the indices summed over, its value in float64, and what it reads."""

    indices: Mapping[str, Any]
    value: float
    reads: tuple[Read, ...]


class _Reading(Evaluation):
    """An evaluation that notes which entries each term reads; sums inside a term are one number."""

    def parts(self, index: tuple[int, ...]) -> list[Part]:
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
        if self.inner:
            return super()._each(node)
        found = []
        for inside in self._inside(node):
            self.reads = []
            found.append((inside, self.visit(node.args[-1])))
            self.noted.append(tuple(self.reads))
        return found

    def _terms(self, node: ast.expr) -> list[tuple[dict[str, int], Any]]:
        before, self.reads = len(self.noted), []
        found = super()._terms(node)
        if len(self.noted) == before:
            self.noted.append(tuple(self.reads))
        return found

    def _entry(self, node: ast.expr, array: Array, items: list[ast.expr]) -> Any:
        value = super()._entry(node, array, items)
        if not self.inner:
            name = node.value if isinstance(node, ast.Subscript) else node
            assert isinstance(name, ast.Name)
            self.reads.append((name.id, self._origin(array, items), float(value)))
        return value

    def _origin(self, array: Array, items: list[ast.expr]) -> tuple[int, ...]:
        places = self._view(np.arange(array.size).reshape(array.shape), items)
        return tuple(int(i) for i in np.unravel_index(int(places[self._at(items)]), array.shape))


def parts(
    formula: Formula, arrays: Mapping[str, Any], attributes: Mapping[str, Any], index: tuple[int, ...]
) -> list[Part]:
    """The terms of one entry of the formula's target, whose shape is taken from ``arrays``."""
    like = arrays.get(formula.target, arrays.get(formula.target.removeprefix("d")))
    return _Reading(formula, arrays, attributes, tuple(like.shape), arithmetic=FLOAT).parts(index)
