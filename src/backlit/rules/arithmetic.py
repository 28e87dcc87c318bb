"""Arithmetic with broadcasting: add, sub, mul, div, neg, power, exp, expm1, log, log1p, sqrt.

Shapes: a[*S], b[*T] -> y[*broadcast(S, T)]; a gradient is summed over the axes along which its input was stretched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import broadcast, unbroadcast
from backlit.rules.base import Case, rule, same_shape

SOURCE = "Griewank, Walther: Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 2 (elemental functions)"
_PAIRS: tuple[tuple[str, Shape, Shape], ...] = (
    ("equal shapes", (2, 3), (2, 3)),
    ("a row for every row", (2, 3), (3,)),
    ("both stretched", (2, 1, 3), (4, 1)),
    ("a number", (2, 3), ()),
    ("size 1 kept", (1, 1), (1,)),
)


def binary_cases(rng: Any) -> Iterator[Case]:
    """Pairs of shapes that broadcast, entries away from 0."""
    for label, a, b in _PAIRS:
        yield Case(label, a=_away_from_zero(rng, a), b=_away_from_zero(rng, b))


def _away_from_zero(rng: Any, shape: Shape) -> Any:
    return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.5, 2.0, size=shape)


def unary_cases(rng: Any) -> Iterator[Case]:
    """Positive entries."""
    for label, shape in (("matrix", (2, 3)), ("number", ()), ("one entry", (1, 1)), ("no entries", (0, 3))):
        yield Case(label, x=rng.uniform(0.5, 2.0, size=shape))


# --- sums and differences ---------------------------------------------------------------------------------------------


def add_forward(xp: Namespace, a: Array, b: Array) -> Array:
    return a + b


def add_backward(xp: Namespace, dy: Array, *, a_shape: Shape, b_shape: Shape) -> tuple[Array, Array]:
    return unbroadcast(xp, dy, a_shape), unbroadcast(xp, dy, b_shape)


add = rule(
    "add",
    add_forward,
    add_backward,
    shapes=lambda a, b: broadcast("add", a=a, b=b),
    formulas=("y = a + b", "da = dy", "db = dy"),
    cases=binary_cases,
    source=SOURCE,
)


def sub_forward(xp: Namespace, a: Array, b: Array) -> Array:
    return a - b


def sub_backward(xp: Namespace, dy: Array, *, a_shape: Shape, b_shape: Shape) -> tuple[Array, Array]:
    return unbroadcast(xp, dy, a_shape), unbroadcast(xp, -dy, b_shape)


sub = rule(
    "sub",
    sub_forward,
    sub_backward,
    shapes=lambda a, b: broadcast("sub", a=a, b=b),
    formulas=("y = a - b", "da = dy", "db = -dy"),
    expand=lambda o, a, b: o.add(a, o.neg(b)),
    cases=binary_cases,
    source=SOURCE,
)


def neg_forward(xp: Namespace, x: Array) -> Array:
    return -x


def neg_backward(xp: Namespace, dy: Array) -> Array:
    return -dy


neg = rule(
    "neg",
    neg_forward,
    neg_backward,
    shapes=same_shape,
    formulas=("y = -x", "dx = -dy"),
    expand=lambda o, x: o.mul(x, -1.0),
    cases=unary_cases,
    source=SOURCE,
)


# --- products, quotients, powers --------------------------------------------------------------------------------------


def mul_forward(xp: Namespace, a: Array, b: Array) -> Array:
    return a * b


def mul_backward(xp: Namespace, dy: Array, *, a: Array, b: Array) -> tuple[Array, Array]:
    return unbroadcast(xp, dy * b, a.shape), unbroadcast(xp, dy * a, b.shape)


mul = rule(
    "mul",
    mul_forward,
    mul_backward,
    shapes=lambda a, b: broadcast("mul", a=a, b=b),
    formulas=("y = a * b", "da = dy * b", "db = dy * a"),
    cases=binary_cases,
    source=SOURCE,
)


def div_forward(xp: Namespace, a: Array, b: Array) -> Array:
    return a / b


def div_backward(xp: Namespace, dy: Array, *, a: Array, b: Array) -> tuple[Array, Array]:
    da = dy / b
    return unbroadcast(xp, da, a.shape), unbroadcast(xp, -da * (a / b), b.shape)


div = rule(
    "div",
    div_forward,
    div_backward,
    shapes=lambda a, b: broadcast("div", a=a, b=b),
    formulas=("y = a / b", "da = dy / b", "db = -dy * a / (b * b)"),
    expand=lambda o, a, b: o.mul(a, o.power(b, -1.0)),
    cases=binary_cases,
    source=SOURCE,
)


def power_forward(xp: Namespace, a: Array, b: Array) -> Array:
    return a**b


def power_backward(xp: Namespace, dy: Array, *, a: Array, b: Array) -> tuple[Array, Array]:
    less_one = a ** xp.where((a == 0) & (b == 0), 0.0, b - 1)  # a^(b-1), where 0^-1 would meet the factor b = 0
    log = xp.log(xp.where(a > 0, a, 1.0))
    return unbroadcast(xp, dy * b * less_one, a.shape), unbroadcast(xp, dy * less_one * a * log, b.shape)


def power_kinks(xp: Namespace, a: Array, b: Array) -> Array:
    """Real powers are defined for a > 0; a polynomial, b = 0, 1, 2, …, goes on smoothly to the other side."""
    smooth = (a > 0) | ((b >= 0) & (b == xp.floor(b)))
    return xp.where(smooth, 1.0, xp.sign(a))


def power_cases(rng: Any) -> Iterator[Case]:
    for label, a, b in _PAIRS:
        yield Case(label, a=rng.uniform(0.5, 2.0, size=a), b=rng.uniform(-2.0, 3.0, size=b))
    a, b = rng.normal(size=4) * 0.0 + [-2.0, 0.0, 0.0, 2.0], rng.normal(size=4) * 0.0 + [3.0, 2.0, 0.0, 0.0]
    known = {"y": [-8.0, 0.0, 1.0, 1.0], "da": [12.0, 0.0, 0.0, 0.0], "db": [0.0, 0.0, 0.0, 0.6931471805599453]}
    yield Case("whole powers of what is not positive", a=a, b=b, on_kink=True, expect=known)


power = rule(
    "power",
    power_forward,
    power_backward,
    shapes=lambda a, b: broadcast("power", a=a, b=b),
    formulas=(
        "y = a ** b",
        "da = dy * b * a ** (b - 1) if b != 0 else 0",
        "db = dy * a ** b * log(a) if a > 0 else 0",
    ),
    kinks=power_kinks,
    kink_note="∂(a^b)/∂b = 0 where a ≤ 0",
    cases=power_cases,
    source=SOURCE,
)


# --- exp, log, sqrt, and near 0 expm1 and log1p -----------------------------------------------------------------------


def exp_forward(xp: Namespace, x: Array) -> Array:
    return xp.exp(x)


def exp_backward(xp: Namespace, dy: Array, *, y: Array) -> Array:
    return dy * y


exp = rule(
    "exp",
    exp_forward,
    exp_backward,
    shapes=same_shape,
    formulas=("y = exp(x)", "dx = dy * y"),
    cases=unary_cases,
    source=SOURCE,
)


def expm1_forward(xp: Namespace, x: Array) -> Array:
    return xp.expm1(x)


def expm1_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return dy * xp.exp(x)  # not dy * (y + 1), which is 0 far below 0


def near_zero_cases(rng: Any) -> Iterator[Case]:
    """Entries around 0, where exp(x) - 1 and log(1 + x) would lose their digits."""
    yield from unary_cases(rng)
    yield Case("around 0", x=rng.normal(size=4) * 0.0 + [-1e-12, 0.0, 1e-9, -0.25])


expm1 = rule(
    "expm1",
    expm1_forward,
    expm1_backward,
    shapes=same_shape,
    formulas=("y = expm1(x)", "dx = dy * exp(x)"),
    expand=lambda o, x: o.exp(x) - 1.0,
    cases=near_zero_cases,
    source=SOURCE,
)


def log_forward(xp: Namespace, x: Array) -> Array:
    return xp.log(x)


def log_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return dy / x


log = rule(
    "log",
    log_forward,
    log_backward,
    shapes=same_shape,
    formulas=("y = log(x)", "dx = dy / x"),
    cases=unary_cases,
    source=SOURCE,
)


def log1p_forward(xp: Namespace, x: Array) -> Array:
    return xp.log1p(x)


def log1p_backward(xp: Namespace, dy: Array, *, x: Array) -> Array:
    return dy / (1 + x)


log1p = rule(
    "log1p",
    log1p_forward,
    log1p_backward,
    shapes=same_shape,
    formulas=("y = log1p(x)", "dx = dy / (1 + x)"),
    expand=lambda o, x: o.log(1.0 + x),
    cases=near_zero_cases,
    source=SOURCE,
)


def sqrt_forward(xp: Namespace, x: Array) -> Array:
    return xp.sqrt(x)


def sqrt_backward(xp: Namespace, dy: Array, *, y: Array) -> Array:
    return dy / (2 * y)


sqrt = rule(
    "sqrt",
    sqrt_forward,
    sqrt_backward,
    shapes=same_shape,
    formulas=("y = sqrt(x)", "dx = dy / (2 * y)"),
    expand=lambda o, x: o.power(x, 0.5),
    cases=unary_cases,
    source=SOURCE,
)
