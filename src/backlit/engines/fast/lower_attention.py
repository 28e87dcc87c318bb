"""Attention, written down."""

from __future__ import annotations

import math

from backlit.engines.fast.listing import Lowering
from backlit.engines.fast.lowering import FUSED, lower, nothing
from backlit.graph.graph import Node


def _parts(low: Lowering, node: Node) -> tuple[str, list[Node]]:
    """(the value that q, k and v are the thirds of, their slices), ("", []) where they are not."""
    makers = [low.graph.producer.get(i) for i in node.inputs[:3] if i]
    if any(m is None or m.rule != "slice" or low.follower(m) is not node for m in makers):
        return "", []
    slices = [m for m in makers if m is not None]
    whole, width = slices[0].operands[0], low.graph.values[slices[0].name].shape[-1]
    thirds = [(..., slice(i * width, (i + 1) * width, None)) for i in range(3)]
    alone = (
        low.consumers(whole) == sorted(slices, key=low.graph.nodes.index)
        and low.graph.values[whole].shape[-1] == 3 * width
    )
    return (whole, slices) if alone and [m.attributes["index"] for m in slices] == thirds else ("", [])


def slice_of_attention(low: Lowering, node: Node) -> bool:
    """A slice that attention reads where it lies."""
    after = low.follower(node)
    return after is not None and after.rule == "attention" and _fits(low, after) and bool(_parts(low, after)[0])


def attention(low: Lowering, node: Node) -> None:
    """Weights and their means of the values, sample by sample and head by head."""
    y, weights = map(low.value, node.outputs)
    a, mask = node.attributes, node.inputs[3]
    shown = _by_query(low, mask) if mask else y
    low.emit("attention", int(a["heads"]), int(a["causal"]), int(mask is not None), *_qkv(low, node), shown, y, weights,
             extent=math.prod(low.shape_of(weights)[:2]), node=node)  # fmt: skip


def _by_query(low: Lowering, mask: str) -> str:
    """The mask[N, S] or [N, T, S] as [N, 1 or T, S]."""
    shape = low.graph.values[mask].shape
    return low.shaped(low.value(mask), "by_query", (shape[0], math.prod(shape[1:-1]), shape[-1]))


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
    a = node.attributes
    low.emit("attention_grad", int(a["heads"]), int(a["causal"]), d, *_qkv(low, node), weights, dscores, *gradients,
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
    """q, k and v are three different values, whose gradients are all wanted."""
    given = node.inputs[:3]
    return len(set(given)) == 3 and all(map(low.wants, given))


lower("slice", nothing, nothing, slice_of_attention, FUSED)
lower("attention", attention, attention_back, _fits)
