"""Kernels that carry entries to other places: side by side, and images enlarged."""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import kernel, span

Array = Any


@kernel
def put_columns(lo: int, hi: int, part: Array, whole: Array, first: int) -> None:
    """whole[:, first : first + width] = part; rows lo … hi."""
    for n in span(lo, hi):
        for j in span(0, part.shape[1]):
            whole[n, first + j] = part[n, j]


@kernel
def take_columns(lo: int, hi: int, whole: Array, first: int, part: Array) -> None:
    """part = whole[:, first : first + width]; rows lo … hi."""
    for n in span(lo, hi):
        for j in span(0, part.shape[1]):
            part[n, j] = whole[n, first + j]


@kernel
def upsample_nearest2d(lo: int, hi: int, x: Array, y: Array) -> None:
    """y[n, p, j, q] = x[n, j], the vector of an image's place; x[rows, W, C], lines lo … hi of all images."""
    for n in span(lo, hi):
        for p in range(y.shape[1]):
            for j in range(y.shape[2]):
                for q in range(y.shape[3]):
                    for c in range(y.shape[4]):
                        y[n, p, j, q, c] = x[n, j, c]


@kernel
def upsample_nearest2d_grad(lo: int, hi: int, d: Array, dx: Array) -> None:
    """dx[n, j] = Σ_pq d[n, p, j, q]; lines lo … hi of all images."""
    dx[lo:hi] = d.dtype.type(0)
    for n in span(lo, hi):
        for p in range(d.shape[1]):
            for j in range(d.shape[2]):
                for q in range(d.shape[3]):
                    for c in range(d.shape[4]):
                        dx[n, j, c] += d[n, p, j, q, c]
