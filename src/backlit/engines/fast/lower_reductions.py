"""Sums, means, maxima and softmax along axes, written down."""

from __future__ import annotations

import math

from backlit.core.types import Shape
from backlit.engines.fast.listing import CACHE_LINE, Lowering
from backlit.engines.fast.lowering import GENERAL, Write, lower
from backlit.engines.fast.patterns import pattern, runs, strides
from backlit.graph.graph import Node
from backlit.rules._arrays import normal_axes

# --- sums -------------------------------------------------------------------------------------------------------------


def sum_over(low: Lowering, node: Node, source: str, into: str, scale: float = 1.0, shape: Shape | None = None) -> None:
    """into = scale Σ source over the axes that ``into`` lacks or has with size 1 (in ``shape``), last ones first."""
    whole = low.shape_of(source)
    kept = low.shape_of(into) if shape is None else shape
    kept = (1,) * (len(whole) - len(kept)) + kept
    axes = runs(whole, [n != m for n, m in zip(whole, kept, strict=True)])
    over = [k for k, (_, gone) in enumerate(axes) if gone]
    if not over:
        low.emit("scaled", low.flat(source), low.flat(into), float(scale), extent=low.size(into), grain=CACHE_LINE,
                 node=node)  # fmt: skip
    while over:
        k = over.pop()
        before, middle, behind = math.prod(n for n, _ in axes[:k]), axes[k][0], math.prod(n for n, _ in axes[k + 1 :])
        made = low.scratch(node, f"sum{k}_into_{into}", (before, behind)) if over else into
        _sum(low, node, source, (before, middle, behind), made, 1.0 if over else scale)
        source, axes = made, [*axes[:k], *axes[k + 1 :]]


def _sum(low: Lowering, node: Node, source: str, sizes: tuple[int, int, int], into: str, scale: float) -> None:
    before, middle, behind = sizes
    if behind == 1:
        low.emit("sum_last", low.shaped(source, f"rows_of_{middle}", (before, middle)), low.flat(into), float(scale),
                 extent=before, node=node)  # fmt: skip
        return
    columns = int(before < behind)
    low.emit("sum_middle", columns, low.shaped(source, f"by_{before}_{middle}", sizes),
             low.shaped(into, f"of_{before}", (before, behind)), float(scale), extent=behind if columns else before,
             grain=CACHE_LINE if columns else 1, node=node)  # fmt: skip


def stretch(low: Lowering, node: Node, source: str, kept: Shape, into: str) -> None:
    """into = source, of shape ``kept`` with axes of size 1 that are stretched."""
    steps = tuple(0 if n == 1 else s for n, s in zip(kept, strides(kept), strict=True))
    it = pattern(0, low.shape_of(into), steps)
    assert it is not None
    low.emit("take_pattern", low.flat(source), low.flat(into), *it.numbers, extent=it.rows, node=node)


def _kept(low: Lowering, node: Node) -> Shape:
    """The shape of what a reduction gives, with size 1 where it has reduced."""
    shape = low.graph.values[node.operands[0]].shape
    axes = normal_axes(node.attributes["axis"], len(shape))
    return tuple(1 if k in axes else n for k, n in enumerate(shape))


def _share(low: Lowering, node: Node) -> float:
    """What a sum is multiplied with: 1, for a mean one over the number of entries."""
    size = math.prod(low.graph.values[node.operands[0]].shape)
    return math.prod(_kept(low, node)) / size if node.rule == "mean" else 1.0


def reduce(low: Lowering, node: Node) -> None:
    """The sum or mean over the axes."""
    sum_over(low, node, low.value(node.operands[0]), low.value(node.name), _share(low, node), _kept(low, node))


def reduce_back(low: Lowering, node: Node) -> None:
    """δ for every entry, its share of it for a mean."""
    d, share = low.grad(node.name), _share(low, node)
    if share != 1.0:
        part = low.scratch(node, "share", low.shape_of(d))
        low.emit("scaled", low.flat(d), low.flat(part), share, extent=low.size(d), grain=CACHE_LINE, node=node)
        d = part
    low.share(node.operands[0], lambda into: stretch(low, node, d, _kept(low, node), into))


def _can_stretch(low: Lowering, node: Node) -> bool:
    shape, kept = low.graph.values[node.operands[0]].shape, _kept(low, node)
    return math.prod(shape) > 0 and pattern(0, shape, tuple(0 if n == 1 else s for n, s in zip(
        kept, strides(kept), strict=True))) is not None  # fmt: skip


# --- maxima -----------------------------------------------------------------------------------------------------------


def _sizes(low: Lowering, node: Node) -> tuple[int, int, int] | None:
    """Entries before, in and behind the axes that are reduced; None where these are not neighbours."""
    shape, kept = low.graph.values[node.operands[0]].shape, _kept(low, node)
    axes = runs(shape, [n != m for n, m in zip(shape, kept, strict=True)])
    over = [k for k, (_, gone) in enumerate(axes) if gone]
    if len(over) != 1 or math.prod(shape) == 0:
        return None
    (k,) = over
    return math.prod(n for n, _ in axes[:k]), axes[k][0], math.prod(n for n, _ in axes[k + 1 :])


def _extremum(low: Lowering, node: Node, *buffers: str) -> tuple[int, int, list[str]]:
    """(by columns or rows, how many, x and what is like it as [A, B, C], y and what is like it as [A, C])."""
    sizes = _sizes(low, node)
    assert sizes is not None
    before, middle, behind = sizes
    shaped = [
        low.shaped(b, f"by_{before}_{middle}", sizes) if low.size(b) == math.prod(sizes) and middle > 1
        else low.shaped(b, f"of_{before}", (before, behind)) for b in buffers
    ]  # fmt: skip
    columns = int(before < behind)
    return columns, behind if columns else before, shaped


def extremum(low: Lowering, node: Node) -> None:
    """The largest or smallest entry along the axes."""
    columns, extent, (x, y) = _extremum(low, node, low.value(node.operands[0]), low.value(node.name))
    low.emit("extremum", columns, 1.0 if node.rule == "max" else -1.0, x, y, extent=extent,
             grain=CACHE_LINE if columns else 1, node=node)  # fmt: skip


def extremum_back(low: Lowering, node: Node) -> None:
    """δ to the entries that reach it, in equal parts."""
    (x,) = node.operands

    def write(into: str) -> None:
        given = (low.grad(node.name), low.value(x), low.value(node.name), into)
        columns, extent, buffers = _extremum(low, node, *given)
        low.emit("extremum_grad", columns, *buffers, extent=extent, grain=CACHE_LINE if columns else 1, node=node)

    low.share(x, write)


# --- softmax ----------------------------------------------------------------------------------------------------------


def _along_rows(low: Lowering, node: Node, x: str) -> str:
    """A buffer as rows of what is reduced or normalised."""
    shape = low.graph.values[node.operands[0]].shape
    width = math.prod(shape[k] for k in normal_axes(node.attributes["axis"], len(shape)))
    return low.shaped(x, f"rows_of_{width}", (math.prod(shape) // width, width))


def rows(low: Lowering, node: Node) -> None:
    """Row by row."""
    x, y = _along_rows(low, node, low.value(node.operands[0])), low.value(node.name)
    into = low.flat(y) if node.rule == "logsumexp" else _along_rows(low, node, y)
    low.emit(node.rule, x, into, extent=low.shape_of(x)[0], node=node)


def rows_back(low: Lowering, node: Node) -> None:
    """Row by row, from y or, where that is one number, from x."""
    (x,), d, single = node.operands, low.grad(node.name), node.rule == "logsumexp"
    kept = _along_rows(low, node, low.value(x if single else node.name))
    given = low.flat(d) if single else _along_rows(low, node, d)
    low.share(x, lambda into: low.emit(f"{node.rule}_grad", given, kept, _along_rows(low, node, into),
                                       extent=low.shape_of(kept)[0], node=node))  # fmt: skip


def _last_axes(low: Lowering, node: Node) -> bool:
    """The axes are the last ones, and there are entries."""
    shape = low.graph.values[node.operands[0]].shape
    axes = sorted(normal_axes(node.attributes["axis"], len(shape)))
    return math.prod(shape) > 0 and axes == list(range(len(shape) - len(axes), len(shape))) and bool(axes)


_SUMS: tuple[Write, Write] = (reduce, reduce_back)
lower("sum", *_SUMS, _can_stretch, GENERAL)
lower("mean", *_SUMS, _can_stretch, GENERAL)
for _rule in ("max", "min"):
    lower(_rule, extremum, extremum_back, lambda low, node: _sizes(low, node) is not None)
for _rule in ("softmax", "log_softmax", "logsumexp"):
    lower(_rule, rows, rows_back, _last_axes)
