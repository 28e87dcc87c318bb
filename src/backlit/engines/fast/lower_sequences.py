"""Embedding, attention and recurrence, written down."""

from __future__ import annotations

import math

from backlit.engines.fast.listing import CACHE_LINE, Lowering, identifier
from backlit.engines.fast.lower_dense import add_back, of_two
from backlit.engines.fast.lowering import lower
from backlit.graph.graph import Node

# --- a sum with what is the same for every sample ---------------------------------------------------------------------------


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
    return a == low.graph.values[node.name].shape and 0 < len(b) and a[-len(b) :] == b and len(set(node.operands)) == 2


# --- embedding ------------------------------------------------------------------------------------------------------------


def embedding(low: Lowering, node: Node) -> None:
    """Rows of the table."""
    indices, table = map(low.value, node.operands)
    rows = low.rows(low.value(node.name))
    low.emit("embedding", low.flat(indices), table, rows, extent=low.shape_of(rows)[0], node=node)


def embedding_back(low: Lowering, node: Node) -> None:
    """Each row's gradient, the sum over where it was taken."""
    indices, table = node.operands
    rows = low.rows(low.grad(node.name))
    low.share(table, lambda into: low.emit("embedding_grad", rows, low.flat(low.value(indices)), into,
                                           extent=low.shape_of(rows)[1], grain=CACHE_LINE, node=node))  # fmt: skip


# --- attention --------------------------------------------------------------------------------------------------------------


def _parts(low: Lowering, node: Node) -> tuple[str, list[Node]]:
    """(the value that q, k and v are the thirds of, their slices), ("", []) where they are not."""
    makers = [low.graph.producer.get(i) for i in node.inputs[:3] if i]
    if any(m is None or m.rule != "slice" or low.follower(m) is not node for m in makers):
        return "", []
    slices = [m for m in makers if m is not None]
    (whole,), width = {m.operands[0] for m in slices} or {""}, low.graph.values[slices[0].name].shape[-1]
    thirds = [(..., slice(i * width, (i + 1) * width, None)) for i in range(3)]
    alone = len(low.consumers(whole)) == 3 and low.graph.values[whole].shape[-1] == 3 * width
    return (whole, slices) if alone and [m.attributes["index"] for m in slices] == thirds else ("", [])


def slice_of_attention(low: Lowering, node: Node) -> bool:
    """A slice that attention reads where it lies."""
    after = low.follower(node)
    return after is not None and after.rule == "attention" and _fits(low, after) and bool(_parts(low, after)[0])


def attention(low: Lowering, node: Node) -> None:
    """Weights and their means of the values, sample by sample and head by head."""
    y, weights = map(low.value, node.outputs)
    a = node.attributes
    low.emit("attention", int(a["heads"]), int(a["causal"]), *_qkv(low, node), y, weights,
             extent=math.prod(low.shape_of(weights)[:2]), node=node)  # fmt: skip


def attention_back(low: Lowering, node: Node) -> None:
    """dq, dk and dv, side by side where q, k and v are."""
    whole, _ = _parts(low, node)
    d, weights = low.grad(node.name), low.value(node.outputs[1])
    shape = low.shape_of(weights)
    dscores = low.scratch(node, "dscores", shape)
    if whole:
        low.written.add(whole)
        gradients = [low.grad(whole)] * 3
    else:
        gradients = [low.scratch(node, f"d{n}", low.graph.values[str(i)].shape) for n, i in zip("qkv", node.inputs, strict=False)]  # fmt: skip  # noqa: E501
    low.emit("attention_grad", int(node.attributes["heads"]), d, *_qkv(low, node), weights, dscores, *gradients,
             extent=math.prod(shape[:2]), node=node)  # fmt: skip
    for value, found in zip(node.inputs[:3], gradients, strict=True):
        if not whole and value is not None and low.wants(value):
            low.share(value, lambda into, found=found: low.entries("copy", found, into, node=node))  # type: ignore[misc]


def _qkv(low: Lowering, node: Node) -> list[str | int]:
    """Each of q, k and v as its array and the column it begins at."""
    whole, _ = _parts(low, node)
    if not whole:
        return [a for i in node.inputs[:3] for a in (low.value(i), 0)]
    width = low.graph.values[node.name].shape[-1]
    return [a for third in range(3) for a in (low.value(whole), third * width)]


def _fits(low: Lowering, node: Node) -> bool:
    """Without a mask; q, k and v three different values, whose gradients are all wanted."""
    given = node.inputs[:3]
    return node.inputs[3] is None and len(set(given)) == 3 and all(map(low.wants, given))


def _nothing(_: Lowering, __: Node) -> None:
    """Attention reads and writes in the whole that this is a slice of."""


# --- recurrence -------------------------------------------------------------------------------------------------------------


def lstm(low: Lowering, node: Node) -> None:
    """All steps of all sequences, a chunk of the sequences at a time."""
    z, U = low.value(node.inputs[0]), low.value(node.inputs[1])
    (wide, units), count = low.shape_of(U), low.shape_of(z)[0]
    turned = low.buffer(f"{U}_turned", (units, wide))
    low.emit("transpose", U, turned, extent=units, grain=CACHE_LINE, node=node)
    more = low.scratch(node, "more", (count, wide))
    low.emit("lstm", low.chunks, z, turned, *map(low.value, node.outputs), more, extent=low.chunks,
             flops=2 * low.size(z) * units, node=node)  # fmt: skip


def lstm_back(low: Lowering, node: Node) -> None:
    """δ of all gates backwards through time, then dU."""
    z, U = node.operands[:2]
    d, (count, _, units) = low.grad(node.name), low.shape_of(low.value(node.name))
    back, carried = (low.scratch(node, n, (count, units)) for n in ("back", "carried"))
    dz = low.scratch(node, "dz", low.graph.values[z].shape)
    low.emit("lstm_grad", low.chunks, d, low.value(U), *map(low.value, node.outputs), dz, back, carried,
             extent=low.chunks, flops=2 * low.size(dz) * units, node=node)  # fmt: skip
    if low.wants(U):
        h = low.value(node.name)
        low.share(U, lambda into: low.emit("recurrent_weights_grad", 0, dz, h, into, extent=4 * units, grain=CACHE_LINE,
                                           flops=2 * low.size(dz) * units, node=node))  # fmt: skip
    if low.wants(z):
        low.move(z, dz)


def _from_zero(low: Lowering, node: Node) -> bool:
    """Without initial states and mask, and with only h read by others."""
    read = {i for n in low.graph.nodes for i in n.operands} | set(low.graph.updates.values())
    return all(i is None for i in node.inputs[2:]) and read.isdisjoint(node.outputs[1:])


lower("add", add, add_grad, _ends_alike)
lower("embedding", embedding, embedding_back)
lower("slice", _nothing, _nothing, slice_of_attention)
lower("attention", attention, attention_back, _fits)
lower("lstm", lstm, lstm_back, _from_zero)
