"""Kernels that carry entries to other places: a pattern of equal steps through a flat array, and rows by their number.

A pattern is where entry (i, j, k, l) lies, first + i s0 + j s1 + k s2 + l s3, for sizes n1, n2, n3 of all axes but the
outermost: transposed, sliced, padded and stretched arrays are such patterns of contiguous ones.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span

Array = Any


@inlined
def begin(r: int, first: int, n1: int, n2: int, s0: int, s1: int, s2: int) -> int:
    """Where row r = (i, j, k) of a pattern begins."""
    return first + r // (n1 * n2) * s0 + r // n2 % n1 * s1 + r % n2 * s2


@kernel
def take_pattern(
    lo: int, hi: int, x: Array, y: Array, first: int, n1: int, n2: int, n3: int, s0: int, s1: int, s2: int, s3: int
) -> None:
    """y[i, j, k, l] = x[first + i s0 + j s1 + k s2 + l s3]; rows lo … hi, of n3 entries each."""
    for r in span(lo, hi):
        at, row = begin(r, first, n1, n2, s0, s1, s2), y[r * n3 : (r + 1) * n3]
        if s3 == 1:
            seen = x[at : at + n3]
            for m in span(0, n3):
                row[m] = seen[m]
        elif s3 == 0:
            row[:] = x[at]
        else:
            for m in range(n3):
                row[m] = x[at + m * s3]


@kernel
def put_pattern(
    lo: int, hi: int, y: Array, x: Array, first: int, n1: int, n2: int, n3: int, s0: int, s1: int, s2: int, s3: int
) -> None:
    """x[first + i s0 + j s1 + k s2 + l s3] = y[i, j, k, l]; rows lo … hi, of n3 entries each."""
    for r in span(lo, hi):
        at, row = begin(r, first, n1, n2, s0, s1, s2), y[r * n3 : (r + 1) * n3]
        if s3 == 1:
            there = x[at : at + n3]
            for m in span(0, n3):
                there[m] = row[m]
        else:
            for m in range(n3):
                x[at + m * s3] = row[m]


@kernel
def take_rows(lo: int, hi: int, x: Array, indices: Array, y: Array) -> None:
    """y[a, m] = x[a, indices[m]], counted from the end where negative; rows lo … hi of all."""
    taken = indices.size
    for r in span(lo, hi):
        a, m = r // taken, r % taken
        at = indices[m] + (x.shape[1] if indices[m] < 0 else 0)
        for c in span(0, x.shape[2]):
            y[a, m, c] = x[a, at, c]


@kernel
def take_rows_grad(lo: int, hi: int, d: Array, indices: Array, dx: Array) -> None:
    """dx[a, v] = Σ of d[a, m] over the places m where row v was taken; columns lo … hi."""
    for a in range(dx.shape[0]):
        for v in range(dx.shape[1]):
            for c in span(lo, hi):
                dx[a, v, c] = d.dtype.type(0)
        for m in range(indices.size):
            at = indices[m] + (dx.shape[1] if indices[m] < 0 else 0)
            for c in span(lo, hi):
                dx[a, at, c] += d[a, m, c]
