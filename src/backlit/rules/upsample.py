"""Up-sampling of images by whole factors: each entry repeated, or in between a straight line from centre to centre.

Shapes: x[N, H, W, C] -> y[N, H·scale[0], W·scale[1], C]. In upsample_bilinear2d an entry is a square, and row i of the
output has its centre at (i + 1/2) / scale - 1/2 in rows of the input, held within the image (PyTorch's and TensorFlow's
``align_corners=False``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._windows import check_axes
from backlit.rules.base import Case, rule
from backlit.rules.conv import Pair
from backlit.rules.pooling import resampled


def nearest_forward(xp: Namespace, x: Array, *, scale: Pair) -> Array:
    blocks = xp.broadcast_to(x[:, :, None, :, None, :], _blocks(x.shape, scale))
    return xp.reshape(blocks, shapes("upsample_nearest2d", x.shape, scale=scale))


def nearest_backward(xp: Namespace, dy: Array, *, x_shape: Shape, scale: Pair) -> Array:
    return xp.sum(xp.reshape(dy, _blocks(x_shape, scale)), axis=(2, 4))


def _blocks(x: Shape, scale: Pair) -> Shape:
    n, h, w, c = x
    return (n, h, scale[0], w, scale[1], c)


def bilinear_forward(xp: Namespace, x: Array, *, scale: Pair) -> Array:
    return resampled(xp, x, *map(lines, x.shape[1:-1], scale))


def bilinear_backward(xp: Namespace, dy: Array, *, x_shape: Shape, scale: Pair) -> Array:
    return resampled(xp, dy, *(matrix.T for matrix in map(lines, x_shape[1:-1], scale)))


def lines(n: int, factor: int) -> Array:
    """The weights of ``n`` entries in n·factor of the output: row i is a tent over its centre."""
    centres = np.clip((np.arange(n * factor) + 0.5) / factor - 0.5, 0, n - 1)
    return np.clip(1 - np.abs(centres[:, None] - np.arange(n)), 0, None)


def shapes(name: str, x: Shape, *, scale: Shape) -> Shape:
    check_axes(name, x, "N, H, W, C")
    if len(scale) != 2 or min(scale) < 1:
        raise InputError("rule_option", rule=name, option="scale", expected="2 × (1, 2, 3, …)", got=str(scale))
    return (x[0], x[1] * scale[0], x[2] * scale[1], x[3])


def cases(rng: Any) -> Iterator[Case]:
    for label, shape, scale in (
        ("twice", (2, 2, 3, 2), (2, 2)),
        ("by another factor in each direction", (1, 3, 2, 1), (1, 3)),
        ("one pixel", (1, 1, 1, 2), (3, 2)),
        ("no samples", (0, 2, 2, 1), (2, 2)),
    ):
        yield Case(label, x=rng.normal(size=shape), scale=scale)


upsample_nearest2d = rule(
    "upsample_nearest2d",
    nearest_forward,
    nearest_backward,
    shapes=partial(shapes, "upsample_nearest2d"),
    formulas=(
        "y[n,i,j,c] = x[n, floor(i/scale[0]), floor(j/scale[1]), c]",
        "dx[n,h,w,c] = Sum(p < scale[0], q < scale[1], dy[n, h*scale[0] + p, w*scale[1] + q, c])",
    ),
    cases=cases,
    source="Long, Shelhamer, Darrell: Fully convolutional networks for semantic segmentation, CVPR 2015",
)

_TENTS = (
    "max(1 - abs(min(max((i + 0.5)/scale[0] - 0.5, 0), Count(h) - 1) - h), 0)"
    " * max(1 - abs(min(max((j + 0.5)/scale[1] - 0.5, 0), Count(w) - 1) - w), 0)"
)

upsample_bilinear2d = rule(
    "upsample_bilinear2d",
    bilinear_forward,
    bilinear_backward,
    shapes=partial(shapes, "upsample_bilinear2d"),
    formulas=(
        f"y[n,i,j,c] = Sum(h, w, {_TENTS} * x[n,h,w,c])",
        f"dx[n,h,w,c] = Sum(i, j, {_TENTS} * dy[n,i,j,c])",
    ),
    cases=cases,
    source="Long, Shelhamer, Darrell: Fully convolutional networks for semantic segmentation, CVPR 2015",
)
