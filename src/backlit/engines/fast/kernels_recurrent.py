"""Kernels of recurrence. A chunk of the sequences walks through time by itself, all of its units at each step."""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.products import gemm
from backlit.engines.fast.vector_gates import sigmoid
from backlit.engines.fast.vector_math import tanh

Array = Any


@inlined
def times_states(n0: int, n1: int, t: int, h: Array, Ut: Array, state: Array, more: Array) -> None:
    """state[n] = h[n, t] side by side, as products of far rows are slow; more[n] = U h[n, t], 0 before the first."""
    units, wide = h.shape[2], more.shape[1]
    if t < 0:
        more[n0:n1] = more.dtype.type(0)
    else:
        for n in span(n0, n1):
            for j in range(units):
                state[n, j] = h[n, t, j]
        gemm(False, False, n1 - n0, wide, units, state, n0 * units, units, Ut, 0, wide, 0.0, more, n0 * wide, wide)


@inlined
def back_to_states(n0: int, n1: int, t: int, dz: Array, U: Array, delta: Array, back: Array) -> None:
    """delta[n] = δ[n, t] side by side, and back[n] = Uᵀ delta[n]."""
    wide, units = dz.shape[2], back.shape[1]
    for n in span(n0, n1):
        for j in range(wide):
            delta[n, j] = dz[n, t, j]
    gemm(False, False, n1 - n0, units, wide, delta, n0 * wide, wide, U, 0, units, 0.0, back, n0 * units, units)


# --- long short-term memory: a chunk of the sequences walks through time by itself ------------------------------------


@kernel
def lstm(
    lo: int, hi: int, chunks: int, z: Array, Ut: Array, h: Array, c: Array, i: Array, f: Array, g: Array, o: Array,
    state: Array, more: Array,
) -> None:  # fmt: skip
    """i, f, o = σ(z + U h), g = tanh(z + U h), c = f c + i g, h = o tanh c from h = c = 0.

    Ut[U, 4U]; state[N, U] and more[N, 4U] = U h are those of one step.
    """
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        for t in range(h.shape[1]):
            times_states(n0, n1, t - 1, h, Ut, state, more)
            for n in range(n0, n1):
                lstm_cell(
                    t, z[n, t], more[n], c[n, max(t - 1, 0)], h[n, t], c[n, t], i[n, t], f[n, t], g[n, t], o[n, t]
                )


@inlined
def lstm_cell(
    t: int, z: Array, more: Array, before: Array, h: Array, c: Array, i: Array, f: Array, g: Array, o: Array
) -> None:
    """One step of one sequence; ``more`` = U h and ``before`` = c of the step before, both 0 at the first."""
    units = h.size
    a_i, a_f, a_g, a_o = z[:units], z[units : 2 * units], z[2 * units : 3 * units], z[3 * units :]
    m_i, m_f, m_g, m_o = more[:units], more[units : 2 * units], more[2 * units : 3 * units], more[3 * units :]
    if t == 0:
        for j in range(units):
            i[j], f[j], g[j], o[j] = sigmoid(a_i[j]), sigmoid(a_f[j]), tanh(a_g[j]), sigmoid(a_o[j])
            c[j] = i[j] * g[j]
    else:
        for j in range(units):
            i[j], f[j] = sigmoid(a_i[j] + m_i[j]), sigmoid(a_f[j] + m_f[j])
            g[j], o[j] = tanh(a_g[j] + m_g[j]), sigmoid(a_o[j] + m_o[j])
            c[j] = f[j] * before[j] + i[j] * g[j]
    for j in range(units):
        h[j] = o[j] * tanh(c[j])


@kernel
def lstm_grad(
    lo: int, hi: int, chunks: int, d: Array, U: Array, h: Array, c: Array, i: Array, f: Array, g: Array, o: Array,
    dz: Array, delta: Array, back: Array, carried: Array,
) -> None:  # fmt: skip
    """dz = δ of every gate, backwards through time; back[N, U] = Uᵀ δ and carried[N, U] come from the step after."""
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        back[n0:n1], carried[n0:n1] = d.dtype.type(0), d.dtype.type(0)
        for t in range(h.shape[1] - 1, -1, -1):
            for n in range(n0, n1):
                lstm_cell_grad(t, d[n, t], c[n, max(t - 1, 0)], c[n, t], i[n, t], f[n, t], g[n, t], o[n, t], dz[n, t],
                               back[n], carried[n])  # fmt: skip
            back_to_states(n0, n1, t, dz, U, delta, back)


@inlined
def lstm_cell_grad(
    t: int, d: Array, before: Array, c: Array, i: Array, f: Array, g: Array, o: Array, dz: Array, back: Array,
    carried: Array,
) -> None:  # fmt: skip
    """δ of the four gates of one step of one sequence, and what is carried to the step before."""
    units, one, zero = d.size, d.dtype.type(1), d.dtype.type(0)
    d_i, d_f, d_g, d_o = dz[:units], dz[units : 2 * units], dz[2 * units : 3 * units], dz[3 * units :]
    for j in range(units):
        of_h, tanh_c = d[j] + back[j], tanh(c[j])
        of_c = of_h * o[j] * (one - tanh_c * tanh_c) + carried[j]
        d_i[j] = of_c * g[j] * i[j] * (one - i[j])
        d_f[j] = of_c * (before[j] if t > 0 else zero) * f[j] * (one - f[j])
        d_g[j] = of_c * i[j] * (one - g[j] * g[j])
        d_o[j] = of_h * tanh_c * o[j] * (one - o[j])
        carried[j] = of_c * f[j]


# --- gated recurrent unit ---------------------------------------------------------------------------------------------


@kernel
def gru(
    lo: int, hi: int, chunks: int, z: Array, Ut: Array, b_n: Array, h: Array, reset: Array, update: Array, new: Array,
    q: Array, state: Array, more: Array,
) -> None:  # fmt: skip
    """reset, update = σ(z + U h), q = U h + b_n, new = tanh(z + reset q), h = new + update (h - new) from h = 0.

    Ut[U, 3U]; state[N, U] and more[N, 3U] = U h are those of one step.
    """
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        for t in range(h.shape[1]):
            times_states(n0, n1, t - 1, h, Ut, state, more)
            for n in range(n0, n1):
                gru_cell(t, z[n, t], more[n], b_n, h[n, max(t - 1, 0)], h[n, t], reset[n, t], update[n, t], new[n, t],
                         q[n, t])  # fmt: skip


@inlined
def gru_cell(
    t: int, z: Array, more: Array, b_n: Array, before: Array, h: Array, reset: Array, update: Array, new: Array,
    q: Array,
) -> None:  # fmt: skip
    """One step of one sequence; ``before`` = h of the step before."""
    units, zero = h.size, h.dtype.type(0)
    z_r, z_u, z_n = z[:units], z[units : 2 * units], z[2 * units :]
    m_r, m_u, m_n = more[:units], more[units : 2 * units], more[2 * units :]
    for j in range(units):
        reset[j], update[j] = sigmoid(z_r[j] + m_r[j]), sigmoid(z_u[j] + m_u[j])
        q[j] = m_n[j] + b_n[j]
    for j in range(units):
        new[j] = tanh(z_n[j] + reset[j] * q[j])
        h[j] = new[j] + update[j] * ((before[j] if t > 0 else zero) - new[j])


@kernel
def gru_grad(
    lo: int, hi: int, chunks: int, d: Array, U: Array, h: Array, reset: Array, update: Array, new: Array, q: Array,
    dz: Array, products: Array, delta: Array, back: Array, carried: Array,
) -> None:  # fmt: skip
    """dz = δ of every gate and products = ∂L/∂(U h), backwards; back[N, U] = Uᵀ products, carried[N, U] by update."""
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        back[n0:n1], carried[n0:n1] = d.dtype.type(0), d.dtype.type(0)
        for t in range(h.shape[1] - 1, -1, -1):
            for n in range(n0, n1):
                gru_cell_grad(t, d[n, t], h[n, max(t - 1, 0)], reset[n, t], update[n, t], new[n, t], q[n, t],
                              dz[n, t], products[n, t], back[n], carried[n])  # fmt: skip
            back_to_states(n0, n1, t, products, U, delta, back)


@inlined
def gru_cell_grad(
    t: int, d: Array, before: Array, reset: Array, update: Array, new: Array, q: Array, dz: Array, products: Array,
    back: Array, carried: Array,
) -> None:  # fmt: skip
    """δ of the three gates of one step of one sequence, and what is carried to the step before."""
    units, one, zero = d.size, d.dtype.type(1), d.dtype.type(0)
    d_r, d_u, d_n = dz[:units], dz[units : 2 * units], dz[2 * units :]
    for j in range(units):
        of_h, earlier = d[j] + back[j] + carried[j], before[j] if t > 0 else zero
        of_new = of_h * (one - update[j]) * (one - new[j] * new[j])
        d_r[j] = of_new * q[j] * reset[j] * (one - reset[j])
        d_u[j] = of_h * (earlier - new[j]) * update[j] * (one - update[j])
        d_n[j] = of_new
        carried[j] = of_h * update[j]
    for j in range(units):
        products[j], products[units + j], products[2 * units + j] = d_r[j], d_u[j], d_n[j] * reset[j]


# --- the simple recurrent layer ---------------------------------------------------------------------------------------


@kernel
def rnn(lo: int, hi: int, chunks: int, relu: int, z: Array, Ut: Array, h: Array, state: Array, more: Array) -> None:
    """h = tanh(z + U h), or max(z + U h, 0) where ``relu``, from h = 0; more[N, U] = U h."""
    zero = z.dtype.type(0)
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        for t in range(h.shape[1]):
            times_states(n0, n1, t - 1, h, Ut, state, more)
            for n in range(n0, n1):
                a, add, made = z[n, t], more[n], h[n, t]
                for j in range(made.size):
                    s = a[j] + add[j]
                    made[j] = (zero if s <= zero else s) if relu else tanh(s)


@kernel
def rnn_grad(
    lo: int, hi: int, chunks: int, relu: int, d: Array, U: Array, h: Array, dz: Array, delta: Array, back: Array
) -> None:
    """δ = (dh + Uᵀ δ of the step after) ⊙ f', which is (h > 0) where ``relu`` and 1 - h² else; back[N, U] = Uᵀ δ."""
    zero, one = d.dtype.type(0), d.dtype.type(1)
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        back[n0:n1] = zero
        for t in range(h.shape[1] - 1, -1, -1):
            for n in range(n0, n1):
                given, later, state, error = d[n, t], back[n], h[n, t], dz[n, t]
                for j in range(state.size):
                    slope = (zero if state[j] <= zero else one) if relu else one - state[j] * state[j]
                    error[j] = (given[j] + later[j]) * slope
            back_to_states(n0, n1, t, dz, U, delta, back)


# --- what they share --------------------------------------------------------------------------------------------------


@kernel
def recurrent_weights_grad(lo: int, hi: int, dz: Array, h: Array, dU: Array) -> None:
    """dU = Σ_n Σ_t dz[n, t]ᵀ h[n, t - 1]; rows lo … hi of dU."""
    samples, steps, wide = dz.shape
    units = h.shape[2]
    dU[lo:hi] = dz.dtype.type(0)
    for n in range(samples if steps > 1 else 0):
        gemm(True, False, hi - lo, units, steps - 1, dz, (n * steps + 1) * wide + lo, wide, h, n * steps * units, units,
             1.0, dU, lo * units, units)  # fmt: skip
