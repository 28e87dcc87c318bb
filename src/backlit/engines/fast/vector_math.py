"""Elementary functions that LLVM vectorises in any loop they stand in: branch-free, each choice is a select.

``exp(x)``, ``log(x)``, … pick by the type of x. float32: error at most 1 unit in the last place (ULP), correct at ±inf,
NaN, ±0 and subnormals, as ``benchmarks/accuracy.py`` measures at some 360 million numbers; no table, no library call.
float64: the C library, where accuracy counts more than speed. All are plain Python too, one scalar at a time.

Sums keep the order they are written in, whatever the kernel around them allows: rounding by a magic number, and
subtracting ln 2 in two parts, mean nothing otherwise. A product and a sum are fused where the processor can, as all of
x86 since 2013 and of ARM64 do; where it cannot, or in plain Python, the bound is 1.3 ULP.

Range reductions: Muller, Elementary Functions, 3rd ed., Birkhäuser 2016, chapter 11; Cody, Waite, Software Manual for
the Elementary Functions, Prentice-Hall 1980. The polynomials are minimax fits, their coefficients rounded one after the
other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backlit.engines.fast.jit import as_written, by_type

F = np.float32
I = np.int32  # noqa: E741  the integer beside F


# --- e^x = 2^k (1 + f) ------------------------------------------------------------------------------------------------

_LOG2E = F(1.442695)
_LN2_HIGH, _LN2_LOW = F(0.693359375), F(-2.1219444e-4)  # the high part has 9 bits: k times it is exact
_MAGIC, _MAGIC_BITS = F(12582912.0), I(0x4B400000)  # 1.5 · 2²³: added to t, its last bits are round(t)
_SIGN = I(-(2**31))
_LOWEST, _HIGHEST = F(-104.0), F(89.0)  # e^x is 0 below, inf above


@as_written
def within(x: Any, low: Any, high: Any) -> Any:
    """X between bounds; NaN stays."""
    x = low if x < low else x
    return high if x > high else x


@as_written
def _power(k: Any) -> Any:
    """2^k, for -126 ≤ k ≤ 127."""
    return I((k + I(127)) << I(23)).view(F)


@as_written
def _signed(y: Any, x: Any) -> Any:
    """Y ≥ 0 with the sign of x, that of a zero too."""
    return I(F(y).view(I) | (F(x).view(I) & _SIGN)).view(F)


@as_written
def _exp_parts(x: Any) -> Any:
    """(k, r, s) with e^x = 2^k (1 + r + s), for |x| ≤ 104; |r| ≤ 0.35, 0 ≤ s ≤ 0.07."""
    t = x * _LOG2E + _MAGIC
    n = t - _MAGIC
    high = x - n * _LN2_HIGH
    r = high - n * _LN2_LOW
    lost = (high - r) - n * _LN2_LOW
    q = F(1.9945041e-4)
    q = q * r + F(1.3935938e-3)
    q = q * r + F(8.333207e-3)
    q = q * r + F(4.1666456e-2)
    q = q * r + F(1.6666667e-1)
    q = q * r + F(0.5)
    return I(F(t).view(I) - _MAGIC_BITS), r, r * r * q + lost


@as_written
def exp32(x: Any) -> Any:
    """e^x. The factor 2^k comes in two halves, for results below 2^-126."""
    k, r, s = _exp_parts(within(x, _LOWEST, _HIGHEST))
    half = k >> I(1)
    return (F(1.0) + (r + s)) * _power(half) * _power(k - half)


@as_written
def expm1_32(x: Any) -> Any:
    """e^x - 1 = 2^k (r + s) + (2^k - 1) without cancellation around 0; from k = 3 on the 1 is in s, as 2^-k.

    All is halved first, as 2^128 would be infinite.
    """
    k, r, s = _exp_parts(within(x, F(-18.0), _HIGHEST))
    half = _power(k - I(1))
    one = F(0.0) if k > I(2) else F(0.5)
    part = _power(-k if k < I(64) else I(-127)) if k > I(2) else F(0.0)
    f = r + (s - part)
    y = ((half * f + (half - one)) + half * ((s - part) - (f - r))) * F(2.0)
    return x if x == F(0.0) else (f if k == I(0) else y)


# --- log --------------------------------------------------------------------------------------------------------------

_SQRT_HALF_BITS = I(0x3F3504F3)
_SMALLEST_NORMAL = F(2.0**-126)


@as_written
def _exponent(x: Any) -> Any:
    """The k with x/2^k between √½ and √2, for normal x > 0."""
    return I(F(x).view(I) - _SQRT_HALF_BITS) >> I(23)


@as_written
def _log_of_parts(k: Any, f: Any, low: Any) -> Any:
    """ln(2^k (1 + f)) + low, for √½ ≤ 1 + f ≤ √2 and a tiny low."""
    q = F(6.749175e-2)
    q = q * f + F(-1.1670016e-1)
    q = q * f + F(1.1883538e-1)
    q = q * f + F(-1.24062404e-1)
    q = q * f + F(1.422036e-1)
    q = q * f + F(-1.6667989e-1)
    q = q * f + F(2.0002072e-1)
    q = q * f + F(-2.500001e-1)
    q = q * f + F(3.3333313e-1)
    n, s = F(k), f * f
    return (f + ((n * _LN2_LOW + low) + (s * f * q - F(0.5) * s))) + n * _LN2_HIGH


@as_written
def log32(x: Any) -> Any:
    """ln x; -inf at 0, NaN below."""
    a = x if x > F(0.0) else F(1.0)
    tiny = a < _SMALLEST_NORMAL
    a = a * F(2.0**23) if tiny else a
    k = _exponent(a)
    y = _log_of_parts(I(k - I(23)) if tiny else k, I(F(a).view(I) - (k << I(23))).view(F) - F(1.0), F(0.0))
    y = y if x < F(np.inf) else x
    return y if x > F(0.0) else (F(-np.inf) if x == F(0.0) else F(np.nan))


@as_written
def log1p_moderate(x: Any) -> Any:
    """ln(1 + x) for x between -0.99999994 and 2^120: ln(2^k (1 + f)), f rounded and ``lost`` what it lost."""
    k = _exponent(F(1.0) + x)
    scale = _power(-k)
    f = x if k == I(0) else x * scale + (scale - F(1.0))
    lost = x * scale - (f - (scale - F(1.0)))
    return _log_of_parts(k, f, lost)


@as_written
def log1p_32(x: Any) -> Any:
    """ln(1 + x), without the rounding of 1 + x; -inf at -1, NaN below."""
    y = log1p_moderate(within(x, F(-0.99999994), F(2.0**120)))
    y = y if x < F(2.0**120) else log32(x)
    y = x if x == F(0.0) else y
    return y if x > F(-1.0) else (F(-np.inf) if x == F(-1.0) else F(np.nan))


# --- tanh, erf: an odd polynomial around 0, one exponential farther out -----------------------------------------------


@as_written
def _small_exp(x: Any) -> Any:
    """e^x where it is neither 0 nor infinite nor subnormal."""
    k, r, s = _exp_parts(x)
    return (F(1.0) + (r + s)) * _power(k)


@as_written
def tanh32(x: Any) -> Any:
    """|x| + |x|³ P(x²) up to 0.9, farther out 1 - 2/(e^2|x| + 1)."""
    a = within(abs(x), F(0.0), F(10.0))
    s = a * a
    p = F(-4.5571016e-4)
    p = p * s + F(2.583426e-3)
    p = p * s + F(-8.265455e-3)
    p = p * s + F(2.1664092e-2)
    p = p * s + F(-5.3929474e-2)
    p = p * s + F(1.3332981e-1)
    p = p * s + F(-3.3333322e-1)
    far = F(1.0) - F(2.0) / (_small_exp(F(2.0) * a) + F(1.0))
    return _signed(a + a * (s * p) if a < F(0.9) else far, x)


@as_written
def _erfc_exponent(x: Any) -> Any:
    """ln(1 - erf x), for 1.2 ≤ x ≤ 4."""
    q = F(1.610351e-4)
    q = q * x + F(-2.6771007e-3)
    q = q * x + F(2.0656703e-2)
    q = q * x + F(-1.004044e-1)
    q = q * x + F(-6.4156294e-1)
    q = q * x + F(-1.1248207)
    return q * x + F(-9.591833e-4)


@as_written
def erf32(x: Any) -> Any:
    """2/√π ∫₀ˣ exp(-t²) dt: |x| + |x| P(x² - 3/4) up to 1.2, farther out 1 - e^Q(|x|)."""
    a = within(abs(x), F(0.0), F(4.0))
    u = a * a - F(0.75)  # terms in u are smaller than those in x², and so are their roundings
    p = F(-7.804196e-6)
    p = p * u + F(6.3953696e-5)
    p = p * u + F(-4.5554785e-4)
    p = p * u + F(2.8470068e-3)
    p = p * u + F(-1.5131099e-2)
    p = p * u + F(6.69189e-2)
    p = p * u + F(-2.4458842e-1)
    p = p * u + F(-1.001088e-1)
    far = F(1.0) - _small_exp(_erfc_exponent(a))
    return _signed(a + a * p if a < F(1.2) else far, x)


# --- the names that kernels use ---------------------------------------------------------------------------------------


@as_written
def erf64(x: Any) -> Any:
    """2/√π ∫₀ˣ exp(-t²) dt."""
    return math.erf(x)


exp = by_type("exp", exp32, np.exp)
expm1 = by_type("expm1", expm1_32, np.expm1)
log = by_type("log", log32, np.log)
log1p = by_type("log1p", log1p_32, np.log1p)
tanh = by_type("tanh", tanh32, np.tanh)
erf = by_type("erf", erf32, erf64)
