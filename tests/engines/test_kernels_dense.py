"""Kernels of dense layers against their definitions in NumPy."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import rules
from backlit.engines.fast import kernels_dense
from engines.kernel_calls import close, untested, wide

SHAPES = [(1, 1), (1, 7), (5, 3), (9, 1), (0, 4), (4, 35)]
EDGES = [-inf, -1e30, -1.0, -0.0, 0.0, 1e-30, 1.0, 1e30, inf, nan]
LAYERS = [(1, 1, 1), (1, 5, 3), (4, 1, 3), (7, 5, 1), (6, 9, 4), (19, 40, 33)]
"""(samples, inputs, units)."""


def test_every_kernel_is_tested_here():
    assert not untested(kernels_dense, __file__)


# --- products ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [0, 1])
@pytest.mark.parametrize(("n", "i", "o"), LAYERS)
def test_products(run, draw, n, i, o, columns):
    """z = x Wᵀ, dx = d W, dW = dᵀ x: none depends on what lay in the buffer before."""
    x, W, d = draw(n, i), draw(o, i), draw(n, o)
    z, dx, dW = (np.full(shape, nan, draw.dtype) for shape in ((n, o), (n, i), (o, i)))
    run("product_nt", o if columns else n, columns, x, W, z, units=64)
    run("product_nn", i if columns else n, columns, d, W, dx, units=64)
    run("product_tn", i if columns else o, columns, d, x, dW, units=64)
    wide_x, wide_W, wide_d = wide(x, W, d)
    close(z, wide_x @ wide_W.T, draw.dtype, units=64)
    close(dx, wide_d @ wide_W, draw.dtype, units=64)
    close(dW, wide_d.T @ wide_x, draw.dtype, units=64)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize(("n", "i", "o"), LAYERS)
def test_a_weights_gradient_by_chunks_of_rows(run, draw, n, i, o, chunks):
    d, x, parts = draw(n, o), draw(n, i), np.full((chunks, o, i), nan, draw.dtype)
    run("product_tn_of_chunks", chunks, d, x, parts)
    wide_d, wide_x = wide(d, x)
    close(parts.astype(np.float64).sum(axis=0), wide_d.T @ wide_x, draw.dtype, units=64)


@pytest.mark.parametrize("columns", [0, 1])
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize(("n", "i", "o"), LAYERS)
def test_a_linear_layer_alone_and_with_a_relu(run, draw, n, i, o, relu, columns):
    x, W, b, z = draw(n, i), draw(o, i), draw(o), np.full((n, o), nan, draw.dtype)
    wide_x, wide_W, wide_b = wide(x, W, b)
    want = wide_x @ wide_W.T + wide_b
    run("linear", o if columns else n, columns, relu, x, W, b, z, units=64)
    close(z, np.maximum(want, 0) if relu else want, draw.dtype, units=64)


@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize(("n", "i", "o"), LAYERS)
def test_a_linear_layer_by_way_of_its_transpose(run, draw, n, i, o, relu):
    x, W, b = draw(n, i), draw(o, i), draw(o)
    z, zt = np.full((n, o), nan, draw.dtype), np.full((o, n), nan, draw.dtype)
    run("linear_of_few", o, relu, x, W, b, zt, z, units=64)
    wide_x, wide_W, wide_b = wide(x, W, b)
    want = wide_x @ wide_W.T + wide_b
    close(z, np.maximum(want, 0) if relu else want, draw.dtype, units=64)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (37, 5)])
def test_a_matrix_turned(run, draw, shape):
    x, xt = draw(*shape), np.full(shape[::-1], nan, draw.dtype)
    run("transpose", shape[1], x, xt)
    assert np.array_equal(xt, x.T)


def test_a_product_keeps_infinities_and_nan_where_they_belong(run, draw):
    x = np.array([[1.0, 2.0], [inf, 1.0], [nan, 1.0]], draw.dtype)
    W, z = np.array([[1.0, 1.0], [-1.0, 3.0]], draw.dtype), draw(3, 2)
    with np.errstate(invalid="ignore"):
        run("product_nt", 3, 0, x, W, z)
    assert np.array_equal(z, [[3.0, 5.0], [inf, -inf], [nan, nan]], equal_nan=True)


def test_nan_and_infinity_stay_visible_behind_linear_and_relu(run, draw):
    W, b, z = np.ones((1, 1), draw.dtype), np.zeros(1, draw.dtype), draw(len(EDGES), 1)
    x = np.array(EDGES, draw.dtype)[:, None]
    (want,) = rules.get("relu").call(np, x)
    with np.errstate(all="ignore"):
        run("linear", len(EDGES), 0, 1, x, W, b, z)
    assert np.array_equal(z, want, equal_nan=True)


# --- sums over the rows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_bias_and_relu(run, draw, shape, chunks):
    d, a = draw(*shape), np.maximum(draw(*shape), 0)
    sums, want = draw(chunks, shape[1]), np.where(a > 0, d, 0)
    run("bias_relu_grad", chunks, d, a, sums)
    assert np.array_equal(d, want)
    close(sums.astype(np.float64).sum(axis=0), want.astype(np.float64).sum(axis=0), draw.dtype)


def test_the_gradient_behind_a_relu_is_that_of_its_rule_where_it_is_not_finite(run, draw):
    z, sums = np.array([EDGES], draw.dtype), np.zeros((1, len(EDGES)), draw.dtype)
    d = np.full_like(z, 3.0)
    run("bias_relu_grad", 1, d, z, sums)
    (slopes,) = rules.get("relu").gradients(np, [np.full_like(z, 3.0)], {"y": z})
    assert np.array_equal(d, slopes, equal_nan=True)
    assert np.array_equal(sums, slopes, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_rows_take_the_place_of_what_was_there(run, draw, shape):
    d, db = draw(*shape), draw(shape[1])
    run("sum_rows", shape[1], d, db)
    close(db, d.astype(np.float64).sum(axis=0), draw.dtype)


# --- entry by entry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 17, 67])
@pytest.mark.parametrize(("name", "of_two"), [("add", np.add), ("multiply", np.multiply)])
def test_two_arrays(run, draw, name, of_two, size):
    a, b, y = draw(size), draw(size), draw(size)
    run(name, size, a, b, y)
    assert np.array_equal(y, of_two(a, b))


def test_a_product_may_take_the_place_of_a_factor(run, draw):
    """As dropout's gradient does."""
    d, mask = draw(9), draw(9)
    want, other = d * mask, d.copy()
    run("multiply", 9, d, mask, d)
    assert np.array_equal(d, want)
    run("multiply_by", 9, other, mask)
    assert np.array_equal(other, want)


@pytest.mark.parametrize("size", [0, 1, 17, 67])
def test_adding_to_copying_and_setting(run, draw, size):
    y, x = draw(size), draw(size)
    want = y + x
    run("add_to", size, y, x)
    assert np.array_equal(y, want)
    run("copy", size, x, y)
    assert np.array_equal(y, x)
    run("fill", size, y, 0.25)
    assert (y == 0.25).all()


def test_a_row_of_a_matrix(run, draw):
    x, y = draw(3, 35), draw(35)
    run("row", 35, x, 1, y)
    assert np.array_equal(y, x[1])


@pytest.mark.parametrize("size", [0, 1, 17, 67])
def test_relu_and_its_gradient(run, draw, size):
    x, y, d = draw(size), draw(size), draw(size)
    before, want = x.copy(), np.where(x > 0, d, 0)
    run("relu", size, x, y)
    assert np.array_equal(y, np.maximum(x, 0))
    assert np.array_equal(x, before)
    run("relu_grad", size, d, y)
    assert np.array_equal(d, want)


def test_infinities_and_nan_go_through_relu_as_through_its_rule(run, draw):
    x, rule = np.array(EDGES, draw.dtype), rules.get("relu")
    y, d = np.zeros_like(x), np.ones_like(x)
    run("relu", x.size, x, y)
    (want,) = rule.call(np, x)
    assert np.array_equal(y, want, equal_nan=True)
    run("relu_grad", x.size, d, y)
    (slopes,) = rule.gradients(np, [np.ones_like(x)], {"y": want})
    assert np.array_equal(d, slopes, equal_nan=True)


# --- the mini-batch of a step, and its outputs ------------------------------------------------------------------------

ORDER = np.array([5, 0, 3, 3, 1, 4, 2])


def test_gathering_rows_from_the_middle_of_an_order(run, draw):
    X, x = draw(6, 3), draw(3, 3)
    run("gather", 3, X, ORDER, x, step=1)
    assert np.array_equal(x, X[[3, 1, 4]])


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_gathering_labels(run, dtype):
    labels, y = np.arange(10, 16, dtype=dtype)[:, None], np.zeros((2, 1), dtype)
    run("gather", 2, labels, ORDER, y, step=1)
    assert y[:, 0].tolist() == [13, 13]


def test_outputs_are_kept_row_by_row(run, draw):
    outputs, output = np.zeros((3, 4), draw.dtype), draw(4)
    run("keep", 4, output, outputs, step=1)
    assert np.array_equal(outputs, [np.zeros(4), output, np.zeros(4)])
