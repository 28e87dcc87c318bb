"""The textbook's matrix notation, read off an index formula: ``Sum(i, x[*n,i] * W[o,i]) + b[o]`` is W x + b.

The starred index counts samples. A sum over the units of a layer is a product of a matrix with the column vector of one
sample; a sum over samples stays a sum, of outer products or of vectors.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.core.types import Array
from backlit.rules._formula_syntax import function_name, index_name, is_over_index, subscripts
from backlit.rules.formula import Formula

Vector = Callable[..., str]
"""(name, *indices) -> LaTeX: of a whole array, or of the row of one sample."""


@dataclass(frozen=True)
class Product:
    """``matrix · vector + plus`` for each sample."""

    matrix: str
    transposed: bool
    vector: str
    plus: str | None

    def latex(self, bold: Vector) -> str:
        """Per sample, without an index for it."""
        matrix = bold(self.matrix)
        matrix = rf"\left({matrix}\right)^{{T}}" if self.transposed else matrix
        return rf"{matrix}\,{bold(self.vector)}" + (f" + {bold(self.plus)}" if self.plus else "")

    def evaluate(self, arrays: Mapping[str, Any]) -> Array:
        """The product for all samples, which are the leading axes of the vector."""
        matrix = arrays[self.matrix]
        columns = arrays[self.vector][..., None]
        found = ((matrix.T if self.transposed else matrix) @ columns)[..., 0]
        return found + arrays[self.plus] if self.plus else found


@dataclass(frozen=True)
class Outer:
    """The sum over samples of ``left · rightᵀ``."""

    left: str
    right: str

    def latex(self, bold: Vector) -> str:
        """With the sum over n."""
        return rf"\sum_{{n}} {bold(self.left, 'n')}\,\left({bold(self.right, 'n')}\right)^{{T}}"

    def evaluate(self, arrays: Mapping[str, Any]) -> Array:
        """One outer product a sample, added up."""
        left, right = (_rows(arrays[name]) for name in (self.left, self.right))
        return np.sum([np.outer(u, v) for u, v in zip(left, right, strict=True)], axis=0)


@dataclass(frozen=True)
class Total:
    """The sum over samples of a vector."""

    vector: str

    def latex(self, bold: Vector) -> str:
        """With the sum over n."""
        return rf"\sum_{{n}} {bold(self.vector, 'n')}"

    def evaluate(self, arrays: Mapping[str, Any]) -> Array:
        """All samples added up."""
        return np.sum(list(_rows(arrays[self.vector])), axis=0)


Matrix = Product | Outer | Total


def matrix_form(formula: Formula) -> Matrix | None:
    """The formula in matrix notation; None where it is not a product of a matrix, or a sum over samples."""
    whole, plus = formula.expression, None
    match whole:
        case ast.BinOp(product, ast.Add(), ast.Subscript() as added):
            whole, plus = product, _name(added)
    if not (isinstance(whole, ast.Call) and is_over_index(whole) and function_name(whole) == "Sum"):
        return None
    if len(whole.args) != 2:
        return None
    letter, body, left = index_name(whole.args[0]), whole.args[1], formula.indices or ()
    if isinstance(body, ast.Subscript) and _starred(body) == letter and plus is None:
        return Total(_name(body)) if _plain(body) == [*left] else None
    if not (isinstance(body, ast.BinOp) and isinstance(body.op, ast.Mult)):
        return None
    factors = [body.left, body.right]
    pair = [f for f in factors if isinstance(f, ast.Subscript)]
    return (_product(pair, letter, left, plus) or _outer(pair, letter, left)) if len(pair) == 2 else None


def _product(pair: list[ast.Subscript], letter: str, left: tuple[str, ...], plus: str | None) -> Product | None:
    """One factor has a sample and the summed index, the other the summed index and the target's."""
    vector, matrix = sorted(pair, key=lambda f: _starred(f) is None)
    if len(left) != 2 or _starred(vector) != left[0].lstrip("*") or _plain(vector) != [letter]:
        return None
    forms = {(left[1], letter): False, (letter, left[1]): True}
    key = tuple(_plain(matrix))
    return Product(_name(matrix), forms[key], _name(vector), plus) if key in forms else None


def _outer(pair: list[ast.Subscript], letter: str, left: tuple[str, ...]) -> Outer | None:
    by = {tuple(_plain(f)): _name(f) for f in pair if _starred(f) == letter}
    if len(left) != 2 or set(by) != {(left[0],), (left[1],)}:
        return None
    return Outer(by[left[0],], by[left[1],])


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _name(node: ast.Subscript) -> str:
    assert isinstance(node.value, ast.Name)
    return node.value.id


def _starred(node: ast.Subscript) -> str | None:
    return next((index_name(i) for i in subscripts(node) if isinstance(i, ast.Starred)), None)


def _plain(node: ast.Subscript) -> list[str]:
    return [ast.unparse(i) for i in subscripts(node) if not isinstance(i, ast.Starred)]
