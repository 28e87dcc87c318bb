"""Elementwise choices, linear on each side of a kink: abs, maximum, minimum, where, clip.

Shapes: a[*S], b[*T] -> y[*broadcast(S, T)], for ``where`` with condition[*R] too. On a tie both sides share the
gradient evenly; clip passes it on at its bounds. Both are the conventions of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import broadcast, order, unbroadcast
from backlit.rules.base import Case, rule

SOURCE = "Clarke: Optimization and Nonsmooth Analysis, Wiley 1983, chapter 2 (generalised gradients)"


# --- abs --------------------------------------------------------------------------------------------------------------


def abs_forward(xp: Namespace, x: Array) -> Array:
    return xp.abs(x)


def abs_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return dy * xp.sign(x)


def abs_cases(rng: Any) -> Iterator[Case]:
    yield Case("matrix", x=spread(rng, (2, 3)))
    yield Case("number", x=spread(rng, ()))
    yield Case("at the kink", x=np.zeros((1, 2)), on_kink=True, expect={"y": 0.0, "dx": 0.0})


def spread(rng: Any, shape: Shape) -> Any:
    """Entries of both signs whose distances from one another and from 0 leave room for difference quotients."""
    size = int(np.prod(shape))
    steps = rng.permutation(np.arange(1, size + 1)) * rng.choice([-1.0, 1.0], size=size)
    return (0.4 * steps + rng.uniform(-0.1, 0.1, size=size)).reshape(shape)


abs_ = rule(
    "abs",
    abs_forward,
    abs_backward,
    shapes=lambda x: x,
    formulas=("y = abs(x)", "dx = dy * sign(x)"),
    kinks=lambda xp, x: xp.sign(x),
    kink_note="abs'(0) = 0",
    expand=lambda o, x: o.maximum(x, -x),
    cases=abs_cases,
    source=SOURCE,
)


# --- maximum, minimum -------------------------------------------------------------------------------------------------


def maximum_forward(xp: Namespace, a: Array, b: Array) -> Array:
    return xp.maximum(a, b)


def maximum_backward(xp: Namespace, dy: Array, *, a: Array, b: Array) -> tuple[Array, Array]:
    return _share(xp, dy, a, a > b, a == b), _share(xp, dy, b, b > a, a == b)


def minimum_forward(xp: Namespace, a: Array, b: Array) -> Array:
    return xp.minimum(a, b)


def minimum_backward(xp: Namespace, dy: Array, *, a: Array, b: Array) -> tuple[Array, Array]:
    return _share(xp, dy, a, a < b, a == b), _share(xp, dy, b, b < a, a == b)


def _share(xp: Namespace, dy: Array, of: Array, chosen: Array, tied: Array) -> Array:
    """The gradient of the input ``of``: all of dy where it was chosen, half where tied."""
    return unbroadcast(xp, xp.where(chosen, dy, xp.where(tied, dy / 2, 0.0)), of.shape)


def extremum_cases(rng: Any) -> Iterator[Case]:
    pairs: tuple[tuple[str, Shape, Shape], ...] = (
        ("equal shapes", (2, 3), (2, 3)),
        ("a column against a row", (2, 1), (3,)),
        ("against a number", (2, 3), ()),
        ("size 1 kept", (1, 1), (1,)),
    )
    for label, a, b in pairs:
        yield Case(label, a=spread(rng, a), b=spread(rng, b) + 0.2)
    tied = {"y": 1.5, "da": [[0.5, 0.5]], "db": [1.0]}
    yield Case("tie", a=np.full((1, 2), 1.5), b=np.full(1, 1.5), on_kink=True, expect=tied)


maximum = rule(
    "maximum",
    maximum_forward,
    maximum_backward,
    shapes=lambda a, b: broadcast("maximum", a=a, b=b),
    formulas=("y = max(a, b)", "da = dy * ((a > b) + (a == b) / 2)", "db = dy * ((b > a) + (a == b) / 2)"),
    kinks=order,
    kink_note="a = b: ∂y/∂a = ∂y/∂b = 1/2",
    cases=extremum_cases,
    source=SOURCE,
)

minimum = rule(
    "minimum",
    minimum_forward,
    minimum_backward,
    shapes=lambda a, b: broadcast("minimum", a=a, b=b),
    formulas=("y = min(a, b)", "da = dy * ((a < b) + (a == b) / 2)", "db = dy * ((b < a) + (a == b) / 2)"),
    kinks=order,
    kink_note="a = b: ∂y/∂a = ∂y/∂b = 1/2",
    expand=lambda o, a, b: -o.maximum(-a, -b),
    cases=extremum_cases,
    source=SOURCE,
)


# --- where ------------------------------------------------------------------------------------------------------------


def where_forward(xp: Namespace, condition: Array, a: Array, b: Array) -> Array:
    return xp.where(condition, a, b)


def where_backward(
    xp: Namespace, dy: Array, *, condition: Array, a_shape: Shape, b_shape: Shape
) -> tuple[Array, Array]:
    da, db = xp.where(condition, dy, 0.0), xp.where(condition, 0.0, dy)
    return unbroadcast(xp, da, a_shape), unbroadcast(xp, db, b_shape)


def where_cases(rng: Any) -> Iterator[Case]:
    shapes: tuple[tuple[str, Shape, Shape, Shape], ...] = (
        ("equal shapes", (2, 3), (2, 3), (2, 3)),
        ("a row of conditions", (3,), (2, 3), (2, 1)),
        ("numbers", (2, 3), (), (1,)),
        ("one condition", (), (2,), (2,)),
    )
    for label, condition, a, b in shapes:
        yield Case(label, condition=rng.random(condition) < 0.5, a=rng.normal(size=a), b=rng.normal(size=b))


where = rule(
    "where",
    where_forward,
    where_backward,
    shapes=lambda condition, a, b: broadcast("where", condition=condition, a=a, b=b),
    formulas=("y = a if condition else b", "da = dy if condition else 0", "db = 0 if condition else dy"),
    constants=("condition",),
    cases=where_cases,
    source="Array API standard 2024.12, where",
)


# --- clip -------------------------------------------------------------------------------------------------------------


def clip_forward(xp: Namespace, x: Array, *, low: float | None = None, high: float | None = None) -> Array:
    return xp.clip(x, low, high)


def clip_backward(xp: Namespace, dy: Array, *, x: Array, low: float | None, high: float | None) -> Array:
    low, high = _bounds(low, high)
    return xp.where((x >= low) & (x <= high), dy, 0.0)


def _bounds(low: float | None, high: float | None) -> tuple[float, float]:
    return -np.inf if low is None else low, np.inf if high is None else high


def clip_shapes(x: Shape, *, low: float | None = None, high: float | None = None) -> Shape:
    bounds = _bounds(low, high)
    if not bounds[0] <= bounds[1]:
        raise InputError("rule_option", rule="clip", option="(low, high)", expected="low ≤ high", got=str((low, high)))
    return x


def clip_kinks(xp: Namespace, x: Array, *, low: float | None = None, high: float | None = None) -> Array:
    """-2 below, 0 between, 2 above, ±1 on the bounds."""
    low, high = _bounds(low, high)
    return order(xp, x, low) + order(xp, x, high)


def clip_cases(rng: Any) -> Iterator[Case]:
    for label, bounds in (("both bounds", (-0.5, 0.6)), ("low only", (-0.5, None)), ("high only", (None, 0.6))):
        yield Case(label, x=spread(rng, (2, 3)), low=bounds[0], high=bounds[1])
    yield Case("on the bounds", x=np.array([-1.0, 2.0]), low=-1.0, high=2.0, on_kink=True, expect={"dx": 1.0})


clip = rule(
    "clip",
    clip_forward,
    clip_backward,
    shapes=clip_shapes,
    formulas=("y = min(max(x, low), high)", "dx = dy if x >= low and x <= high else 0"),
    absent={"low": -np.inf, "high": np.inf},
    kinks=clip_kinks,
    kink_note="clip'(low) = clip'(high) = 1",
    cases=clip_cases,
    source=SOURCE,
)
