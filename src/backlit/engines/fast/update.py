"""The kernel of an optimizer, made from its formulas: one loop over all parameters, what is the same for all before it.

For Adam it reads::

    def adam(lo, hi, step, p_, g_, m_, v_, rates, clock, …):
        real, lr, t = p_.dtype.type, rates[step], clock[0] + step
        c1, c2, … = real(beta1), real(1 - beta1), …
        for i in span(lo, hi):
            p, g, m, v = p_[i], g_[i], m_[i], v_[i]
            m = c1 * m + c2 * g
            …
            p_[i], m_[i], v_[i] = p, m, v
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from backlit.engines.fast import machine_code
from backlit.engines.fast.jit import KERNELS
from backlit.optim import Optimizer

_TEXT = '''import math

from numpy import sign

from backlit.engines.fast.jit import inlined, kernel, span


@inlined
def sqrt(x):
    return math.sqrt(x)


@kernel
def {name}(lo, hi, step, {arrays}, rates, clock, {options}):
    """{formulas}"""
    real, lr, t = p_.dtype.type, rates[step], clock[0] + step
{before}
    for i in span(lo, hi):
{loop}
'''

_ROWS = '''

@kernel
def {name}_rows(lo, hi, step, {arrays}, rates, clock, {more}):
    """The same for those of the rows lo … hi of a table that were read."""
    real, lr, t = p_.dtype.type, rates[step], clock[0] + step
{before}
    for row in span(lo, hi):
        if rows_read[row]:
            rows_read[row] = 0
            for i in span(table_start + row * row_width, table_start + (row + 1) * row_width):
{inner}
'''

_SHARED = '''

@kernel
def {name}_shared(lo, hi, step, {arrays}, rates, clock, {options}):
    """The numbers that are the same for all parameters."""
    lr, t = rates[step], clock[0] + step
{alone}
'''


class Kernel(NamedTuple):
    """An optimizer's kernel, called as name(p, g, *slots, rates, clock, *numbers)."""

    name: str
    slots: tuple[str, ...]
    numbers: tuple[float, ...]
    rows: str
    """The kernel that updates of a table those rows alone that were read; after the numbers it takes what was read, as
    a flag of each row that it puts down again, where the table begins in the vectors, and the length of a row."""
    shared: str
    """The kernel of the slots that are one number for all parameters, called after it alike; "" without such slots."""


def kernel_of(optimizer: Optimizer) -> Kernel:
    """The kernel of an optimizer; ``clock`` holds the number of the first step.

    A slot that is one number is an array of one entry. All threads read it, so it moves on when all are done.
    """
    options = {n: float(v) for n, v in optimizer.options.items() if any(n in f for f in optimizer.formulas)}
    single = tuple(n for n, a in optimizer.init(np, np.ones(1)).items() if a.ndim == 0)
    text = _source(optimizer, single, tuple(options))
    name = f"{optimizer.name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if name not in KERNELS:
        machine_code.module(name, text.replace("{name}", name))
    numbers = tuple(options.values())
    return Kernel(name, optimizer.slots, numbers, f"{name}_rows", f"{name}_shared" if single else "")


def _source(optimizer: Optimizer, single: tuple[str, ...], options: tuple[str, ...]) -> str:
    vectors = tuple(n for n in ("p", "g", *optimizer.slots) if n not in single)
    alone, hoisted, lines = _divided(optimizer.formulas, vectors)
    read, load = [f"{n} = {n}_[0]" for n in single], ", ".join(f"{n}_[i]" for n in vectors)
    loop = [f"{', '.join(vectors)} = {load}", *lines, *(f"{n}_[i] = {n}" for n in vectors if n != "g")]
    text = _TEXT + _ROWS + (_SHARED if single else "")
    return text.format(
        name="{name}", arrays=", ".join(f"{n}_" for n in ("p", "g", *optimizer.slots)), options=", ".join(options),
        more=", ".join((*options, "rows_read", "table_start", "row_width")), formulas="; ".join(optimizer.formulas),
        before=_indented(1, [*read, *hoisted]), loop=_indented(2, loop), inner=_indented(4, loop),
        alone=_indented(1, [*read, *alone, *(f"{n}_[0] = {n}" for n in single)]),
    )  # fmt: skip


def _divided(formulas: Sequence[str], vectors: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """(formulas that are the same for all parameters, all that is calculated before the loop, what is in the loop)."""
    hoisting, alone, lines = _Hoisting({*vectors}), list[str](), list[str]()
    for formula in formulas:
        target, _, expression = formula.partition(" = ")
        if hoisting.same_for_all(expression):
            hoisting.before.append(formula)
            alone.append(formula)
        else:
            lines.append(f"{target} = {hoisting.rewritten(target, expression)}")
    return alone, hoisting.before, lines


def _indented(depth: int, lines: Sequence[str]) -> str:
    return "\n".join(4 * depth * " " + line for line in lines)


class _Hoisting(ast.NodeTransformer):
    """Takes out of expressions what does not depend on the parameter: calculated once, in float64, then rounded."""

    def __init__(self, vectors: set[str]) -> None:
        self.vectors, self.before = vectors, list[str]()

    def same_for_all(self, expression: str) -> bool:
        """True where the expression does not depend on the parameter."""
        return not self._varies(ast.parse(expression))

    def rewritten(self, target: str, expression: str) -> str:
        tree = ast.parse(expression, mode="eval").body
        found = ast.unparse(self.visit(tree))
        self.vectors.add(target)
        return found

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or self._varies(node):
            return super().visit(node)  # type: ignore[no-any-return]
        self.before.append(f"c{len(self.before)} = real({ast.unparse(node)})")
        return ast.Name(f"c{len(self.before) - 1}")

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """A whole power of something that varies keeps its exponent: a product."""
        if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
            node.left = self.visit(node.left)  # type: ignore[assignment]
            return node
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.args = [self.visit(a) for a in node.args]  # type: ignore[misc]
        return node

    def _varies(self, node: ast.AST) -> bool:
        return any(isinstance(n, ast.Name) and n.id in self.vectors for n in ast.walk(node))
