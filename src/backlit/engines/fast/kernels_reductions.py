"""Kernels of sums, maxima and softmax along an axis: x[A, B, C] becomes y[A, C], or a row of x[A, B] one number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backlit.engines.fast.jit import inlined, kernel, ordered, span
from backlit.engines.fast.kernels_loss import highest
from backlit.engines.fast.kernels_norms import total
from backlit.engines.fast.vector_math import exp

Array = Any

BLOCK = 4096
"""Entries that are summed in their own precision; the sums of blocks are added in float64."""


@inlined
def wide_total(row: Array) -> float:
    """Σ of a row."""
    whole = 0.0
    for first in range(0, row.size, BLOCK):
        whole += np.float64(total(row[first : first + BLOCK]))
    return whole


@inlined
def parts(lo: int, hi: int, by_columns: int, y: Array) -> tuple[int, int, int, int]:
    """(first row, end, first column, end) of the units lo … hi of y[A, C]."""
    return (0, y.shape[0], lo, hi) if by_columns else (lo, hi, 0, y.shape[1])


@kernel
def sum_last(lo: int, hi: int, x: Array, y: Array, scale: float) -> None:
    """y[a] = scale Σ_b x[a, b]; rows lo … hi."""
    for a in span(lo, hi):
        y[a] = scale * wide_total(x[a])


@kernel
def sum_middle(lo: int, hi: int, by_columns: int, x: Array, y: Array, scale: float) -> None:
    """y[a, c] = scale Σ_b x[a, b, c]; rows lo … hi of y, or columns."""
    a0, a1, c0, c1 = parts(lo, hi, by_columns, y)
    factor = y.dtype.type(scale)
    for a in span(a0, a1):
        for c in span(c0, c1):
            y[a, c] = y.dtype.type(0)
        for b in range(x.shape[1]):
            for c in span(c0, c1):
                y[a, c] += factor * x[a, b, c]


@kernel
def scaled(lo: int, hi: int, x: Array, y: Array, scale: float) -> None:
    """y = scale x."""
    factor = y.dtype.type(scale)
    for i in span(lo, hi):
        y[i] = factor * x[i]


# --- maxima and minima: those that reach it share the gradient --------------------------------------------------------


@kernel
def extremum(lo: int, hi: int, by_columns: int, sign: float, x: Array, y: Array) -> None:
    """y[a, c] = max_b x[a, b, c], or the minimum where ``sign`` is -1; NaN where there is one."""
    a0, a1, c0, c1 = parts(lo, hi, by_columns, y)
    s = y.dtype.type(sign)
    for a in span(a0, a1):
        for c in span(c0, c1):
            y[a, c] = x[a, 0, c]
        for b in range(1, x.shape[1]):
            for c in span(c0, c1):
                t, best = x[a, b, c], y[a, c]
                y[a, c] = t if (s * t > s * best) | np.isnan(t) else best


@kernel
def extremum_grad(lo: int, hi: int, by_columns: int, d: Array, x: Array, y: Array, dx: Array) -> None:
    """dx[a, b, c] = d[a, c] / ties where x[a, b, c] = y[a, c], else 0."""
    a0, a1, c0, c1 = parts(lo, hi, by_columns, y)
    zero, one = d.dtype.type(0), d.dtype.type(1)
    for a in span(a0, a1):
        for c in span(c0, c1):
            ties = zero
            for b in range(x.shape[1]):
                ties += one if x[a, b, c] == y[a, c] else zero
            share = d[a, c] / ties
            for b in range(x.shape[1]):
                dx[a, b, c] = share if x[a, b, c] == y[a, c] else zero


# --- variance ---------------------------------------------------------------------------------------------------------


@ordered
def variance(lo: int, hi: int, by_columns: int, scale: float, x: Array, y: Array) -> None:
    """y[a, c] = scale Σ_b (x[a, b, c] - mean)², mean over b."""
    a0, a1, c0, c1 = parts(lo, hi, by_columns, y)
    share, factor = 1.0 / x.shape[1], y.dtype.type(scale)
    for a in span(a0, a1):
        for c in span(c0, c1):
            middle, whole = 0.0, y.dtype.type(0)
            for b in range(x.shape[1]):
                middle += np.float64(x[a, b, c])
            for b in range(x.shape[1]):
                apart = x[a, b, c] - x.dtype.type(middle * share)
                whole += apart * apart
            y[a, c] = factor * whole


@ordered
def variance_grad(lo: int, hi: int, by_columns: int, scale: float, d: Array, x: Array, y: Array, dx: Array) -> None:
    """dx[a, b, c] = 2 scale d[a, c] (x[a, b, c] - mean), mean over b."""
    a0, a1, c0, c1 = parts(lo, hi, by_columns, y)
    share = 1.0 / x.shape[1]
    for a in span(a0, a1):
        for c in span(c0, c1):
            middle, factor = 0.0, d.dtype.type(2.0 * scale) * d[a, c]
            for b in range(x.shape[1]):
                middle += np.float64(x[a, b, c])
            for b in range(x.shape[1]):
                dx[a, b, c] = factor * (x[a, b, c] - x.dtype.type(middle * share))


@kernel
def half_over(lo: int, hi: int, d: Array, y: Array, dx: Array) -> None:
    """dx = dy/(2 y), the slope of a root; 0 where y = 0."""
    zero = d.dtype.type(0)
    for i in span(lo, hi):
        dx[i] = zero if y[i] == zero else d[i] / (y[i] + y[i])


# --- softmax ----------------------------------------------------------------------------------------------------------


@kernel
def softmax(lo: int, hi: int, x: Array, y: Array) -> None:
    """y[n] = eˣ / Σ eˣ of each row, which is shifted by its maximum; rows lo … hi."""
    for n in span(lo, hi):
        row, top = y[n], highest(x[n])
        for c in span(0, row.size):
            row[c] = exp(x[n, c] - top)
        share = x.dtype.type(1) / total(row)
        for c in span(0, row.size):
            row[c] *= share


@kernel
def softmax_grad(lo: int, hi: int, d: Array, y: Array, dx: Array) -> None:
    """dx = y ⊙ (dy - Σ dy ⊙ y) of each row; rows lo … hi."""
    for n in span(lo, hi):
        common = d.dtype.type(0)
        for c in range(d.shape[1]):
            common += d[n, c] * y[n, c]
        for c in span(0, d.shape[1]):
            dx[n, c] = y[n, c] * (d[n, c] - common)


@inlined
def log_total(row: Array, top: Any) -> Any:
    """ln Σ e^(x - top); one of those that equal the largest is left to log1p, so that no small one is lost."""
    others = -1.0
    for c in range(row.size):
        others += np.float64(exp(row[c] - top))
    return row.dtype.type(math.log1p(others))


@kernel
def log_softmax(lo: int, hi: int, x: Array, y: Array) -> None:
    """y[n] = x - max x - ln Σ e^(x - max x) of each row; rows lo … hi."""
    for n in span(lo, hi):
        top = highest(x[n])
        rest = log_total(x[n], top)
        for c in span(0, x.shape[1]):
            y[n, c] = (x[n, c] - top) - rest


@kernel
def log_softmax_grad(lo: int, hi: int, d: Array, y: Array, dx: Array) -> None:
    """dx = dy - eʸ Σ dy of each row; rows lo … hi."""
    for n in span(lo, hi):
        whole = total(d[n])
        for c in span(0, d.shape[1]):
            dx[n, c] = d[n, c] - exp(y[n, c]) * whole


@kernel
def logsumexp(lo: int, hi: int, x: Array, y: Array) -> None:
    """y[n] = ln Σ eˣ of each row; rows lo … hi."""
    for n in span(lo, hi):
        top = highest(x[n])
        y[n] = top + log_total(x[n], top)


@kernel
def logsumexp_grad(lo: int, hi: int, d: Array, x: Array, dx: Array) -> None:
    """dx = dy softmax(x) of each row; rows lo … hi."""
    for n in span(lo, hi):
        row, top = dx[n], highest(x[n])
        for c in span(0, row.size):
            row[c] = exp(x[n, c] - top)
        share = d[n] / total(row)
        for c in span(0, row.size):
            row[c] *= share
