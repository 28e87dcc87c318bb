"""Pooling: max_pool2d, avg_pool2d and adaptive_avg_pool2d make one entry of each window of every channel.

Shapes: x[N, H, W, C] -> y[N, H', W', C]. ``kernel``, ``stride`` and ``padding`` are as in convolution, H' = ⌊(H +
before + after - kh) / stride⌋ + 1. What is padded is never the maximum, and counts as 0 in an average, as in PyTorch.
``at`` is the place of the maximum in its window, p·kw + q; of several equal ones the first, which takes the gradient.
In adaptive_avg_pool2d the image is divided into ``size`` = (H', W') parts that overlap where they do not come out even:
part i begins at ⌊i·H / H'⌋ and ends before ⌈(i + 1)·H / H'⌉.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from math import inf, prod
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._windows import check_axes, framed, overlapped, sizes, window
from backlit.rules.base import Case, rule
from backlit.rules.conv import NO_FRAME, Frame, Pair
from backlit.rules.selection import spread


def _windows(x: Array, kernel: Pair, stride: Pair) -> Iterator[Array]:
    """For each place in the window, row by row, the entries there."""
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:-1], kernel, stride, strict=True))
    for p, q in product(*map(range, kernel)):
        yield window(window(x, 1, p, rows, stride[0]), 2, q, columns, stride[1])


def _back(xp: Namespace, parts: list[list[Array]], x: Shape, *, stride: Pair, padding: Frame) -> Array:
    """The parts [p][q], one for each place in the window, added up where they came from."""
    (top, _), (left, _) = padding
    lines = [overlapped(xp, row, 2, stride=stride[1], before=left, size=x[2]) for row in parts]
    return overlapped(xp, lines, 1, stride=stride[0], before=top, size=x[1])


def shapes(name: str, x: Shape, *, kernel: Pair, stride: Pair, padding: Frame = NO_FRAME) -> Shape:
    check_axes(name, x, "N, H, W, C")
    size = sizes(name, x, kernel, stride=stride, padding=padding, dilation=(1, 1))
    if any(max(width) >= k for width, k in zip(padding, kernel, strict=True)):
        raise InputError(
            "rule_option", rule=name, option="padding", expected=f"< kernel = {kernel}", got=str(padding)
        )  # a window must not lie beside the image
    return (x[0], *size, x[3])


_WINDOWS: tuple[tuple[str, Shape, dict[str, Any]], ...] = (
    ("side by side", (2, 4, 4, 2), {"kernel": (2, 2), "stride": (2, 2)}),
    ("with a rest", (1, 5, 4, 2), {"kernel": (2, 3), "stride": (2, 3)}),
    ("overlapping, padded", (1, 4, 3, 1), {"kernel": (3, 2), "stride": (1, 1), "padding": ((1, 1), (1, 0))}),
    ("gaps", (1, 5, 5, 1), {"kernel": (2, 1), "stride": (3, 2), "padding": ((1, 0), (0, 0))}),
    ("overlapping by a part", (1, 6, 3, 1), {"kernel": (3, 3), "stride": (2, 1), "padding": ((1, 1), (1, 1))}),
    ("no samples", (0, 2, 2, 1), {"kernel": (2, 2), "stride": (2, 2)}),
)


# --- max_pool2d -------------------------------------------------------------------------------------------------------


def max_forward(
    xp: Namespace, x: Array, *, kernel: Pair, stride: Pair, padding: Frame = NO_FRAME
) -> tuple[Array, Array]:
    first, *others = _windows(framed(xp, x, padding, -inf), kernel, stride)
    y, at = first, xp.zeros(first.shape, dtype=x.dtype)
    for place, entry in enumerate(others, start=1):
        at = xp.where(entry > y, xp.full(at.shape, float(place), dtype=x.dtype), at)
        y = xp.maximum(y, entry)
    return y, at


def max_backward(
    xp: Namespace, dy: Array, *, at: Array, x_shape: Shape, kernel: Pair, stride: Pair, padding: Frame
) -> Array:
    zero = xp.zeros_like(dy)
    rows, columns = kernel
    parts = [[xp.where(at == p * columns + q, dy, zero) for q in range(columns)] for p in range(rows)]
    return _back(xp, parts, x_shape, stride=stride, padding=padding)


def max_shapes(x: Shape, *, kernel: Pair, stride: Pair, padding: Frame = NO_FRAME) -> tuple[Shape, Shape]:
    y = shapes("max_pool2d", x, kernel=kernel, stride=stride, padding=padding)
    return y, y


def max_kinks(xp: Namespace, x: Array, **attributes: Any) -> Array:
    """Where each maximum stands in its window."""
    return max_forward(xp, x, **attributes)[1]


def max_cases(rng: Any) -> Iterator[Case]:
    for label, shape, options in _WINDOWS:
        yield Case(label, x=spread(rng, shape), **options)
    tied = np.array([[[1.0, 3.0, 0.0], [3.0, 3.0, 0.0]]])[..., None]
    expect = {"y": [[[[3.0], [3.0]]]], "at": [[[[1.0], [0.0]]]], "dx": [[[[0.0], [2.0], [0.0]], [[0.0], [0.0], [0.0]]]]}
    yield Case("ties", x=tied, kernel=(2, 2), stride=(1, 1), on_kink=True, expect=expect)


_X = "x[n, i*stride[0] + p - padding[0,0], j*stride[1] + q - padding[1,0], c]"
_PLACE = "n, (h + padding[0,0] - p) / stride[0], (w + padding[1,0] - q) / stride[1], c"
_IN_WINDOW = "p < kernel[0], q < kernel[1]"

max_pool2d = rule(
    "max_pool2d",
    max_forward,
    max_backward,
    shapes=max_shapes,
    formulas=(
        f"y[n,i,j,c] = Max({_IN_WINDOW}, {_X})",
        f"at[n,i,j,c] = Min({_IN_WINDOW}, p*kernel[1] + q if {_X} == y[n,i,j,c] else kernel[0]*kernel[1])",
        f"dx[n,h,w,c] = Sum({_IN_WINDOW}, (at[{_PLACE}] == p*kernel[1] + q) * dy[{_PLACE}])",
    ),
    outputs=("y", "at"),
    kinks=max_kinks,
    kink_note="of equal maxima of a window the first, row by row, takes the gradient",
    cases=max_cases,
    source="Ranzato, Huang, Boureau, LeCun: Unsupervised learning of invariant feature hierarchies, CVPR 2007",
)


# --- avg_pool2d -------------------------------------------------------------------------------------------------------


def avg_forward(xp: Namespace, x: Array, *, kernel: Pair, stride: Pair, padding: Frame = NO_FRAME) -> Array:
    first, *others = _windows(framed(xp, x, padding), kernel, stride)
    return sum(others, first) / (kernel[0] * kernel[1])


def avg_backward(xp: Namespace, dy: Array, *, x_shape: Shape, kernel: Pair, stride: Pair, padding: Frame) -> Array:
    rows, columns = kernel
    return _back(xp, [[dy / (rows * columns)] * columns] * rows, x_shape, stride=stride, padding=padding)


def avg_cases(rng: Any) -> Iterator[Case]:
    for label, shape, options in _WINDOWS:
        yield Case(label, x=rng.normal(size=shape), **options)


avg_pool2d = rule(
    "avg_pool2d",
    avg_forward,
    avg_backward,
    shapes=partial(shapes, "avg_pool2d"),
    formulas=(
        f"y[n,i,j,c] = Sum({_IN_WINDOW}, {_X}) / (kernel[0]*kernel[1])",
        f"dx[n,h,w,c] = Sum({_IN_WINDOW}, dy[{_PLACE}]) / (kernel[0]*kernel[1])",
    ),
    cases=avg_cases,
    source="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998",
)


# --- adaptive_avg_pool2d ----------------------------------------------------------------------------------------------


def adaptive_forward(xp: Namespace, x: Array, *, size: Pair) -> Array:
    return resampled(xp, x, *map(overlaps, x.shape[1:-1], size))


def adaptive_backward(xp: Namespace, dy: Array, *, x_shape: Shape, size: Pair) -> Array:
    return resampled(xp, dy, *(matrix.T for matrix in map(overlaps, x_shape[1:-1], size)))


def overlaps(n: int, parts: int) -> Array:
    """The mean over each part of ``n`` entries, as a matrix [parts, n]: row i is 1/length inside part i."""
    i, h = np.arange(parts)[:, None], np.arange(n)[None, :]
    inside = (i * n < (h + 1) * parts) & (h * parts < (i + 1) * n)
    return inside / np.sum(inside, axis=1, keepdims=True)


def resampled(xp: Namespace, x: Array, *matrices: Array) -> Array:
    """A matrix times x along each axis from axis 1 on: y[…,i,…] = Σ_h matrix[i,h]·x[…,h,…]."""
    for axis, matrix in enumerate(matrices, start=1):
        shape = x.shape
        before, n, after = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
        found = xp.matmul(xp.asarray(matrix, dtype=x.dtype), xp.reshape(x, (before, n, after)))
        x = xp.reshape(found, (*shape[:axis], matrix.shape[0], *shape[axis + 1 :]))
    return x


def adaptive_shapes(x: Shape, *, size: Shape) -> Shape:
    check_axes("adaptive_avg_pool2d", x, "N, H, W, C")
    if len(size) != 2 or min(size) < 1 or 0 in x[1:-1]:
        expected = "2 × (1, 2, 3, …)"
        raise InputError("rule_option", rule="adaptive_avg_pool2d", option="size", expected=expected, got=str(size))
    return (x[0], *size, x[3])


def adaptive_cases(rng: Any) -> Iterator[Case]:
    for label, shape, size in (
        ("one part", (2, 3, 2, 2), (1, 1)),
        ("even parts", (2, 4, 2, 1), (2, 2)),
        ("parts that overlap", (1, 5, 4, 2), (3, 3)),
        ("more parts than entries", (1, 2, 1, 1), (3, 2)),
    ):
        yield Case(label, x=rng.normal(size=shape), size=size)


_ROWS = "i*Count(h) < (h + 1)*size[0] and h*size[0] < (i + 1)*Count(h)"
_COLUMNS = "j*Count(w) < (w + 1)*size[1] and w*size[1] < (j + 1)*Count(w)"
_LENGTHS = "(Sum(k < Count(h), {}) * Sum(l < Count(w), {}))".format(
    "i*Count(h) < (k + 1)*size[0] and k*size[0] < (i + 1)*Count(h)",
    "j*Count(w) < (l + 1)*size[1] and l*size[1] < (j + 1)*Count(w)",
)

adaptive_avg_pool2d = rule(
    "adaptive_avg_pool2d",
    adaptive_forward,
    adaptive_backward,
    shapes=adaptive_shapes,
    formulas=(
        f"y[n,i,j,c] = Sum(h, w, ({_ROWS} and {_COLUMNS}) * x[n,h,w,c]) / {_LENGTHS}",
        f"dx[n,h,w,c] = Sum(i, j, ({_ROWS} and {_COLUMNS}) * dy[n,i,j,c] / {_LENGTHS})",
    ),
    cases=adaptive_cases,
    source="He, Zhang, Ren, Sun: Spatial pyramid pooling in deep convolutional networks, ECCV 2014",
)
