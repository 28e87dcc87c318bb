"""Reductions over axes: sum, prod, mean, var, std, max, min.

Shapes: x[*S] -> y[*S without the axes], or with size 1 there under ``keepdims``. ``axis`` is an integer, several,
or None for all; in the formulas n runs over the axes that stay and k over those that go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number, count, listed, reduced, restore
from backlit.rules.base import Case, rule
from backlit.rules.selection import SOURCE as SUBGRADIENTS
from backlit.rules.selection import spread

Axis: TypeAlias = int | tuple[int, ...] | None
_CALLS: tuple[tuple[str, Shape, dict[str, Any]], ...] = (
    ("all axes", (2, 3), {}),
    ("rows kept", (2, 3), {"axis": 1}),
    ("negative axis, kept", (2, 3), {"axis": -1, "keepdims": True}),
    ("first axis", (3, 2), {"axis": 0}),
    ("several axes", (2, 3, 2), {"axis": (0, -1)}),
    ("several axes, kept", (2, 3, 2), {"axis": (2, 0), "keepdims": True}),
    ("all axes, kept", (2, 3), {"axis": None, "keepdims": True}),
    ("a size of 1", (3, 1), {"axis": 1}),
    ("a batch of one", (1, 4), {"axis": 0}),
    ("no axis", (2, 2), {"axis": ()}),
)


def cases(rng: Any) -> Iterator[Case]:
    for label, shape, call in _CALLS:
        yield Case(label, x=rng.normal(size=shape), **call)


# --- sum, prod, mean --------------------------------------------------------------------------------------------------


def sum_forward(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    return xp.sum(x, axis=axis, keepdims=keepdims)


def sum_backward(xp: Namespace, dy: Array, *, x_shape: Shape, axis: Axis) -> Array:
    return restore(xp, dy, x_shape, axis)


def sum_shapes(x: Shape, *, axis: Axis = None, keepdims: bool = False) -> Shape:
    return reduced(x, axis, keepdims=keepdims, rule="sum")


sum_ = rule(
    "sum",
    sum_forward,
    sum_backward,
    shapes=sum_shapes,
    formulas=("y[*n] = Sum(k, x[*n,k])", "dx[*n,k] = dy[*n]"),
    cases=cases,
    source="Griewank, Walther: Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 3",
)


def prod_forward(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    return xp.prod(x, axis=axis, keepdims=keepdims)


def prod_backward(xp: Namespace, dy: Array, *, x: Array, axis: Axis) -> Array:
    zero = as_number(xp, x == 0, x)
    factor = x + zero  # 1 in the place of 0
    other_zeros = xp.sum(zero, axis=axis, keepdims=True) - zero
    others = xp.prod(factor, axis=axis, keepdims=True) / factor  # what an entry is multiplied by, zeros apart
    return restore(xp, dy, x.shape, axis) * xp.where(other_zeros > 0, xp.zeros_like(x), others)


def prod_shapes(x: Shape, *, axis: Axis = None, keepdims: bool = False) -> Shape:
    return reduced(x, axis, keepdims=keepdims, rule="prod")


def prod_cases(rng: Any) -> Iterator[Case]:
    yield from cases(rng)
    x = rng.normal(size=(3, 4))
    yield Case("one zero, two, three", x=x * [[1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]], axis=1)
    yield Case("a zero over all axes", x=x * [[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    yield Case("no entries", x=rng.normal(size=(0, 3)), axis=0)


prod = rule(
    "prod",
    prod_forward,
    prod_backward,
    shapes=prod_shapes,
    formulas=("y[*n] = Prod(k, x[*n,k])", "dx[*n,k] = dy[*n] * Prod(j, x[*n,j] if j != k else 1)"),
    cases=prod_cases,
    source="Griewank, Walther: Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 3 (Speelpenning's product)",
)


def mean_forward(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    return xp.mean(x, axis=axis, keepdims=keepdims)


def mean_backward(xp: Namespace, dy: Array, *, x_shape: Shape, axis: Axis) -> Array:
    return restore(xp, dy / count(x_shape, axis), x_shape, axis)


def mean_shapes(x: Shape, *, axis: Axis = None, keepdims: bool = False) -> Shape:
    return _reduced_from("mean", x, axis, keepdims=keepdims)


def _reduced_from(rule: str, x: Shape, axis: Axis, *, keepdims: bool, more_than: float = 0) -> Shape:
    """The reduced shape; InputError where not ``more_than`` so many entries are reduced to each one."""
    shape = reduced(x, axis, keepdims=keepdims, rule=rule)
    if count(x, axis) <= more_than:
        least = int(more_than) + 1
        raise InputError("nothing_to_reduce", rule=rule, least=least, got=f"{listed(x=x)}, axis = {axis}")
    return shape


mean = rule(
    "mean",
    mean_forward,
    mean_backward,
    shapes=mean_shapes,
    formulas=("y[*n] = Mean(k, x[*n,k])", "dx[*n,k] = dy[*n] / Count(k)"),
    expand=lambda o, x, *, axis, keepdims: o.sum(x, axis=axis, keepdims=keepdims) / count(x.shape, axis),
    cases=cases,
    source="Griewank, Walther: Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 3",
)


# --- var, std ---------------------------------------------------------------------------------------------------------


def var_forward(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False, correction: float = 0) -> Array:
    off = x - xp.mean(x, axis=axis, keepdims=True)
    return xp.sum(off * off, axis=axis, keepdims=keepdims) / (count(x.shape, axis) - correction)


def var_backward(xp: Namespace, dy: Array, *, x: Array, axis: Axis, correction: float) -> Array:
    off = x - xp.mean(x, axis=axis, keepdims=True)
    return restore(xp, dy, x.shape, axis) * off * (2 / (count(x.shape, axis) - correction))


def var_shapes(x: Shape, *, axis: Axis = None, keepdims: bool = False, correction: float = 0) -> Shape:
    return _reduced_from("var", x, axis, keepdims=keepdims, more_than=max(correction, 0))


def var_cases(rng: Any) -> Iterator[Case]:
    yield from cases(rng)
    yield Case("unbiased", x=rng.normal(size=(3, 4)), axis=0, correction=1)


def _expand_var(o: Any, x: Any, *, axis: Axis, keepdims: bool, correction: float) -> Any:
    off = x - o.mean(x, axis=axis, keepdims=True)
    return o.sum(off * off, axis=axis, keepdims=keepdims) / (count(x.shape, axis) - correction)


var = rule(
    "var",
    var_forward,
    var_backward,
    shapes=var_shapes,
    formulas=(
        "y[*n] = Sum(k, (x[*n,k] - Mean(j, x[*n,j])) ** 2) / (Count(k) - correction)",
        "dx[*n,k] = dy[*n] * 2 * (x[*n,k] - Mean(j, x[*n,j])) / (Count(k) - correction)",
    ),
    expand=_expand_var,
    cases=var_cases,
    source="Chan, Golub, LeVeque: Algorithms for computing the sample variance, Am. Statistician 37, 1983 (two-pass)",
)


def std_forward(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False, correction: float = 0) -> Array:
    return xp.sqrt(var_forward(xp, x, axis=axis, keepdims=keepdims, correction=correction))


def std_backward(xp: Namespace, dy: Array, *, x: Array, y: Array, axis: Axis, correction: float) -> Array:
    flat = y == 0  # there 0/0: all entries are equal
    scale = xp.where(flat, xp.zeros_like(y), dy / xp.where(flat, xp.ones_like(y), y))
    return var_backward(xp, scale / 2, x=x, axis=axis, correction=correction)


def std_shapes(x: Shape, *, axis: Axis = None, keepdims: bool = False, correction: float = 0) -> Shape:
    return _reduced_from("std", x, axis, keepdims=keepdims, more_than=max(correction, 0))


def std_kinks(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False, correction: float = 0) -> Array:
    """0 where all entries are equal, else 1."""
    return xp.sign(var_forward(xp, x, axis=axis, keepdims=keepdims, correction=correction))


def std_cases(rng: Any) -> Iterator[Case]:
    for case in var_cases(rng):
        if count(case.call["x"].shape, case.call.get("axis")) > 1:
            yield case
    equal = rng.normal(size=(2, 4)) * 0.0 + 2.0
    yield Case("all entries equal", x=equal, axis=1, on_kink=True, expect={"y": 0.0, "dx": 0.0})
    yield Case("a size of 1", x=rng.normal(size=(3, 1)), axis=1, on_kink=True, expect={"y": 0.0, "dx": 0.0})


std = rule(
    "std",
    std_forward,
    std_backward,
    shapes=std_shapes,
    formulas=(
        "y[*n] = sqrt(Sum(k, (x[*n,k] - Mean(j, x[*n,j])) ** 2) / (Count(k) - correction))",
        "dx[*n,k] = dy[*n] * (x[*n,k] - Mean(j, x[*n,j])) / (y[*n] * (Count(k) - correction)) if y[*n] > 0 else 0",
    ),
    kinks=std_kinks,
    kink_note="the gradient is 0 where all entries are equal",
    expand=lambda o, x, *, axis, keepdims, correction: o.sqrt(
        o.var(x, axis=axis, keepdims=keepdims, correction=correction)
    ),
    cases=std_cases,
    source="Chan, Golub, LeVeque: Algorithms for computing the sample variance, Am. Statistician 37, 1983 (two-pass)",
)


# --- max, min ---------------------------------------------------------------------------------------------------------


def max_forward(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    return xp.max(x, axis=axis, keepdims=keepdims)


def min_forward(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    return xp.min(x, axis=axis, keepdims=keepdims)


def extremum_backward(xp: Namespace, dy: Array, *, x: Array, y: Array, axis: Axis) -> Array:
    reached = as_number(xp, x == restore(xp, y, x.shape, axis), x)
    ties = xp.sum(reached, axis=axis, keepdims=True)
    return restore(xp, dy, x.shape, axis) * reached / ties


def max_shapes(x: Shape, *, axis: Axis = None, keepdims: bool = False) -> Shape:
    return _reduced_from("max", x, axis, keepdims=keepdims)


def min_shapes(x: Shape, *, axis: Axis = None, keepdims: bool = False) -> Shape:
    return _reduced_from("min", x, axis, keepdims=keepdims)


def max_kinks(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """1 at the entries that reach the maximum."""
    return as_number(xp, x == xp.max(x, axis=axis, keepdims=True), x)


def min_kinks(xp: Namespace, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """1 at the entries that reach the minimum."""
    return as_number(xp, x == xp.min(x, axis=axis, keepdims=True), x)


def _extremum_cases(sign: float) -> Any:
    def cases(rng: Any) -> Iterator[Case]:
        for label, shape, call in _CALLS:
            yield Case(label, x=spread(rng, shape), **call)
        tied = {"y": [sign * 3.0, sign * 2.0], "dx": [[0.5, 0.0, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]]}
        x = sign * np.array([[3.0, 1.0, 3.0, -3.0], [2.0, 2.0, 2.0, 2.0]])
        yield Case("ties", x=x, axis=1, on_kink=True, expect=tied)

    return cases


max_ = rule(
    "max",
    max_forward,
    extremum_backward,
    shapes=max_shapes,
    formulas=(
        "y[*n] = Max(k, x[*n,k])",
        "dx[*n,k] = dy[*n] * (x[*n,k] == y[*n]) / Sum(j, x[*n,j] == y[*n])",
    ),
    kinks=max_kinks,
    kink_note="the entries that reach the maximum share the gradient evenly",
    cases=_extremum_cases(1.0),
    source=SUBGRADIENTS,
)

min_ = rule(
    "min",
    min_forward,
    extremum_backward,
    shapes=min_shapes,
    formulas=(
        "y[*n] = Min(k, x[*n,k])",
        "dx[*n,k] = dy[*n] * (x[*n,k] == y[*n]) / Sum(j, x[*n,j] == y[*n])",
    ),
    kinks=min_kinks,
    kink_note="the entries that reach the minimum share the gradient evenly",
    expand=lambda o, x, *, axis, keepdims: -o.max(-x, axis=axis, keepdims=keepdims),
    cases=_extremum_cases(-1.0),
    source=SUBGRADIENTS,
)
