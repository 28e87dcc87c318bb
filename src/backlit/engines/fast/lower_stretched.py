"""Rules of two or three arrays with broadcasting, and of one, written down."""

from __future__ import annotations

import math
from collections.abc import Callable

from backlit.core.types import Shape
from backlit.engines.fast.listing import CACHE_LINE, Lowering
from backlit.engines.fast.lower_reductions import sum_over
from backlit.engines.fast.lowering import GENERAL, Write, lower, nothing
from backlit.engines.fast.patterns import runs
from backlit.graph.graph import Node

Backward = Callable[[Lowering, Node, int, str], None]
"""Writes the gradient of the input at a position, before it is summed to its shape, into a buffer of y's shape."""

# --- shapes -----------------------------------------------------------------------------------------------------------


def groups(low: Lowering, node: Node) -> list[tuple[int, tuple[bool, ...]]] | None:
    """(size, which inputs are stretched) of neighbouring axes that are alike; None where there are more than three."""
    shape = low.graph.values[node.name].shape
    wide = [_as_wide(low.graph.values[i].shape, shape) for i in node.operands]
    kinds = [tuple(own[k] == 1 for own in wide) for k in range(len(shape))]
    found = runs(shape, kinds)
    return found if len(found) <= 3 and math.prod(shape) > 0 else None


def _as_wide(own: Shape, shape: Shape) -> Shape:
    return (1,) * (len(shape) - len(own)) + own


def _boxed(low: Lowering, node: Node, buffer: str, position: int | None) -> str:
    """A buffer as [M, K, J], 1 along the axes in which the input at ``position`` is stretched."""
    axes = groups(low, node)
    assert axes is not None
    sizes = tuple(1 if position is not None and kinds[position] else n for n, kinds in axes)
    shape = (1,) * (3 - len(sizes)) + sizes
    return low.shaped(buffer, "as_" + "_".join(map(str, shape)), shape)


def inputs(low: Lowering, node: Node) -> list[str]:
    """All inputs as boxes."""
    return [_boxed(low, node, low.value(i), k) for k, i in enumerate(node.operands)]


def emit(low: Lowering, node: Node, kernel: str, *buffers: str) -> None:
    """A call over all entries of the last buffer."""
    low.emit(kernel, *buffers, extent=low.size(buffers[-1]), grain=CACHE_LINE, node=node)


# --- forward and backward ---------------------------------------------------------------------------------------------


def entrywise(low: Lowering, node: Node) -> None:
    """y = f(a, b), or f(a, b, c)."""
    emit(low, node, f"{node.rule}_stretched", *inputs(low, node), _boxed(low, node, low.value(node.name), None))


def swapped(low: Lowering, node: Node) -> None:
    """a < b is b > a."""
    a, b = inputs(low, node)
    kernel = {"less": "greater", "less_equal": "greater_equal"}[node.rule]
    emit(low, node, f"{kernel}_stretched", b, a, _boxed(low, node, low.value(node.name), None))


def dropout(low: Lowering, node: Node) -> None:
    """y = x ⊙ mask."""
    emit(low, node, "mul_stretched", *inputs(low, node), _boxed(low, node, low.value(node.name), None))


def dropout_back(low: Lowering, node: Node) -> None:
    """dx = dy ⊙ mask."""
    low.share(node.operands[0], lambda into: _of_mul(low, node, 0, _boxed(low, node, into, None)))


def back(write: Backward, first: int = 0) -> Write:
    """The gradients of the inputs from ``first`` on: written at once, or first summed where an input is stretched."""

    def backward(low: Lowering, node: Node) -> None:
        for k, name in enumerate(node.operands[first:], first):
            if low.wants(name):
                low.share(name, lambda into, k=k: _one(low, node, write, k, into))  # type: ignore[misc]

    return backward


def _one(low: Lowering, node: Node, write: Backward, position: int, into: str) -> None:
    y = low.graph.values[node.name].shape
    if low.size(into) == math.prod(y):
        write(low, node, position, _boxed(low, node, into, None))
        return
    whole = low.scratch(node, f"d{position}", y)
    write(low, node, position, _boxed(low, node, whole, None))
    sum_over(low, node, whole, into)


def _delta(low: Lowering, node: Node) -> str:
    return _boxed(low, node, low.grad(node.name), None)


def add_back(low: Lowering, node: Node) -> None:
    """da = dy, db = ±dy, summed where they are stretched; the last of dy's size takes its place."""
    d, sign = low.grad(node.name), -1.0 if node.rule == "sub" else 1.0
    wanted = [(name, sign if k else 1.0) for k, name in enumerate(node.operands) if low.wants(name)]
    whole = [k for k, (name, by) in enumerate(wanted) if by == 1.0 and low.size(low.value(name)) == low.size(d)]
    for k, (name, by) in enumerate(wanted):
        if k not in whole[-1:]:
            low.share(name, lambda into, by=by: sum_over(low, node, d, into, by))  # type: ignore[misc]
    for k in whole[-1:]:
        low.move(wanted[k][0], d)


def _of_mul(low: Lowering, node: Node, position: int, into: str) -> None:
    emit(low, node, "mul_stretched", _delta(low, node), inputs(low, node)[1 - position], into)


def _of_div(low: Lowering, node: Node, position: int, into: str) -> None:
    b, y = inputs(low, node)[1], _boxed(low, node, low.value(node.name), None)
    given = (b,) if position == 0 else (b, y)
    emit(low, node, "div_grad_b" if position else "div_stretched", _delta(low, node), *given, into)


def _of_power(low: Lowering, node: Node, position: int, into: str) -> None:
    emit(low, node, f"power_grad_{'ab'[position]}", _delta(low, node), *inputs(low, node), into)


def _of_extremum(low: Lowering, node: Node, position: int, into: str) -> None:
    own, other = inputs(low, node)[:: -1 if position else 1]
    pair = (own, other) if node.rule == "maximum" else (other, own)
    emit(low, node, "share_above", _delta(low, node), *pair, into)


def _of_where(low: Lowering, node: Node, position: int, into: str) -> None:
    emit(low, node, "keep_if" if position == 1 else "keep_unless", inputs(low, node)[0], _delta(low, node), into)


# --- of one array -----------------------------------------------------------------------------------------------------


def _numbers(node: Node) -> list[float]:
    """The bounds of a clip."""
    if node.rule != "clip":
        return []
    low, high = node.attributes["low"], node.attributes["high"]
    return [-math.inf if low is None else float(low), math.inf if high is None else float(high)]


def of_one(kernel: str) -> tuple[Write, Write]:
    """A rule of one array and its gradient, in place of dy."""

    def forward(low: Lowering, node: Node) -> None:
        low.entries(kernel, low.value(node.operands[0]), low.value(node.name), *_numbers(node), node=node)

    def backward(low: Lowering, node: Node) -> None:
        (x,), d = node.operands, low.grad(node.name)
        low.entries(f"{kernel}_grad", d, low.value(x), *_numbers(node), node=node)
        low.move(x, d)

    return forward, backward


def negative(low: Lowering, node: Node) -> None:
    """y = -x."""
    x, y = map(low.value, (*node.operands, node.name))
    low.emit("scaled", low.flat(x), low.flat(y), -1.0, extent=low.size(y), grain=CACHE_LINE, node=node)


def negative_back(low: Lowering, node: Node) -> None:
    """dx = -dy."""
    d = low.grad(node.name)
    low.share(node.operands[0], lambda into: low.emit("scaled", low.flat(d), low.flat(into), -1.0, extent=low.size(d),
                                                      grain=CACHE_LINE, node=node))  # fmt: skip


def _boxes(low: Lowering, node: Node) -> bool:
    return groups(low, node) is not None


_OF_TWO: dict[str, Write] = {
    "add": add_back, "sub": add_back, "mul": back(_of_mul), "div": back(_of_div), "power": back(_of_power),
    "maximum": back(_of_extremum), "minimum": back(_of_extremum), "where": back(_of_where, 1),
    "greater": nothing, "greater_equal": nothing, "equal": nothing, "not_equal": nothing,
}  # fmt: skip
for _rule, _backward in _OF_TWO.items():
    lower(_rule, entrywise, _backward, _boxes, GENERAL)
for _rule in ("less", "less_equal"):
    lower(_rule, swapped, nothing, _boxes)
for _rule, _kernel in {"abs": "absolute", "clip": "cut_to", "sin": "sine", "cos": "cosine"}.items():
    lower(_rule, *of_one(_kernel))
lower("neg", negative, negative_back)
lower("dropout", dropout, dropout_back, _boxes, GENERAL)
