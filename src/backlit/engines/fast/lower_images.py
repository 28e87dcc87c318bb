"""Convolution and pooling of images, written down."""

from __future__ import annotations

import math

from backlit.engines.fast.listing import CACHE_LINE, Lowering, identifier
from backlit.engines.fast.lowering import lower
from backlit.graph.graph import Node

TILE = 128
"""Places of an image whose patches are cut out together, at most: what fits a core's cache."""
SCRATCH = 1 << 16
"""Entries of the patches of a tile, about."""


def _geometry(node: Node, W: tuple[int, ...]) -> tuple[int, ...]:
    """kh, kw, sh, sw, top, left, dh, dw of a convolution."""
    a = node.attributes
    (top, _), (left, _) = a["padding"]
    return (*W[1:3], *a["stride"], top, left, *a["dilation"])


def _patches(low: Lowering, node: Node, size: int, places: int) -> str:
    """The scratch of all chunks: [chunks, places, kh·kw·C]."""
    tile = min(TILE, max(16, SCRATCH // size), places)
    return low.scratch(node, "patches", (low.chunks, tile, size))


def conv2d(low: Lowering, node: Node) -> None:
    """z = x * W + b; a relu that follows alone is done by the same kernel, in place."""
    x, W, b = node.inputs
    shape, z = low.graph.values[str(W)].shape, low.value(node.name)
    size, (_, rows, columns, filters) = math.prod(shape[1:]), low.shape_of(z)
    after = low.follower(node)
    relu = after if after is not None and after.rule == "relu" else None
    if relu is not None:
        low.done.add(relu.name)
        low.same(identifier(relu.name), z, low.shape_of(z))
    flat = low.shaped(low.value(W), "flat_filters", (filters, size))
    turned = low.buffer(f"{low.value(W)}_turned", (size, filters))
    low.emit("transpose", flat, turned, extent=size, grain=CACHE_LINE, node=node)
    bias = low.value(b) if b else _zeros(low, filters)
    low.emit("conv2d", low.chunks, int(relu is not None), low.value(x), turned, bias, z,
             _patches(low, node, size, rows * columns), *_geometry(node, shape), extent=low.chunks,
             flops=2 * low.size(z) * size, node=node, also=(relu.name,) if relu else ())  # fmt: skip


def _zeros(low: Lowering, size: int) -> str:
    """A bias of zeros."""
    name = low.buffer(f"zeros{size}", (size,))
    low.entries("fill", name, 0.0)
    return name


def conv2d_back(low: Lowering, node: Node) -> None:
    """dW, db and dx; the gradient of the bias is the sum of δ over all places."""
    x, W, b = node.inputs
    shape, d = low.graph.values[str(W)].shape, low.grad(node.name)
    size, (_, rows, columns, filters) = math.prod(shape[1:]), low.shape_of(d)
    patches, geometry = _patches(low, node, size, rows * columns), _geometry(node, shape)
    work, chunks = 2 * low.size(d) * size, low.chunks
    if low.wants(W):
        parts = low.scratch(node, "dW", (chunks, filters, size))
        low.emit("conv2d_weights_grad", chunks, d, low.value(x), parts, patches, *geometry, extent=chunks, flops=work,
                 node=node)  # fmt: skip
        low.share(W, lambda into: _sum_chunks(low, node, parts, into))
    if low.wants(b):
        sum_rows(low, node, d, str(b))
    if low.wants(x):
        flat = low.shaped(low.value(W), "flat_filters", (filters, size))
        low.share(x, lambda into: low.emit("conv2d_images_grad", chunks, d, flat, into, patches, *geometry,
                                           extent=chunks, flops=work, node=node))  # fmt: skip


def sum_rows(low: Lowering, node: Node, d: str, vector: str) -> None:
    """∂L/∂vector = Σ over the rows of ``d``, in chunks of the rows."""
    rows = low.rows(d)
    parts = low.scratch(node, f"sums_{identifier(vector)}", (low.chunks, low.shape_of(rows)[1]))
    low.emit("sum_rows_in_chunks", rows, parts, extent=low.chunks, node=node)
    low.share(vector, lambda into: _sum_chunks(low, node, parts, into))


def _sum_chunks(low: Lowering, node: Node, parts: str, into: str) -> None:
    chunks, size = low.shape_of(parts)[0], low.size(into)
    flat = low.shaped(parts, "by_chunk", (chunks, size))
    low.emit("sum_chunks", flat, low.flat(into), extent=size, grain=CACHE_LINE, node=node)


def max_pool(low: Lowering, node: Node) -> None:
    """The maximum of each window and its place."""
    (x,) = node.operands
    y, at = map(low.value, node.outputs)
    low.emit("max_pool2d", low.value(x), y, at, *_window(node), extent=low.shape_of(y)[0], node=node)


def max_pool_back(low: Lowering, node: Node) -> None:
    """Every maximum's place takes its δ."""
    (x,) = node.operands
    d, at = low.grad(node.name), low.value(node.outputs[1])
    low.share(x, lambda into: low.emit("max_pool2d_grad", d, at, into, *_window(node), extent=low.shape_of(d)[0],
                                       node=node))  # fmt: skip


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
    return (*node.attributes["kernel"], *node.attributes["stride"])


def _unpadded(_: Lowering, node: Node) -> bool:
    return all(width == 0 for pair in node.attributes["padding"] for width in pair)


lower("conv2d", conv2d, conv2d_back, lambda _, node: node.attributes["groups"] == 1)
lower("max_pool2d", max_pool, max_pool_back, _unpadded)
lower("avg_pool2d", avg_pool, avg_pool_back, _unpadded)
lower("mean", mean, mean_back, _over_places)
