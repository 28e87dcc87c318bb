"""Kernels of a residual sum and the layer normalisation that reads it: h = a + b, y = layernorm(h).

The sum is normalised while its row is near, and what the norm sends back is added to what h has from the next sum.
"""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.jit import kernel, ordered, span
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.kernels_norms import total, total_of_squares

Array = Any


@ordered
def add_layernorm(
    lo: int, hi: int, a: Array, b: Array, gamma: Array, beta: Array, h: Array, y: Array, mean: Array, var: Array,
    eps: float,
) -> None:  # fmt: skip
    """h = a + b, y = gamma (h - mean)/√(var + eps) + beta, mean and var of each row; rows lo … hi."""
    width = h.shape[1]
    share, small, one = h.dtype.type(1.0 / width), h.dtype.type(eps), h.dtype.type(1)
    for n in span(lo, hi):
        row, out = h[n], y[n]
        for c in span(0, width):
            row[c] = a[n, c] + b[n, c]
        middle = total(row) * share
        for c in span(0, width):
            out[c] = row[c] - middle
        squares = total_of_squares(out) * share
        scale = one / math.sqrt(squares + small)
        for c in span(0, width):
            out[c] = gamma[c] * (out[c] * scale) + beta[c]
        mean[n], var[n] = middle, squares


@kernel
def layernorm_all_grads(
    lo: int, hi: int, adding: int, d: Array, h: Array, gamma: Array, mean: Array, var: Array, sums: Array, dh: Array,
    eps: float,
) -> None:  # fmt: skip
    """dh, or dh more where ``adding``, and sums[chunk] = (Σ d xhat, Σ d), in one pass; chunks lo … hi of the rows.

    dh = (g - mean g - xhat mean(g xhat))/√(var + eps), g = gamma d.
    """
    width, zero, one = d.shape[1], d.dtype.type(0), d.dtype.type(1)
    share, small = d.dtype.type(1.0 / width), d.dtype.type(eps)
    for chunk in range(lo, hi):
        first, end = images_of(chunk, sums.shape[0], d.shape[0])
        dgamma, dbeta = sums[chunk, 0], sums[chunk, 1]
        dgamma[:], dbeta[:] = zero, zero
        for n in span(first, end):
            if adding == 0:
                dh[n] = zero
            scale, middle, g_sum, along = one / math.sqrt(var[n] + small), mean[n], zero, zero
            for c in span(0, width):
                t, xhat = d[n, c], (h[n, c] - middle) * scale
                dgamma[c] += t * xhat
                dbeta[c] += t
                g_sum += t * gamma[c]
                along += t * gamma[c] * xhat
            g_mean, slope = g_sum * share, along * share
            for c in span(0, width):
                dh[n, c] += scale * (d[n, c] * gamma[c] - g_mean - (h[n, c] - middle) * scale * slope)
