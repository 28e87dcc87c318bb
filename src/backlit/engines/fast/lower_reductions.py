"""Sums, means, maxima and softmax along axes, written down."""

from __future__ import annotations

import math

from backlit.core.types import Shape
from backlit.engines.fast.listing import CACHE_LINE, Lowering
from backlit.engines.fast.lowering import GENERAL, Write, lower
from backlit.engines.fast.patterns import Pattern, pattern, runs, strides
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


def _sizes(low: Lowering, node: Node) -> tuple[int, int, int]:
    """Entries before, in and behind the axes that are reduced; of axes apart their rows, carried to where they lie."""
    shape, kept = low.graph.values[node.operands[0]].shape, _kept(low, node)
    axes = runs(shape, [n != m for n, m in zip(shape, kept, strict=True)])
    over = [k for k, (_, gone) in enumerate(axes) if gone] or [len(axes)]
    if len(over) > 1:
        return (*_box(low, node), 1)
    sizes = [n for n, _ in axes]
    return math.prod(sizes[: over[0]]), math.prod(sizes[over[0] : over[0] + 1]), math.prod(sizes[over[0] + 1 :])


def _apart(low: Lowering, node: Node) -> bool:
    """Whether the axes that are reduced have others in between."""
    return _sizes(low, node)[2] == 1 and not _in_place(low, node)


def _emit(low: Lowering, node: Node, kernel: str, number: float | None, *buffers: tuple[str, bool]) -> None:
    """A call on buffers as [A, B, C], or as [A, C] where they are reduced; in shares of rows or of columns."""
    before, middle, behind = sizes = _sizes(low, node)
    whole = [b for b, reduced in buffers if not reduced]
    if _apart(low, node):
        there = [_along_rows(low, node, b, f"rows{k}", filled=k == 0) for k, b in enumerate(whole)]
    else:
        there = whole
    boxes = [
        low.shaped(b, f"reduced_{before}", (before, behind)) if reduced
        else low.shaped(there[whole.index(b)], f"by_{before}_{middle}", sizes) for b, reduced in buffers
    ]  # fmt: skip
    columns, numbers = int(before < behind), [] if number is None else [number]
    low.emit(kernel, columns, *numbers, *boxes, extent=behind if columns else before,
             grain=CACHE_LINE if columns else 1, node=node)  # fmt: skip
    if _apart(low, node) and len(whole) > 1:
        _back(low, node, there[1], whole[1])


def extremum(low: Lowering, node: Node) -> None:
    """The largest or smallest entry along the axes."""
    x, y = low.value(node.operands[0]), low.value(node.name)
    _emit(low, node, "extremum", 1.0 if node.rule == "max" else -1.0, (x, False), (y, True))


def extremum_back(low: Lowering, node: Node) -> None:
    """δ to the entries that reach it, in equal parts."""
    (x,), d, y = node.operands, low.grad(node.name), low.value(node.name)
    low.share(x, lambda into: _emit(low, node, "extremum_grad", None, (d, True), (low.value(x), False), (y, True),
                                    (into, False)))  # fmt: skip


def _of_variance(low: Lowering, node: Node) -> float:
    """One over the number of entries less the correction."""
    return 1.0 / (_sizes(low, node)[1] - float(node.attributes["correction"]))


def variance(low: Lowering, node: Node) -> None:
    """The mean square of what lies off the mean."""
    x, y = low.value(node.operands[0]), low.value(node.name)
    _emit(low, node, "variance", _of_variance(low, node), (x, False), (y, True))
    if node.rule == "std":
        low.entries("sqrt", y, y, node=node)


def variance_back(low: Lowering, node: Node) -> None:
    """δ for every entry by how far it lies off the mean."""
    (x,), d, y = node.operands, low.grad(node.name), low.value(node.name)
    if node.rule == "std":
        d = low.scratch(node, "dvar", low.shape_of(y))
        low.entries("half_over", low.grad(node.name), y, d, node=node)
    low.share(x, lambda into: _emit(low, node, "variance_grad", _of_variance(low, node), (d, True),
                                    (low.value(x), False), (y, True), (into, False)))  # fmt: skip


# --- softmax ----------------------------------------------------------------------------------------------------------


def _order(low: Lowering, node: Node) -> tuple[Shape, list[int]]:
    """(shape, its axes: first those that stay, then those that are reduced or normalised over)."""
    shape = low.graph.values[node.operands[0]].shape
    over = normal_axes(node.attributes["axis"], len(shape))
    return shape, [k for k in range(len(shape)) if k not in over] + sorted(over)


def _lines(low: Lowering, node: Node) -> Pattern | None:
    """Where the entries of one row after the other lie."""
    shape, order = _order(low, node)
    steps = strides(shape)
    return pattern(0, tuple(shape[k] for k in order), tuple(steps[k] for k in order)) if math.prod(shape) else None


def _in_place(low: Lowering, node: Node) -> bool:
    """Whether the rows lie one behind the other as they are."""
    it = _lines(low, node)
    return it is not None and it.rows == 1 and it.steps[-1] == 1


def _box(low: Lowering, node: Node) -> tuple[int, int]:
    """(rows, entries of one)."""
    shape, kept = _order(low, node)[0], _kept(low, node)
    return math.prod(kept), math.prod(shape) // math.prod(kept)


def _along_rows(low: Lowering, node: Node, buffer: str, name: str, *, filled: bool = True) -> str:
    """A buffer as rows of what is reduced or normalised; carried there where they do not lie in a row."""
    rows, width = _box(low, node)
    if _in_place(low, node):
        return low.shaped(buffer, f"rows_of_{width}", (rows, width))
    there = low.scratch(node, name, (rows, width))
    if filled:
        _carry(low, node, "take_pattern", buffer, there)
    return there


def _carry(low: Lowering, node: Node, kernel: str, source: str, into: str) -> None:
    it = _lines(low, node)
    assert it is not None
    low.emit(kernel, low.flat(source), low.flat(into), *it.numbers, extent=it.rows, node=node)


def _back(low: Lowering, node: Node, rows: str, buffer: str) -> None:
    """Rows back to where they belong, if they were carried."""
    if not _in_place(low, node):
        _carry(low, node, "put_pattern", rows, buffer)


def rows(low: Lowering, node: Node) -> None:
    """Row by row."""
    x, y = _along_rows(low, node, low.value(node.operands[0]), "x_rows"), low.value(node.name)
    single = node.rule == "logsumexp"
    into = low.flat(y) if single else _along_rows(low, node, y, "y_rows", filled=False)
    low.emit(node.rule, x, into, extent=low.shape_of(x)[0], node=node)
    if not single:
        _back(low, node, into, y)


def rows_back(low: Lowering, node: Node) -> None:
    """Row by row, from y or, where that is one number, from x."""
    (x,), d, single = node.operands, low.grad(node.name), node.rule == "logsumexp"
    kept = _along_rows(low, node, low.value(x if single else node.name), "x_rows" if single else "y_rows", filled=False)
    given = low.flat(d) if single else _along_rows(low, node, d, "dy_rows")

    def write(into: str) -> None:
        there = _along_rows(low, node, into, "dx_rows", filled=False)
        low.emit(f"{node.rule}_grad", given, kept, there, extent=low.shape_of(kept)[0], node=node)
        _back(low, node, there, into)

    low.share(x, write)


def _has_lines(low: Lowering, node: Node) -> bool:
    return _lines(low, node) is not None


_SUMS: tuple[Write, Write] = (reduce, reduce_back)
lower("sum", *_SUMS, _can_stretch, GENERAL)
lower("mean", *_SUMS, _can_stretch, GENERAL)
for _rule in ("var", "std"):
    lower(_rule, variance, variance_back, _has_lines)
for _rule in ("max", "min"):
    lower(_rule, extremum, extremum_back, _has_lines)
for _rule in ("softmax", "log_softmax", "logsumexp"):
    lower(_rule, rows, rows_back, _has_lines)
