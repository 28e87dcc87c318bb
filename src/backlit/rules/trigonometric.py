"""Trigonometric functions of every entry, in radians: sin, cos.

Shapes: y and dx have the shape of x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.types import Array, Namespace
from backlit.rules.base import Case, rule, same_shape

SOURCE = "Griewank, Walther: Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 2 (elemental functions)"


def sin_forward(xp: Namespace, x: Array) -> Array:
    return xp.sin(x)


def sin_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return dy * xp.cos(x)


def cos_forward(xp: Namespace, x: Array) -> Array:
    return xp.cos(x)


def cos_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return -dy * xp.sin(x)


def cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (2, 3)), ("number", ()), ("one entry", (1, 1)), ("no entries", (0, 3))):
        yield Case(label, x=rng.normal(size=shape))
    yield Case("many turns", x=rng.uniform(-100.0, 100.0, size=(3, 4)))
    yield Case("at 0", x=rng.normal(size=2) * 0.0)


sin = rule(
    "sin",
    sin_forward,
    sin_backward,
    shapes=same_shape,
    formulas=("y = sin(x)", "dx = dy * cos(x)"),
    cases=cases,
    source=SOURCE,
)

cos = rule(
    "cos",
    cos_forward,
    cos_backward,
    shapes=same_shape,
    formulas=("y = cos(x)", "dx = -dy * sin(x)"),
    cases=cases,
    source=SOURCE,
)
