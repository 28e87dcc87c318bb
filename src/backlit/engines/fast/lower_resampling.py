"""Images made larger by straight lines and smaller by means of parts, written down: rows first, then columns."""

from __future__ import annotations

from backlit.core.types import Shape
from backlit.engines.fast.listing import Lowering
from backlit.engines.fast.lowering import lower
from backlit.graph.graph import Node


def _sizes(low: Lowering, node: Node) -> tuple[Shape, Shape]:
    """Shapes of what is given and made."""
    return low.graph.values[node.operands[0]].shape, low.graph.values[node.name].shape


def _by_lines(node: Node) -> int:
    return int(node.rule == "upsample_bilinear2d")


def resample(low: Lowering, node: Node) -> None:
    """Every row, then every column."""
    (n, h, w, c), (_, rows, columns, _) = _sizes(low, node)
    x, y = low.value(node.operands[0]), low.value(node.name)
    between = low.scratch(node, "rows", (n, rows, w * c))
    low.emit("resample", _by_lines(node), low.shaped(x, "lines", (n, h, w * c)), between, extent=n * rows, node=node)
    low.emit("resample", _by_lines(node), low.shaped(between, "columns", (n * rows, w, c)),
             low.shaped(y, "columns", (n * rows, columns, c)), extent=n * rows * columns, node=node)  # fmt: skip


def resample_back(low: Lowering, node: Node) -> None:
    """The columns' gradients, then the rows'."""
    (n, h, w, c), (_, rows, columns, _) = _sizes(low, node)
    d, between = low.grad(node.name), low.scratch(node, "drows", (n, rows, w * c))
    low.emit("resample_grad", _by_lines(node), low.shaped(d, "columns", (n * rows, columns, c)),
             low.shaped(between, "columns", (n * rows, w, c)), extent=n * rows, node=node)  # fmt: skip
    low.share(node.operands[0], lambda into: low.emit(
        "resample_grad", _by_lines(node), between, low.shaped(into, "lines", (n, h, w * c)), extent=n, node=node
    ))  # fmt: skip


for _rule in ("upsample_bilinear2d", "adaptive_avg_pool2d"):
    lower(_rule, resample, resample_back)
