"""Kernels of attention. Units are pairs of sample and head; q, k and v lie in one array, side by side, or in three.

A causal sequence is done in blocks of its queries, each with the keys up to its last query: what none of them sees is
left out of the products.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.kernels_loss import highest
from backlit.engines.fast.kernels_norms import total
from backlit.engines.fast.products import gemm
from backlit.engines.fast.vector_math import exp

Array = Any

BLOCK = 32
"""Queries of a causal sequence that are done together."""
HIDDEN = -(2.0**100)
"""A score so low that its exponential is 0."""


@inlined
def softmax(row: Array, seen: int, scale: float) -> None:
    """The softmax of scale row in its place, over its first ``seen`` entries, 0 behind them; 0 where all is hidden.

    The loops go over the whole row, so that its length is a multiple of a vector's.
    """
    factor, top = row.dtype.type(scale), highest(row[:seen])
    fill(row, seen, top)
    for s in span(0, row.size):
        row[s] = exp((row[s] - top) * factor)
    fill(row, seen, row.dtype.type(0))
    share = row.dtype.type(0 if top == HIDDEN else 1) / total(row)
    for s in span(0, row.size):
        row[s] *= share


@inlined
def fill(row: Array, start: int, value: Any) -> None:
    """row = value from ``start`` on."""
    for s in span(start, row.size):
        row[s] = value


@inlined
def hide(row: Array, mask: Array) -> None:
    """row = HIDDEN where the mask is 0."""
    low = row.dtype.type(HIDDEN)
    for s in span(0, row.size):
        row[s] = row[s] if mask[s] else low


@kernel
def attention(
    lo: int, hi: int, heads: int, causal: int, masked: int, q: Array, q0: int, k: Array, k0: int, v: Array, v0: int,
    mask: Array, y: Array, weights: Array,
) -> None:  # fmt: skip
    """weights = softmax(q kᵀ/√(D/heads)), y = weights v; q begins at column q0 of its rows, and so on.

    mask[N, 1 or T, S] hides keys where it is 0; it is not read unless ``masked``.
    """
    (T, S), width, depth = weights.shape[2:], y.shape[2] // heads, (k.shape[2] if k0 == q0 else v0 - k0) // heads
    lq, lk, lv, ly = q.shape[2], k.shape[2], v.shape[2], y.shape[2]
    for pair in range(lo, hi):
        n, h = pair // heads, pair % heads
        k_at, v_at = n * S * lk + k0 + h * depth, n * S * lv + v0 + h * width
        for first in range(0, T, BLOCK if causal else max(T, 1)):
            end = min(first + BLOCK, T) if causal else T
            keys, at = end if causal else S, (pair * T + first) * S
            gemm(False, True, end - first, keys, depth, q, (n * T + first) * lq + q0 + h * depth, lq, k, k_at, lk,
                 0.0, weights, at, S)  # fmt: skip
            for t in range(first, end):
                row = weights[n, h, t]
                if masked:
                    hide(row[:keys], mask[n, min(t, mask.shape[1] - 1)])
                softmax(row[:keys], t + 1 if causal else S, depth**-0.5)
                fill(row, keys, y.dtype.type(0))
            gemm(False, False, end - first, width, keys, weights, at, S, v, v_at, lv, 0.0, y,
                 (n * T + first) * ly + h * width, ly)  # fmt: skip


@inlined
def softmax_grad(back: Array, row: Array, scale: float) -> None:
    """back = scale row ⊙ (back - Σ back ⊙ row)."""
    common, factor = row.dtype.type(0), row.dtype.type(scale)
    for s in span(0, row.size):
        common += back[s] * row[s]
    for s in span(0, row.size):
        back[s] = row[s] * (back[s] - common) * factor


@kernel
def attention_grad(
    lo: int, hi: int, heads: int, causal: int, d: Array, q: Array, q0: int, k: Array, k0: int, v: Array, v0: int,
    weights: Array, dscores: Array, dq: Array, dk: Array, dv: Array,
) -> None:  # fmt: skip
    """dv = weightsᵀ d, dscores = weights ⊙ (d vᵀ - Σ_s weights d vᵀ)/√(D/heads), dq = dscores k, dk = dscoresᵀ q."""
    (T, S), width, depth = weights.shape[2:], d.shape[2] // heads, (k.shape[2] if k0 == q0 else v0 - k0) // heads
    lq, lk, lv, ld = q.shape[2], k.shape[2], v.shape[2], d.shape[2]
    for pair in range(lo, hi):
        n, h, at = pair // heads, pair % heads, pair * T * S
        q_at, d_at = n * T * lq + q0 + h * depth, n * T * ld + h * width
        k_at, v_at = n * S * lk + k0 + h * depth, n * S * lv + v0 + h * width
        for first in range(0, T, BLOCK if causal else max(T, 1)):
            end = min(first + BLOCK, T) if causal else T
            keys, here = end if causal else S, at + first * S
            gemm(False, True, end - first, keys, width, d, d_at + first * ld, ld, v, v_at, lv, 0.0, dscores, here, S)
            for t in range(first, end):
                softmax_grad(dscores[n, h, t, :keys], weights[n, h, t, :keys], depth**-0.5)
            gemm(False, False, end - first, depth, keys, dscores, here, S, k, k_at, lk, 0.0, dq, q_at + first * lq, lq)
        for first in range(0, S, BLOCK if causal else S):
            end = min(first + BLOCK, S) if causal else S
            t0, here = first if causal else 0, at + (first * S if causal else 0) + first
            gemm(True, False, end - first, width, T - t0, weights, here, S, d, d_at + t0 * ld, ld, 0.0, dv,
                 v_at + first * lv, lv)  # fmt: skip
            gemm(True, False, end - first, depth, T - t0, dscores, here, S, q, q_at + t0 * lq, lq, 0.0, dk,
                 k_at + first * lk, lk)  # fmt: skip
