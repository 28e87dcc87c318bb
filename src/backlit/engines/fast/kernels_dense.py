"""Kernels of dense layers: rows are samples. Each does the units ``lo`` to ``hi`` of its work, and writes in place.

The units are rows or columns of what it writes, or entries of flat arrays; threads share them.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.products import gemm

Array = Any

# --- products: by_columns says whether lo … hi are columns of what is written, or rows --------------------------------


@inlined
def block(lo: int, hi: int, by_columns: int, z: Array) -> tuple[int, int, int, int]:
    """(first row, end, first column, end) of the units lo … hi of a matrix."""
    if by_columns:
        return 0, z.shape[0], lo, hi
    return lo, hi, 0, z.shape[1]


@inlined
def times_transposed(n0: int, n1: int, o0: int, o1: int, x: Array, W: Array, z: Array) -> None:
    """z = x Wᵀ in the rows n0 … n1 and columns o0 … o1."""
    size, width = x.shape[1], z.shape[1]
    into = n0 * width + o0
    gemm(False, True, n1 - n0, o1 - o0, size, x, n0 * size, size, W, o0 * size, size, 0.0, z, into, width)


@kernel
def product_nt(lo: int, hi: int, by_columns: int, x: Array, W: Array, z: Array) -> None:
    """z = x Wᵀ."""
    n0, n1, o0, o1 = block(lo, hi, by_columns, z)
    times_transposed(n0, n1, o0, o1, x, W, z)


@kernel
def linear(lo: int, hi: int, by_columns: int, relu: int, x: Array, W: Array, b: Array, z: Array) -> None:
    """z = x Wᵀ + b, and max(z, 0) where ``relu``: a takes the place of z."""
    n0, n1, o0, o1 = block(lo, hi, by_columns, z)
    times_transposed(n0, n1, o0, o1, x, W, z)
    zero = z.dtype.type(0)
    for n in span(n0, n1):
        for o in span(o0, o1):
            t = z[n, o] + b[o]
            z[n, o] = zero if relu and t <= zero else t


@kernel
def linear_of_few(lo: int, hi: int, relu: int, x: Array, W: Array, b: Array, zt: Array, z: Array) -> None:
    """z = x Wᵀ + b, and max(z, 0) where ``relu``, of few rows by way of zᵀ = W xᵀ: turning x takes less than W."""
    (rows, inputs), zero = x.shape, z.dtype.type(0)
    gemm(False, True, hi - lo, rows, inputs, W, lo * inputs, inputs, x, 0, inputs, 0.0, zt, lo * rows, rows)
    for n in span(0, rows):
        for o in span(lo, hi):
            t = zt[o, n] + b[o]
            z[n, o] = zero if relu and t <= zero else t


@kernel
def transpose(lo: int, hi: int, x: Array, xt: Array) -> None:
    """xᵀ, columns lo … hi of x, 16 rows at a time: a cache line of xᵀ each."""
    for first in range(0, x.shape[0], 16):
        last = min(first + 16, x.shape[0])
        for i in span(lo, hi):
            for n in span(first, last):
                xt[i, n] = x[n, i]


@kernel
def product_nn(lo: int, hi: int, by_columns: int, d: Array, W: Array, dx: Array) -> None:
    """dx = d W."""
    n0, n1, i0, i1 = block(lo, hi, by_columns, dx)
    units, width = d.shape[1], dx.shape[1]
    gemm(False, False, n1 - n0, i1 - i0, units, d, n0 * units, units, W, i0, width, 0.0, dx, n0 * width + i0, width)


@kernel
def product_tn(lo: int, hi: int, by_columns: int, d: Array, x: Array, dW: Array) -> None:
    """dW = dᵀ x."""
    o0, o1, i0, i1 = block(lo, hi, by_columns, dW)
    (rows, units), width = d.shape, x.shape[1]
    gemm(True, False, o1 - o0, i1 - i0, rows, d, o0, units, x, i0, width, 0.0, dW, o0 * width + i0, width)


@kernel
def product_tn_of_chunks(lo: int, hi: int, d: Array, x: Array, parts: Array) -> None:
    """parts[chunk] = dᵀ x over a chunk of the rows; chunks lo … hi."""
    (rows, units), width = d.shape, x.shape[1]
    for chunk in range(lo, hi):
        n0, n1 = images_of(chunk, parts.shape[0], rows)
        gemm(True, False, units, width, n1 - n0, d, n0 * units, units, x, n0 * width, width, 0.0, parts,
             chunk * units * width, width)  # fmt: skip


# --- sums over the rows, by columns -----------------------------------------------------------------------------------


@kernel
def bias_relu_grad(lo: int, hi: int, d: Array, a: Array, sums: Array) -> None:
    """δ = da ⊙ (a > 0) in place, and sums[chunk] = Σ_n δ over a chunk of the rows in the same pass; chunks lo … hi."""
    zero = d.dtype.type(0)
    for chunk in range(lo, hi):
        first, end = images_of(chunk, sums.shape[0], d.shape[0])
        db = sums[chunk]
        db[:] = zero
        for n in span(first, end):
            for j in span(0, d.shape[1]):
                t = zero if a[n, j] <= zero else d[n, j]
                d[n, j] = t
                db[j] += t


@kernel
def sum_rows(lo: int, hi: int, d: Array, db: Array) -> None:
    """db = Σ_n d."""
    db[lo:hi] = d.dtype.type(0)
    for n in range(d.shape[0]):
        for j in span(lo, hi):
            db[j] += d[n, j]


# --- entry by entry ---------------------------------------------------------------------------------------------------


@kernel
def add(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = a + b."""
    for i in span(lo, hi):
        y[i] = a[i] + b[i]


@kernel
def add_to(lo: int, hi: int, y: Array, x: Array) -> None:
    """y += x."""
    for i in span(lo, hi):
        y[i] += x[i]


@kernel
def copy(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x."""
    for i in span(lo, hi):
        y[i] = x[i]


@kernel
def row(lo: int, hi: int, x: Array, at: int, y: Array) -> None:
    """y = x[at], of a matrix."""
    for i in span(lo, hi):
        y[i] = x[at, i]


@kernel
def multiply(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = a ⊙ b."""
    for i in span(lo, hi):
        y[i] = a[i] * b[i]


@kernel
def multiply_by(lo: int, hi: int, y: Array, x: Array) -> None:
    """y = y ⊙ x."""
    for i in span(lo, hi):
        y[i] *= x[i]


@kernel
def relu(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = max(x, 0)."""
    zero = x.dtype.type(0)
    for i in span(lo, hi):
        y[i] = zero if x[i] <= zero else x[i]


@kernel
def relu_grad(lo: int, hi: int, d: Array, y: Array) -> None:
    """dx = dy ⊙ (y > 0), in place of dy."""
    zero = d.dtype.type(0)
    for i in span(lo, hi):
        d[i] = zero if y[i] <= zero else d[i]


@kernel
def fill(lo: int, hi: int, x: Array, value: float) -> None:
    """x = value."""
    for i in span(lo, hi):
        x[i] = value


# --- the mini-batch of step s of a stretch ----------------------------------------------------------------------------


@kernel
def gather(lo: int, hi: int, step: int, X: Array, order: Array, x: Array) -> None:
    """x[n] = X[order[step N + n]]: the rows of a mini-batch."""
    start = step * x.shape[0]
    for n in span(lo, hi):
        row = order[start + n]
        for i in range(x.shape[1]):
            x[n, i] = X[row, i]


@kernel
def keep(lo: int, hi: int, step: int, output: Array, outputs: Array) -> None:
    """outputs[step] = output, a flat array."""
    for i in span(lo, hi):
        outputs[step, i] = output[i]
