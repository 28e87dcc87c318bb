"""Kernels of normalisations over rows x[N, C]: each channel over all rows (batchnorm), or each row itself (layernorm).

What is summed over rows is summed in chunks of the rows first, then over the chunks in order.
"""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.jit import inlined, kernel, ordered, span
from backlit.engines.fast.kernels_images import images_of

Array = Any

BLOCK = 64
"""Rows whose moments are taken together: what fits a core's nearest cache."""


# --- batchnorm --------------------------------------------------------------------------------------------------------


@inlined
def moments_of_block(x: Array, first: int, end: int, mean: Array, squares: Array) -> None:
    """The channels' means over rows first … end, and Σ (x - mean)²."""
    mean[:], squares[:] = x.dtype.type(0), x.dtype.type(0)
    for n in span(first, end):
        for c in span(0, x.shape[1]):
            mean[c] += x[n, c]
    share = x.dtype.type(1.0 / max(end - first, 1))
    for c in span(0, x.shape[1]):
        mean[c] *= share
    for n in span(first, end):
        for c in span(0, x.shape[1]):
            t = x[n, c] - mean[c]
            squares[c] += t * t


@ordered
def moments(lo: int, hi: int, x: Array, sums: Array) -> None:
    """sums[chunk, 0] = the channels' means over a chunk of the rows, sums[chunk, 1] = Σ (x - mean)² of it.

    Block by block, so that x is read once; sums[chunk, 2] and sums[chunk, 3] are those of a block.
    """
    for chunk in range(lo, hi):
        first, end = images_of(chunk, sums.shape[0], x.shape[0])
        mean, squares, part, part_squares = sums[chunk, 0], sums[chunk, 1], sums[chunk, 2], sums[chunk, 3]
        mean[:], squares[:] = x.dtype.type(0), x.dtype.type(0)
        for at in range(first, end, BLOCK):
            stop = min(at + BLOCK, end)
            moments_of_block(x, at, stop, part, part_squares)
            share, weight = x.dtype.type((stop - at) / (stop - first)), x.dtype.type(at - first)
            for c in span(0, x.shape[1]):
                apart = part[c] - mean[c]
                squares[c] += part_squares[c] + apart * apart * weight * share
                mean[c] += apart * share


@ordered
def merge_moments(lo: int, hi: int, sums: Array, rows: int, mean: Array, var: Array) -> None:
    """Mean and variance over all rows, of channels lo … hi, from those of the chunks (Chan, Golub, LeVeque 1983)."""
    chunks = sums.shape[0]
    for c in span(lo, hi):
        count, middle, squares = 0.0, 0.0, 0.0
        for chunk in range(chunks):
            first, end = images_of(chunk, chunks, rows)
            if end > first:
                apart, both = sums[chunk, 0, c] - middle, count + (end - first)
                squares += sums[chunk, 1, c] + apart * apart * count * (end - first) / both
                middle += apart * (end - first) / both
                count = both
        mean[c], var[c] = middle, squares / count


@kernel
def batchnorm(
    lo: int, hi: int, relu: int, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, y: Array, eps: float
) -> None:
    """y = gamma (x - mean)/√(var + eps) + beta, max(y, 0) where ``relu``; rows lo … hi."""
    zero, small, one = x.dtype.type(0), x.dtype.type(eps), x.dtype.type(1)
    for n in span(lo, hi):
        for c in range(x.shape[1]):
            t = (x[n, c] - mean[c]) * (gamma[c] * (one / math.sqrt(var[c] + small))) + beta[c]
            y[n, c] = zero if relu and t <= zero else t


@kernel
def batchnorm_sums(
    lo: int, hi: int, relu: int, d: Array, x: Array, y: Array, mean: Array, var: Array, sums: Array, eps: float
) -> None:
    """sums[chunk] = (Σ d xhat, Σ d) over a chunk of the rows; where ``relu``, first d = d ⊙ (y > 0), in place."""
    zero, small, one = d.dtype.type(0), d.dtype.type(eps), d.dtype.type(1)
    for chunk in range(lo, hi):
        first, end = images_of(chunk, sums.shape[0], d.shape[0])
        dgamma, dbeta = sums[chunk, 0], sums[chunk, 1]
        dgamma[:], dbeta[:] = zero, zero
        for n in span(first, end):
            if relu:
                for c in span(0, d.shape[1]):
                    t, value = d[n, c], y[n, c]
                    d[n, c] = zero if value <= zero else t
            for c in span(0, d.shape[1]):
                t = d[n, c]
                dbeta[c] += t
                dgamma[c] += t * (x[n, c] - mean[c])
        for c in range(d.shape[1]):
            dgamma[c] *= one / math.sqrt(var[c] + small)


@kernel
def batchnorm_grad(
    lo: int, hi: int, d: Array, x: Array, gamma: Array, mean: Array, var: Array, dgamma: Array, dbeta: Array, dx: Array,
    eps: float,
) -> None:  # fmt: skip
    """dx = gamma/√(var + eps) (d - (dbeta + xhat dgamma)/N); rows lo … hi."""
    share, small, one = d.dtype.type(1.0 / d.shape[0]), d.dtype.type(eps), d.dtype.type(1)
    for n in span(lo, hi):
        for c in range(d.shape[1]):
            scale = one / math.sqrt(var[c] + small)
            common = (dbeta[c] + (x[n, c] - mean[c]) * scale * dgamma[c]) * share
            dx[n, c] = gamma[c] * scale * (d[n, c] - common)


@kernel
def batchnorm_inference_grad(lo: int, hi: int, d: Array, gamma: Array, var: Array, dx: Array, eps: float) -> None:
    """dx = gamma/√(var + eps) d; rows lo … hi."""
    small = d.dtype.type(eps)
    for n in span(lo, hi):
        for c in range(d.shape[1]):
            dx[n, c] = d[n, c] * (gamma[c] / math.sqrt(var[c] + small))


@kernel
def running_average(lo: int, hi: int, old: Array, new: Array, moved: Array, momentum: float, scale: float) -> None:
    """moved = (1 - momentum) old + momentum scale new."""
    keep, take = old.dtype.type(1.0 - momentum), old.dtype.type(momentum * scale)
    for i in span(lo, hi):
        moved[i] = keep * old[i] + take * new[i]


# --- layernorm --------------------------------------------------------------------------------------------------------


@inlined
def total(row: Array) -> Any:
    """Σ of a row, in any order."""
    found = row.dtype.type(0)
    for c in range(row.size):
        found += row[c]
    return found


@inlined
def total_of_squares(row: Array) -> Any:
    """Σ of a row's squares, in any order."""
    found = row.dtype.type(0)
    for c in range(row.size):
        found += row[c] * row[c]
    return found


@ordered
def layernorm(
    lo: int, hi: int, x: Array, gamma: Array, beta: Array, y: Array, mean: Array, var: Array, eps: float
) -> None:
    """y = gamma (x - mean)/√(var + eps) + beta, mean and var of each row; rows lo … hi."""
    share, small, one = x.dtype.type(1.0 / x.shape[1]), x.dtype.type(eps), x.dtype.type(1)
    for n in span(lo, hi):
        row, out = x[n], y[n]
        middle = total(row) * share
        for c in range(row.size):
            out[c] = row[c] - middle
        squares = total_of_squares(out) * share
        scale = one / math.sqrt(squares + small)
        for c in range(row.size):
            out[c] = gamma[c] * (out[c] * scale) + beta[c]
        mean[n], var[n] = middle, squares


@kernel
def layernorm_grad(
    lo: int, hi: int, d: Array, x: Array, gamma: Array, mean: Array, var: Array, dx: Array, eps: float
) -> None:
    """dx = (g - mean g - xhat mean(g xhat))/√(var + eps), g = gamma d; rows lo … hi."""
    share, small, one = x.dtype.type(1.0 / x.shape[1]), x.dtype.type(eps), x.dtype.type(1)
    for n in span(lo, hi):
        scale, middle = one / math.sqrt(var[n] + small), mean[n]
        g_sum, along = x.dtype.type(0), x.dtype.type(0)
        for c in range(x.shape[1]):
            g = d[n, c] * gamma[c]
            g_sum += g
            along += g * (x[n, c] - middle)
        g_mean, slope = g_sum * share, along * share * scale * scale
        for c in range(x.shape[1]):
            dx[n, c] = scale * (d[n, c] * gamma[c] - g_mean - (x[n, c] - middle) * slope)


@kernel
def layernorm_sums(lo: int, hi: int, d: Array, x: Array, mean: Array, var: Array, sums: Array, eps: float) -> None:
    """sums[chunk] = (Σ d xhat, Σ d) over a chunk of the rows."""
    small, one = d.dtype.type(eps), d.dtype.type(1)
    for chunk in range(lo, hi):
        first, end = images_of(chunk, sums.shape[0], d.shape[0])
        dgamma, dbeta = sums[chunk, 0], sums[chunk, 1]
        dgamma[:], dbeta[:] = d.dtype.type(0), d.dtype.type(0)
        for n in span(first, end):
            scale, middle = one / math.sqrt(var[n] + small), mean[n]
            for c in range(d.shape[1]):
                dbeta[c] += d[n, c]
                dgamma[c] += d[n, c] * ((x[n, c] - middle) * scale)
