"""Products of matrices, written down."""

from __future__ import annotations

import math

from backlit.core.types import Shape
from backlit.engines.fast.listing import Lowering
from backlit.engines.fast.lower_reductions import sum_over
from backlit.engines.fast.lowering import lower
from backlit.graph.graph import Node


def _box(low: Lowering, buffer: str) -> str:
    """A buffer as matrices behind one another."""
    *many, rows, columns = low.shape_of(buffer)
    return low.shaped(buffer, "matrices", (math.prod(many), rows, columns))


def _emit(low: Lowering, node: Node, ta: int, tb: int, a: str, b: str, y: str) -> None:
    left, right, made = (_box(low, buffer) for buffer in (a, b, y))
    (count, rows, columns), terms = low.shape_of(made), low.shape_of(left)[1 if ta else 2]
    low.emit("matmul", ta, tb, terms, left, right, made, extent=count * rows, flops=2 * count * rows * columns * terms,
             node=node)  # fmt: skip


def matmul(low: Lowering, node: Node) -> None:
    """y = a b."""
    _emit(low, node, 0, 0, *map(low.value, (*node.operands, node.name)))


def matmul_back(low: Lowering, node: Node) -> None:
    """da = dy bᵀ, db = aᵀ dy, summed where one matrix met them all."""
    (a, b), d = node.operands, low.grad(node.name)
    if low.wants(a):
        low.share(a, lambda into: _each(low, node, "da", into, 0, 1, d, low.value(b)))
    if low.wants(b):
        low.share(b, lambda into: _each(low, node, "db", into, 1, 0, low.value(a), d))


def _each(low: Lowering, node: Node, name: str, into: str, ta: int, tb: int, left: str, right: str) -> None:
    shape, many = low.shape_of(into), low.graph.values[node.name].shape[:-2]
    if math.prod(shape[:-2]) == math.prod(many):
        _emit(low, node, ta, tb, left, right, into)
        return
    whole = low.scratch(node, name, (*many, *shape[-2:]))
    _emit(low, node, ta, tb, left, right, whole)
    sum_over(low, node, whole, into)


def _one_or_all(low: Lowering, node: Node) -> bool:
    """Every product has matrices of its own, but for one that may meet them all; two different values."""
    shapes: list[Shape] = [low.graph.values[i].shape for i in (*node.operands, node.name)]
    counts = [math.prod(s[:-2]) for s in shapes]
    return all(c in {1, counts[-1]} for c in counts[:2]) and math.prod(shapes[-1]) > 0 and shapes[0][-1] > 0


lower("matmul", matmul, matmul_back, _one_or_all)
