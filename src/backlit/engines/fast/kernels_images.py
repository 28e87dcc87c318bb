"""Kernels of pooling on images x[N, H, W, C], and what kernels share that work on parts of the images, chunks."""

from __future__ import annotations

from typing import Any

import numpy as np

from backlit.engines.fast.jit import inlined, kernel, span

Array = Any


@inlined
def images_of(chunk: int, chunks: int, images: int) -> tuple[int, int]:
    """(first, end) of the images of a chunk."""
    return images * chunk // chunks, images * (chunk + 1) // chunks


@kernel
def sum_chunks(lo: int, hi: int, parts: Array, total: Array) -> None:
    """total = Σ parts over the chunks, in order; entries lo … hi."""
    for i in span(lo, hi):
        total[i] = parts[0, i]
    for chunk in range(1, parts.shape[0]):
        for i in span(lo, hi):
            total[i] += parts[chunk, i]


# --- pooling: what is padded is never the maximum, and counts as 0 in an average --------------------------------------


@kernel
def max_pool2d(
    lo: int, hi: int, x: Array, y: Array, at: Array, kh: int, kw: int, sh: int, sw: int, top: int, left: int
) -> None:
    """y = the maximum of each window, ``at`` its place in the window, the first of equal ones; images lo … hi."""
    for n in span(lo, hi):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                best, first = y[n, i, j], at[n, i, j]
                best[:], first[:] = -np.inf, y.dtype.type(0)
                for h in range(max(i * sh - top, 0), min(i * sh - top + kh, x.shape[1])):
                    for w in range(max(j * sw - left, 0), min(j * sw - left + kw, x.shape[2])):
                        seen, place = x[n, h, w], y.dtype.type((h - i * sh + top) * kw + w - j * sw + left)
                        for c in span(0, y.shape[3]):
                            t, most = seen[c], best[c]
                            best[c] = t if (t > most) | np.isnan(t) else most
                            first[c] = place if t > most else first[c]


@kernel
def max_pool2d_grad(
    lo: int, hi: int, relu: int, d: Array, y: Array, at: Array, dx: Array, kh: int, kw: int, sh: int, sw: int, top: int,
    left: int,
) -> None:  # fmt: skip
    """dx: every maximum's place takes its δ, none where ``relu`` and y = 0; images lo … hi."""
    zero = d.dtype.type(0)
    dx[lo:hi] = zero
    for n in span(lo, hi):
        for i in range(d.shape[1]):
            for j in range(d.shape[2]):
                share, best, first = d[n, i, j], y[n, i, j], at[n, i, j]
                for h in range(max(i * sh - top, 0), min(i * sh - top + kh, dx.shape[1])):
                    for w in range(max(j * sw - left, 0), min(j * sw - left + kw, dx.shape[2])):
                        there, place = dx[n, h, w], d.dtype.type((h - i * sh + top) * kw + w - j * sw + left)
                        for c in span(0, d.shape[3]):
                            t, off = share[c], (relu != 0) & (best[c] <= zero)
                            there[c] += zero if off | (first[c] != place) else t


@kernel
def avg_pool2d(lo: int, hi: int, x: Array, y: Array, kh: int, kw: int, sh: int, sw: int, top: int, left: int) -> None:
    """y = the mean of each window; images lo … hi."""
    scale = y.dtype.type(1.0 / (kh * kw))
    y[lo:hi] = y.dtype.type(0)
    for n in span(lo, hi):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for h in range(max(i * sh - top, 0), min(i * sh - top + kh, x.shape[1])):
                    for w in range(max(j * sw - left, 0), min(j * sw - left + kw, x.shape[2])):
                        for c in range(y.shape[3]):
                            y[n, i, j, c] += scale * x[n, h, w, c]


@kernel
def avg_pool2d_grad(
    lo: int, hi: int, d: Array, dx: Array, kh: int, kw: int, sh: int, sw: int, top: int, left: int
) -> None:
    """dx: every place of a window takes an equal share of its δ; images lo … hi."""
    scale = d.dtype.type(1.0 / (kh * kw))
    dx[lo:hi] = d.dtype.type(0)
    for n in span(lo, hi):
        for i in range(d.shape[1]):
            for j in range(d.shape[2]):
                for h in range(max(i * sh - top, 0), min(i * sh - top + kh, dx.shape[1])):
                    for w in range(max(j * sw - left, 0), min(j * sw - left + kw, dx.shape[2])):
                        for c in range(d.shape[3]):
                            dx[n, h, w, c] += scale * d[n, i, j, c]


@kernel
def mean_of_places(lo: int, hi: int, x: Array, y: Array) -> None:
    """y[n, c] = the mean of x[n, place, c]; images lo … hi."""
    share = x.dtype.type(1.0 / x.shape[1])
    y[lo:hi] = x.dtype.type(0)
    for n in span(lo, hi):
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                y[n, c] += share * x[n, p, c]


@kernel
def mean_of_places_grad(lo: int, hi: int, d: Array, dx: Array) -> None:
    """dx[n, place, c] = d[n, c] / places; images lo … hi."""
    share = d.dtype.type(1.0 / dx.shape[1])
    for n in span(lo, hi):
        for p in range(dx.shape[1]):
            for c in range(dx.shape[2]):
                dx[n, p, c] = share * d[n, c]
