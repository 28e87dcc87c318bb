"""Sums of exponentials along an axis: softmax, log_softmax, logsumexp.

Shapes: softmax and log_softmax keep the shape of x and work along one ``axis``; logsumexp reduces over ``axis``, an
int, several, or None for all, kept with size 1 under ``keepdims``. The largest entry is subtracted first, which changes
no result, so that no exponential overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number, count, listed, normal_axes, reduced, restore
from backlit.rules.base import Case, rule

ACCURATE = "Blanchard, Higham, Higham: Accurately computing the log-sum-exp and softmax functions, IMA JNA 41, 2021"
Axis: TypeAlias = int | tuple[int, ...] | None


def softmax_forward(xp: Namespace, x: Array, *, axis: Axis = -1) -> Array:
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def softmax_backward(xp: Namespace, dy: Array, *, y: Array, axis: int) -> Array:
    return y * (dy - xp.sum(dy * y, axis=axis, keepdims=True))


def log_softmax_forward(xp: Namespace, x: Array, *, axis: int = -1) -> Array:
    below, log_total = _below_largest(xp, x, axis)
    return below - log_total


def log_softmax_backward(xp: Namespace, dy: Array, *, y: Array, axis: int) -> Array:
    return dy - xp.exp(y) * xp.sum(dy, axis=axis, keepdims=True)


def logsumexp_forward(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    _, log_total = _below_largest(xp, x, axis)
    return xp.max(x, axis=axis, keepdims=keepdims) + xp.reshape(log_total, reduced(x.shape, axis, keepdims=keepdims))


def logsumexp_backward(xp: Namespace, dy: Array, *, x: Array, axis: Axis) -> Array:
    share = softmax_forward(xp, x, axis=axis)  # exp(x - y) with fewer roundings where y is large
    return restore(xp, dy, x.shape, axis) * share


def _below_largest(xp: Namespace, x: Array, axis: Axis) -> tuple[Array, Array]:
    """The entries less the largest one, and the logarithm of the sum of its exponentials.

    The entries that equal the largest give exp(0) = 1 each; one of them is left to log1p, because next to a far larger
    entry the others would be lost in the sum: log_softmax([0, -40]) is not [0, -40] but [-4.2e-18, -40].
    """
    below = x - xp.max(x, axis=axis, keepdims=True)
    largest = as_number(xp, below == 0, below)
    others = xp.sum(xp.exp(below) * (1.0 - largest), axis=axis, keepdims=True)
    return below, xp.log1p(others + (xp.sum(largest, axis=axis, keepdims=True) - 1.0))


def shapes(name: str, x: Shape, *, axis: Axis = -1) -> Shape:
    if not hasattr(axis, "__index__"):
        raise InputError("rule_option", rule=name, option="axis", expected="int", got=repr(axis))
    _require_entries(name, x, axis)
    return x


def logsumexp_shapes(x: Shape, *, axis: Axis = None, keepdims: bool = False) -> Shape:
    _require_entries("logsumexp", x, axis)
    return reduced(x, axis, keepdims=keepdims)


def _require_entries(name: str, x: Shape, axis: Axis) -> None:
    normal_axes(axis, len(x), name)
    if count(x, axis) == 0:
        raise InputError("nothing_to_reduce", rule=name, least=1, got=f"{listed(x=x)}, axis = {axis}")


def softmax_cases(rng: Any) -> Iterator[Case]:
    yield Case("vector", x=rng.normal(size=4))
    yield Case("batch of one", x=rng.normal(size=(1, 5)))
    yield Case("first axis", x=rng.normal(size=(4, 3)), axis=0)
    yield Case("middle axis", x=rng.normal(size=(2, 3, 4)), axis=1)
    yield Case("attention scores", x=rng.normal(size=(2, 2, 3, 3)))
    yield Case("no samples", x=rng.normal(size=(0, 3)))
    yield Case("one class", x=rng.normal(size=(3, 1)))
    yield Case("large but near", x=100.0 + rng.normal(size=(3, 4)))
    yield Case("equal entries", x=rng.normal(size=(3, 1)) + rng.normal(size=4) * 0.0, expect={"dx": 0.0})


def log_softmax_cases(rng: Any) -> Iterator[Case]:
    yield from (case for case in softmax_cases(rng) if case.label != "equal entries")
    yield Case("equal entries", x=rng.normal(size=(3, 1)) + rng.normal(size=4) * 0.0)
    yield Case("one certain class", x=rng.normal(size=(3, 4)) + rng.permutation([20.0, 0.0, 0.0, 0.0]))


def logsumexp_cases(rng: Any) -> Iterator[Case]:
    x = rng.normal(size=(2, 3, 4))
    for axis in (None, -1, 0, (0, 2), (2, 1)):
        yield Case(f"axis {axis}", x=x, axis=axis)
        yield Case(f"axis {axis} kept", x=x, axis=axis, keepdims=True)
    yield Case("vector", x=rng.normal(size=4))
    yield Case("large but near", x=rng.normal(size=(3, 4)) - 100.0, axis=1)
    yield Case("equal entries", x=rng.normal(size=(3, 1)) + rng.normal(size=4) * 0.0, axis=1, expect={"dx": 0.25})
    yield Case("images", x=rng.normal(size=(2, 2, 3, 2)), axis=(1, 2))


softmax = rule(
    "softmax",
    softmax_forward,
    softmax_backward,
    shapes=partial(shapes, "softmax"),
    formulas=(
        "y[*n,i] = exp(x[*n,i]) / Sum(k, exp(x[*n,k]))",
        "dx[*n,i] = y[*n,i] * (dy[*n,i] - Sum(k, dy[*n,k] * y[*n,k]))",
    ),
    expand=lambda o, x, axis: o.exp(x) / o.sum(o.exp(x), axis=axis, keepdims=True),
    cases=softmax_cases,
    source="Bridle: Training stochastic model recognition algorithms as networks, NeurIPS 1989",
)

log_softmax = rule(
    "log_softmax",
    log_softmax_forward,
    log_softmax_backward,
    shapes=partial(shapes, "log_softmax"),
    formulas=(
        "y[*n,i] = x[*n,i] - log(Sum(k, exp(x[*n,k])))",
        "dx[*n,i] = dy[*n,i] - exp(y[*n,i]) * Sum(k, dy[*n,k])",
    ),
    expand=lambda o, x, axis: x - o.logsumexp(x, axis=axis, keepdims=True),
    cases=log_softmax_cases,
    source=ACCURATE,
)

logsumexp = rule(
    "logsumexp",
    logsumexp_forward,
    logsumexp_backward,
    shapes=logsumexp_shapes,
    formulas=(
        "y[*n] = log(Sum(i, exp(x[*n,i])))",
        "dx[*n,i] = dy[*n] * exp(x[*n,i] - y[*n])",
    ),
    expand=lambda o, x, axis, keepdims: o.log(o.sum(o.exp(x), axis=axis, keepdims=keepdims)),
    cases=logsumexp_cases,
    source=ACCURATE,
)
