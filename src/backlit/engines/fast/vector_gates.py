"""S-shaped functions and gated activations with their slopes, vectorised as in :mod:`vector_math`.

``gelu(x)``, ``gelu_slope(x)``, … pick by the type of x. In float32 the error is at most 2 ULP. Where a result
would lose its digits on the way (far out, x or its cube magnifies each rounding of the gate; a slope has a zero), it is
taken in float64, the exponential with only so many digits as float32 keeps, and rounded once: the error is then hardly
more than half a unit in the last place, near the zero of a slope in units of its larger term.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backlit.engines.fast.jit import as_written, by_type
from backlit.engines.fast.vector_math import F, exp32, log1p_moderate, within

D = np.float64

# --- float64 of as many digits as a float32 needs ---------------------------------------------------------------------

_LOG2E, _LN2 = D(1.4426950408889634), D(0.6931471805599453)
_MAGIC, _MAGIC_BITS = D(6755399441055744.0), np.int64(0x4338000000000000)  # 1.5 · 2⁵²
_SQRT_HALF, _PEAK = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)
_RATE, _CUBE = 2.0 * math.sqrt(2.0 / math.pi), 0.044715


@as_written
def _wide_exp(x: Any) -> Any:
    """e^x to 10 digits, for |x| ≤ 700."""
    t = x * _LOG2E + _MAGIC
    r = x - (t - _MAGIC) * _LN2
    q = 1.9945041e-4 * r + 1.3935938e-3
    q = q * r + 8.333207e-3
    q = q * r + 4.1666456e-2
    q = q * r + 1.6666667e-1
    q = q * r + 0.5
    k = D(t).view(np.int64) - _MAGIC_BITS
    return (1.0 + (r + r * r * q)) * np.int64((k + 1023) << 52).view(D)


@as_written
def _wide_normal(x: Any) -> Any:
    """Φ(x) and φ(x) to 9 digits, for |x| ≤ 30: Φ(-t) = e^(-t²/2) R((t - 4)/(t + 4))."""
    bell = _wide_exp(-0.5 * x * x)
    u = (abs(x) - 4.0) / (abs(x) + 4.0)
    p = 7.63950886738e-6 * u + 2.54695674507e-5
    p = p * u + -4.92229141117e-5
    p = p * u + -1.86401095015e-4
    p = p * u + 6.40341956686e-4
    p = p * u + 5.07499773653e-4
    p = p * u + -8.49238109067e-3
    p = p * u + 3.086480612e-2
    p = p * u + -7.17073849123e-2
    p = p * u + 1.24379254991e-1
    p = p * u + -1.7039772204e-1
    tail = bell * (p * u + 9.441064131e-2)
    return (tail if x < 0.0 else 1.0 - tail), bell * _PEAK


# --- the gates as formulas: x, and what else they need, in float64 ----------------------------------------------------


@as_written
def _silu_slope(x: Any, u: Any) -> Any:
    """s (1 + x (1 - s)), with s = sigmoid(x) = 1/(1 + u) and u = e^-x."""
    s = 1.0 / (1.0 + u)
    return s * (1.0 + x * u * s)


@as_written
def _cubic(x: Any) -> Any:
    """gelu_tanh gates by sigmoid(v): v = 2 √(2/π) (x + 0.044715 x³), and dv/dx."""
    return _RATE * x * (1.0 + _CUBE * x * x), _RATE * (1.0 + 3.0 * _CUBE * x * x)


@as_written
def _gelu_tanh_slope(x: Any, u: Any, dv: Any) -> Any:
    """s (1 + x (1 - s) dv), with s = sigmoid(v) = 1/(1 + u) and u = e^-v."""
    s = 1.0 / (1.0 + u)
    return s * (1.0 + x * u * s * dv)


@as_written
def _mish(x: Any, e: Any) -> Any:
    """x tanh(ln(1 + e)) = x n/(n + 2), with e = e^x and n = (1 + e)² - 1."""
    n = e * (e + 2.0)
    return x * n / (n + 2.0)


@as_written
def _mish_slope(x: Any, e: Any) -> Any:
    """n/(n + 2) + 4 x e (1 + e)/(n + 2)²."""
    n = e * (e + 2.0)
    share = 1.0 / (n + 2.0)
    return (n + 4.0 * x * e * (1.0 + e) * share) * share


# --- float32 by way of float64; x held where the gate is open or shut to the last bit ---------------------------------


@as_written
def _held(x: Any, far: float) -> Any:
    return within(D(x), -far, far)


@as_written
def sigmoid32(x: Any) -> Any:
    """1/(1 + e^-x)."""
    return F(1.0 / (1.0 + _wide_exp(-_held(x, 200.0))))


@as_written
def softplus32(x: Any) -> Any:
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), in float32 throughout."""
    return (F(0.0) if x < F(0.0) else x) + log1p_moderate(exp32(-abs(x)))


@as_written
def silu32(x: Any) -> Any:
    """x sigmoid(x)."""
    a = _held(x, 200.0)
    return F((a if x < F(0.0) else D(x)) / (1.0 + _wide_exp(-a)))


@as_written
def silu_slope32(x: Any) -> Any:
    """(x sigmoid(x))'."""
    a = _held(x, 200.0)
    return F(_silu_slope(a, _wide_exp(-a)))


@as_written
def gelu32(x: Any) -> Any:
    """x Φ(x)."""
    a = _held(x, 20.0)
    return F((a if x < F(0.0) else D(x)) * _wide_normal(a)[0])


@as_written
def gelu_slope32(x: Any) -> Any:
    """Φ(x) + x φ(x)."""
    a = _held(x, 20.0)
    gate, bell = _wide_normal(a)
    return F(gate + a * bell)


@as_written
def gelu_tanh32(x: Any) -> Any:
    """x sigmoid(v), v as in _cubic."""
    a = _held(x, 20.0)
    return F((a if x < F(0.0) else D(x)) / (1.0 + _wide_exp(-_cubic(a)[0])))


@as_written
def gelu_tanh_slope32(x: Any) -> Any:
    """(x sigmoid(v))'."""
    a = _held(x, 20.0)
    v, dv = _cubic(a)
    return F(_gelu_tanh_slope(a, _wide_exp(-v), dv))


@as_written
def mish32(x: Any) -> Any:
    """x tanh(ln(1 + e^x))."""
    a = _held(x, 200.0)
    y = _mish(a, _wide_exp(within(a, -200.0, 40.0)))
    return x if x > F(40.0) else F(y)


@as_written
def mish_slope32(x: Any) -> Any:
    """(x tanh(ln(1 + e^x)))'."""
    a = within(D(x), -200.0, 40.0)
    return F(_mish_slope(a, _wide_exp(a)))


# --- float64 ----------------------------------------------------------------------------------------------------------


@as_written
def sigmoid64(x: Any) -> Any:
    """1/(1 + e^-x), out of e^-|x|, which does not overflow."""
    e = np.exp(-abs(x))
    return (e if x < 0.0 else 1.0) / (1.0 + e)


@as_written
def softplus64(x: Any) -> Any:
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)."""
    return (0.0 if x < 0.0 else x) + np.log1p(np.exp(-abs(x)))


@as_written
def silu64(x: Any) -> Any:
    """x sigmoid(x)."""
    a = within(x, -800.0, np.inf)
    return a * sigmoid64(a)


@as_written
def silu_slope64(x: Any) -> Any:
    """(x sigmoid(x))'."""
    a = within(x, -700.0, 700.0)
    return _silu_slope(a, np.exp(-a))


@as_written
def gelu64(x: Any) -> Any:
    """x Φ(x) = x erfc(-x/√2)/2."""
    a = within(x, -50.0, np.inf)
    return 0.5 * a * math.erfc(-a * _SQRT_HALF)


@as_written
def gelu_slope64(x: Any) -> Any:
    """Φ(x) + x φ(x)."""
    a = within(x, -50.0, 50.0)
    return 0.5 * math.erfc(-a * _SQRT_HALF) + a * _PEAK * np.exp(-0.5 * a * a)


@as_written
def gelu_tanh64(x: Any) -> Any:
    """x sigmoid(v), v as in _cubic."""
    a = within(x, -20.0, 20.0)
    return (a if x < 0.0 else x) / (1.0 + np.exp(-_cubic(a)[0]))


@as_written
def gelu_tanh_slope64(x: Any) -> Any:
    """(x sigmoid(v))'."""
    a = within(x, -20.0, 20.0)
    v, dv = _cubic(a)
    return _gelu_tanh_slope(a, np.exp(-v), dv)


@as_written
def mish64(x: Any) -> Any:
    """x tanh(ln(1 + e^x))."""
    a = within(x, -800.0, np.inf)
    return _mish(a, np.exp(within(a, -800.0, 40.0)))


@as_written
def mish_slope64(x: Any) -> Any:
    """(x tanh(ln(1 + e^x)))'."""
    a = within(x, -800.0, 40.0)
    return _mish_slope(a, np.exp(a))


sigmoid = by_type("sigmoid", sigmoid32, sigmoid64)
softplus = by_type("softplus", softplus32, softplus64)
silu = by_type("silu", silu32, silu64)
silu_slope = by_type("silu_slope", silu_slope32, silu_slope64)
gelu = by_type("gelu", gelu32, gelu64)
gelu_slope = by_type("gelu_slope", gelu_slope32, gelu_slope64)
gelu_tanh = by_type("gelu_tanh", gelu_tanh32, gelu_tanh64)
gelu_tanh_slope = by_type("gelu_tanh_slope", gelu_tanh_slope32, gelu_tanh_slope64)
mish = by_type("mish", mish32, mish64)
mish_slope = by_type("mish_slope", mish_slope32, mish_slope64)
