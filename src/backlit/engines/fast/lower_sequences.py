"""Sums with what all samples share, and embedding, written down."""

from __future__ import annotations

from backlit.engines.fast.listing import CACHE_LINE, Lowering, identifier
from backlit.engines.fast.lower_dense import add_back, of_two
from backlit.engines.fast.lowering import lower, whole_numbers
from backlit.graph.graph import Node

# --- a sum with what is the same for every sample ---------------------------------------------------------------------


def add(low: Lowering, node: Node) -> None:
    """y = a + b, b of a's shape or of one sample's."""
    a, b = node.operands
    if low.graph.values[a].shape == low.graph.values[b].shape:
        of_two("add")(low, node)
        return
    size = low.size(low.value(b))
    low.emit("add_rows", _by_sample(low, low.value(a), size), low.flat(low.value(b)),
             _by_sample(low, low.value(node.name), size), extent=low.size(low.value(a)) // size, node=node)  # fmt: skip


def add_grad(low: Lowering, node: Node) -> None:
    """da = dy, db = Σ_n dy."""
    a, b = node.operands
    if low.graph.values[a].shape == low.graph.values[b].shape:
        add_back(low, node)
        return
    d, size = low.grad(node.name), low.size(low.value(b))
    if low.wants(b):
        low.share(b, lambda into: low.emit("sum_rows", _by_sample(low, d, size), low.flat(into), extent=size,
                                           grain=CACHE_LINE, node=node))  # fmt: skip
    if low.wants(a):
        low.move(a, d)


def _by_sample(low: Lowering, buffer: str, size: int) -> str:
    return low.shaped(buffer, f"by_{size}", (low.size(buffer) // size, size))


def _ends_alike(low: Lowering, node: Node) -> bool:
    """The second input has the last axes of the first, which has the output's shape."""
    a, b = (low.graph.values[i].shape for i in node.operands)
    return a == low.graph.values[node.name].shape and len(b) > 0 and a[-len(b) :] == b and len(set(node.operands)) == 2


# --- embedding --------------------------------------------------------------------------------------------------------


def embedding(low: Lowering, node: Node) -> None:
    """Rows of the table."""
    indices, table = map(low.value, node.operands)
    rows = low.rows(low.value(node.name))
    low.emit("embedding", low.flat(indices), table, rows, extent=low.shape_of(rows)[0], node=node)


def embedding_back(low: Lowering, node: Node) -> None:
    """Each row's gradient, the sum over where it was taken."""
    indices, table = node.operands
    rows = low.rows(low.grad(node.name))
    if table in low.graph.sparse:
        places = low.flat(low.value(indices))
        low.emit("mark_rows", places, f"read_{identifier(table)}", extent=low.size(places), node=node)
    low.share(table, lambda into: low.emit("embedding_grad", rows, low.flat(low.value(indices)), into,
                                           extent=low.shape_of(rows)[1], grain=CACHE_LINE, node=node))  # fmt: skip


lower("add", add, add_grad, _ends_alike)
lower("embedding", embedding, embedding_back, lambda low, node: whole_numbers(low, node.operands[0]))
