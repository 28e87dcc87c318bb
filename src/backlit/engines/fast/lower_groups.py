"""Convolution in groups, of each channel by itself, and the other way round, written down.

Windows lie on an image and make a place each. A convolution goes from image to places; conv_transpose2d from places to
image, by filters whose ends are exchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from backlit.core.types import Shape
from backlit.engines.fast.listing import CACHE_LINE, Lowering, identifier
from backlit.engines.fast.lowering import GENERAL, lower
from backlit.graph.graph import Node

TILE, SCRATCH = 128, 1 << 16
"""Places whose patches are cut out together, and entries of these, at most."""


@dataclass(frozen=True)
class Windows:
    """The windows of a node; a sequence is an image of one line."""

    low: Lowering
    node: Node

    @cached_property
    def transposed(self) -> bool:
        """Whether it makes an image of places."""
        return self.node.rule == "conv_transpose2d"

    @cached_property
    def groups(self) -> int:
        """In how many groups channels and filters are divided."""
        return int(self.node.attributes["groups"])

    @cached_property
    def shape(self) -> Shape:
        """F, kh·kw, C/groups of the parameter W."""
        filters, *kernel, channels = self.low.graph.values[self.node.operands[1]].shape
        return filters, math.prod(kernel), channels

    @cached_property
    def filters(self) -> Shape:
        """How many places' channels there are, kh·kw, and the image's channels of a group."""
        filters, area, channels = self.shape
        return (channels * self.groups, area, filters // self.groups) if self.transposed else self.shape

    @cached_property
    def geometry(self) -> tuple[int, ...]:
        """kh, kw, sh, sw, top, left, dh, dw."""
        a, kernel = self.node.attributes, self.low.graph.values[self.node.operands[1]].shape[1:-1]
        if self.node.rule == "conv1d":
            return (1, *kernel, 1, a["stride"], 0, a["padding"][0], 1, a["dilation"])
        (top, _), (left, _) = a["padding"]
        return (*kernel, *a["stride"], top, left, *a["dilation"])

    @cached_property
    def alone(self) -> bool:
        """Whether every channel is a group, with one filter."""
        return self.filters[0] == self.groups and self.filters[2] == 1

    def images(self, name: str) -> str:
        """A buffer of sequences as images [N, 1, T, C]."""
        shape = self.low.shape_of(name)
        return name if len(shape) == 4 else self.low.shaped(name, "image", (shape[0], 1, *shape[1:]))

    def lines(self, name: str) -> str:
        """Images as lines [N, H, W·C]."""
        n, rows, columns, channels = self.low.shape_of(self.images(name))
        return self.low.shaped(name, "lines", (n, rows, columns * channels))

    def matrix(self, name: str, shape: Shape) -> str:
        """Filters as a matrix [F, kh·kw·C]."""
        return self.low.shaped(name, "matrix", (shape[0], math.prod(shape[1:])))

    def places_first(self) -> str:
        """The filters by the places' channels: W itself, or its ends exchanged."""
        W = self.low.value(self.node.operands[1])
        if not self.transposed:
            return self.matrix(W, self.shape)
        swapped = self.low.scratch(self.node, "swapped", self.filters)
        return self.matrix(swapped, self.filters)

    def turned(self) -> str:
        """The transpose of these filters, in which a place's channels lie side by side."""
        filters, area, own = self.filters
        return self.low.scratch(self.node, "filters", (area * own, filters))

    def prepare(self) -> None:
        """Write down how the filters are laid out, which forward and backward read."""
        low, node = self.low, self.node
        if self.transposed:
            W = low.shaped(low.value(node.operands[1]), "ends", self.shape)
            swapped = low.scratch(node, "swapped", self.filters)
            low.emit("swap_ends", self.groups, W, swapped, extent=self.filters[0], node=node)
        if self.alone or not self.transposed or low.wants(node.operands[0]):
            matrix = self.places_first()
            low.emit("transpose", matrix, self.turned(), extent=low.shape_of(matrix)[1], grain=CACHE_LINE, node=node)

    def patches(self, places: str) -> str:
        """A matrix of every chunk's own, a row for each place of a tile."""
        (_, rows, columns, _), size = self.low.shape_of(places), math.prod(self.filters[1:])
        tile = max(1, min(TILE, rows * columns, max(16, SCRATCH // size)))
        return self.low.scratch(self.node, "patches", (self.low.chunks, tile, size))

    def flops(self, places: str) -> int:
        """Of one of its products."""
        return 2 * self.low.size(places) * math.prod(self.filters[1:])

    # --- the three products --------------------------------------------------------------------------------------

    def to_places(self, image: str, places: str) -> None:
        """places = image * filters."""
        low, node, z = self.low, self.node, self.images(places)
        if self.alone:
            low.emit("depthwise_conv2d", self.lines(image), self.turned(), z, *self.geometry,
                     extent=math.prod(low.shape_of(z)[:2]), flops=self.flops(z), node=node)  # fmt: skip
            return
        low.emit("grouped_conv2d", low.chunks, self.groups, self.lines(image), self.turned(), z, self.patches(z),
                 *self.geometry, extent=low.chunks, flops=self.flops(z), node=node)  # fmt: skip

    def to_image(self, places: str, image: str) -> None:
        """The image that places are put back into."""
        low, node, d = self.low, self.node, self.images(places)
        if self.alone:
            low.emit("depthwise_conv2d_images_grad", d, self.turned(), self.lines(image), *self.geometry,
                     extent=low.shape_of(d)[0], flops=self.flops(d), node=node)  # fmt: skip
            return
        low.emit("grouped_conv2d_images_grad", low.chunks, self.groups, d, self.places_first(), self.lines(image),
                 self.patches(d), *self.geometry, extent=low.chunks, flops=self.flops(d), node=node)  # fmt: skip

    def to_filters(self, image: str, places: str, dW: str) -> None:
        """dW in chunks of the images, the chunks added in order, and laid out as the parameter is."""
        low, node, d = self.low, self.node, self.images(places)
        filters, area, own = self.filters
        shape = (area * own, filters) if self.alone else (filters, area * own)
        parts, matrix = low.scratch(node, "parts", (low.chunks, *shape)), self.matrix(dW, self.shape)
        given = (low.chunks, d, self.lines(image), parts)
        if self.alone:
            low.emit("depthwise_conv2d_weights_grad", *given, *self.geometry, extent=low.chunks, flops=self.flops(d),
                     node=node)  # fmt: skip
        else:
            low.emit("grouped_conv2d_weights_grad", low.chunks, self.groups, *given[1:], self.patches(d),
                     *self.geometry, extent=low.chunks, flops=self.flops(d), node=node)  # fmt: skip
        direct = not self.alone and not self.transposed
        total = matrix if direct else low.scratch(node, "dfilters", shape)
        low.emit("sum_chunks", low.shaped(parts, "by_chunk", (low.chunks, math.prod(shape))), low.flat(total),
                 extent=math.prod(shape), grain=CACHE_LINE, node=node)  # fmt: skip
        if self.alone:
            low.emit("transpose", total, matrix, extent=filters, grain=CACHE_LINE, node=node)
        elif self.transposed:
            low.emit("swap_ends", self.groups, low.shaped(total, "ends", self.filters),
                     low.shaped(dW, "ends", self.shape), extent=self.shape[0], node=node)  # fmt: skip


def convolution(low: Lowering, node: Node) -> None:
    """z = x * W + b; a relu that follows alone is done with the bias, in place."""
    it, (x, _, b), z, after = Windows(low, node), node.inputs, low.value(node.name), low.follower(node)
    it.prepare()
    (it.to_image if it.transposed else it.to_places)(low.value(x), z)
    relu = after if b is not None and after is not None and after.rule == "relu" else None
    if relu is not None:
        low.done.add(relu.name)
        low.same(identifier(relu.name), z, low.shape_of(z))
    if b is not None:
        rows = low.rows(z)
        low.emit("add_bias", int(relu is not None), rows, low.value(b), extent=low.shape_of(rows)[0], node=node,
                 also=(relu.name,) if relu else ())  # fmt: skip


def convolution_back(low: Lowering, node: Node) -> None:
    """dW, db and dx."""
    it, (x, W, b), d = Windows(low, node), node.inputs, low.grad(node.name)
    if low.wants(W):
        image, places = (d, low.value(x)) if it.transposed else (low.value(x), d)
        low.share(W, lambda dW: it.to_filters(image, places, dW))
    if low.wants(b):
        rows = low.rows(d)
        low.share(b, lambda db: low.emit("sum_rows", rows, db, extent=low.size(db), grain=CACHE_LINE, node=node))
    if low.wants(x):
        low.share(x, lambda dx: (it.to_places if it.transposed else it.to_image)(d, dx))


def _has_entries(low: Lowering, node: Node) -> bool:
    return math.prod(low.graph.values[node.name].shape) > 0


for _rule in ("conv1d", "conv2d", "conv_transpose2d"):
    lower(_rule, convolution, convolution_back, _has_entries, GENERAL)
