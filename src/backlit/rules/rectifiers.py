"""Piecewise activations, applied to every entry: relu, leaky_relu, elu, selu.

Shapes: y and dx have the shape of x. All grow with x and pass through 0, so backward reads the side of the kink off y,
which the next layer keeps anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import inf
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules.base import Case, rule, same_shape

# The fixed point of mean 0 and variance 1: Klambauer et al., equation 14, to the digits of float64.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def relu_forward(xp: Namespace, x: Array) -> Array:
    return xp.where(x <= 0, xp.zeros_like(x), x)  # not x > 0: a NaN stays visible


def relu_backward(xp: Namespace, dy: Array, *, y: Array) -> Array:
    return xp.where(y <= 0, xp.zeros_like(dy), dy)


def leaky_relu_forward(xp: Namespace, x: Array, *, slope: float = 0.01) -> Array:
    return xp.where(x > 0, x, slope * x)


def leaky_relu_backward(xp: Namespace, dy: Array, *, y: Array, slope: float) -> Array:
    return xp.where(y > 0, dy, slope * dy)


def elu_forward(xp: Namespace, x: Array, *, alpha: float = 1.0) -> Array:
    return xp.where(x > 0, x, alpha * xp.expm1(xp.clip(x, None, 0.0)))


def elu_backward(xp: Namespace, dy: Array, *, y: Array, alpha: float) -> Array:
    return xp.where(y > 0, dy, dy * (y + alpha))


def selu_forward(xp: Namespace, x: Array) -> Array:
    return SELU_SCALE * elu_forward(xp, x, alpha=SELU_ALPHA)


def selu_backward(xp: Namespace, dy: Array, *, y: Array) -> Array:
    return xp.where(y > 0, SELU_SCALE * dy, dy * (y + SELU_SCALE * SELU_ALPHA))


def side(xp: Namespace, x: Array, **_attributes: float) -> Array:
    """The piece every entry lies on: -1, 1, or 0 on the kink itself."""
    return xp.sign(x)


def shapes(name: str, x: Shape, **options: float) -> Shape:
    """The shape of x; a slope below zero must not be negative, or y would not tell the sides apart."""
    for option, value in options.items():
        if not 0 <= value < inf:
            raise InputError("rule_option", rule=name, option=option, expected=f"0 ≤ {option} < ∞", got=repr(value))
    return x


def moderate(rng: Any) -> Iterator[Case]:
    yield Case("scalar", x=rng.normal(size=()))
    yield Case("batch of one", x=rng.normal(size=(1, 5)))
    yield Case("no entries", x=rng.normal(size=(0, 3)))
    yield Case("images", x=rng.normal(size=(2, 3, 2, 2)))
    yield Case("large", x=rng.choice([-1.0, 1.0], size=(3, 4)) * rng.uniform(10.0, 1000.0, size=(3, 4)))


def at_the_kink(rng: Any, slope: float, **options: float) -> Case:
    label = ", ".join(["at the kink", *options])
    return Case(label, x=rng.normal(size=2) * 0.0, on_kink=True, expect={"y": 0.0, "dx": slope}, **options)


def relu_cases(rng: Any) -> Iterator[Case]:
    yield from moderate(rng)
    yield at_the_kink(rng, 0.0)


def leaky_relu_cases(rng: Any) -> Iterator[Case]:
    yield from moderate(rng)
    yield Case("steeper below than above", x=rng.normal(size=(3, 4)), slope=2.5)
    yield Case("slope 0 is relu", x=rng.normal(size=(3, 4)), slope=0.0)
    yield at_the_kink(rng, 0.01)


def elu_cases(rng: Any) -> Iterator[Case]:
    yield from moderate(rng)
    yield Case("another alpha", x=rng.normal(size=(3, 4)), alpha=0.3)
    yield at_the_kink(rng, 1.0)
    yield at_the_kink(rng, 0.3, alpha=0.3)


def selu_cases(rng: Any) -> Iterator[Case]:
    yield from moderate(rng)
    yield at_the_kink(rng, SELU_SCALE * SELU_ALPHA)


relu = rule(
    "relu",
    relu_forward,
    relu_backward,
    shapes=same_shape,
    formulas=("y = max(x, 0)", "dx = dy if x > 0 else 0"),
    kinks=side,
    kink_note="relu'(0) = 0",
    cases=relu_cases,
    source="Nair, Hinton: Rectified linear units improve restricted Boltzmann machines, ICML 2010",
)

leaky_relu = rule(
    "leaky_relu",
    leaky_relu_forward,
    leaky_relu_backward,
    shapes=partial(shapes, "leaky_relu"),
    formulas=("y = x if x > 0 else slope * x", "dx = dy if x > 0 else slope * dy"),
    kinks=side,
    kink_note="leaky_relu'(0) = slope",
    cases=leaky_relu_cases,
    source="Maas, Hannun, Ng: Rectifier nonlinearities improve neural network acoustic models, ICML 2013",
)

elu = rule(
    "elu",
    elu_forward,
    elu_backward,
    shapes=partial(shapes, "elu"),
    formulas=("y = x if x > 0 else alpha * (exp(x) - 1)", "dx = dy if x > 0 else dy * (y + alpha)"),
    kinks=side,  # with alpha = 1 only the second derivative jumps, which still spoils a difference quotient
    kink_note="elu'(0) = alpha",
    cases=elu_cases,
    source="Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by ELUs, ICLR 2016",
)

_GAIN, _FLOOR = repr(SELU_SCALE), repr(SELU_SCALE * SELU_ALPHA)
selu = rule(
    "selu",
    selu_forward,
    selu_backward,
    shapes=same_shape,
    formulas=(
        f"y = {_GAIN} * x if x > 0 else {_FLOOR} * (exp(x) - 1)",
        f"dx = {_GAIN} * dy if x > 0 else dy * (y + {_FLOOR})",
    ),
    kinks=side,
    kink_note=f"selu'(0) = {_FLOOR}",
    expand=lambda o, x: SELU_SCALE * o.elu(x, alpha=SELU_ALPHA),
    cases=selu_cases,
    source="Klambauer, Unterthiner, Mayr, Hochreiter: Self-normalizing neural networks, NeurIPS 2017",
)
