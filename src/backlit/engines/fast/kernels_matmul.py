"""Kernel of products of matrices that lie behind one another, a[A, …] b[B, …]; one of A and B may be 1."""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import kernel
from backlit.engines.fast.products import gemm

Array = Any


@kernel
def matmul(lo: int, hi: int, ta: int, tb: int, terms: int, a: Array, b: Array, y: Array) -> None:
    """y[n] = op(a[n]) op(b[n]), op the transpose where ``ta``, ``tb``; rows lo … hi of all matrices of y[N, I, J]."""
    _, high, wide = y.shape
    for n in range(lo // high, -(-hi // high)):
        first, end = max(lo - n * high, 0), min(hi - n * high, high)
        at_a = (n if a.shape[0] > 1 else 0) * high * terms + (first if ta else first * terms)
        at_b = (n if b.shape[0] > 1 else 0) * terms * wide
        gemm(ta != 0, tb != 0, end - first, wide, terms, a, at_a, high if ta else terms, b, at_b,
             terms if tb else wide, 0.0, y, (n * high + first) * wide, wide)  # fmt: skip
