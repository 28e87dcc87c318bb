"""Kernels of normalisation against their definitions in NumPy, in float64."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_norms
from engines.kernel_calls import close, untested, wide

EPS, UNITS, CHUNKS = 1e-3, 64, 3
ROWS = [(1, 1), (5, 3), (2, 17), (140, 2)]
"""Shapes of x: fewer rows than chunks, and more than a block among them."""


def moments(run, x):
    sums, (mean, var) = np.full((CHUNKS, 5, x.shape[1]), nan, x.dtype), np.full((2, x.shape[1]), nan, x.dtype)
    sums[:, :4] = 0.5
    run("moments", CHUNKS, x, sums)
    run("merge_moments", x.shape[1], sums, len(x), mean, var)
    return mean, var


def normalised(x, mean, var):
    return (x - mean) / np.sqrt(var + EPS)


def test_every_kernel_is_tested_here():
    assert not untested(kernels_norms, __file__)


@pytest.fixture(params=ROWS, ids=str)
def rows(request, draw):
    return draw(*request.param)


def test_moments(run, rows):
    mean, var = moments(run, rows)
    (x,) = wide(rows)
    close(mean, x.mean(0), rows.dtype, UNITS)
    close(var, x.var(0), rows.dtype, UNITS)


def test_the_variance_of_values_far_from_zero_keeps_its_digits(run, draw):
    """No difference of large squares is taken: the error is that of x itself, not its square."""
    x = (1000 + draw(200, 2)).astype(draw.dtype)
    _, var = moments(run, x)
    want = x.astype(float).var(0)
    np.testing.assert_allclose(var, want, rtol=1000 * 4 * float(np.finfo(draw.dtype).eps))


@pytest.mark.parametrize("relu", [0, 1])
def test_batchnorm(run, draw, rows, relu):
    gamma, beta, y = draw(rows.shape[1]), draw(rows.shape[1]), np.full_like(rows, nan)
    mean, var = rows.mean(0), rows.var(0)
    run("batchnorm", len(rows), relu, rows, gamma, beta, mean, var, y, EPS)
    x, g, b, m, v = wide(rows, gamma, beta, mean, var)
    want = g * normalised(x, m, v) + b
    close(y, np.maximum(want, 0) if relu else want, rows.dtype, UNITS)


@pytest.mark.parametrize("relu", [0, 1])
def test_batchnorm_gradients(run, draw, rows, relu):
    d, y, gamma = draw(*rows.shape), np.maximum(draw(*rows.shape), 0), draw(rows.shape[1])
    mean, var, sums = rows.mean(0), rows.var(0), np.zeros((CHUNKS, 4, rows.shape[1]), rows.dtype)
    x, kept, g, m, v = wide(rows, np.where(y > 0, d, 0) if relu else d, gamma, mean, var)
    xhat = normalised(x, m, v)
    run("batchnorm_sums", CHUNKS, relu, d, rows, y, mean, var, sums, EPS)
    close(d, kept, rows.dtype, 0)
    dgamma, dbeta = sums.sum(0)[:2]
    close(dgamma, (kept * xhat).sum(0), rows.dtype, UNITS)
    close(dbeta, kept.sum(0), rows.dtype, UNITS)
    dx = np.full_like(rows, nan)
    run("batchnorm_grad", len(rows), d, rows, gamma, mean, var, dgamma, dbeta, dx, EPS)
    common = (kept.sum(0) + xhat * (kept * xhat).sum(0)) / len(x)
    close(dx, g / np.sqrt(v + EPS) * (kept - common), rows.dtype, UNITS)


def test_batchnorm_by_given_statistics(run, draw, rows):
    d, gamma, var, dx = draw(*rows.shape), draw(rows.shape[1]), abs(draw(rows.shape[1])), np.full_like(rows, nan)
    run("batchnorm_inference_grad", len(rows), d, gamma, var, dx, EPS)
    dy, g, v = wide(d, gamma, var)
    close(dx, dy * g / np.sqrt(v + EPS), rows.dtype, UNITS)


def test_running_average(run, draw):
    old, new, moved = draw(7), draw(7), np.full(7, nan, draw.dtype)
    run("running_average", 7, old, new, moved, 0.3, 1.25)
    a, b = wide(old, new)
    close(moved, 0.7 * a + 0.3 * 1.25 * b, draw.dtype)


def test_layernorm(run, draw, rows):
    gamma, beta, y = draw(rows.shape[1]), draw(rows.shape[1]), np.full_like(rows, nan)
    mean, var = np.full((2, len(rows)), nan, rows.dtype)
    run("layernorm", len(rows), rows, gamma, beta, y, mean, var, EPS)
    x, g, b = wide(rows, gamma, beta)
    close(mean, x.mean(1), rows.dtype, UNITS)
    close(var, x.var(1), rows.dtype, UNITS)
    close(y, g * normalised(x, x.mean(1, keepdims=True), x.var(1, keepdims=True)) + b, rows.dtype, UNITS)


def test_layernorm_gradients(run, draw, rows):
    d, gamma, dx = draw(*rows.shape), draw(rows.shape[1]), np.full_like(rows, nan)
    mean, var, sums = rows.mean(1), rows.var(1), np.zeros((CHUNKS, 4, rows.shape[1]), rows.dtype)
    run("layernorm_grad", len(rows), d, rows, gamma, mean, var, dx, EPS)
    run("layernorm_sums", CHUNKS, d, rows, mean, var, sums, EPS)
    x, dy, g, m, v = wide(rows, d, gamma, mean[:, None], var[:, None])
    xhat, upon = normalised(x, m, v), dy * g
    common = upon.mean(1, keepdims=True) + xhat * (upon * xhat).mean(1, keepdims=True)
    close(dx - upon / np.sqrt(v + EPS), -common / np.sqrt(v + EPS), rows.dtype, UNITS)
    dgamma, dbeta = sums.sum(0)[:2]
    close(dgamma, (dy * xhat).sum(0), rows.dtype, UNITS)
    close(dbeta, dy.sum(0), rows.dtype, UNITS)
