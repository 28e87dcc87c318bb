"""Kernels of recurrence against their definitions: NumPy step by step, gradients by the complex step."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_recurrent
from engines.kernel_calls import close, untested, wide

SIZES = [(1, 1, 1), (3, 1, 2), (2, 4, 3), (5, 3, 1), (1, 6, 5)]
"""(sequences, steps, units)."""
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def test_every_kernel_is_tested_here():
    assert not untested(kernels_recurrent, __file__)


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


def lstm(z, U):
    """(h, c, i, f, g, o), each [N, T, U]."""
    made, h, c = [], np.zeros((len(z), U.shape[1])), np.zeros((len(z), U.shape[1]))
    for t in range(z.shape[1]):
        i, f, g, o = np.split(z[:, t] + h @ U.T, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        made.append((h, c, i, f, g, o))
    return [np.stack(a, axis=1) for a in zip(*made, strict=True)]


def gru(z, U, b_n):
    """(h, reset, update, new, q), each [N, T, U]."""
    made, h = [], np.zeros((len(z), U.shape[1]))
    for t in range(z.shape[1]):
        (z_r, z_u, z_n), (a_r, a_u, a_n) = np.split(z[:, t], 3, axis=1), np.split(h @ U.T, 3, axis=1)
        reset, update, q = sigmoid(z_r + a_r), sigmoid(z_u + a_u), a_n + b_n
        new = np.tanh(z_n + reset * q)
        h = (1 - update) * new + update * h
        made.append((h, reset, update, new, q))
    return [np.stack(a, axis=1) for a in zip(*made, strict=True)]


def rnn(z, U, relu=0):
    made, h = [], np.zeros((len(z), U.shape[1]))
    for t in range(z.shape[1]):
        h = z[:, t] + h @ U.T
        h = np.where(h.real > 0, h, 0) if relu else np.tanh(h)
        made.append(h)
    return [np.stack(made, axis=1)]


def gradient(function, d, arrays, which):
    """∂(Σ d h) by every entry of one of the arrays."""
    found = np.zeros(arrays[which].shape)
    for at in np.ndindex(found.shape):
        moved = [a.astype(np.complex128) for a in arrays]
        moved[which][at] += 1e-30j
        found[at] = (d * function(*moved)[0]).sum().imag / 1e-30
    return found


def empty(draw, count, *shape):
    return list(np.full((count, *shape), nan, draw.dtype))


def weights_gradient(run, products, h):
    dU = np.full((products.shape[2], h.shape[2]), nan, h.dtype)
    run("recurrent_weights_grad", len(dU), products, h, dU, units=64)
    return dU


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize(("n", "t", "u"), SIZES)
def test_lstm(run, draw, n, t, u, chunks):
    z, U, d = draw(n, t, 4 * u), draw(4 * u, u), draw(n, t, u)
    outputs, (more,) = empty(draw, 6, n, t, u), empty(draw, 1, n, 4 * u)
    run("lstm", chunks, chunks, z, np.ascontiguousarray(U.T), *outputs, draw(n, u), more)
    exact = wide(z, U)
    for found, want in zip(outputs, lstm(*exact), strict=True):
        close(found, want, draw.dtype, units=64)
    (dz,), back = empty(draw, 1, n, t, 4 * u), empty(draw, 2, n, u)
    run("lstm_grad", chunks, chunks, d, U, *outputs, dz, draw(n, 4 * u), *back)
    close(dz, gradient(lstm, *wide(d), exact, 0), draw.dtype, units=128)
    close(weights_gradient(run, dz, outputs[0]), gradient(lstm, *wide(d), exact, 1), draw.dtype, units=128)


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize(("n", "t", "u"), SIZES)
def test_gru(run, draw, n, t, u, chunks):
    z, U, b_n, d = draw(n, t, 3 * u), draw(3 * u, u), draw(u), draw(n, t, u)
    outputs, (more,) = empty(draw, 5, n, t, u), empty(draw, 1, n, 3 * u)
    run("gru", chunks, chunks, z, np.ascontiguousarray(U.T), b_n, *outputs, draw(n, u), more)
    exact = wide(z, U, b_n)
    for found, want in zip(outputs, gru(*exact), strict=True):
        close(found, want, draw.dtype, units=64)
    (dz, products), back = empty(draw, 2, n, t, 3 * u), empty(draw, 2, n, u)
    run("gru_grad", chunks, chunks, d, U, *outputs, dz, products, draw(n, 3 * u), *back)
    close(dz, gradient(gru, *wide(d), exact, 0), draw.dtype, units=128)
    close(weights_gradient(run, products, outputs[0]), gradient(gru, *wide(d), exact, 1), draw.dtype, units=128)
    close(products[:, :, 2 * u :].sum(axis=(0, 1)), gradient(gru, *wide(d), exact, 2), draw.dtype, units=128)


@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize(("n", "t", "u"), SIZES)
def test_rnn(run, draw, n, t, u, chunks, relu):
    z, U, d = draw(n, t, u), draw(u, u), draw(n, t, u)
    (h,), (more,) = empty(draw, 1, n, t, u), empty(draw, 1, n, u)
    run("rnn", chunks, chunks, relu, z, np.ascontiguousarray(U.T), h, draw(n, u), more)
    exact = [*wide(z, U), relu]
    close(h, rnn(*exact)[0], draw.dtype, units=64)
    (dz,), back = empty(draw, 1, n, t, u), empty(draw, 1, n, u)
    run("rnn_grad", chunks, chunks, relu, d, U, h, dz, draw(n, u), *back)

    def state(z, U):
        return rnn(z, U, relu)

    close(dz, gradient(state, *wide(d), exact[:2], 0), draw.dtype, units=128)
    close(weights_gradient(run, dz, h), gradient(state, *wide(d), exact[:2], 1), draw.dtype, units=128)


def test_relu_at_its_kink_sends_nothing_back(run, draw):
    h, (dz,) = np.zeros((1, 1, 2), draw.dtype), empty(draw, 1, 1, 1, 2)
    run("rnn_grad", 1, 1, 1, draw(1, 1, 2), draw(2, 2), h, dz, *empty(draw, 2, 1, 2))
    assert not dz.any()


@pytest.mark.parametrize("name", GATES)
def test_a_nan_of_one_sequence_stays_in_it(run, draw, name):
    """From its step on."""
    z, U = draw(3, 4, 2 * GATES[name]), draw(2 * GATES[name], 2)
    z[1, 2] = nan
    outputs = empty(draw, {"lstm": 6, "gru": 5, "rnn": 1}[name], 3, 4, 2)
    options, bias = ([0] if name == "rnn" else []), ([draw(2)] if name == "gru" else [])
    run(name, 2, 2, *options, z, np.ascontiguousarray(U.T), *bias, *outputs, draw(3, 2),
        *empty(draw, 1, 3, U.shape[0]))  # fmt: skip
    at = np.isnan(outputs[0]).all(axis=2)
    assert at.tolist() == [[False] * 4, [False, False, True, True], [False] * 4]
