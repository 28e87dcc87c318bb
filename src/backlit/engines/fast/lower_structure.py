"""Values side by side, and images enlarged, written down."""

from __future__ import annotations

import math
from collections.abc import Iterator

from backlit.engines.fast.listing import Lowering
from backlit.engines.fast.lowering import lower
from backlit.graph.graph import Node


def concatenate(low: Lowering, node: Node) -> None:
    """Each part into its columns of the whole."""
    whole = _columns(low, node, low.value(node.name))
    for name, first in _places(low, node):
        part = _columns(low, node, low.value(name))
        low.emit("put_columns", part, whole, first, extent=low.shape_of(part)[0], node=node)


def concatenate_back(low: Lowering, node: Node) -> None:
    """Each part's columns of δ."""
    whole = _columns(low, node, low.grad(node.name))
    rows = low.shape_of(whole)[0]
    for name, first in _places(low, node):
        if low.wants(name):
            low.share(name, lambda into, first=first: low.emit(  # type: ignore[misc]
                "take_columns", whole, first, _columns(low, node, into), extent=rows, node=node))  # fmt: skip


def _axis(low: Lowering, node: Node) -> int:
    return int(node.attributes["axis"]) % len(low.graph.values[node.name].shape)


def _columns(low: Lowering, node: Node, buffer: str) -> str:
    """A buffer as a matrix whose columns are what lies from the axis on."""
    shape, axis = low.shape_of(buffer), _axis(low, node)
    return low.shaped(buffer, f"from_{axis}", (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _places(low: Lowering, node: Node) -> Iterator[tuple[str, int]]:
    """Each part and its first column."""
    first, axis = 0, _axis(low, node)
    for name in node.operands:
        yield name, first
        first += math.prod(low.graph.values[name].shape[axis:])


def upsample_nearest(low: Lowering, node: Node) -> None:
    """Every entry a block."""
    x, y = _lines(low, low.value(node.operands[0])), _blocks(low, node, low.value(node.name))
    low.emit("upsample_nearest2d", x, y, extent=low.shape_of(x)[0], node=node)


def upsample_nearest_back(low: Lowering, node: Node) -> None:
    """The sum of each block."""
    d = _blocks(low, node, low.grad(node.name))
    low.share(node.operands[0], lambda into: low.emit(
        "upsample_nearest2d_grad", d, _lines(low, into), extent=low.shape_of(d)[0], node=node))  # fmt: skip


def _lines(low: Lowering, x: str) -> str:
    """Images as lines: [N·H, W, C]."""
    n, h, w, c = low.shape_of(x)
    return low.shaped(x, "lines", (n * h, w, c))


def _blocks(low: Lowering, node: Node, y: str) -> str:
    """Enlarged images by the lines they were made of: [N·H, scale, W, scale, C]."""
    (n, height, width, c), (p, q) = low.shape_of(y), node.attributes["scale"]
    return low.shaped(y, "blocks", (n * height // p, p, width // q, q, c))


def _alike(low: Lowering, node: Node) -> bool:
    """All of one dtype."""
    values = low.graph.values
    return len({values[name].dtype for name in (node.name, *node.operands)}) == 1


lower("concatenate", concatenate, concatenate_back, _alike)
lower("upsample_nearest2d", upsample_nearest, upsample_nearest_back)
