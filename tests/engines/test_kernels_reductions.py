"""Kernels of sums, maxima and softmax against NumPy, in float64."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import rules
from backlit.engines.fast import kernels_reductions
from engines.kernel_calls import close, untested, wide

BOXES, UNITS = [(1, 1, 1), (3, 4, 2), (2, 7, 17), (1, 5, 6)], 32


def test_every_kernel_is_tested_here():
    assert not untested(kernels_reductions, __file__)


@pytest.mark.parametrize("columns", [0, 1])
@pytest.mark.parametrize("shape", BOXES, ids=str)
def test_sums(run, draw, shape, columns):
    x, y = draw(*shape), np.full((shape[0], shape[2]), nan, draw.dtype)
    run("sum_middle", shape[2] if columns else shape[0], columns, x, y, 0.5)
    close(y, 0.5 * x.astype(float).sum(1), draw.dtype, UNITS)


def test_a_row_is_summed_in_blocks(run, draw):
    x, y = (1 + draw(2, 9000) * 0.01).astype(draw.dtype), np.full(2, nan, draw.dtype)
    run("sum_last", 2, x, y, 1.0)
    np.testing.assert_allclose(y, x.astype(float).sum(1), rtol=16 * float(np.finfo(draw.dtype).eps))


def test_scaled(run, draw):
    x, y = draw(7), np.full(7, nan, draw.dtype)
    run("scaled", 7, x, y, -0.5)
    assert np.array_equal(y, x * draw.dtype.type(-0.5))


@pytest.mark.parametrize("columns", [0, 1])
@pytest.mark.parametrize("shape", BOXES, ids=str)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extremum(run, draw, shape, sign, columns):
    x, d = np.round(draw(*shape)), draw(shape[0], shape[2])
    extent, y, dx = shape[2] if columns else shape[0], np.full_like(d, nan), np.full_like(x, nan)
    run("extremum", extent, columns, sign, x, y)
    assert np.array_equal(y, sign * (sign * x).max(1))
    run("extremum_grad", extent, columns, d, x, y, dx)
    reached = x == y[:, None]
    close(dx, d[:, None] * reached / reached.sum(1, keepdims=True), draw.dtype)


def test_a_nan_is_the_extremum(run, draw):
    x, y = draw(1, 4, 2), draw(1, 2)
    x[0, 2, 1] = nan
    run("extremum", 1, 0, 1.0, x, y)
    assert np.isnan(y).tolist() == [[False, True]]


@pytest.mark.parametrize("columns", [0, 1])
@pytest.mark.parametrize("shape", BOXES, ids=str)
def test_variance(run, draw, shape, columns):
    x, d = draw(*shape), draw(shape[0], shape[2])
    extent, y, dx = shape[2] if columns else shape[0], np.full_like(d, nan), np.full_like(x, nan)
    run("variance", extent, columns, 1 / shape[1], x, y)
    exact, dy = wide(x, d)
    close(y, exact.var(1), draw.dtype, UNITS)
    run("variance_grad", extent, columns, 1 / shape[1], d, x, y, dx)
    close(dx, 2 / shape[1] * dy[:, None] * (exact - exact.mean(1, keepdims=True)), draw.dtype, 64)


def test_the_slope_of_a_root(run, draw):
    d, y, dx = draw(3), np.array([2, 0, 0.5], draw.dtype), draw(3)
    run("half_over", 3, d, y, dx)
    close(dx, np.array([d[0] / 4, 0, d[2]]), draw.dtype)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 17)], ids=str)
def test_softmax(run, draw, name, shape):
    x, single = draw(*shape) * 3, name == "logsumexp"
    rule, options = rules.get(name), {"axis": -1}
    y, dx = np.full(shape[:1] if single else shape, nan, draw.dtype), np.full_like(x, nan)
    d = draw(*y.shape)
    run(name, shape[0], x, y)
    want = rule.call(np, *wide(x), **options)
    close(y, want[0], draw.dtype, UNITS)
    run(f"{name}_grad", shape[0], d, x if single else y, dx)
    saved = rule.saved_from(tuple(wide(x)), want, rule.defaults | options)
    close(dx, rule.gradients(np, wide(d), saved)[0], draw.dtype, 64)


NAMES = "softmax_grad", "log_softmax_grad", "logsumexp_grad"
