"""Kernels of convolution by patches against the definition of convolution."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_convolution
from engines.image_definitions import convolution_gradients, convolved
from engines.kernel_calls import close, untested, wide

SAME, NONE = ((1, 1), (1, 1)), ((0, 0), (0, 0))
LAYERS = [
    ((1, 3, 3, 1), (1, 1, 1), {}),
    ((3, 4, 5, 2), (3, 3, 3), {"padding": SAME}),
    ((2, 5, 4, 1), (2, 2, 3), {"stride": (2, 1)}),
    ((1, 6, 5, 3), (2, 3, 2), {"stride": (2, 3), "padding": ((2, 1), (0, 2))}),
    ((2, 5, 6, 2), (2, 2, 3), {"dilation": (2, 2), "padding": ((1, 0), (2, 1))}),
    ((1, 1, 7, 2), (3, 1, 3), {"dilation": (1, 3), "padding": ((0, 0), (6, 0))}),
    ((1, 2, 2, 1), (1, 3, 3), {"padding": ((2, 2), (2, 2)), "stride": (3, 3)}),
    ((2, 6, 3, 1), (1, 2, 2), {"stride": (3, 2)}),
]
"""(shape of x, (F, kh, kw), options)."""
OPTIONS = {"stride": (1, 1), "padding": NONE, "dilation": (1, 1)}
UNITS = 64


class Layer:
    """A convolution, its arrays, and what its kernels work in; ``tile`` is how many places are cut out together."""

    def __init__(self, draw, x, filters, options, chunks=2, tile=4):
        self.options, self.chunks, self.tile, self.dtype = OPTIONS | options, chunks, tile, draw.dtype
        self.x, self.W, self.b = draw(*x), draw(*filters, x[3]), draw(filters[0])
        self.want = convolved(*wide(self.x, self.W, self.b), **self.options)
        self.d, self.size = draw(*self.want.shape), self.W[0].size
        self.gradients = convolution_gradients(*wide(self.d, self.x, self.W), **self.options)
        stride, ((top, _), (left, _)), dilation = self.options.values()
        self.geometry = *filters[1:], *stride, top, left, *dilation

    @property
    def flat(self):
        return self.W.reshape(self.W.shape[0], self.size)

    def empty(self, *shape):
        return np.full(shape, nan, self.dtype)

    def patches(self, *, few):
        if not few:
            return (self.empty(self.chunks, self.tile, self.size + 1),)
        kh, kw, sh, sw, _, _, dh, dw = self.geometry
        rows, columns = self.want.shape[1:3]
        planes = (rows - 1) * sh + (kh - 1) * dh + 1, (columns - 1) * sw + (kw - 1) * dw + 1
        places = max(self.tile // columns, 1) * columns
        return self.empty(self.chunks, self.x.shape[3], *planes), self.empty(self.chunks, self.size + 1, places)


def lines(x):
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


def test_every_kernel_is_tested_here():
    assert not untested(kernels_convolution, __file__)


@pytest.fixture(params=LAYERS, ids=str)
def layer(request, draw):
    return Layer(draw, *request.param)


@pytest.mark.parametrize("few", [False, True], ids=["patches", "turned"])
@pytest.mark.parametrize("relu", [0, 1])
def test_forward(run, layer, relu, few):
    filters = len(layer.b)
    Wt, z = layer.empty(layer.size + 1, filters), layer.empty(*layer.want.shape)
    run("filters_and_bias", filters, layer.flat, layer.b, Wt)
    given = layer.chunks, relu, lines(layer.x), Wt, z, *layer.patches(few=few), *layer.geometry
    run("conv2d_of_few" if few else "conv2d", layer.chunks, *given, units=UNITS)
    close(z, np.maximum(layer.want, 0) if relu else layer.want, layer.dtype, UNITS)


@pytest.mark.parametrize("few", [False, True], ids=["patches", "turned"])
def test_weights_grad(run, layer, few):
    filters = len(layer.b)
    parts = layer.empty(layer.chunks, *((layer.size + 1, filters) if few else (filters, layer.size + 1)))
    given = layer.chunks, layer.d, lines(layer.x), parts, *layer.patches(few=few), *layer.geometry
    name = "conv2d_of_few_weights_grad" if few else "conv2d_weights_grad"
    assert name in {"conv2d_of_few_weights_grad", "conv2d_weights_grad"}
    run(name, layer.chunks, *given, units=UNITS)
    dW, db = layer.empty(filters, layer.size), layer.empty(filters)
    run("filters_grad", filters, int(few), parts, dW, db)
    _, want_dW, want_db = layer.gradients
    close(dW.reshape(layer.W.shape), want_dW, layer.dtype, UNITS)
    close(db, want_db, layer.dtype, UNITS)


def test_images_grad(run, layer):
    dx = layer.empty(*layer.x.shape)
    given = layer.chunks, layer.d, layer.flat, lines(dx), *layer.patches(few=False), *layer.geometry
    run("conv2d_images_grad", layer.chunks, *given, units=UNITS)
    close(dx, layer.gradients[0], layer.dtype, UNITS)


OVERLAPPING = [
    *(shapes for shapes in LAYERS if not {"stride", "dilation"} & set(shapes[2])),
    ((2, 4, 6, 3), (2, 3, 2), {"padding": ((0, 3), (4, 1))}),
    ((2, 3, 5, 2), (3, 1, 1), {}),
    ((3, 6, 9, 4), (5, 5, 5), {"padding": ((2, 2), (2, 2))}),
]


@pytest.fixture(params=OVERLAPPING, ids=str)
def overlapping(request, draw):
    return Layer(draw, *request.param)


def padded(layer, x, made):
    """A place for an image with what is padded."""
    kh, kw = layer.geometry[:2]
    rows, columns = made[1:3]
    return layer.empty(layer.chunks, rows + kh - 1, (columns + kw - 1) * x[3])


@pytest.mark.parametrize("relu", [0, 1])
def test_forward_of_neighbours_that_see_lines_that_overlap(run, overlapping, relu):
    layer, filters = overlapping, len(overlapping.b)
    Wt, z = layer.empty(layer.size + 1, filters), layer.empty(*layer.want.shape)
    run("filters_and_bias", filters, layer.flat, layer.b, Wt)
    kh, kw, _, _, top, left, *_ = layer.geometry
    given = layer.chunks, relu, lines(layer.x), Wt, z, padded(layer, layer.x.shape, z.shape), kh, kw, top, left
    run("conv2d_side_by_side", layer.chunks, *given, units=UNITS)
    close(z, np.maximum(layer.want, 0) if relu else layer.want, layer.dtype, UNITS)


def test_weights_grad_of_lines_that_overlap(run, overlapping):
    layer, (filters, kh, kw, _) = overlapping, overlapping.W.shape
    rows, columns = layer.want.shape[1:3]
    parts, errors = (
        layer.empty(layer.chunks, layer.size + 1, filters),
        layer.empty(2, rows * (columns + kw - 1), filters),
    )
    given = layer.chunks, layer.d, lines(layer.x), parts, padded(layer, layer.x.shape, layer.want.shape), errors
    run("conv2d_side_by_side_weights_grad", layer.chunks, *given, kh, kw, *layer.geometry[4:6], units=UNITS)
    dW, db = layer.empty(filters, layer.size), layer.empty(filters)
    run("filters_grad", filters, 1, parts, dW, db)
    close(dW.reshape(layer.W.shape), layer.gradients[1], layer.dtype, UNITS)
    close(db, layer.gradients[2], layer.dtype, UNITS)


def test_images_grad_by_filters_turned_round(run, overlapping):
    layer, (filters, kh, kw, channels) = overlapping, overlapping.W.shape
    Wt, dx = layer.empty(kh * kw * filters + 1, channels), layer.empty(*layer.x.shape)
    run("filters_turned_round", filters, layer.W.reshape(filters, kh * kw, channels), Wt)
    top, left = layer.geometry[4:6]
    given = layer.chunks, 0, lines(layer.d), Wt, dx, padded(layer, layer.d.shape, dx.shape), kh, kw
    run("conv2d_side_by_side", layer.chunks, *given, kh - 1 - top, kw - 1 - left, units=UNITS)
    close(dx, layer.gradients[0], layer.dtype, UNITS)


@pytest.mark.parametrize("few", [False, True], ids=["patches", "turned"])
def test_products_in_several_tiles(run, few):
    """More filters, weights and places than a product has that BLAS does where matrices lie; compiled only."""
    if run.do.__name__ == "by_python":
        pytest.skip("long")
    rng = np.random.default_rng(3)

    def draw(*shape):
        return rng.normal(size=shape)

    draw.dtype = np.dtype("float64")
    layer = Layer(draw, (3, 30, 31, 8), (70, 3, 3), {"padding": SAME}, tile=400)
    test_forward(run, layer, 0, few)
    test_weights_grad(run, layer, few)
    test_images_grad(run, layer)


def test_rows_of_errors_lie_apart_and_what_is_between_them_stays(draw):
    """Three rows of four places, two zeros between; the sums come on top of what was there."""
    d, errors, db = draw(2, 3, 4, 5), np.zeros((3 * 6, 5), draw.dtype), np.ones(5, draw.dtype)
    kernels_convolution.put_apart(d, 1, 6, errors, db)
    rows = errors.reshape(3, 6, 5)
    assert np.array_equal(rows[:, :4], d[1])
    assert not rows[:, 4:].any()
    close(db, 1 + d[1].astype(np.float64).sum((0, 1)), draw.dtype, 8)
