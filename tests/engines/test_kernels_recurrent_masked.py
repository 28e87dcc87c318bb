"""Kernels of recurrence with masks and given states, against the rules' own walk along time in float64."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import rules
from backlit.engines.fast import kernels_recurrent_masked
from backlit.rules import _recurrent as scan
from engines.kernel_calls import close, untested, wide

MASKS = {
    "none": None,
    "at the end": [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]],
    "in front, between": [[0, 0, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1]],
}
N, T, U, CHUNKS, UNITS = 3, 4, 5, 2, 256


def test_every_kernel_is_tested_here():
    assert not untested(kernels_recurrent_masked, __file__)


@pytest.fixture(params=MASKS)
def mask(request):
    return None if MASKS[request.param] is None else np.array(MASKS[request.param], float)


class Walk:
    """A rule's arrays, what it gives, and the gradients by d."""

    def __init__(self, draw, name, gates, mask, *states, **options):
        self.z, self.U, self.d = draw(N, T, gates * U), draw(gates * U, U), [draw(N, T, U) for _ in states]
        self.vectors = [draw(U)] if name == "gru" else []
        self.states, self.dtype = [draw(N, U) for _ in states], draw.dtype
        rule = rules.get(name)
        inputs = (*wide(self.z, self.U, *self.vectors, *self.states), mask)
        self.outputs = rule.call(np, *inputs, **options)
        attributes = rule.defaults | options
        self.gradients = rule.gradients(np, wide(*self.d), rule.saved_from(inputs, self.outputs, attributes))
        self.masked, self.mask = int(mask is not None), self.states[0] if mask is None else mask
        self.begin = scan.all_before(np, self.outputs[0], *wide(self.states[0]), scan.inside(np, inputs[0], mask))
        self.turned = np.ascontiguousarray(self.U.T)
        self.made = [np.full((N, T, U), nan, self.dtype) for _ in self.outputs]
        self.kept, self.dz, self.products = np.full((N, T, U), nan, self.dtype), *self.empty(2, N, T, gates * U)
        self.more, self.delta = self.empty(2, N, gates * U)

    def empty(self, count, *shape):
        return [*np.full((count, *shape), nan, self.dtype)]

    def close(self, found, want, units=UNITS):
        close(found, want, self.dtype, units)

    def check(self, dz, products, *first):
        """dz, dU from what is left, and what the initial states get."""
        self.close(self.kept, self.begin)
        self.close(dz, self.gradients[0])
        rows = [a.reshape(N * T, -1).astype(float) for a in (products, self.kept)]
        self.close(rows[0].T @ rows[1], self.gradients[1])
        for found, want in zip(first, self.gradients[-len(first) :], strict=True):
            self.close(found, want)


def test_lstm(run, draw, mask):
    it = Walk(draw, "lstm", 4, mask, "h0", "c0")
    run("lstm_masked", CHUNKS, CHUNKS, it.masked, it.z, it.turned, *it.states, it.mask, *it.made, it.kept,
        *it.empty(2, N, U), it.more, units=UNITS)  # fmt: skip
    for found, want in zip(it.made, it.outputs, strict=True):
        it.close(found, want)
    back, carried, dh0, dc0 = it.empty(4, N, U)
    run("lstm_masked_grad", CHUNKS, CHUNKS, it.masked, *it.d, it.U, it.states[1], it.mask, *it.made[1:], it.dz,
        it.delta, back, carried, dh0, dc0, units=UNITS)  # fmt: skip
    it.check(it.dz, it.dz, dh0, dc0)


def test_gru(run, draw, mask):
    it = Walk(draw, "gru", 3, mask, "h0")
    run("gru_masked", CHUNKS, CHUNKS, it.masked, it.z, it.turned, *it.vectors, *it.states, it.mask, *it.made, it.kept,
        *it.empty(1, N, U), it.more, units=UNITS)  # fmt: skip
    for found, want in zip(it.made, it.outputs, strict=True):
        it.close(found, want)
    back, through, dh0 = it.empty(3, N, U)
    run("gru_masked_grad", CHUNKS, CHUNKS, it.masked, *it.d, it.U, it.mask, it.kept, *it.made[1:], it.dz, it.products,
        it.delta, back, through, dh0, units=UNITS)  # fmt: skip
    it.check(it.dz, it.products, dh0)
    it.close(it.products[:, :, 2 * U :].astype(float).sum((0, 1)), it.gradients[2])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn(run, draw, mask, activation):
    it, relu = Walk(draw, "rnn", 1, mask, "h0", activation=activation), int(activation == "relu")
    run("rnn_masked", CHUNKS, CHUNKS, it.masked, relu, it.z, it.turned, *it.states, it.mask, *it.made, it.kept,
        *it.empty(1, N, U), it.more, units=UNITS)  # fmt: skip
    it.close(it.made[0], it.outputs[0])
    back, dh0 = it.empty(2, N, U)
    run("rnn_masked_grad", CHUNKS, CHUNKS, it.masked, relu, *it.d, it.U, it.mask, *it.made, it.dz, it.delta, back, dh0,
        units=UNITS)  # fmt: skip
    it.check(it.dz, it.dz, dh0)
