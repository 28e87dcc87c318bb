"""Kernels of pooling against loops over windows."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_images
from engines.image_definitions import windows
from engines.kernel_calls import close, untested, wide

NONE = ((0, 0), (0, 0))
POOLS = [
    ((1, 2, 2, 1), (2, 2), (2, 2), NONE),
    ((3, 5, 4, 2), (2, 2), (2, 2), NONE),
    ((2, 5, 6, 3), (3, 2), (1, 2), NONE),
    ((1, 7, 5, 1), (2, 3), (3, 1), NONE),
    ((2, 3, 3, 17), (1, 1), (2, 2), NONE),
    ((0, 4, 4, 2), (2, 2), (2, 2), NONE),
    ((2, 4, 5, 2), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((1, 2, 3, 1), (3, 4), (1, 2), ((2, 1), (0, 3))),
]
"""(shape of x, kernel, stride, padding)."""


def seen(x, kernel, stride, padding, value):
    """What every window sees: [kh·kw, N, H', W', C], ``value`` beside the image."""
    wide = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)
    return np.stack([values for _, _, values in windows(wide, kernel, stride, NONE, (1, 1))])


def spread(shares, shape, kernel, stride, padding):
    """Shares [kh·kw, N, H', W', C] added up where the windows lie."""
    (top, _), (left, _) = padding
    dx = np.pad(np.zeros(shape), ((0, 0), *padding, (0, 0)))
    for share, (_, (h, w), _) in zip(shares, windows(dx, kernel, stride, NONE, (1, 1)), strict=True):
        np.add.at(dx, (slice(None), h[:, None], w), share)
    return dx[:, top : top + shape[1], left : left + shape[2]]


def test_every_kernel_is_tested_here():
    assert not untested(kernels_images, __file__)


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), POOLS, ids=str)
def test_max_pool(run, draw, shape, kernel, stride, padding):
    x = np.round(2 * draw(*shape)).astype(draw.dtype)  # with equal entries
    values, corner = seen(x, kernel, stride, padding, -inf), [width[0] for width in padding]
    y, at = np.full((2, *values.shape[1:]), nan, draw.dtype)
    run("max_pool2d", len(x), x, y, at, *kernel, *stride, *corner)
    assert np.array_equal(y, values.max(0))
    assert np.array_equal(at, values.argmax(0))
    for relu in (0, 1):
        d, dx = draw(*y.shape), np.full(shape, nan, draw.dtype)
        run("max_pool2d_grad", len(x), relu, d, y, at, dx, *kernel, *stride, *corner)
        first = np.arange(len(values)).reshape(-1, 1, 1, 1, 1) == values.argmax(0)
        kept = first & (y > 0) if relu else first
        close(dx, spread(np.where(kept, d.astype(float), 0.0), shape, kernel, stride, padding), draw.dtype)


def test_the_maximum_of_a_window_with_nan_is_nan(run, draw):
    x = np.array([[1.0, nan], [3.0, 2.0]], draw.dtype).reshape(1, 2, 2, 1)
    y, at = np.zeros((2, 1, 1, 1, 1), draw.dtype)
    run("max_pool2d", 1, x, y, at, 2, 2, 2, 2, 0, 0)
    assert np.isnan(y).all()


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), POOLS, ids=str)
def test_avg_pool(run, draw, shape, kernel, stride, padding):
    x = draw(*shape)
    values, corner = seen(*wide(x), kernel, stride, padding, 0.0), [width[0] for width in padding]
    y, dx = np.full(values.shape[1:], nan, draw.dtype), np.full(shape, nan, draw.dtype)
    run("avg_pool2d", len(x), x, y, *kernel, *stride, *corner)
    close(y, values.mean(0), draw.dtype)
    d = draw(*y.shape)
    run("avg_pool2d_grad", len(x), d, dx, *kernel, *stride, *corner)
    shares = np.broadcast_to(d.astype(float) / len(values), values.shape)
    close(dx, spread(shares, shape, kernel, stride, padding), draw.dtype)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (2, 33, 2)])
def test_mean_of_places(run, draw, shape):
    x, y, dx = draw(*shape), np.full((shape[0], shape[2]), nan, draw.dtype), np.full(shape, nan, draw.dtype)
    run("mean_of_places", shape[0], x, y)
    close(y, x.astype(float).mean(1), draw.dtype)
    run("mean_of_places_grad", shape[0], y, dx)
    close(dx, np.repeat(y.astype(float)[:, None] / shape[1], shape[1], 1), draw.dtype)


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_sum_chunks(run, draw, chunks):
    parts, total = draw(chunks, 7), np.full(7, nan, draw.dtype)
    run("sum_chunks", 7, parts, total)
    close(total, parts.astype(float).sum(0), draw.dtype)
