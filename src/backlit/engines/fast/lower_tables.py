"""A linear layer behind an embedding, written down: what it makes of each symbol is calculated once.

z = E[ids] Wᵀ + b has as many different rows as E: T = E Wᵀ + b, z = T[ids]; and backward dT = Σ δ over where a symbol
stands, dW = dTᵀ E, db = Σ dT, dE = dT W. With 65 symbols and 2048 places the three products are 31 times smaller.
"""

from __future__ import annotations

from backlit.engines.fast.listing import CACHE_LINE, Lowering
from backlit.engines.fast.lower_dense import by_columns
from backlit.engines.fast.lowering import FUSED, lower, whole_numbers
from backlit.graph.graph import Node

SPARED = 4
"""How many times as many places as symbols there have to be."""


def linear(low: Lowering, node: Node) -> None:
    """T = E Wᵀ + b, z = T[ids]."""
    ids, table = _embedding(low, node).operands
    made, z = _table(low, node, "table"), low.rows(low.value(node.name))
    symbols, units = low.shape_of(made)
    across = by_columns(symbols, low.shape_of(low.value(table))[1], units)
    flops = 2 * low.size(low.value(node.inputs[1])) * symbols
    given = map(low.value, (table, *node.inputs[1:]))
    low.emit("linear", across, 0, *given, made, extent=units if across else symbols,
             grain=CACHE_LINE if across else 1, flops=flops, node=node)  # fmt: skip
    low.emit("embedding", low.flat(low.value(ids)), made, z, extent=low.shape_of(z)[0], node=node)


def linear_back(low: Lowering, node: Node) -> None:
    """dT, and from it dW, db and dE; the gradient by the embedding's output is not wanted by anything else."""
    before = _embedding(low, node)
    (ids, table), (_, W, b) = before.operands, node.inputs
    d, sums = low.rows(low.grad(node.name)), _table(low, node, "dtable")
    symbols, units = low.shape_of(sums)
    low.emit("embedding_grad", d, low.flat(low.value(ids)), sums, extent=units, grain=CACHE_LINE, node=node)
    low.done.add(f"d {before.name}")
    if low.wants(W):
        low.share(W, lambda into: low.emit("product_tn", 0, sums, low.value(table), into, extent=units, node=node))
    if low.wants(b) and f"d {b}" not in low.done:
        low.share(b, lambda into: low.emit("sum_rows", sums, into, extent=units, grain=8, node=node))
    if low.wants(table):
        low.share(table, lambda into: low.emit("product_nn", 0, sums, low.value(W), into, extent=symbols, node=node))


def _embedding(low: Lowering, node: Node) -> Node:
    return low.graph.producer[node.operands[0]]


def _table(low: Lowering, node: Node, name: str) -> str:
    """A place for a row of z for each symbol."""
    symbols = low.graph.values[_embedding(low, node).operands[1]].shape[0]
    return low.scratch(node, name, (symbols, low.graph.values[node.name].shape[-1]))


def _spares(low: Lowering, node: Node) -> bool:
    """x is an embedding's that nothing else reads, of few symbols, its table updated as a whole."""
    maker = low.graph.producer.get(node.operands[0])
    if maker is None or maker.rule != "embedding" or node.inputs[2] is None or low.follower(maker) is not node:
        return False
    ids, table = maker.operands
    places, symbols = low.size(low.value(ids)), low.graph.values[table].shape[0]
    return table not in low.graph.sparse and whole_numbers(low, ids) and places >= SPARED * symbols


lower("linear", linear, linear_back, _spares, FUSED)
