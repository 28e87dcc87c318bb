"""Piecewise activations, applied to every entry: relu, leaky_relu."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.types import Array, Namespace
from backlit.rules.base import Case, rule, same_shape


def relu_forward(xp: Namespace, x: Array) -> Array:
    return xp.where(x > 0, x, xp.zeros_like(x))


def relu_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return xp.where(x > 0, dy, xp.zeros_like(dy))


def relu_cases(rng: Any) -> Iterator[Case]:
    yield Case("matrix", x=rng.normal(size=(3, 4)))
    yield Case("at the kink", x=rng.normal(size=2) * 0.0, on_kink=True, expect={"y": 0.0, "dx": 0.0})


relu = rule(
    "relu",
    relu_forward,
    relu_backward,
    shapes=same_shape,
    formulas=("y = max(x, 0)", "dx = dy if x > 0 else 0"),
    kinks=lambda xp, x: xp.sign(x),
    kink_note="relu'(0) = 0",
    cases=relu_cases,
    source="Nair, Hinton: Rectified linear units improve restricted Boltzmann machines, ICML 2010",
)
