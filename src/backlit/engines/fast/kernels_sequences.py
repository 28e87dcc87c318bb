"""Kernels of sequences: rows of a table, and what is added to every sample."""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import kernel, span

Array = Any


@kernel
def add_rows(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y[n] = a[n] + b: the same vector to every row lo … hi."""
    for n in span(lo, hi):
        for i in range(b.size):
            y[n, i] = a[n, i] + b[i]


# --- embedding --------------------------------------------------------------------------------------------------------


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


@kernel
def mark_rows(lo: int, hi: int, indices: Array, read: Array) -> None:
    """read[indices[m]] = 1; places lo … hi."""
    for m in span(lo, hi):
        read[indices[m]] = 1
