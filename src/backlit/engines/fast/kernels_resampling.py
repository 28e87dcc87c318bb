"""Kernels of images made larger by straight lines, or smaller by means of parts, one axis at a time: x[A, n, C]."""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span

Array = Any


@inlined
def ends(i: int, n: int, m: int, by_lines: int) -> tuple[int, int]:
    """(first, end) of the entries of n that entry i of m is made of."""
    if by_lines:
        centre = min(max((i + 0.5) * n / m - 0.5, 0.0), n - 1.0)
        return int(centre), min(int(centre) + 2, n)
    return i * n // m, -(-(i + 1) * n // m)


@inlined
def share(i: int, h: int, n: int, m: int, by_lines: int) -> float:
    """What entry i of m takes of entry h: a tent over its centre, or an equal part."""
    if by_lines:
        centre = min(max((i + 0.5) * n / m - 0.5, 0.0), n - 1.0)
        return 1.0 - abs(centre - h)
    return 1.0 / (-(-(i + 1) * n // m) - i * n // m)


@kernel
def resample(lo: int, hi: int, by_lines: int, x: Array, y: Array) -> None:
    """y[a, i] = Σ_h share(i, h) x[a, h]; rows lo … hi of all."""
    n, m = x.shape[1], y.shape[1]
    for r in span(lo, hi):
        a, i = r // m, r % m
        row = y[a, i]
        row[:] = y.dtype.type(0)
        first, end = ends(i, n, m, by_lines)
        for h in range(first, end):
            factor, seen = y.dtype.type(share(i, h, n, m, by_lines)), x[a, h]
            for c in span(0, row.size):
                row[c] += factor * seen[c]


@kernel
def resample_grad(lo: int, hi: int, by_lines: int, d: Array, dx: Array) -> None:
    """dx[a, h] = Σ_i share(i, h) d[a, i]; all of a, lo … hi."""
    n, m = dx.shape[1], d.shape[1]
    dx[lo:hi] = dx.dtype.type(0)
    for a in span(lo, hi):
        for i in range(m):
            first, end = ends(i, n, m, by_lines)
            for h in range(first, end):
                factor, error, row = dx.dtype.type(share(i, h, n, m, by_lines)), d[a, i], dx[a, h]
                for c in span(0, row.size):
                    row[c] += factor * error[c]
