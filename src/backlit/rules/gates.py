"""Activations that gate their own input, y = x · g(x) for every entry: gelu, gelu_tanh, silu, mish.

Shapes: y and dx have the shape of x. The gate g goes from 0 to 1, and dx = dy · (g + x · g'). Neither g nor g' is made
by subtracting nearly equal numbers: far out x would magnify what is left of them.
"""

from __future__ import annotations

from math import pi, sqrt

from backlit.core.types import Array, Namespace
from backlit.rules._special import normal_cdf, normal_pdf
from backlit.rules.base import rule, same_shape
from backlit.rules.sigmoids import sigmoid_forward, smooth_cases

_RATE, _CUBE = 2.0 * sqrt(2.0 / pi), 0.044715
_SHUT = 30.0  # beyond it the tanh gate of gelu is 0 or 1 to the last bit, and its cube might overflow


def gelu_forward(xp: Namespace, x: Array) -> Array:
    return x * normal_cdf(xp, x)


def gelu_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return dy * (normal_cdf(xp, x) + x * normal_pdf(xp, x))


def gelu_tanh_forward(xp: Namespace, x: Array) -> Array:
    v, _ = _cubic(xp, x)
    return x * sigmoid_forward(xp, v)


def gelu_tanh_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    v, dv = _cubic(xp, x)
    return dy * (sigmoid_forward(xp, v) + x * _sigmoid_slope(xp, v) * dv)


def silu_forward(xp: Namespace, x: Array) -> Array:
    return x * sigmoid_forward(xp, x)


def silu_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return dy * (sigmoid_forward(xp, x) + x * _sigmoid_slope(xp, x))


def mish_forward(xp: Namespace, x: Array) -> Array:
    gate, _ = _mish_gate(xp, x)
    return x * gate


def mish_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    gate, rest = _mish_gate(xp, x)
    return dy * (gate + x * rest * (1.0 + gate) * sigmoid_forward(xp, x))


def _sigmoid_slope(xp: Namespace, x: Array) -> Array:
    decay = xp.exp(-xp.abs(x))
    return decay / ((1.0 + decay) * (1.0 + decay))


def _cubic(xp: Namespace, x: Array) -> tuple[Array, Array]:
    """The gate is sigmoid(v): v = 2 √(2/π) (x + 0.044715 x³), and dv/dx."""
    inner = xp.clip(x, -_SHUT, _SHUT)
    square = inner * inner
    return _RATE * inner * (1.0 + _CUBE * square), _RATE * (1.0 + 3.0 * _CUBE * square)


def _mish_gate(xp: Namespace, x: Array) -> tuple[Array, Array]:
    """The gate g = tanh(log(1 + eˣ)) = ((1 + eˣ)² - 1) / ((1 + eˣ)² + 1), and 1 - g, out of e = exp(-|x|)."""
    e = xp.exp(-xp.abs(x))
    gate = xp.where(x < 0, e * (2.0 + e), 1.0 + 2.0 * e)
    rest = xp.where(x < 0, 2.0 * xp.ones_like(e), 2.0 * e * e)
    return gate / (gate + rest), rest / (gate + rest)


gelu = rule(
    "gelu",
    gelu_forward,
    gelu_backward,
    shapes=same_shape,
    formulas=(
        "y = x * (1 + erf(x / sqrt(2))) / 2",
        "dx = dy * ((1 + erf(x / sqrt(2))) / 2 + x * exp(-x**2 / 2) / sqrt(2 * pi))",
    ),
    cases=smooth_cases,
    source="Hendrycks, Gimpel: Gaussian error linear units (GELUs), arXiv:1606.08415, 2016",
)

_V = "sqrt(2 / pi) * (x + 0.044715 * x**3)"
gelu_tanh = rule(
    "gelu_tanh",
    gelu_tanh_forward,
    gelu_tanh_backward,
    shapes=same_shape,
    formulas=(
        f"y = x * (1 + tanh({_V})) / 2",
        f"dx = dy * ((1 + tanh({_V})) / 2 + x * (1 - tanh({_V})**2) / 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * x**2))",
    ),
    expand=lambda o, x: 0.5 * x * (1.0 + o.tanh(sqrt(2.0 / pi) * (x + _CUBE * x**3))),
    cases=smooth_cases,
    source="Hendrycks, Gimpel: Gaussian error linear units (GELUs), arXiv:1606.08415, 2016",
)

silu = rule(
    "silu",
    silu_forward,
    silu_backward,
    shapes=same_shape,
    formulas=("y = x * sigmoid(x)", "dx = dy * sigmoid(x) * (1 + x * (1 - sigmoid(x)))"),
    expand=lambda o, x: x * o.sigmoid(x),
    cases=smooth_cases,
    source="Elfwing, Uchibe, Doya: Sigmoid-weighted linear units, Neural Networks 107, 2018",
)

mish = rule(
    "mish",
    mish_forward,
    mish_backward,
    shapes=same_shape,
    formulas=(
        "y = x * tanh(log(1 + exp(x)))",
        "dx = dy * (tanh(log(1 + exp(x))) + x * (1 - tanh(log(1 + exp(x)))**2) * sigmoid(x))",
    ),
    expand=lambda o, x: x * o.tanh(o.softplus(x)),
    cases=smooth_cases,
    source="Misra: Mish: a self regularized non-monotonic activation function, BMVC 2020",
)
