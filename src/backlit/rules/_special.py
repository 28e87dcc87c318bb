"""Special functions out of array API operations, to a few units in the last place: erf and the normal distribution.

The rational approximations are those of W. J. Cody: Rational Chebyshev approximation for the error function,
Mathematics of Computation 23, 1969. They are good to 18 digits; nothing overflows for any finite input.
"""

from __future__ import annotations

from math import pi, sqrt

from backlit.core.types import Array, Namespace

# Coefficients of numerator and denominator, highest power first.
_CENTRE = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (
        *(2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1),
        *(2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3),
        1.23033935479799725e3,
    ),
    (
        *(1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3),
        *(3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
    ),
)
_FAR = (
    (
        *(1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1),
        *(1.60837851487422766e-2, 6.58749161529837803e-4),
    ),
    (
        *(1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2),
        2.33520497626869185e-3,
    ),
)
_NEAR, _WIDE = 0.46875, 4.0  # where the three approximations meet
_GONE = 40.0  # exp(-_GONE**2 / 2) is below the smallest float64


def erf(xp: Namespace, x: Array) -> Array:
    """2/√π · ∫₀ˣ exp(-t²) dt, between -1 and 1."""
    size = xp.clip(xp.abs(x), _NEAR, _GONE)
    tail = xp.exp(-size * size) * _erfcx(xp, size)
    return xp.where(xp.abs(x) <= _NEAR, _erf_centre(xp, x), xp.sign(x) * (1.0 - tail))


def normal_cdf(xp: Namespace, x: Array) -> Array:
    """Φ(x) = (1 + erf(x/√2)) / 2, but without its cancellation where x is very negative."""
    z = x / sqrt(2.0)
    tail = 0.5 * _bell(xp, x) * _erfcx(xp, xp.clip(xp.abs(z), _NEAR, _GONE))
    outer = xp.where(x < 0, tail, 1.0 - tail)
    return xp.where(xp.abs(z) <= _NEAR, 0.5 + 0.5 * _erf_centre(xp, z), outer)


def normal_pdf(xp: Namespace, x: Array) -> Array:
    """φ(x) = Φ'(x) = exp(-x²/2) / √(2π)."""
    return _bell(xp, x) / sqrt(2.0 * pi)


def _erf_centre(xp: Namespace, x: Array) -> Array:
    inner = xp.clip(x, -_NEAR, _NEAR)
    return inner * _ratio(_CENTRE, inner * inner)


def _erfcx(xp: Namespace, x: Array) -> Array:
    """exp(x²) · (1 - erf(x)), for x ≥ 0.46875."""
    wide = xp.clip(x, _WIDE, None)
    square = 1.0 / (wide * wide)
    far = (1.0 / sqrt(pi) - square * _ratio(_FAR, square)) / wide
    return xp.where(x <= _WIDE, _ratio(_MIDDLE, xp.clip(x, None, _WIDE)), far)


def _bell(xp: Namespace, x: Array) -> Array:
    """exp(-x²/2). The rounding of x² would cost x²/4 units in the last place, so it is split: x = coarse + fine."""
    size = xp.clip(xp.abs(x), None, _GONE)
    coarse = xp.floor(size * 16.0) / 16.0
    return xp.exp(-0.5 * coarse * coarse) * xp.exp(-0.5 * (size - coarse) * (size + coarse))


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    numerator, denominator = coefficients
    return _horner(numerator, x) / _horner(denominator, x)


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    value = coefficients[0] * x + coefficients[1]
    for c in coefficients[2:]:
        value = value * x + c
    return value
