"""Pooling of images, written down."""

from __future__ import annotations

import math

from backlit.engines.fast.listing import Lowering
from backlit.engines.fast.lowering import lower
from backlit.graph.graph import Node


def max_pool(low: Lowering, node: Node) -> None:
    """The maximum of each window and its place."""
    (x,) = node.operands
    y, at = map(low.value, node.outputs)
    low.emit("max_pool2d", low.value(x), y, at, *_window(node), extent=low.shape_of(y)[0], node=node)


def max_pool_back(low: Lowering, node: Node) -> None:
    """Every maximum's place takes its δ; behind a relu none where the maximum is 0, and the relu's gradient is done."""
    (x,) = node.operands
    maker = low.graph.producer.get(x)
    relu = maker is not None and maker.rule == "relu" and low.follower(maker) is node
    y, at, d = low.value(node.name), low.value(node.outputs[1]), low.grad(node.name)

    def write(into: str) -> None:
        low.emit("max_pool2d_grad", int(relu), d, y, at, into, *_window(node), extent=low.shape_of(d)[0], node=node)

    low.share(x, write)
    if relu and maker is not None and f"d {maker.name}" not in low.done:
        low.done.add(f"d {maker.name}")
        low.move(maker.operands[0], low.grad(x))


def avg_pool(low: Lowering, node: Node) -> None:
    """The mean of each window."""
    (x,) = node.operands
    y = low.value(node.name)
    low.emit("avg_pool2d", low.value(x), y, *_window(node), extent=low.shape_of(y)[0], node=node)


def avg_pool_back(low: Lowering, node: Node) -> None:
    """Equal shares of δ."""
    (x,) = node.operands
    d = low.grad(node.name)
    low.share(x, lambda into: low.emit("avg_pool2d_grad", d, into, *_window(node), extent=low.shape_of(d)[0],
                                       node=node))  # fmt: skip


def mean(low: Lowering, node: Node) -> None:
    """The mean over all places of an image."""
    x, y = low.value(node.operands[0]), low.value(node.name)
    low.emit("mean_of_places", _places(low, x), low.rows(y), extent=low.shape_of(x)[0], node=node)


def mean_back(low: Lowering, node: Node) -> None:
    """Equal shares of δ for all places."""
    d = low.rows(low.grad(node.name))
    low.share(node.operands[0], lambda into: low.emit("mean_of_places_grad", d, _places(low, into),
                                                      extent=low.shape_of(into)[0], node=node))  # fmt: skip


def _places(low: Lowering, x: str) -> str:
    """Images as [N, places, C]."""
    shape = low.shape_of(x)
    return low.shaped(x, "places", (shape[0], math.prod(shape[1:-1]), shape[-1]))


def _over_places(low: Lowering, node: Node) -> bool:
    """A mean over all axes between samples and channels."""
    axes, rank = node.attributes["axis"], len(low.graph.values[node.operands[0]].shape)
    return rank > 2 and isinstance(axes, tuple) and sorted(a % rank for a in axes) == list(range(1, rank - 1))


def _window(node: Node) -> tuple[int, ...]:
    """kh, kw, sh, sw, top, left."""
    a = node.attributes
    (top, _), (left, _) = a["padding"]
    return (*a["kernel"], *a["stride"], top, left)


lower("max_pool2d", max_pool, max_pool_back)
lower("avg_pool2d", avg_pool, avg_pool_back)
lower("mean", mean, mean_back, _over_places)
