"""Convolution of images and sequences, written down.

By patches, by turned patches, by lines that overlap, by the same with a matrix unit, or by minimal filtering.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from backlit.core.types import Shape
from backlit.engines.fast.listing import CACHE_LINE, Lowering, identifier
from backlit.engines.fast.lowering import lower
from backlit.engines.fast.split_convolution import fits, panels
from backlit.graph.graph import Node

TILE, TURNED = 128, 1024
"""Places of an image whose patches are cut out together, at most: as they are, and turned."""
SCRATCH = 1 << 16
"""Entries of the patches that are cut out together, about: what fits a core's cache."""
TILES = 64
"""Tiles of 2 × 2 places that are convolved together by minimal filtering, about."""
FEW = 8
"""Channels from which patches are long enough to be cut piece by piece, and products of matrices of them are fast."""


@dataclass(frozen=True)
class Convolution:
    """A convolution as its kernels take it; a sequence is an image of one line."""

    low: Lowering
    node: Node

    @cached_property
    def shape(self) -> Shape:
        """F, kh, kw, C of its filters."""
        filters, *kernel, channels = self.low.graph.values[self.node.operands[1]].shape
        return (filters, *[1] * (2 - len(kernel)), *kernel, channels)

    @property
    def size(self) -> int:
        """Weights of a filter."""
        return math.prod(self.shape[1:])

    @cached_property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """((top, bottom), (left, right))."""
        padding = self.node.attributes["padding"]
        return ((0, 0), padding) if self.node.rule == "conv1d" else padding

    @cached_property
    def geometry(self) -> tuple[int, ...]:
        """kh, kw, sh, sw, top, left, dh, dw."""
        a = self.node.attributes
        stride, dilation = ((1, a[k]) if self.node.rule == "conv1d" else a[k] for k in ("stride", "dilation"))
        return (*self.shape[1:3], *stride, self.padding[0][0], self.padding[1][0], *dilation)

    def images(self, name: str) -> str:
        """A buffer of sequences as images [N, 1, T, C]."""
        shape = self.low.shape_of(name)
        return name if len(shape) == 4 else self.low.shaped(name, "image", (shape[0], 1, *shape[1:]))

    def lines(self, name: str) -> str:
        """Images as lines [N, H, W·C]."""
        n, rows, columns, channels = self.low.shape_of(self.images(name))
        return self.low.shaped(name, "lines", (n, rows, columns * channels))

    @cached_property
    def places(self) -> tuple[int, int]:
        """Rows and columns of what it gives."""
        *rows, columns = self.low.graph.values[self.node.name].shape[1:-1]
        return math.prod(rows), columns

    @property
    def flops(self) -> int:
        """Of one of its three products."""
        return 2 * math.prod(self.low.graph.values[self.node.name].shape) * self.size

    @property
    def minimal(self) -> bool:
        """Whether it is one of 3 × 3 filters side by side, with enough channels for products of matrices of them."""
        side_by_side = self.geometry[:4] + self.geometry[6:] == (3, 3, 1, 1, 1, 1)
        narrow = max(max(pair) for pair in self.padding) <= 2
        return side_by_side and narrow and min(self.shape[0], self.shape[3]) >= FEW

    @property
    def side_by_side(self) -> bool:
        """Whether neighbours see lines that overlap by all but a column, with channels enough for their products."""
        rows = min(self.shape[0], self.shape[3]) >= FEW and self.places[1] >= FEW
        return rows and self.geometry[2:4] == self.geometry[6:] == (1, 1)

    @cached_property
    def split(self) -> bool:
        """Whether it and both its gradients are done by a matrix unit."""
        filters, kh, kw, channels = self.shape
        width = self.low.shape_of(self.images(self.low.value(self.node.operands[0])))[2]
        ways = (channels, filters, self.places[1]), (filters, channels, width)
        return self.low.splits and self.side_by_side and all(fits(c, f, kh, kw, wide) for c, f, wide in ways)

    @property
    def of_few(self) -> bool:
        """Whether it has few channels."""
        return self.shape[3] < FEW

    def patches(self) -> tuple[str, ...]:
        """What every chunk cuts out for a tile of places: rows of kh·kw·C entries and a 1; of few channels, turned."""
        return (self._planes(), self._turned()) if self.of_few else (self.rows("patches"),)

    def rows(self, name: str) -> str:
        """A matrix of every chunk's own, a row for each place of a tile; an image's tiles are of one size."""
        places = math.prod(self.places)
        tiles = -(-places // min(TILE, max(16, SCRATCH // (self.size + 1))))
        return self.low.scratch(self.node, name, (self.low.chunks, -(-places // tiles), self.size + 1))

    def _planes(self) -> str:
        """An image channel by channel, with what is padded."""
        kh, kw, sh, sw, _, _, dh, dw = self.geometry
        rows, columns = self.places
        size = (rows - 1) * sh + (kh - 1) * dh + 1, (columns - 1) * sw + (kw - 1) * dw + 1
        return self.low.scratch(self.node, "planes", (self.low.chunks, self.shape[3], *size))

    def _turned(self) -> str:
        rows, columns = self.places
        most = max(min(TURNED, SCRATCH // (self.size + 1)) // columns, 1)
        return self.low.scratch(self.node, "turned", (self.low.chunks, self.size + 1, min(most, rows) * columns))


def _fits(low: Lowering, node: Node) -> bool:
    return node.attributes["groups"] == 1 and math.prod(low.graph.values[node.name].shape) > 0


def convolution(low: Lowering, node: Node) -> None:
    """z = x * W + b; a relu that follows alone is done by the same kernel, in place."""
    it, b = Convolution(low, node), node.inputs[2]
    z, after = low.value(node.name), low.follower(node)
    relu = after if after is not None and after.rule == "relu" else None
    if relu is not None:
        low.done.add(relu.name)
        low.same(identifier(relu.name), z, low.shape_of(z))
    bias, also = low.value(b) if b else _zeros(low, it.shape[0]), (relu.name,) if relu else ()
    (_winograd if it.minimal else _by_patches)(it, int(relu is not None), bias, also)


def _zeros(low: Lowering, size: int) -> str:
    """A bias of zeros."""
    name = low.buffer(f"zeros{size}", (size,))
    low.entries("fill", name, 0.0)
    return name


def _by_patches(it: Convolution, relu: int, bias: str, also: tuple[str, ...]) -> None:
    low, node, filters = it.low, it.node, it.shape[0]
    x, W, z = low.value(node.operands[0]), low.value(node.operands[1]), low.value(node.name)
    turned = low.scratch(node, "filters", (it.size + 1, filters))
    low.emit("filters_and_bias", low.shaped(W, "flat_filters", (filters, it.size)), bias, turned, extent=filters,
             grain=CACHE_LINE, node=node)  # fmt: skip
    if it.side_by_side:
        _overlapping(it, relu, x, turned, z, (it.padding[0][0], it.padding[1][0]), also)
        return
    low.emit("conv2d_of_few" if it.of_few else "conv2d", low.chunks, relu, it.lines(x), turned, it.images(z),
             *it.patches(), *it.geometry, extent=low.chunks, flops=it.flops, node=node, also=also)  # fmt: skip


def _overlapping(
    it: Convolution, relu: int, x: str, turned: str, z: str, before: tuple[int, int], also: tuple[str, ...] = ()
) -> None:
    """z from images x, ``before`` lines and columns of zeros before them, by filters that lie turned."""
    low, (kh, kw, *_) = it.low, it.geometry
    _, rows, columns, filters = low.shape_of(it.images(z))
    channels, padded = low.shape_of(it.images(x))[3], _padded(it, x, rows, columns)
    kernel, split = "conv2d_side_by_side", []
    if it.split:
        kernel = "conv2d_split"
        split = [low.scratch(it.node, f"parts_of_{filters}", (panels(filters, kh, kw * channels),))]
        low.emit("filters_split", kh, kw * channels, turned, *split, node=it.node)
    low.emit(kernel, low.chunks, relu, it.lines(x), turned, *split, it.images(z), padded, kh, kw, *before,
             extent=low.chunks, flops=2 * low.size(z) * kh * kw * channels, node=it.node, also=also)  # fmt: skip


def _padded(it: Convolution, x: str, rows: int, columns: int) -> str:
    """A place for an image of x with what is padded, of every chunk's own, where it gives so many rows and columns."""
    kh, kw = it.geometry[:2]
    size = it.low.chunks, rows + kh - 1, (columns + kw - 1) * it.low.shape_of(it.images(x))[3]
    return it.low.scratch(it.node, f"padded{size[1]}x{size[2]}", size)


def convolution_back(low: Lowering, node: Node) -> None:
    """dW, db and dx."""
    it, (x, W, b) = Convolution(low, node), node.inputs
    if low.wants(W) or low.wants(b):
        _parameters(it, _winograd_parameters if it.minimal else _parameters_by_patches)
    if low.wants(x):
        low.share(x, lambda into: (_winograd_images if it.minimal else _images_by_patches)(it, into))


def _parameters(it: Convolution, write: Callable[[Convolution, str, str], None]) -> None:
    """Let ``write`` put dW and db where they are wanted, or else into a buffer of the node's own."""
    low, (_, W, b) = it.low, it.node.inputs
    own = low.scratch(it.node, "db", (it.shape[0],))
    if low.wants(W) and low.wants(b):
        low.share(W, lambda dW: low.share(b, lambda db: write(it, dW, db)))
    elif low.wants(W):
        low.share(W, lambda dW: write(it, dW, own))
    else:
        low.share(b, lambda db: write(it, low.scratch(it.node, "dW", low.graph.values[str(W)].shape), db))


def _parameters_by_patches(it: Convolution, dW: str, db: str) -> None:
    low, node, filters = it.low, it.node, it.shape[0]
    if it.side_by_side:
        _parameters_by_overlapping(it, dW, db)
        return
    d, x = it.images(low.grad(node.name)), it.lines(low.value(node.operands[0]))
    shape = (it.size + 1, filters) if it.of_few else (filters, it.size + 1)
    parts, kernel = low.scratch(node, "parts", (low.chunks, *shape)), "conv2d_of_few" if it.of_few else "conv2d"
    low.emit(f"{kernel}_weights_grad", low.chunks, d, x, parts, *it.patches(), *it.geometry, extent=low.chunks,
             flops=it.flops, node=node)  # fmt: skip
    low.emit("filters_grad", int(it.of_few), parts, low.shaped(dW, "flat_filters", (filters, it.size)), db,
             extent=filters, grain=CACHE_LINE, node=node)  # fmt: skip


def _images_by_patches(it: Convolution, dx: str) -> None:
    low, node = it.low, it.node
    if it.side_by_side:
        _images_by_overlapping(it, dx)
        return
    W = low.shaped(low.value(node.operands[1]), "flat_filters", (it.shape[0], it.size))
    low.emit("conv2d_images_grad", low.chunks, it.images(low.grad(node.name)), W, it.lines(dx), it.rows("dpatches"),
             *it.geometry, extent=low.chunks, flops=it.flops, node=node)  # fmt: skip


def _parameters_by_overlapping(it: Convolution, dW: str, db: str) -> None:
    low, node, (filters, kh, kw, _) = it.low, it.node, it.shape
    d, x = it.images(low.grad(node.name)), low.value(node.operands[0])
    rows, columns = it.places
    shape = (filters, it.size + 1) if it.split else (it.size + 1, filters)
    parts = low.scratch(node, "parts", (low.chunks, *shape))
    errors = low.scratch(node, "errors", (low.chunks, rows * (columns + kw - 1), filters))
    padded, before = _padded(it, x, rows, columns), (it.padding[0][0], it.padding[1][0])
    kernel, sums = "conv2d_side_by_side_weights_grad", []
    if it.split:
        kernel, sums = "conv2d_split_weights_grad", [low.scratch(node, "sums", (low.chunks, filters))]
    low.emit(kernel, low.chunks, d, it.lines(x), parts, padded, errors, *sums, kh, kw, *before, extent=low.chunks,
             flops=it.flops, node=node)  # fmt: skip
    low.emit("filters_grad", int(not it.split), parts, low.shaped(dW, "flat_filters", (filters, it.size)), db,
             extent=filters, grain=CACHE_LINE, node=node)  # fmt: skip


def _images_by_overlapping(it: Convolution, dx: str) -> None:
    """A convolution of δ with the filters turned round."""
    low, node, (filters, kh, kw, channels) = it.low, it.node, it.shape
    W = low.shaped(low.value(node.operands[1]), "by_place", (filters, kh * kw, channels))
    turned = low.scratch(node, "turned", (kh * kw * filters + 1, channels))
    low.emit("filters_turned_round", W, turned, extent=filters, grain=CACHE_LINE, node=node)
    before = kh - 1 - it.padding[0][0], kw - 1 - it.padding[1][0]
    _overlapping(it, 0, low.grad(node.name), turned, dx, before)


# --- 3 × 3 filters at stride 1, by minimal filtering ------------------------------------------------------------------


def _tiles(it: Convolution, channels: int, columns: int, of: str = "") -> tuple[str, str]:
    """What a thread keeps of a block of tiles: four lines and one of zeros; and a matrix for each of 16 places.

    ``columns`` is the width of what a convolution gives.
    """
    across, ending = -(-columns // 2), f"{of}{columns}x{channels}"
    tiles = max(TILES // across, 1) * across
    lines = it.low.scratch(it.node, f"lines{ending}", (it.low.chunks, 5, (2 * across + 2) * channels))
    return lines, it.low.scratch(it.node, f"tiles{ending}", (it.low.chunks, 16, tiles * channels))


def _filters(it: Convolution) -> tuple[str, str]:
    """G w Gᵀ of the filters: [16, C, F], and of the filters turned round [16, F, C]."""
    filters, _, _, channels = it.shape
    low, node = it.low, it.node
    return low.scratch(node, "U", (16, channels, filters)), low.scratch(node, "turned", (16, filters, channels))


def _winograd(it: Convolution, relu: int, bias: str, also: tuple[str, ...]) -> None:
    low, node, (filters, _, _, channels) = it.low, it.node, it.shape
    W, U = low.shaped(low.value(node.operands[1]), "nine", (filters, 9, channels)), _filters(it)
    low.emit("winograd_filters", W, *U, extent=filters, grain=CACHE_LINE, node=node)
    (top, _), (left, _) = it.padding
    _convolve(it, relu, low.value(node.operands[0]), U[0], bias, low.value(node.name), top, left, also)


def _convolve(
    it: Convolution, relu: int, x: str, U: str, bias: str, z: str, top: int, left: int, also: tuple[str, ...] = ()
) -> None:
    low, node = it.low, it.node
    (_, _, columns, filters), channels = low.shape_of(z), low.shape_of(x)[3]
    lines, V = _tiles(it, channels, columns)
    M = low.scratch(node, f"products{columns}x{filters}", (low.chunks, 16, low.shape_of(V)[2] // channels * filters))
    low.emit("winograd", low.chunks, relu, it.lines(x), U, bias, z, lines, V, M, top, left, extent=low.chunks,
             flops=8 * low.size(z) * channels, node=node, also=also)  # fmt: skip


def _winograd_parameters(it: Convolution, dW: str, db: str) -> None:
    """In chunks of the rows of tiles."""
    low, node, (filters, _, _, channels) = it.low, it.node, it.shape
    d, x, ((top, _), (left, _)) = low.grad(node.name), low.value(node.operands[0]), it.padding
    dU, dbs = (
        low.scratch(node, "dU", (low.chunks, 16, filters, channels)),
        low.scratch(node, "dbs", (low.chunks, filters)),
    )
    columns = it.places[1]
    low.emit("winograd_weights_grad", low.chunks, it.lines(d), it.lines(x), dU, dbs, *_tiles(it, channels, columns),
             *_tiles(it, filters, columns, "_d"), *it.places, top, left, extent=low.chunks,
             flops=8 * low.size(d) * channels, node=node)  # fmt: skip
    low.emit("winograd_filters_grad", dU, dbs, low.shaped(dW, "nine", (filters, 9, channels)), db, extent=filters,
             node=node)  # fmt: skip


def _winograd_images(it: Convolution, dx: str) -> None:
    """A convolution of δ with the filters turned round."""
    (top, _), (left, _) = it.padding
    zeros, turned = _zeros(it.low, it.shape[3]), _filters(it)[1]
    _convolve(it, 0, it.low.grad(it.node.name), turned, zeros, dx, 2 - top, 2 - left)


lower("conv2d", convolution, convolution_back, _fits)
lower("conv1d", convolution, convolution_back, _fits)
