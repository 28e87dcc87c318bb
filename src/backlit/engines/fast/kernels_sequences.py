"""Kernels of sequences: rows of a table, attention, long short-term memory."""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.blas import gemm
from backlit.engines.fast.jit import inlined, kernel, ordered, span
from backlit.engines.fast.kernels_dense import product
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.vector_gates import sigmoid
from backlit.engines.fast.vector_math import exp, tanh

Array = Any


@kernel
def add_rows(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y[n] = a[n] + b: the same vector to every row lo … hi."""
    for n in span(lo, hi):
        for i in range(b.size):
            y[n, i] = a[n, i] + b[i]


# --- embedding ------------------------------------------------------------------------------------------------------------


@kernel
def embedding(lo: int, hi: int, indices: Array, E: Array, y: Array) -> None:
    """y[m] = E[indices[m]]; rows lo … hi."""
    for m in span(lo, hi):
        row = indices[m]
        for c in range(E.shape[1]):
            y[m, c] = E[row, c]


@kernel
def embedding_grad(lo: int, hi: int, d: Array, indices: Array, dE: Array) -> None:
    """dE[v] = Σ of d[m] over the places m where row v was taken; columns lo … hi."""
    for v in range(dE.shape[0]):
        for c in span(lo, hi):
            dE[v, c] = d.dtype.type(0)
    for m in range(d.shape[0]):
        row = indices[m]
        for c in span(lo, hi):
            dE[row, c] += d[m, c]


# --- attention: units are pairs of sample and head; q, k and v lie in one array, side by side, or in three -----------------


@inlined
def softmax_of_rows(scores: Array, scale: float, causal: int) -> None:
    """scores = softmax(scale · scores) along each row, over the keys up to the query's own where ``causal``."""
    zero, one, factor = scores.dtype.type(0), scores.dtype.type(1), scores.dtype.type(scale)
    for t in range(scores.shape[0]):
        row = scores[t]
        seen = t + 1 if causal else row.size
        top, norm = row[0], zero
        for s in range(seen):
            top = max(top, row[s])
        for s in range(seen):
            row[s] = exp((row[s] - top) * factor)
        for s in range(seen):
            norm += row[s]
        share = one / norm
        for s in range(seen):
            row[s] *= share
        for s in range(seen, row.size):
            row[s] = zero


@kernel
def attention(
    lo: int, hi: int, heads: int, causal: int, q: Array, q0: int, k: Array, k0: int, v: Array, v0: int, y: Array,
    weights: Array,
) -> None:  # fmt: skip
    """weights = softmax(q kᵀ/√(D/heads)), y = weights v; q begins at column q0 of its rows, and so on."""
    (T, S), width, depth = weights.shape[2:], y.shape[2] // heads, (k.shape[2] if k0 == q0 else v0 - k0) // heads
    lq, lk, lv, ly = q.shape[2], k.shape[2], v.shape[2], y.shape[2]
    for pair in range(lo, hi):
        n, h = pair // heads, pair % heads
        at = pair * T * S
        gemm(False, True, T, S, depth, q, n * T * lq + q0 + h * depth, lq, k, n * S * lk + k0 + h * depth, lk, 0.0,
             weights, at, S)  # fmt: skip
        softmax_of_rows(weights[n, h], depth**-0.5, causal)
        gemm(False, False, T, width, S, weights, at, S, v, n * S * lv + v0 + h * width, lv, 0.0, y,
             n * T * ly + h * width, ly)  # fmt: skip


@kernel
def attention_grad(
    lo: int, hi: int, heads: int, d: Array, q: Array, q0: int, k: Array, k0: int, v: Array, v0: int, weights: Array,
    dscores: Array, dq: Array, dk: Array, dv: Array,
) -> None:  # fmt: skip
    """dv = weightsᵀ d, dscores = weights ⊙ (d vᵀ - Σ_s weights d vᵀ)/√(D/heads), dq = dscores k, dk = dscoresᵀ q."""
    (T, S), width, depth = weights.shape[2:], d.shape[2] // heads, (k.shape[2] if k0 == q0 else v0 - k0) // heads
    lq, lk, lv, ld = q.shape[2], k.shape[2], v.shape[2], d.shape[2]
    scale = d.dtype.type(depth**-0.5)
    for pair in range(lo, hi):
        n, h = pair // heads, pair % heads
        at, d_at = pair * T * S, n * T * ld + h * width
        q_at, k_at, v_at = n * T * lq + q0 + h * depth, n * S * lk + k0 + h * depth, n * S * lv + v0 + h * width
        gemm(True, False, S, width, T, weights, at, S, d, d_at, ld, 0.0, dv, v_at, lv)
        gemm(False, True, T, S, width, d, d_at, ld, v, v_at, lv, 0.0, dscores, at, S)
        for t in range(T):
            back, row, common = dscores[n, h, t], weights[n, h, t], d.dtype.type(0)
            for s in range(S):
                common += back[s] * row[s]
            for s in range(S):
                back[s] = row[s] * (back[s] - common) * scale
        gemm(False, False, T, depth, S, dscores, at, S, k, k_at, lk, 0.0, dq, q_at, lq)
        gemm(True, False, S, depth, T, dscores, at, S, q, q_at, lq, 0.0, dk, k_at, lk)


# --- long short-term memory: a chunk of the sequences walks through time by itself -------------------------------------------


@kernel
def lstm(
    lo: int, hi: int, chunks: int, z: Array, Ut: Array, h: Array, c: Array, i: Array, f: Array, g: Array, o: Array,
    more: Array,
) -> None:  # fmt: skip
    """i, f, o = σ(z + U h), g = tanh(z + U h), c = f c + i g, h = o tanh c from h = c = 0; Ut[U, 4U], more[N, 4U] = U h."""
    steps, units = h.shape[1], h.shape[2]
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        for t in range(steps):
            if t > 0:
                product(False, n1 - n0, 4 * units, units, h, (n0 * steps + t - 1) * units, steps * units, Ut, 0,
                        4 * units, more, n0 * 4 * units, 4 * units, 64, 256)  # fmt: skip
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
    dz: Array, back: Array, carried: Array,
) -> None:  # fmt: skip
    """dz = δ of every gate, backwards through time; back[N, U] = Uᵀ δ and carried[N, U] come from the step after."""
    steps, units = h.shape[1], h.shape[2]
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, chunks, h.shape[0])
        back[n0:n1], carried[n0:n1] = d.dtype.type(0), d.dtype.type(0)
        for t in range(steps - 1, -1, -1):
            for n in range(n0, n1):
                lstm_cell_grad(t, d[n, t], c[n, max(t - 1, 0)], c[n, t], i[n, t], f[n, t], g[n, t], o[n, t], dz[n, t],
                               back[n], carried[n])  # fmt: skip
            if t > 0:
                product(False, n1 - n0, units, 4 * units, dz, (n0 * steps + t) * 4 * units, steps * 4 * units, U, 0,
                        units, back, n0 * units, units, 64, 128)  # fmt: skip


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


@kernel
def recurrent_weights_grad(lo: int, hi: int, by_columns: int, dz: Array, h: Array, dU: Array) -> None:
    """dU = Σ_n Σ_t dz[n, t]ᵀ h[n, t - 1]; rows lo … hi of dU."""
    samples, steps, wide = dz.shape
    units = h.shape[2]
    dU[lo:hi] = dz.dtype.type(0)
    for n in range(samples):
        if steps > 1:
            gemm(True, False, hi - lo, units, steps - 1, dz, (n * steps + 1) * wide + lo, wide, h, n * steps * units,
                 units, 1.0, dU, lo * units, units)  # fmt: skip
