"""Kernels of convolution in groups against loops over indices, in float64."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_groups
from engines.image_definitions import convolution_gradients, convolved
from engines.kernel_calls import close, untested, wide

CASES = [
    ((2, 5, 4, 4), (6, 3, 2), 2, (1, 1), ((1, 1), (1, 0)), (1, 1)),
    ((3, 6, 5, 3), (3, 2, 3), 3, (2, 1), ((0, 1), (2, 1)), (1, 2)),
    ((1, 3, 3, 6), (2, 1, 1), 1, (1, 2), ((0, 0), (0, 0)), (1, 1)),
    ((2, 1, 9, 4), (8, 1, 3), 4, (1, 1), ((0, 0), (2, 0)), (1, 1)),
]
"""(x, (F, kh, kw), groups, stride, padding, dilation)."""
UNITS, CHUNKS, TILE = 128, 2, 5


def test_every_kernel_is_tested_here():
    assert not untested(kernels_groups, __file__)


def by_group(function, groups, *arrays):
    """A function of each group's part of the arrays, which are divided along the axes given with them."""
    parts = [np.split(a, groups, axis) for a, axis in arrays]
    return [function(*own) for own in zip(*parts, strict=True)]


class Drawn:
    """A case's arrays: images as lines, filters as a matrix, and the results by definition."""

    def __init__(self, draw, x, W, groups, stride, padding, dilation):
        self.options = {"stride": stride, "padding": padding, "dilation": dilation}
        (f, kh, kw), self.groups = W, groups
        self.geometry = (kh, kw, *stride, padding[0][0], padding[1][0], *dilation)
        self.x, self.W = draw(*x), draw(f, kh, kw, x[3] // groups)
        exact = wide(self.x, self.W)
        self.z = np.concatenate(by_group(self.convolved, groups, (exact[0], 3), (exact[1], 0)), axis=3)
        self.d = draw(*self.z.shape)
        given = ((self.d.astype(float), 3), (exact[0], 3), (exact[1], 0))
        found = by_group(lambda *own: convolution_gradients(*own, **self.options), groups, *given)
        self.dx, self.dW = (np.concatenate([g[i] for g in found], axis=axis) for i, axis in ((0, 3), (1, 0)))
        self.lines = self.x.reshape(*x[:2], -1)
        self.matrix = self.W.reshape(f, -1)

    def convolved(self, x, W):
        return convolved(x, W, 0.0, **self.options)


@pytest.fixture(params=CASES, ids=str)
def drawn(request, draw):
    return Drawn(draw, *request.param)


def test_grouped(run, draw, drawn):
    z, patches = (
        np.full(drawn.z.shape, nan, draw.dtype),
        np.full((CHUNKS, TILE, drawn.matrix.shape[1]), nan, draw.dtype),
    )
    turned = np.ascontiguousarray(drawn.matrix.T)
    run("grouped_conv2d", CHUNKS, CHUNKS, drawn.groups, drawn.lines, turned, z, patches, *drawn.geometry)
    close(z, drawn.z, draw.dtype, UNITS)
    dW = np.full((CHUNKS, *drawn.matrix.shape), nan, draw.dtype)
    run("grouped_conv2d_weights_grad", CHUNKS, CHUNKS, drawn.groups, drawn.d, drawn.lines, dW, patches, *drawn.geometry)
    close(dW.sum(0).reshape(drawn.dW.shape), drawn.dW, draw.dtype, UNITS)
    dx = np.full_like(drawn.lines, nan)
    run("grouped_conv2d_images_grad", CHUNKS, CHUNKS, drawn.groups, drawn.d, drawn.matrix, dx, patches, *drawn.geometry)
    close(dx.reshape(drawn.dx.shape), drawn.dx, draw.dtype, UNITS)


@pytest.mark.parametrize("case", [CASES[1], ((2, 7, 4, 17), (17, 3, 3), 17, (1, 2), ((1, 1), (1, 1)), (1, 1))], ids=str)
def test_each_channel_by_itself(run, draw, case):
    it = Drawn(draw, *case)
    z, turned = np.full(it.z.shape, nan, draw.dtype), np.ascontiguousarray(it.matrix.T)
    run("depthwise_conv2d", z.shape[0] * z.shape[1], it.lines, turned, z, *it.geometry)
    close(z, it.z, draw.dtype, UNITS)
    dW, dx = np.full((CHUNKS, *turned.shape), nan, draw.dtype), np.full_like(it.lines, nan)
    run("depthwise_conv2d_weights_grad", CHUNKS, CHUNKS, it.d, it.lines, dW, *it.geometry)
    close(dW.sum(0).T.reshape(it.dW.shape), it.dW, draw.dtype, UNITS)
    run("depthwise_conv2d_images_grad", len(dx), it.d, turned, dx, *it.geometry)
    close(dx.reshape(it.dx.shape), it.dx, draw.dtype, UNITS)


@pytest.mark.parametrize("groups", [1, 3])
def test_ends_are_exchanged_within_each_group(run, draw, groups):
    W, V = draw(3 * groups, 4, 2), draw(2 * groups, 4, 3)
    run("swap_ends", len(V), groups, W, V)
    want = [w.transpose(2, 1, 0) for w in np.split(W, groups)]
    assert np.array_equal(V, np.concatenate(want))


@pytest.mark.parametrize("relu", [0, 1])
def test_bias_and_relu(run, draw, relu):
    z, b = draw(5, 7), draw(7)
    want = z + b
    run("add_bias", 5, relu, z, b)
    assert np.array_equal(z, np.maximum(want, 0) if relu else want)
