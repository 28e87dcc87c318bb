"""A residual sum and the layer normalisation that reads it, written down as one."""

from __future__ import annotations

from backlit.engines.fast.listing import Lowering
from backlit.engines.fast.lower_norms import eps_of, layernorm_back, scale_and_shift, sums_of_chunks
from backlit.engines.fast.lower_stretched import add_back
from backlit.engines.fast.lowering import FUSED, lower, nothing
from backlit.graph.graph import Node


def norm_of(low: Lowering, node: Node) -> Node | None:
    """The first layer norm of a sum of two values of its shape, with a scale and a shift of its own."""
    shapes = {low.graph.values[i].shape for i in (node.name, *node.operands)}
    if len(shapes) != 1 or len(set(node.operands)) != 2:
        return None
    norms = (n for n in low.consumers(node.name) if n.rule == "layernorm" and n.operands[0] == node.name)
    return next((n for n in norms if low.graph.leaves.issuperset(n.operands[1:])), None)


def add_norm(low: Lowering, node: Node) -> None:
    """h = a + b and its norm, row by row."""
    norm = norm_of(low, node)
    assert norm is not None
    low.done.add(norm.name)
    a, b, h = (low.rows(low.value(i)) for i in (*node.operands, node.name))
    y, mean, var = map(low.value, norm.outputs)
    low.emit("add_layernorm", a, b, *map(low.value, norm.operands[1:]), h, low.rows(y), low.flat(mean), low.flat(var),
             eps_of(norm), extent=low.shape_of(h)[0], node=node, also=(norm.name,))  # fmt: skip


def norm_back(low: Lowering, node: Node) -> None:
    """dh, added to what is there, dgamma and dbeta in one pass over chunks of rows."""
    h, gamma, _ = node.operands
    if not low.wants(h):
        layernorm_back(low, node)
        return
    rows, sums = low.rows(low.value(h)), sums_of_chunks(low, node)
    adding = int(h in low.written)
    low.written.add(h)
    low.emit("layernorm_all_grads", adding, low.rows(low.grad(node.name)), rows, low.value(gamma),
             *(low.flat(low.value(s)) for s in node.outputs[1:]), sums, low.rows(low.grad(h)), eps_of(node),
             extent=low.chunks, node=node)  # fmt: skip
    if any(map(low.wants, node.operands[1:])):
        scale_and_shift(low, node, sums)


def _is_of_a_sum(low: Lowering, node: Node) -> bool:
    maker = low.graph.producer.get(node.operands[0])
    return maker is not None and maker.rule == "add" and norm_of(low, maker) is node


lower("add", add_norm, add_back, lambda low, node: norm_of(low, node) is not None, FUSED)
lower("layernorm", nothing, norm_back, _is_of_a_sum, FUSED)
