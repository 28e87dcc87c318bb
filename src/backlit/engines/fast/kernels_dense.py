"""Kernels of dense layers: rows are samples. All write in place and return nothing."""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.jit import kernel

Array = Any


@kernel
def bias(z: Array, b: Array) -> None:
    """z += b."""
    for n in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[n, j] += b[j]


@kernel
def bias_relu(z: Array, b: Array) -> None:
    """z = max(z + b, 0): a takes the place of z."""
    zero = z.dtype.type(0)
    for n in range(z.shape[0]):
        for j in range(z.shape[1]):
            t = z[n, j] + b[j]
            z[n, j] = zero if t <= zero else t


@kernel
def bias_relu_grad(d: Array, a: Array, db: Array) -> None:
    """δ = da ⊙ (a > 0) in place, and db = Σ_n δ in the same pass."""
    zero = d.dtype.type(0)
    db[:] = zero
    for n in range(d.shape[0]):
        for j in range(d.shape[1]):
            t = zero if a[n, j] <= zero else d[n, j]
            d[n, j] = t
            db[j] += t


@kernel
def relu(x: Array, y: Array) -> None:
    """y = max(x, 0), of flat arrays."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]


@kernel
def relu_grad(d: Array, y: Array) -> None:
    """dx = dy ⊙ (y > 0), in place of dy, of flat arrays."""
    zero = d.dtype.type(0)
    for i in range(d.size):
        d[i] = zero if y[i] <= zero else d[i]


@kernel
def tanh_grad(d: Array, y: Array) -> None:
    """dx = dy ⊙ (1 - y²), in place of dy, of flat arrays."""
    one = d.dtype.type(1)
    for i in range(d.size):
        d[i] *= one - y[i] * y[i]


@kernel
def sigmoid_grad(d: Array, y: Array) -> None:
    """dx = dy ⊙ y (1 - y), in place of dy, of flat arrays."""
    one = d.dtype.type(1)
    for i in range(d.size):
        d[i] *= y[i] * (one - y[i])


@kernel
def sum_rows(d: Array, db: Array) -> None:
    """db = Σ_n d."""
    db[:] = d.dtype.type(0)
    for n in range(d.shape[0]):
        for j in range(d.shape[1]):
            db[j] += d[n, j]


@kernel
def add(a: Array, b: Array, y: Array) -> None:
    """y = a + b, of flat arrays."""
    for i in range(y.size):
        y[i] = a[i] + b[i]


@kernel
def add_to(y: Array, x: Array) -> None:
    """y += x, of flat arrays."""
    for i in range(y.size):
        y[i] += x[i]


@kernel
def copy(x: Array, y: Array) -> None:
    """y = x, of flat arrays."""
    for i in range(y.size):
        y[i] = x[i]


@kernel
def multiply(a: Array, b: Array, y: Array) -> None:
    """y = a ⊙ b, of flat arrays."""
    for i in range(y.size):
        y[i] = a[i] * b[i]


@kernel
def gather(X: Array, order: Array, start: int, x: Array) -> None:
    """x[n] = X[order[start + n]]: the rows of a mini-batch."""
    for n in range(x.shape[0]):
        x[n] = X[order[start + n]]


@kernel
def product_nt(x: Array, W: Array, z: Array) -> None:
    """z = x Wᵀ for small matrices; big ones go to BLAS."""
    for n in range(x.shape[0]):
        for o in range(W.shape[0]):
            t = z.dtype.type(0)
            for i in range(x.shape[1]):
                t += x[n, i] * W[o, i]
            z[n, o] = t


@kernel
def product_nn(d: Array, W: Array, dx: Array) -> None:
    """dx = d W for small matrices."""
    dx[:] = dx.dtype.type(0)
    for n in range(d.shape[0]):
        for o in range(d.shape[1]):
            t = d[n, o]
            for i in range(W.shape[1]):
                dx[n, i] += t * W[o, i]


@kernel
def product_tn(d: Array, x: Array, dW: Array) -> None:
    """dW = dᵀ x for small matrices."""
    dW[:] = dW.dtype.type(0)
    for n in range(d.shape[0]):
        for o in range(d.shape[1]):
            t = d[n, o]
            for i in range(x.shape[1]):
                dW[o, i] += t * x[n, i]


@kernel
def tanh(x: Array, y: Array) -> None:
    """y = tanh x, of flat arrays."""
    for i in range(x.size):
        y[i] = math.tanh(x[i])


@kernel
def sigmoid(x: Array, y: Array) -> None:
    """y = 1/(1 + e⁻ˣ), of flat arrays, without overflow."""
    one = x.dtype.type(1)
    for i in range(x.size):
        e = math.exp(-abs(x[i]))
        y[i] = (one if x[i] >= 0 else e) / (one + e)


@kernel
def zero(x: Array) -> None:
    """x = 0, of a flat array."""
    x[:] = x.dtype.type(0)
