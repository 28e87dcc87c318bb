"""Kernels of recurrence over sequences that begin from a given state, and of which a mask[N, T] leaves steps out.

A step with mask 0 lies outside every sequence: its state is 0, nothing flows back through it, and the step after it
begins with h0 (and c0) again. ``states[n, t]`` keeps the state that a step starts from, so that dU is one product. The
mask is not read unless ``masked``.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.products import gemm
from backlit.engines.fast.vector_gates import sigmoid
from backlit.engines.fast.vector_math import tanh

Array = Any


@inlined
def begins(masked: int, mask: Array, n: int, t: int) -> bool:
    """Whether a sequence begins at step t."""
    return t == 0 or (masked != 0 and mask[n, t - 1] == 0)


@inlined
def outside(masked: int, mask: Array, n: int, t: int) -> bool:
    """Whether step t lies outside every sequence."""
    return masked != 0 and mask[n, t] == 0


@inlined
def before(n0: int, n1: int, t: int, masked: int, mask: Array, h: Array, h0: Array, state: Array) -> None:
    """state[n] = the one that step t starts from, for sequences n0 … n1."""
    for n in span(n0, n1):
        earlier = h0[n] if begins(masked, mask, n, t) else h[n, max(t - 1, 0)]
        for j in span(0, state.shape[1]):
            state[n, j] = earlier[j]


@inlined
def times_state(n0: int, n1: int, t: int, state: Array, Ut: Array, states: Array, more: Array) -> None:
    """more[n] = U state[n], which is kept in states[n, t]."""
    units, wide = state.shape[1], more.shape[1]
    for n in span(n0, n1):
        for j in span(0, units):
            states[n, t, j] = state[n, j]
    gemm(False, False, n1 - n0, wide, units, state, n0 * units, units, Ut, 0, wide, 0.0, more, n0 * wide, wide)


@inlined
def times_delta(n0: int, n1: int, delta: Array, U: Array, back: Array) -> None:
    """back[n] = Uᵀ delta[n]."""
    wide, units = U.shape
    gemm(False, False, n1 - n0, units, wide, delta, n0 * wide, wide, U, 0, units, 0.0, back, n0 * units, units)


@inlined
def keep_row(row: Array, into: Array) -> None:
    """into = row."""
    for j in span(0, row.size):
        into[j] = row[j]


@inlined
def add_row(row: Array, into: Array) -> None:
    """into += row."""
    for j in span(0, row.size):
        into[j] += row[j]


# --- long short-term memory -------------------------------------------------------------------------------------------


@inlined
def lstm_step(z: Array, more: Array, cell: Array, h: Array, c: Array, i: Array, f: Array, g: Array, o: Array) -> None:
    """i, f, o = σ(z + U h), g = tanh(z + U h), c = f cell + i g, h = o tanh c; ``more`` = U h."""
    units = h.size
    for j in span(0, units):
        i[j], f[j] = sigmoid(z[j] + more[j]), sigmoid(z[units + j] + more[units + j])
        g[j], o[j] = tanh(z[2 * units + j] + more[2 * units + j]), sigmoid(z[3 * units + j] + more[3 * units + j])
        c[j] = f[j] * cell[j] + i[j] * g[j]
    for j in span(0, units):
        h[j] = o[j] * tanh(c[j])


@kernel
def lstm_masked(
    lo: int, hi: int, chunks: int, masked: int, z: Array, Ut: Array, h0: Array, c0: Array, mask: Array, h: Array,
    c: Array, i: Array, f: Array, g: Array, o: Array, states: Array, state: Array, cell: Array, more: Array,
) -> None:  # fmt: skip
    """i, f, o = σ(z + U h), g = tanh(z + U h), c = f c + i g, h = o tanh c from h0 and c0; 0 outside (but g)."""
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        for t in range(h.shape[1]):
            before(n0, n1, t, masked, mask, h, h0, state)
            before(n0, n1, t, masked, mask, c, c0, cell)
            times_state(n0, n1, t, state, Ut, states, more)
            for n in range(n0, n1):
                lstm_step(z[n, t], more[n], cell[n], h[n, t], c[n, t], i[n, t], f[n, t], g[n, t], o[n, t])
                if outside(masked, mask, n, t):
                    zero = h.dtype.type(0)
                    h[n, t], c[n, t], i[n, t], f[n, t], o[n, t] = zero, zero, zero, zero, zero


@inlined
def lstm_step_grad(
    d: Array, dc: Array, cell: Array, c: Array, i: Array, f: Array, g: Array, o: Array, delta: Array, back: Array,
    carried: Array,
) -> None:  # fmt: skip
    """δ of the four gates of one step of one sequence, and what is carried to the step before: 0 outside, as i … o."""
    units, one = d.size, d.dtype.type(1)
    for j in span(0, units):
        of_h, tanh_c = d[j] + back[j], tanh(c[j])
        of_c = of_h * o[j] * (one - tanh_c * tanh_c) + dc[j] + carried[j]
        delta[j] = of_c * g[j] * i[j] * (one - i[j])
        delta[units + j] = of_c * cell[j] * f[j] * (one - f[j])
        delta[2 * units + j] = of_c * i[j] * (one - g[j] * g[j])
        delta[3 * units + j] = of_h * tanh_c * o[j] * (one - o[j])
        carried[j] = of_c * f[j]


@kernel
def lstm_masked_grad(
    lo: int, hi: int, chunks: int, masked: int, d: Array, dc: Array, U: Array, c0: Array, mask: Array, c: Array,
    i: Array, f: Array, g: Array, o: Array, dz: Array, delta: Array, back: Array, carried: Array, dh0: Array,
    dc0: Array,
) -> None:  # fmt: skip
    """dz = δ of every gate, backwards through time; dh0 and dc0 sum what steps that begin send back."""
    zero = d.dtype.type(0)
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, d.shape[0])
        back[n0:n1], carried[n0:n1], dh0[n0:n1], dc0[n0:n1] = zero, zero, zero, zero
        for t in range(d.shape[1] - 1, -1, -1):
            for n in range(n0, n1):
                cell = c0[n] if begins(masked, mask, n, t) else c[n, max(t - 1, 0)]
                lstm_step_grad(d[n, t], dc[n, t], cell, c[n, t], i[n, t], f[n, t], g[n, t], o[n, t], delta[n], back[n],
                               carried[n])  # fmt: skip
                keep_row(delta[n], dz[n, t])
            times_delta(n0, n1, delta, U, back)
            for n in range(n0, n1):
                if begins(masked, mask, n, t):
                    add_row(back[n], dh0[n])
                    add_row(carried[n], dc0[n])


# --- gated recurrent unit ---------------------------------------------------------------------------------------------


@inlined
def gru_step(
    z: Array, more: Array, b_n: Array, state: Array, h: Array, reset: Array, update: Array, new: Array, q: Array
) -> None:
    """reset, update = σ(z + U h), q = U h + b_n, new = tanh(z + reset q), h = new + update (h - new)."""
    units = h.size
    for j in span(0, units):
        reset[j], update[j] = sigmoid(z[j] + more[j]), sigmoid(z[units + j] + more[units + j])
        q[j] = more[2 * units + j] + b_n[j]
    for j in span(0, units):
        new[j] = tanh(z[2 * units + j] + reset[j] * q[j])
        h[j] = new[j] + update[j] * (state[j] - new[j])


@kernel
def gru_masked(
    lo: int, hi: int, chunks: int, masked: int, z: Array, Ut: Array, b_n: Array, h0: Array, mask: Array, h: Array,
    reset: Array, update: Array, new: Array, q: Array, states: Array, state: Array, more: Array,
) -> None:  # fmt: skip
    """reset, update = σ(z + U h), q = U h + b_n, new = tanh(z + reset q), h = new + update (h - new) from h0."""
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        for t in range(h.shape[1]):
            before(n0, n1, t, masked, mask, h, h0, state)
            times_state(n0, n1, t, state, Ut, states, more)
            for n in range(n0, n1):
                gru_step(z[n, t], more[n], b_n, state[n], h[n, t], reset[n, t], update[n, t], new[n, t], q[n, t])
                if outside(masked, mask, n, t):
                    zero = h.dtype.type(0)
                    h[n, t], reset[n, t], update[n, t], new[n, t] = zero, zero, zero, zero


@inlined
def gru_step_grad(
    alive: Any, d: Array, state: Array, reset: Array, update: Array, new: Array, q: Array, dz: Array, products: Array,
    delta: Array, back: Array,
) -> None:  # fmt: skip
    """δ of the three gates of one step, delta = products = ∂L/∂(U h), and in ``back`` what update lets through."""
    units, one = d.size, d.dtype.type(1)
    for j in span(0, units):
        of_h = d[j] + back[j]
        of_new = alive * of_h * (one - update[j]) * (one - new[j] * new[j])
        dz[j] = of_new * q[j] * reset[j] * (one - reset[j])
        dz[units + j] = of_h * (state[j] - new[j]) * update[j] * (one - update[j])
        dz[2 * units + j] = of_new
        back[j] = of_h * update[j]
    for j in span(0, units):
        delta[j], delta[units + j] = dz[j], dz[units + j]
        delta[2 * units + j] = dz[2 * units + j] * reset[j]
    keep_row(delta, products)


@kernel
def gru_masked_grad(
    lo: int, hi: int, chunks: int, masked: int, d: Array, U: Array, mask: Array, states: Array, reset: Array,
    update: Array, new: Array, q: Array, dz: Array, products: Array, delta: Array, back: Array, through: Array,
    dh0: Array,
) -> None:  # fmt: skip
    """dz = δ of every gate and products = ∂L/∂(U h), backwards; dh0 sums what steps that begin send back."""
    zero, one = d.dtype.type(0), d.dtype.type(1)
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, d.shape[0])
        back[n0:n1], dh0[n0:n1] = zero, zero
        for t in range(d.shape[1] - 1, -1, -1):
            for n in range(n0, n1):
                alive = zero if outside(masked, mask, n, t) else one
                gru_step_grad(alive, d[n, t], states[n, t], reset[n, t], update[n, t], new[n, t], q[n, t], dz[n, t],
                              products[n, t], delta[n], back[n])  # fmt: skip
            times_delta(n0, n1, delta, U, through)
            for n in range(n0, n1):
                add_row(through[n], back[n])
                if begins(masked, mask, n, t):
                    add_row(back[n], dh0[n])


# --- the simple recurrent layer ---------------------------------------------------------------------------------------


@kernel
def rnn_masked(
    lo: int, hi: int, chunks: int, masked: int, relu: int, z: Array, Ut: Array, h0: Array, mask: Array, h: Array,
    states: Array, state: Array, more: Array,
) -> None:  # fmt: skip
    """h = tanh(z + U h), or max(z + U h, 0) where ``relu``, from h0; 0 outside."""
    zero = z.dtype.type(0)
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        for t in range(h.shape[1]):
            before(n0, n1, t, masked, mask, h, h0, state)
            times_state(n0, n1, t, state, Ut, states, more)
            for n in range(n0, n1):
                a, add, made = z[n, t], more[n], h[n, t]
                if outside(masked, mask, n, t):
                    made[:] = zero
                else:
                    for j in span(0, made.size):
                        s = a[j] + add[j]
                        made[j] = (zero if s <= zero else s) if relu else tanh(s)


@kernel
def rnn_masked_grad(
    lo: int, hi: int, chunks: int, masked: int, relu: int, d: Array, U: Array, mask: Array, h: Array, dz: Array,
    delta: Array, back: Array, dh0: Array,
) -> None:  # fmt: skip
    """δ = (dh + Uᵀ δ of the step after) ⊙ f', 0 outside; dh0 sums what steps that begin send back."""
    zero, one = d.dtype.type(0), d.dtype.type(1)
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        back[n0:n1], dh0[n0:n1] = zero, zero
        for t in range(h.shape[1] - 1, -1, -1):
            for n in range(n0, n1):
                alive = zero if outside(masked, mask, n, t) else one
                for j in span(0, h.shape[2]):
                    s = h[n, t, j]
                    slope = (zero if s <= zero else one) if relu else one - s * s
                    delta[n, j] = alive * slope * (d[n, t, j] + back[n, j])
                keep_row(delta[n], dz[n, t])
            times_delta(n0, n1, delta, U, back)
            for n in range(n0, n1):
                if begins(masked, mask, n, t):
                    add_row(back[n], dh0[n])
