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


def kernel_of(optimizer: Optimizer) -> tuple[str, tuple[str, ...], tuple[float, ...]] | None:
    """(name of the kernel, its vectors, its numbers) of an optimizer; None where it keeps a number for all parameters.

    The kernel is called as name(p, g, *slots, rates, clock, *numbers), ``clock`` holding the number of the first step.
    """
    if any(a.ndim == 0 for a in optimizer.init(np, np.ones(1)).values()):
        return None
    options = {n: float(v) for n, v in optimizer.options.items() if any(n in f for f in optimizer.formulas)}
    text = _source(optimizer, tuple(options))
    name = f"{optimizer.name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if name not in KERNELS:
        machine_code.module(name, text.replace("{name}", name))
    return name, optimizer.slots, tuple(options.values())


def _source(optimizer: Optimizer, options: tuple[str, ...]) -> str:
    vectors = ("p", "g", *optimizer.slots)
    hoisting, lines = _Hoisting({*vectors}), []
    for formula in optimizer.formulas:
        target, _, expression = formula.partition(" = ")
        lines.append(f"{target} = {hoisting.rewritten(target, expression)}")
    stored = [n for n in vectors if n != "g"]
    read = f"{', '.join(vectors)} = {', '.join(f'{n}_[i]' for n in vectors)}"
    write = [f"{n}_[i] = {n}" for n in stored]
    return _TEXT.format(
        name="{name}", arrays=", ".join(f"{n}_" for n in vectors), options=", ".join(options),
        formulas="; ".join(optimizer.formulas), before="\n".join(f"    {line}" for line in hoisting.before),
        loop="\n".join(f"        {line}" for line in [read, *lines, *write]),
    )  # fmt: skip


class _Hoisting(ast.NodeTransformer):
    """Takes out of expressions what does not depend on the parameter: calculated once, in float64, then rounded."""

    def __init__(self, vectors: set[str]) -> None:
        self.vectors, self.before = vectors, list[str]()

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
