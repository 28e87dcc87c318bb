"""Kernels of a residual sum with the norm that reads it, and the blocks whose listing they stand in."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

import backlit as bl
from backlit.engines.fast import kernels_added
from engines.kernel_calls import close, untested, wide
from engines.test_fast_sequences import step

EPS, UNITS, CHUNKS = 1e-3, 64, 3
ROWS = [(1, 1), (5, 3), (2, 17)]


def test_every_kernel_is_tested_here():
    assert not untested(kernels_added, __file__)


@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_a_sum_and_its_norm(run, draw, shape):
    a, b, gamma, beta = draw(*shape), draw(*shape), draw(shape[1]), draw(shape[1])
    h, y = np.full((2, *shape), nan, draw.dtype)
    mean, var = np.full((2, shape[0]), nan, draw.dtype)
    run("add_layernorm", shape[0], a, b, gamma, beta, h, y, mean, var, EPS)
    x, g, shift = wide(a + b, gamma, beta)
    assert np.array_equal(h, a + b)
    close(mean, x.mean(1), draw.dtype, UNITS)
    close(var, x.var(1), draw.dtype, UNITS)
    xhat = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + EPS)
    close(y, g * xhat + shift, draw.dtype, UNITS)


@pytest.mark.parametrize("adding", [0, 1])
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_all_gradients(run, draw, shape, adding):
    d, h, gamma, dh = draw(*shape), draw(*shape), draw(shape[1]), draw(*shape)
    mean, var, sums = h.mean(1), h.var(1), np.zeros((CHUNKS, 4, shape[1]), draw.dtype)
    x, dy, g, m, v, before = wide(h, d, gamma, mean[:, None], var[:, None], dh)
    run("layernorm_all_grads", CHUNKS, adding, d, h, gamma, mean, var, sums, dh, EPS)
    xhat, upon = (x - m) / np.sqrt(v + EPS), dy * g
    common = upon.mean(1, keepdims=True) + xhat * (upon * xhat).mean(1, keepdims=True)
    want = (upon - common) / np.sqrt(v + EPS) + adding * before
    np.testing.assert_allclose(dh, want, rtol=0, atol=UNITS * 40 * float(np.finfo(draw.dtype).eps))
    close(sums.sum(0)[0], (dy * xhat).sum(0), draw.dtype, UNITS)
    close(sums.sum(0)[1], dy.sum(0), draw.dtype, UNITS)


def frozen_scale(x):
    h = bl.Dense(8)(x)
    return bl.Dense(11)(bl.LayerNorm(trainable=False)(h + bl.Dense(8, "tanh")(h)))


def two_norms(x):
    """The sum is read by two norms, a product and a sum."""
    h = bl.Dense(8)(x) + bl.Dense(8, "tanh")(x)
    return bl.Dense(11)(bl.LayerNorm()(h) * bl.LayerNorm()(h) + h * h)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("stage", [frozen_scale, two_norms])
def test_whatever_reads_the_sum(stage, threads):
    rng = np.random.default_rng(0)
    model, x, y = bl.Model(stage), rng.normal(size=(3, 4, 5)), rng.integers(0, 11, (3, 4))
    program, (loss, found), (want_loss, want) = step(model, x, y, "float64", threads)
    assert "add_layernorm" in [call.kernel for call in program.calls]
    assert loss == pytest.approx(want_loss, rel=1e-12)
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, want[name], rtol=0, atol=1e-12, err_msg=name)


def test_a_block_of_a_transformer_is_written_down_with_them():
    rng = np.random.default_rng(0)
    blocks = [bl.TransformerBlock(2, causal=True, dropout=0.1) for _ in range(2)]
    model = bl.Sequential(bl.Embedding(11, 8), *blocks, bl.LayerNorm(), bl.Dense(11))
    x, y = rng.integers(0, 11, (2, 3, 5))
    program, _, _ = step(model, x, y, "float64", 1)
    kernels = [call.kernel for call in program.calls]
    assert kernels.count("add_layernorm") == kernels.count("layernorm_all_grads") == 4
    assert kernels.count("layernorm") == 1
