"""Index formulas: what a rule computes, entry by entry, as text that is read, printed and evaluated.

A formula is one line in Python's expression syntax, ``target = expression``::

    z[*n,o] = Sum(i, x[*n,i] * W[o,i]) + b[o]
    dx = dy if x > 0 else 0

- A plain index runs over one axis, one starred index over all axes that are not written out (over their broadcast, as
  in NumPy, where arrays differ; no axes count as one entry).
- Where nothing is indexed and nothing is summed, a name stands for the entry at the same position, with broadcasting.
- A gradient whose array was broadcast is the sum over the entries that it was broadcast to.
- ``Sum(i, e)``, ``Prod``, ``Mean``, ``Max``, ``Min`` and ``Count(i)`` run over all values of the index, which are known
  from the arrays that it indexes in the formula, else in the rule's other formulas. Several may be given:
  ``Sum(i, j, e)``.
- An index may have a bound, ``Sum(p < kernel[0], e)``; it then runs from 0 up to the bound, itself left out.
- An index may be calculated, ``x[i*stride + p - 1]``. Where the result is no whole number or lies beside the array,
  the term is left out of the Sum, Prod, Mean, Max or Min that it stands in.
- An attribute that is a tuple is indexed with numbers: ``stride[0]``.
- Comparisons and ``and``, ``or``, ``not`` are 1 or 0 (Iverson's bracket), and a 0 on the left of ``*`` decides.
- Where the call has an attribute ``axis``, the named axes of every array of the full rank are moved to the end as one.
- A recursion may read other entries of its own target, and the formula of a gradient the gradients of the rule's other
  inputs: ``dU[j,k] = Sum(n, t, dz[n,t,j] * h[n,t-1,k])``.
- ``floor(x)`` is the largest whole number up to x; indices in brackets may be such expressions.
- ``source(p)``, for a rule that only moves entries, is the position in the input that position p of the output is a
  copy of, -1 for a constant; where it is used, positions count through whole arrays, in the order of their axes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from backlit.core.types import Array, Shape
from backlit.rules._formula_eval import FLOAT, Arithmetic, Evaluation
from backlit.rules._formula_print import LatexPrinter, TextPrinter
from backlit.rules._formula_syntax import FormulaError, check, free_names, function_name, is_over_index, target
from backlit.rules.base import Rule


@dataclass(frozen=True)
class Formula:
    """One formula, read. Make it with :func:`parse`."""

    source: str
    """The line it was read from."""

    target: str = field(compare=False)
    indices: tuple[str, ...] | None = field(compare=False)
    """Indices of the target, the starred one with its star; None where the target is not indexed."""

    expression: ast.expr = field(compare=False, repr=False)
    others: tuple[Formula, ...] = field(default=(), compare=False, repr=False)
    """The formulas of the same rule, which may tell how far an index runs."""

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the arrays and attributes on the right side."""
        return frozenset(free_names(self.expression, frozenset(i.lstrip("*") for i in self.indices or ())))

    @cached_property
    def elementwise(self) -> bool:
        """True where names stand for the entry at the same position."""
        return self.indices is None and not any(
            isinstance(n, ast.Subscript) or is_over_index(n) for n in ast.walk(self.expression)
        )

    @cached_property
    def moves(self) -> bool:
        """True where positions count through whole arrays, because ``source`` relates them."""
        return any(isinstance(n, ast.Call) and function_name(n) == "source" for n in ast.walk(self.expression))

    def evaluate(
        self, arrays: Mapping[str, Any], attributes: Mapping[str, Any], shape: Shape, *, arithmetic: Arithmetic = FLOAT
    ) -> Array:
        """The target as an array of ``shape``, by plain loops over the indices: slow and obvious.

        ``arrays`` and ``attributes`` are the values by name (see :func:`bind`). The ``arithmetic`` makes the numbers:
        float64, or any other, such as mpmath's. Raises FormulaError where sizes clash.
        """
        return Evaluation(self, arrays, attributes, shape, arithmetic=arithmetic).array()

    def at(self, arrays: Mapping[str, Any], attributes: Mapping[str, Any], index: tuple[int, ...]) -> Any:
        """The value at one entry of the target, whose shape is taken from ``arrays``."""
        return self._on(arrays, attributes).at(index)

    def terms(
        self, arrays: Mapping[str, Any], attributes: Mapping[str, Any], index: tuple[int, ...]
    ) -> list[tuple[dict[str, Any], Any]]:
        """What the value at one entry of the target is the sum of: (values of the indices summed over, value) for each.

        An outermost Sum or Mean is taken apart, also where it is one of several terms or is multiplied or divided by
        something. The value of a starred index is a tuple where it runs over several axes or over none.
        """
        return self._on(arrays, attributes).terms(index)

    def _on(self, arrays: Mapping[str, Any], attributes: Mapping[str, Any]) -> Evaluation:
        like = arrays.get(self.target, arrays.get(self.target.removeprefix("d")))
        if like is None:
            raise FormulaError(f"{self.source!r}: give {self.target}, or what it is the gradient of, for its shape")
        return Evaluation(self, arrays, attributes, tuple(like.shape), arithmetic=FLOAT)

    def text(self, symbols: Mapping[str, str] | None = None) -> str:
        """The formula in Unicode. ``symbols`` says how names are shown: ``{"dz": "δ(1)", "x": "a(0)"}``."""
        return TextPrinter(symbols).formula(self)

    def latex(self, symbols: Mapping[str, str] | None = None) -> str:
        """The formula in LaTeX, as KaTeX takes it. ``symbols`` says how names are shown, in LaTeX."""
        return LatexPrinter(symbols).formula(self)


@cache
def parse(text: str) -> Formula:
    """Read a formula. Raises FormulaError, a ValueError that says what is wrong, where it is not one."""
    try:
        body = ast.parse(text.strip()).body
    except SyntaxError as error:
        raise FormulaError(f"{text!r}: {error.msg}") from None
    if len(body) != 1 or not isinstance(body[0], ast.Assign) or len(body[0].targets) != 1:
        raise FormulaError(f"{text!r}: expected one line of the form target = expression")
    try:
        name, indices = target(body[0].targets[0])
        formula = Formula(text.strip(), name, indices, body[0].value)
        check(formula.expression, frozenset(i.lstrip("*") for i in indices or ()))
    except FormulaError as error:
        raise FormulaError(f"{text!r}: {error}") from None
    return formula


@cache
def formulas_of(rule: Rule) -> Mapping[str, Formula]:
    """The formulas of a rule by target. Raises FormulaError where one uses a name that the rule does not have."""
    lines = tuple(parse(line) for line in rule.formulas)
    values = {*rule.inputs, *rule.outputs}
    known = values | {f"d{name}" for name in values} | {*rule.attributes}
    for formula in lines:
        if unknown := {formula.target, *formula.names} - known:
            raise FormulaError(f"{rule.name}: {formula.source!r}: unknown {sorted(unknown)}; known are {sorted(known)}")
    return {formula.target: replace(formula, others=lines) for formula in lines}


def bind(rule: Rule, inputs: Iterable[Any], outputs: Iterable[Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names that a rule's formulas use, from what forward took and gave; add ``dy`` for gradients.

    What is absent stands for the number that the rule says; the inputs of a variadic rule are one array of all entries.
    """
    given = {rule.inputs[0]: _joined(inputs)} if rule.variadic else dict(zip(rule.inputs, inputs, strict=True))
    given |= dict(zip(rule.outputs, outputs, strict=True)) | rule.defaults | dict(attributes)
    return {name: rule.absent.get(name) if value is None else value for name, value in given.items()}


def _joined(arrays: Iterable[Any]) -> Array:
    return np.concatenate([np.ravel(a) for a in arrays])
