"""Kernels of convolution by minimal filtering against the definition of convolution."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_winograd
from engines.image_definitions import convolution_gradients, convolved
from engines.kernel_calls import close, untested, wide

SAME, VALID = ((1, 1), (1, 1)), ((0, 0), (0, 0))
IMAGES = [
    ((1, 4, 4, 1), 1, SAME),
    ((3, 5, 6, 2), 3, SAME),
    ((2, 6, 5, 3), 2, VALID),
    ((1, 3, 3, 2), 1, VALID),
    ((2, 1, 1, 1), 2, SAME),
    ((1, 3, 7, 2), 2, ((2, 0), (0, 2))),
    ((1, 4, 3, 2), 2, ((0, 2), (2, 2))),
]
"""(shape of x, filters, padding)."""
UNITS = 64
"""eps of the largest value: every one is a sum of sums of up to 16 entries."""


class Layer:
    """A convolution, its arrays, and what its kernels work in; ``tiles`` is how many a block has."""

    def __init__(self, draw, x, filters, padding, chunks=2, tiles=4):
        self.x, self.W, self.b = draw(*x), draw(filters, 3, 3, x[3]), draw(filters)
        self.padding, (self.top, _), (self.left, _) = padding, *padding
        self.want = convolved(*wide(self.x, self.W, self.b), padding=padding)
        self.d, self.chunks, self.tiles, self.dtype = draw(*self.want.shape), chunks, tiles, draw.dtype

    def scratch(self, channels, columns):
        across = (columns + 1) // 2
        tiles = max(self.tiles // across, 1) * across
        shapes = (self.chunks, 5, (2 * across + 2) * channels), (self.chunks, 16, tiles * channels)
        return [np.full(shape, nan, self.dtype) for shape in shapes]

    def filters(self, run):
        filters, _, _, channels = self.W.shape
        U, turned = np.full((2, 16, filters * channels), nan, self.dtype)
        U, turned = U.reshape(16, channels, filters), turned.reshape(16, filters, channels)
        run("winograd_filters", filters, self.W.reshape(filters, 9, channels), U, turned)
        return U, turned

    def convolve(self, run, x, U, b, shape, top, left, relu=0):
        z, scratch = np.full(shape, nan, self.dtype), self.scratch(x.shape[3], shape[2])
        M = np.full((*scratch[1].shape[:2], scratch[1].shape[2] // x.shape[3] * shape[3]), nan, self.dtype)
        given = lines(x), U, b, z, *scratch, M, top, left
        run("winograd", self.chunks, self.chunks, relu, *given, units=UNITS)
        return z


def lines(x):
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


def test_every_kernel_is_tested_here():
    assert not untested(kernels_winograd, __file__)


@pytest.fixture(params=IMAGES, ids=str)
def layer(request, draw):
    return Layer(draw, *request.param)


@pytest.mark.parametrize("relu", [0, 1])
def test_forward(run, layer, relu):
    z = layer.convolve(run, layer.x, layer.filters(run)[0], layer.b, layer.want.shape, layer.top, layer.left, relu)
    close(z, np.maximum(layer.want, 0) if relu else layer.want, layer.dtype, UNITS)


def test_images_grad_is_the_convolution_with_the_filters_turned_round(run, layer):
    zeros, turned = np.zeros(layer.x.shape[3], layer.dtype), layer.filters(run)[1]
    dx = layer.convolve(run, layer.d, turned, zeros, layer.x.shape, 2 - layer.top, 2 - layer.left)
    close(dx, convolution_gradients(*wide(layer.d, layer.x, layer.W), padding=layer.padding)[0], layer.dtype, UNITS)


def test_weights_grad(run, layer):
    filters, _, _, channels = layer.W.shape
    _, rows, columns, _ = layer.d.shape
    dU = np.full((layer.chunks, 16, filters, channels), nan, layer.dtype)
    parts, db = np.full((layer.chunks, filters), nan, layer.dtype), np.full(filters, nan, layer.dtype)
    scratch = *layer.scratch(channels, columns), *layer.scratch(filters, columns)
    given = lines(layer.d), lines(layer.x), dU, parts, *scratch, rows, columns, layer.top, layer.left
    run("winograd_weights_grad", layer.chunks, layer.chunks, *given, units=UNITS)
    dW = np.full((filters, 9, channels), nan, layer.dtype)
    run("winograd_filters_grad", filters, dU, parts, dW, db)
    _, want_dW, want_db = convolution_gradients(*wide(layer.d, layer.x, layer.W), padding=layer.padding)
    close(dW.reshape(want_dW.shape), want_dW, layer.dtype, UNITS)
    close(db, want_db, layer.dtype, UNITS)


def test_more_chunks_than_rows_of_tiles(run, draw):
    layer = Layer(draw, (1, 2, 4, 2), 2, SAME, chunks=3)
    z = layer.convolve(run, layer.x, layer.filters(run)[0], layer.b, layer.want.shape, layer.top, layer.left)
    close(z, layer.want, layer.dtype, UNITS)


def test_no_images(run, draw):
    layer = Layer(draw, (0, 4, 4, 2), 2, SAME)
    assert layer.convolve(run, layer.x, layer.filters(run)[0], layer.b, layer.want.shape, 1, 1).size == 0
