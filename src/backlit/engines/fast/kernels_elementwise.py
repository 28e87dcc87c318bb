"""Kernels of activations and other functions of one entry: y = f(x), and dx = dy ⊙ f'(x) in place of dy.

Each does the entries ``lo`` to ``hi`` of flat arrays. y may be x. A slope is taken from the y or the x that the rule
keeps for its backward pass.
"""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.vector_gates import gelu as _gelu
from backlit.engines.fast.vector_gates import gelu_slope as _gelu_slope
from backlit.engines.fast.vector_gates import gelu_tanh as _gelu_tanh
from backlit.engines.fast.vector_gates import gelu_tanh_slope as _gelu_tanh_slope
from backlit.engines.fast.vector_gates import mish as _mish
from backlit.engines.fast.vector_gates import mish_slope as _mish_slope
from backlit.engines.fast.vector_gates import sigmoid as _sigmoid
from backlit.engines.fast.vector_gates import silu as _silu
from backlit.engines.fast.vector_gates import silu_slope as _silu_slope
from backlit.engines.fast.vector_gates import softplus as _softplus
from backlit.engines.fast.vector_math import exp as _exp
from backlit.engines.fast.vector_math import expm1 as _expm1
from backlit.engines.fast.vector_math import log as _log
from backlit.engines.fast.vector_math import log1p as _log1p
from backlit.engines.fast.vector_math import tanh as _tanh
from backlit.rules.rectifiers import SELU_ALPHA, SELU_SCALE

Array = Any
_FLOOR = SELU_SCALE * SELU_ALPHA


@inlined
def fetch(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x where they are not one array: a loop that reads and writes y alone is vectorised either way."""
    if x.ctypes.data != y.ctypes.data:
        for i in span(lo, hi):
            y[i] = x[i]


# --- rectifiers -------------------------------------------------------------------------------------------------------


@kernel
def leaky_relu(lo: int, hi: int, x: Array, y: Array, slope: float) -> None:
    """y = x if x > 0 else slope x."""
    s = x.dtype.type(slope)
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = y[i] if y[i] > 0 else s * y[i]


@kernel
def leaky_relu_grad(lo: int, hi: int, d: Array, y: Array, slope: float) -> None:
    """dx = dy if y > 0 else slope dy."""
    s = d.dtype.type(slope)
    for i in span(lo, hi):
        d[i] = d[i] if y[i] > 0 else s * d[i]


@kernel
def elu(lo: int, hi: int, x: Array, y: Array, alpha: float) -> None:
    """y = x if x > 0 else α (eˣ - 1)."""
    a = x.dtype.type(alpha)
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = y[i] if y[i] > 0 else a * _expm1(y[i])


@kernel
def elu_grad(lo: int, hi: int, d: Array, y: Array, alpha: float) -> None:
    """dx = dy if y > 0 else dy (y + α)."""
    one, a = d.dtype.type(1), d.dtype.type(alpha)
    for i in span(lo, hi):
        d[i] *= one if y[i] > 0 else y[i] + a


@kernel
def selu(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = λ x if x > 0 else λ α (eˣ - 1)."""
    scale, floor = x.dtype.type(SELU_SCALE), x.dtype.type(_FLOOR)
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = scale * y[i] if y[i] > 0 else floor * _expm1(y[i])


@kernel
def selu_grad(lo: int, hi: int, d: Array, y: Array) -> None:
    """dx = λ dy if y > 0 else dy (y + λ α)."""
    scale, floor = d.dtype.type(SELU_SCALE), d.dtype.type(_FLOOR)
    for i in span(lo, hi):
        d[i] *= scale if y[i] > 0 else y[i] + floor


# --- S-shaped ---------------------------------------------------------------------------------------------------------


@kernel
def sigmoid(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = 1/(1 + e⁻ˣ)."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _sigmoid(y[i])


@kernel
def sigmoid_grad(lo: int, hi: int, d: Array, y: Array) -> None:
    """dx = dy y (1 - y)."""
    one = d.dtype.type(1)
    for i in span(lo, hi):
        d[i] *= y[i] * (one - y[i])


@kernel
def tanh(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = tanh x."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _tanh(y[i])


@kernel
def tanh_grad(lo: int, hi: int, d: Array, y: Array) -> None:
    """dx = dy (1 - y²)."""
    one = d.dtype.type(1)
    for i in span(lo, hi):
        d[i] *= one - y[i] * y[i]


@kernel
def softplus(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = ln(1 + eˣ)."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _softplus(y[i])


@kernel
def softplus_grad(lo: int, hi: int, d: Array, y: Array) -> None:
    """dx = dy (1 - e⁻ʸ), which is dy sigmoid(x)."""
    for i in span(lo, hi):
        d[i] *= -_expm1(-y[i])


# --- gated ------------------------------------------------------------------------------------------------------------


@kernel
def gelu(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x Φ(x)."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _gelu(y[i])


@kernel
def gelu_with_slope(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x Φ(x), and f'(x) in place of x: both take one exponential."""
    for i in span(lo, hi):
        t = x[i]
        y[i], x[i] = _gelu(t), _gelu_slope(t)


@kernel
def gelu_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy (Φ(x) + x φ(x))."""
    for i in span(lo, hi):
        d[i] *= _gelu_slope(x[i])


@kernel
def gelu_tanh(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x (1 + tanh v)/2, v = √(2/π) (x + 0.044715 x³)."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _gelu_tanh(y[i])


@kernel
def gelu_tanh_with_slope(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x (1 + tanh v)/2, and f'(x) in place of x: both take one exponential."""
    for i in span(lo, hi):
        t = x[i]
        y[i], x[i] = _gelu_tanh(t), _gelu_tanh_slope(t)


@kernel
def gelu_tanh_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy ((1 + tanh v)/2 + x (1 - tanh² v) v'/2)."""
    for i in span(lo, hi):
        d[i] *= _gelu_tanh_slope(x[i])


@kernel
def silu(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x sigmoid(x)."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _silu(y[i])


@kernel
def silu_with_slope(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x sigmoid(x), and f'(x) in place of x: both take one exponential."""
    for i in span(lo, hi):
        t = x[i]
        y[i], x[i] = _silu(t), _silu_slope(t)


@kernel
def silu_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy s (1 + x (1 - s)), s = sigmoid(x)."""
    for i in span(lo, hi):
        d[i] *= _silu_slope(x[i])


@kernel
def mish(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x tanh(ln(1 + eˣ))."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _mish(y[i])


@kernel
def mish_with_slope(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = x tanh(ln(1 + eˣ)), and f'(x) in place of x: both take one exponential."""
    for i in span(lo, hi):
        t = x[i]
        y[i], x[i] = _mish(t), _mish_slope(t)


@kernel
def mish_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy (g + x (1 - g²) sigmoid(x)), g = tanh(ln(1 + eˣ))."""
    for i in span(lo, hi):
        d[i] *= _mish_slope(x[i])


# --- exponentials, logarithms, square root ---------------------------------------------------------------------------


@kernel
def exp(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = eˣ."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _exp(y[i])


@kernel
def exp_grad(lo: int, hi: int, d: Array, y: Array) -> None:
    """dx = dy y."""
    for i in span(lo, hi):
        d[i] *= y[i]


@kernel
def expm1(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = eˣ - 1."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _expm1(y[i])


@kernel
def expm1_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy eˣ."""
    for i in span(lo, hi):
        d[i] *= _exp(x[i])


@kernel
def log(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = ln x."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _log(y[i])


@kernel
def log_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy/x."""
    for i in span(lo, hi):
        d[i] /= x[i]


@kernel
def log1p(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = ln(1 + x)."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = _log1p(y[i])


@kernel
def log1p_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy/(1 + x)."""
    one = d.dtype.type(1)
    for i in span(lo, hi):
        d[i] /= one + x[i]


@kernel
def sqrt(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = √x."""
    fetch(lo, hi, x, y)
    for i in span(lo, hi):
        y[i] = math.sqrt(y[i])


@kernel
def sqrt_grad(lo: int, hi: int, d: Array, y: Array) -> None:
    """dx = dy/(2 y)."""
    for i in span(lo, hi):
        d[i] /= y[i] + y[i]
