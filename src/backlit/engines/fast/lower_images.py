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
TILES = 64
"""Tiles of 2 × 2 places that are convolved together by minimal filtering, about."""
FEW = 8
"""Channels from which that pays."""


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
    _, W, b = node.inputs
    z, filters = low.value(node.name), low.graph.values[str(W)].shape[0]
    after = low.follower(node)
    relu = after if after is not None and after.rule == "relu" else None
    if relu is not None:
        low.done.add(relu.name)
        low.same(identifier(relu.name), z, low.shape_of(z))
    write = _winograd if _minimal(low, node) else _by_patches
    write(low, node, int(relu is not None), low.value(b) if b else _zeros(low, filters), (relu.name,) if relu else ())


def _by_patches(low: Lowering, node: Node, relu: int, bias: str, also: tuple[str, ...]) -> None:
    x, W, _ = node.inputs
    shape, z = low.graph.values[str(W)].shape, low.value(node.name)
    size, (_, rows, columns, filters) = math.prod(shape[1:]), low.shape_of(z)
    flat = low.shaped(low.value(W), "flat_filters", (filters, size))
    turned = low.buffer(f"{low.value(W)}_turned", (size, filters))
    low.emit("transpose", flat, turned, extent=size, grain=CACHE_LINE, node=node)
    low.emit("conv2d", low.chunks, relu, low.value(x), turned, bias, z, _patches(low, node, size, rows * columns),
             *_geometry(node, shape), extent=low.chunks, flops=2 * low.size(z) * size, node=node,
             also=also)  # fmt: skip


def _zeros(low: Lowering, size: int) -> str:
    """A bias of zeros."""
    name = low.buffer(f"zeros{size}", (size,))
    low.entries("fill", name, 0.0)
    return name


def conv2d_back(low: Lowering, node: Node) -> None:
    """dW, db and dx; the gradient of the bias is the sum of δ over all places."""
    if _minimal(low, node):
        _winograd_back(low, node)
        return
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


# --- 3 × 3 filters at stride 1, by minimal filtering ------------------------------------------------------------------


def _minimal(low: Lowering, node: Node) -> bool:
    """Whether a convolution is one of 3 × 3 filters side by side, with enough channels to multiply matrices of them."""
    a, W, z = node.attributes, low.graph.values[node.operands[1]].shape, low.graph.values[node.name].shape
    side_by_side = (*W[1:3], *a["stride"], *a["dilation"]) == (3, 3, 1, 1, 1, 1)
    return side_by_side and max(max(pair) for pair in a["padding"]) <= 2 and min(W[0], W[3]) >= FEW and min(z) > 0


def _tiles(low: Lowering, node: Node, channels: int, columns: int, of: str = "") -> tuple[str, str]:
    """What a thread keeps of a block of tiles: four lines and one of zeros; and a matrix for each of 16 places.

    ``columns`` is the width of what a convolution gives.
    """
    across, ending = -(-columns // 2), f"{of}{columns}x{channels}"
    tiles = max(TILES // across, 1) * across
    lines = low.scratch(node, f"lines{ending}", (low.chunks, 5, (2 * across + 2) * channels))
    return lines, low.scratch(node, f"tiles{ending}", (low.chunks, 16, tiles * channels))


def _lines(low: Lowering, images: str) -> str:
    """Images as lines [N, H, W·C]."""
    n, rows, columns, channels = low.shape_of(images)
    return low.shaped(images, "lines", (n, rows, columns * channels))


def _filters(low: Lowering, node: Node) -> tuple[str, str]:
    """G w Gᵀ of the filters: [16, C, F], and of the filters turned round [16, F, C]."""
    filters, _, _, channels = low.graph.values[node.operands[1]].shape
    return low.scratch(node, "U", (16, channels, filters)), low.scratch(node, "turned", (16, filters, channels))


def _winograd(low: Lowering, node: Node, relu: int, bias: str, also: tuple[str, ...]) -> None:
    x, W, z = low.value(node.operands[0]), low.value(node.operands[1]), low.value(node.name)
    filters, _, _, channels = low.shape_of(W)
    U = _filters(low, node)
    low.emit("winograd_filters", low.shaped(W, "nine", (filters, 9, channels)), *U, extent=filters, grain=CACHE_LINE,
             node=node)  # fmt: skip
    (top, _), (left, _) = node.attributes["padding"]
    _convolve(low, node, relu, x, U[0], bias, z, top, left, also)


def _convolve(
    low: Lowering, node: Node, relu: int, x: str, U: str, bias: str, z: str, top: int, left: int,
    also: tuple[str, ...] = (),
) -> None:  # fmt: skip
    (_, _, columns, filters), channels = low.shape_of(z), low.shape_of(x)[3]
    lines, V = _tiles(low, node, channels, columns)
    M = low.scratch(node, f"products{columns}x{filters}", (low.chunks, 16, low.shape_of(V)[2] // channels * filters))
    low.emit("winograd", low.chunks, relu, _lines(low, x), U, bias, z, lines, V, M, top, left, extent=low.chunks,
             flops=8 * low.size(z) * channels, node=node, also=also)  # fmt: skip


def _winograd_back(low: Lowering, node: Node) -> None:
    """dW and db in chunks of the rows of tiles; dx is a convolution of δ with the filters turned round."""
    x, W, b = node.inputs
    d, given, (filters, _, _, channels) = low.grad(node.name), low.value(x), low.graph.values[str(W)].shape
    _, rows, columns, _ = low.shape_of(d)
    (top, _), (left, _) = node.attributes["padding"]
    if low.wants(W) or low.wants(b):
        dU, db = (
            low.scratch(node, n, (low.chunks, *s)) for n, s in (("dU", (16, filters, channels)), ("db", (filters,)))
        )
        low.emit("winograd_weights_grad", low.chunks, _lines(low, d), _lines(low, given), dU, db,
                 *_tiles(low, node, channels, columns), *_tiles(low, node, filters, columns, "_d"), rows, columns, top,
                 left, extent=low.chunks, flops=8 * low.size(d) * channels, node=node)  # fmt: skip
        if low.wants(W):
            low.share(W, lambda into: low.emit(
                "winograd_filters_grad", dU, low.shaped(into, "nine", (filters, 9, channels)), extent=filters, node=node
            ))  # fmt: skip
        if low.wants(b):
            low.share(b, lambda into: _sum_chunks(low, node, db, into))
    if low.wants(x):
        zeros, turned = _zeros(low, channels), _filters(low, node)[1]
        low.share(x, lambda into: _convolve(low, node, 0, d, turned, zeros, into, 2 - top, 2 - left))


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
