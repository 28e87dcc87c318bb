"""S-shaped activations and their integral, applied to every entry: sigmoid, tanh, softplus.

Shapes: y and dx have the shape of x. No exponential is taken of a positive number, so nothing overflows; every slope
follows from y, which the next layer keeps anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.types import Array, Namespace
from backlit.rules.base import Case, rule, same_shape


def sigmoid_forward(xp: Namespace, x: Array) -> Array:
    decay = xp.exp(-xp.abs(x))
    return xp.where(x < 0, decay, xp.ones_like(x)) / (1.0 + decay)


def sigmoid_backward(xp: Namespace, dy: Array, *, y: Array) -> Array:
    return dy * y * (1.0 - y)


def tanh_forward(xp: Namespace, x: Array) -> Array:
    return xp.tanh(x)


def tanh_backward(xp: Namespace, dy: Array, *, y: Array) -> Array:
    return dy * (1.0 - y * y)


def softplus_forward(xp: Namespace, x: Array) -> Array:
    return xp.clip(x, 0.0, None) + xp.log1p(xp.exp(-xp.abs(x)))


def softplus_backward(xp: Namespace, dy: Array, *, y: Array) -> Array:
    return -dy * xp.expm1(-y)


def smooth_cases(rng: Any) -> Iterator[Case]:
    """Cases for any smooth activation: no entry so large that a difference quotient sees a constant."""
    yield Case("scalar", x=rng.normal(size=()))
    yield Case("batch of one", x=rng.normal(size=(1, 5)))
    yield Case("matrix", x=rng.normal(size=(3, 4)))
    yield Case("no entries", x=rng.normal(size=(0, 3)))
    yield Case("images", x=rng.normal(size=(2, 3, 2, 2)))
    yield Case("saturated", x=rng.choice([-1.0, 1.0], size=(2, 5)) * rng.uniform(2.0, 5.0, size=(2, 5)))
    yield Case("around zero", x=rng.normal(size=6) * 1e-3)


sigmoid = rule(
    "sigmoid",
    sigmoid_forward,
    sigmoid_backward,
    shapes=same_shape,
    formulas=("y = 1 / (1 + exp(-x))", "dx = dy * y * (1 - y)"),
    expand=lambda o, x: 1.0 / (1.0 + o.exp(-x)),
    cases=smooth_cases,
    source="Rumelhart, Hinton, Williams: Learning representations by back-propagating errors, Nature 323, 1986",
)

tanh = rule(
    "tanh",
    tanh_forward,
    tanh_backward,
    shapes=same_shape,
    formulas=("y = tanh(x)", "dx = dy * (1 - y**2)"),
    expand=lambda o, x: 2.0 * o.sigmoid(2.0 * x) - 1.0,
    cases=smooth_cases,
    source="LeCun, Bottou, Orr, Müller: Efficient BackProp, in Neural Networks: Tricks of the Trade, 1998",
)

softplus = rule(
    "softplus",
    softplus_forward,
    softplus_backward,
    shapes=same_shape,
    formulas=("y = log(1 + exp(x))", "dx = dy * (1 - exp(-y))"),  # 1 - exp(-y) = sigmoid(x)
    expand=lambda o, x: o.log(1.0 + o.exp(x)),
    cases=smooth_cases,
    source="Dugas, Bengio, Bélisle, Nadeau, Garcia: Incorporating second-order functional knowledge, NeurIPS 2000",
)
