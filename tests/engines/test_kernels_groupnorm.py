"""Kernels of normalisation within a sample against their definitions in NumPy, in float64."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_groupnorm
from engines.kernel_calls import close, untested, wide

EPS, UNITS, CHUNKS = 1e-3, 64, 3
IMAGES = [(1, 1, 1, 1), (2, 3, 4, 2), (5, 7, 6, 6), (1, 17, 18, 1)]
"""(samples, places, channels, groups)."""


def test_every_kernel_is_tested_here():
    assert not untested(kernels_groupnorm, __file__)


def grouped(x, groups):
    """[N, places, groups, channels of one group]."""
    return x.reshape(*x.shape[:2], groups, -1)


def statistics(x, groups):
    (split,) = wide(grouped(x, groups))
    return split.mean((1, 3)), split.var((1, 3))


def standardised(x, mean, var):
    split = grouped(x, mean.shape[1])
    return ((split - mean[:, None, :, None]) / np.sqrt(var + EPS)[:, None, :, None]).reshape(x.shape)


@pytest.mark.parametrize(("n", "p", "c", "groups"), IMAGES)
def test_groupnorm(run, draw, n, p, c, groups):
    x, gamma, beta = draw(n, p, c), draw(c), draw(c)
    y, work = np.full_like(x, nan), np.full((n, 2, c), nan, x.dtype)
    mean, var = np.full((2, n, groups), nan, x.dtype)
    run("groupnorm", n, groups, x, gamma, beta, mean, var, work, y, EPS)
    wanted = statistics(x, groups)
    close(mean, wanted[0], draw.dtype, UNITS)
    close(var, wanted[1], draw.dtype, UNITS)
    wide_x, g, b = wide(x, gamma, beta)
    close(y, g * standardised(wide_x, *wanted) + b, draw.dtype, UNITS)


def test_the_variance_of_values_far_from_zero_keeps_its_digits(run, draw):
    x = (1000 + draw(1, 50, 2)).astype(draw.dtype)
    mean, var = np.full((2, 1, 1), nan, x.dtype)
    run("groupnorm", 1, 1, x, draw(2), draw(2), mean, var, draw(1, 2, 2), np.full_like(x, nan), EPS)
    np.testing.assert_allclose(var, statistics(x, 1)[1], rtol=4000 * float(np.finfo(draw.dtype).eps))


@pytest.mark.parametrize(("n", "p", "c", "groups"), IMAGES)
def test_groupnorm_gradients(run, draw, n, p, c, groups):
    x, d, gamma = draw(n, p, c), draw(n, p, c), draw(c)
    mean, var = (s.astype(x.dtype) for s in statistics(x, groups))
    sums, dx = np.full((n, 2, c), nan, x.dtype), np.full_like(x, nan)
    run("groupnorm_sums", n, d, x, mean, var, sums, EPS)
    wide_x, dy, g, m, v = wide(x, d, gamma, mean, var)
    xhat, upon = standardised(wide_x, m, v), dy * g
    close(sums[:, 0], (dy * xhat).sum(1), draw.dtype, UNITS)
    close(sums[:, 1], dy.sum(1), draw.dtype, UNITS)
    run("groupnorm_grad", n, d, x, gamma, mean, var, sums, np.full((n, 4, c), nan, x.dtype), dx, EPS)
    means = [grouped(a, groups).mean((1, 3), keepdims=True) for a in (upon, upon * xhat)]
    common = means[0] + grouped(xhat, groups) * means[1]
    want = (grouped(upon, groups) - common) / np.sqrt(v + EPS)[:, None, :, None]
    np.testing.assert_allclose(dx, want.reshape(x.shape), rtol=0, atol=UNITS * 40 * float(np.finfo(draw.dtype).eps))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2, 17)], ids=str)
def test_rmsnorm(run, draw, shape):
    x, d, gamma, y, dx = draw(*shape), draw(*shape), draw(shape[1]), draw(*shape), draw(*shape)
    size, sums = np.full(shape[0], nan, x.dtype), np.full((CHUNKS, shape[1]), nan, x.dtype)
    run("rmsnorm", len(x), x, gamma, y, size, EPS)
    wide_x, dy, g = wide(x, d, gamma)
    rms = np.sqrt((wide_x**2).mean(1, keepdims=True) + EPS)
    close(size, (wide_x**2).mean(1), draw.dtype, UNITS)
    close(y, g * wide_x / rms, draw.dtype, UNITS)
    run("rmsnorm_grad", len(x), d, x, gamma, size, dx, EPS)
    along = (dy * g * wide_x / rms).mean(1, keepdims=True)
    atol = UNITS * 40 * float(np.finfo(draw.dtype).eps)
    np.testing.assert_allclose(dx, (dy * g - wide_x / rms * along) / rms, rtol=0, atol=atol)
    run("rmsnorm_sums", CHUNKS, d, x, size, sums, EPS)
    close(sums.sum(0), (dy * wide_x / rms).sum(0), draw.dtype, UNITS)
