"""Entries carried to other places, written down: transpose, slice, pad, broadcast_to, stack, take, stop_gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from backlit.core.types import Shape
from backlit.engines.fast.listing import CACHE_LINE, Lowering, identifier
from backlit.engines.fast.lower_reductions import sum_over
from backlit.engines.fast.lowering import GENERAL, Write, lower, nothing, whole_numbers
from backlit.engines.fast.patterns import Pattern, pattern, strides
from backlit.graph.graph import Node
from backlit.rules._arrays import normal_axes
from backlit.rules.indexing import _placed as placed


def taken(low: Lowering, node: Node) -> Pattern | None:
    """Where what a node gives, or for ``pad`` what it is given, lies in the other; None where no pattern says it."""
    shape, made = low.graph.values[node.operands[0]].shape, low.graph.values[node.name].shape
    return _PATTERNS[node.rule](shape, made, node.attributes) if math.prod(made) * math.prod(shape) else None


def _transposed(shape: Shape, made: Shape, attributes: Mapping[str, Any]) -> Pattern | None:
    steps, axes = strides(shape), normal_axes(attributes["axes"], len(shape))
    return pattern(0, made, tuple(steps[k] for k in axes))


def _sliced(shape: Shape, _: Shape, attributes: Mapping[str, Any]) -> Pattern | None:
    chosen = [i for i in placed(attributes["index"], shape) if i is not None]
    ranges = [i if isinstance(i, range) else range(i, i + 1) for i in chosen]
    first = sum(r.start * step for r, step in zip(ranges, strides(shape), strict=True))
    steps = tuple(r.step * step for r, step in zip(ranges, strides(shape), strict=True))
    return pattern(first, tuple(map(len, ranges)), steps)


def _padded(shape: Shape, made: Shape, attributes: Mapping[str, Any]) -> Pattern | None:
    steps, widths = strides(made), attributes["widths"]
    first = sum(before * step for (before, _), step in zip(widths, steps, strict=True))
    return pattern(first, shape, steps)


def _stretched(shape: Shape, made: Shape, _: Mapping[str, Any]) -> Pattern | None:
    steps, lead = strides(shape), len(made) - len(shape)
    return pattern(0, made, (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(shape, steps, strict=True)))


_PATTERNS: dict[str, Callable[[Shape, Shape, Mapping[str, Any]], Pattern | None]] = {
    "transpose": _transposed, "slice": _sliced, "pad": _padded, "broadcast_to": _stretched,
}  # fmt: skip


def _emit(low: Lowering, node: Node, kernel: str, source: str, into: str) -> None:
    it = taken(low, node)
    assert it is not None
    low.emit(kernel, low.flat(source), low.flat(into), *it.numbers, extent=it.rows, node=node)


def take_pattern(low: Lowering, node: Node) -> None:
    """What is given, at other places."""
    _emit(low, node, "take_pattern", low.value(node.operands[0]), low.value(node.name))


def take_pattern_back(low: Lowering, node: Node) -> None:
    """δ back to where its entries came from; where they did not cover all, the rest is 0."""
    (x,) = node.operands

    def write(into: str) -> None:
        if low.size(into) > low.size(low.grad(node.name)):
            low.entries("fill", into, 0.0, node=node)
        _emit(low, node, "put_pattern", low.grad(node.name), into)

    low.share(x, write)


def pad(low: Lowering, node: Node) -> None:
    """What is given, and the value around it."""
    y = low.value(node.name)
    low.entries("fill", y, float(node.attributes["value"]), node=node)
    _emit(low, node, "put_pattern", low.value(node.operands[0]), y)


def pad_back(low: Lowering, node: Node) -> None:
    """δ within."""
    low.share(node.operands[0], lambda into: _emit(low, node, "take_pattern", low.grad(node.name), into))


def broadcast_to_back(low: Lowering, node: Node) -> None:
    """The sum over where an entry was stretched to."""
    d = low.grad(node.name)
    low.share(node.operands[0], lambda into: sum_over(low, node, d, into))


def stop_gradient(low: Lowering, node: Node) -> None:
    """The same buffer."""
    low.same(identifier(node.name), low.value(node.operands[0]), low.graph.values[node.name].shape)


# --- stack, take ------------------------------------------------------------------------------------------------------


def stack(low: Lowering, node: Node) -> None:
    """Each part into its columns of the whole."""
    whole, width = _columns(low, node, low.value(node.name))
    for i, name in enumerate(node.operands):
        part = _part(low, low.value(name), width)
        low.emit("put_columns", part, whole, i * width, extent=low.shape_of(part)[0], node=node)


def stack_back(low: Lowering, node: Node) -> None:
    """Each part's columns of δ."""
    whole, width = _columns(low, node, low.grad(node.name))
    for i, name in enumerate(node.operands):
        if low.wants(name):
            low.share(name, lambda into, i=i: low.emit(  # type: ignore[misc]
                "take_columns", whole, i * width, _part(low, into, width), extent=low.shape_of(whole)[0],
                node=node))  # fmt: skip


def _columns(low: Lowering, node: Node, buffer: str) -> tuple[str, int]:
    """A buffer as a matrix of what lies from the new axis on, and how many columns a part has."""
    shape = low.shape_of(buffer)
    axis = int(node.attributes["axis"]) % len(shape)
    rows, columns = math.prod(shape[:axis]), math.prod(shape[axis:])
    return low.shaped(buffer, f"from_{axis}", (rows, columns)), columns // len(node.operands)


def _part(low: Lowering, buffer: str, width: int) -> str:
    return low.shaped(buffer, f"rows_of_{width}", (low.size(buffer) // max(width, 1), width))


def take(low: Lowering, node: Node) -> None:
    """Rows by their number."""
    x, indices = map(low.value, node.operands)
    rows = _rows(low, node, low.value(node.name), low.size(indices))
    low.emit("take_rows", _rows(low, node, x), low.flat(indices), rows, extent=math.prod(low.shape_of(rows)[:2]),
             node=node)  # fmt: skip


def take_back(low: Lowering, node: Node) -> None:
    """Each row's gradient, the sum over where it was taken."""
    x, indices = node.operands
    d, numbers = low.grad(node.name), low.flat(low.value(indices))
    rows = _rows(low, node, d, low.size(numbers))
    low.share(x, lambda into: low.emit("take_rows_grad", rows, numbers, _rows(low, node, into),
                                       extent=low.shape_of(rows)[2], grain=CACHE_LINE, node=node))  # fmt: skip


def _rows(low: Lowering, node: Node, buffer: str, count: int | None = None) -> str:
    """A buffer as [before the axis, the axis, behind it]."""
    shape = low.graph.values[node.operands[0]].shape
    axis = int(node.attributes["axis"]) % len(shape)
    whole = (math.prod(shape[:axis]), shape[axis] if count is None else count, math.prod(shape[axis + 1 :]))
    return low.shaped(buffer, f"rows_along_{axis}", whole)


def _has_pattern(low: Lowering, node: Node) -> bool:
    return taken(low, node) is not None


def _has_entries(low: Lowering, node: Node) -> bool:
    return math.prod(low.graph.values[node.name].shape) > 0


_WAYS: dict[str, tuple[Write, Write]] = {
    "transpose": (take_pattern, take_pattern_back),
    "slice": (take_pattern, take_pattern_back),
    "broadcast_to": (take_pattern, broadcast_to_back),
    "pad": (pad, pad_back),
}
for _rule, _ways in _WAYS.items():
    lower(_rule, *_ways, _has_pattern, GENERAL)
lower("stack", stack, stack_back, _has_entries)
lower("take", take, take_back, lambda low, node: _has_entries(low, node) and whole_numbers(low, node.operands[1]))
lower("stop_gradient", stop_gradient, nothing)
