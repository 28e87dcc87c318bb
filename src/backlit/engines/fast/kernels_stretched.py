"""Kernels of two or three arrays entry by entry, stretched to one shape y[M, K, J], and of one; entries lo … hi of y.

An operand has size 1 along the axes in which it is stretched.
"""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span

Array = Any


@inlined
def row_of(a: Array, i: int, j: int) -> Array:
    """The row of an operand that stands for row (i, j)."""
    return a[i if a.shape[0] > 1 else 0, j if a.shape[1] > 1 else 0]


@inlined
def stretched(function: Any, lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = function(a, b)."""
    rows, width = y.shape[1], y.shape[2]
    for r in range(lo // width, -(-hi // width)):
        i, j = r // rows, r % rows
        first, end = max(lo - r * width, 0), min(hi - r * width, width)
        left, right, into = row_of(a, i, j), row_of(b, i, j), y[i, j]
        if left.size < width:
            same = left[0]
            for k in span(first, end):
                into[k] = function(same, right[k])
        elif right.size < width:
            same = right[0]
            for k in span(first, end):
                into[k] = function(left[k], same)
        else:
            for k in span(first, end):
                into[k] = function(left[k], right[k])


@inlined
def stretched_three(function: Any, lo: int, hi: int, a: Array, b: Array, c: Array, y: Array) -> None:
    """y = function(a, b, c)."""
    rows, width = y.shape[1], y.shape[2]
    for r in range(lo // width, -(-hi // width)):
        i, j = r // rows, r % rows
        left, middle, right, into = row_of(a, i, j), row_of(b, i, j), row_of(c, i, j), y[i, j]
        la, lb, lc = int(left.size == width), int(middle.size == width), int(right.size == width)
        for k in range(max(lo - r * width, 0), min(hi - r * width, width)):
            into[k] = function(left[k * la], middle[k * lb], right[k * lc])


# --- arithmetic -------------------------------------------------------------------------------------------------------


@inlined
def plus(a: Any, b: Any) -> Any:
    """a + b."""
    return a + b


@inlined
def minus(a: Any, b: Any) -> Any:
    """a - b."""
    return a - b


@inlined
def times(a: Any, b: Any) -> Any:
    """a b."""
    return a * b


@inlined
def over(a: Any, b: Any) -> Any:
    """a/b."""
    return a / b


@kernel
def add_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = a + b."""
    stretched(plus, lo, hi, a, b, y)


@kernel
def sub_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = a - b."""
    stretched(minus, lo, hi, a, b, y)


@kernel
def mul_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = a ⊙ b."""
    stretched(times, lo, hi, a, b, y)


@kernel
def div_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = a/b."""
    stretched(over, lo, hi, a, b, y)


@inlined
def minus_over(d: Any, b: Any, y: Any) -> Any:
    """-d y/b."""
    return -(d / b) * y


@kernel
def div_grad_b(lo: int, hi: int, d: Array, b: Array, y: Array, db: Array) -> None:
    """db = -dy y/b, y = a/b."""
    stretched_three(minus_over, lo, hi, d, b, y, db)


@inlined
def to_the(a: Any, b: Any) -> Any:
    """aᵇ."""
    return a**b


@inlined
def one_less(a: Any, b: Any) -> Any:
    """aᵇ⁻¹, where 0⁻¹ would meet the factor b = 0 only."""
    return a ** (b * 0 if (a == 0) & (b == 0) else b - 1)


@inlined
def slope_of_base(d: Any, a: Any, b: Any) -> Any:
    """d b aᵇ⁻¹."""
    return d * b * one_less(a, b)


@inlined
def slope_of_exponent(d: Any, a: Any, b: Any) -> Any:
    """d aᵇ ln a, 0 where a ≤ 0."""
    return d * one_less(a, b) * a * math.log(a) if a > 0 else d * 0


@kernel
def power_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = aᵇ."""
    stretched(to_the, lo, hi, a, b, y)


@kernel
def power_grad_a(lo: int, hi: int, d: Array, a: Array, b: Array, da: Array) -> None:
    """da = dy b aᵇ⁻¹."""
    stretched_three(slope_of_base, lo, hi, d, a, b, da)


@kernel
def power_grad_b(lo: int, hi: int, d: Array, a: Array, b: Array, db: Array) -> None:
    """db = dy aᵇ ln a, 0 where a ≤ 0."""
    stretched_three(slope_of_exponent, lo, hi, d, a, b, db)


# --- choices ----------------------------------------------------------------------------------------------------------


@inlined
def higher(a: Any, b: Any) -> Any:
    """max(a, b), NaN where one is."""
    return a if (a > b) | (a != a) else b  # noqa: PLR0124  NaN is not itself


@inlined
def lower_of(a: Any, b: Any) -> Any:
    """min(a, b), NaN where one is."""
    return a if (a < b) | (a != a) else b  # noqa: PLR0124


@inlined
def where_above(d: Any, a: Any, b: Any) -> Any:
    """d where a > b, half of it where a = b."""
    return d if a > b else d / 2 if a == b else d * 0


@kernel
def maximum_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = max(a, b)."""
    stretched(higher, lo, hi, a, b, y)


@kernel
def minimum_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = min(a, b)."""
    stretched(lower_of, lo, hi, a, b, y)


@kernel
def share_above(lo: int, hi: int, d: Array, a: Array, b: Array, da: Array) -> None:
    """da = dy where a > b, dy/2 where a = b, else 0."""
    stretched_three(where_above, lo, hi, d, a, b, da)


@inlined
def chosen(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b."""
    return a if condition else b


@inlined
def kept_if(condition: Any, d: Any) -> Any:
    """d where the condition holds, else 0."""
    return d if condition else d * 0


@inlined
def kept_unless(condition: Any, d: Any) -> Any:
    """d where the condition does not hold, else 0."""
    return d * 0 if condition else d


@kernel
def where_stretched(lo: int, hi: int, condition: Array, a: Array, b: Array, y: Array) -> None:
    """y = a where the condition holds, else b."""
    stretched_three(chosen, lo, hi, condition, a, b, y)


@kernel
def keep_if(lo: int, hi: int, condition: Array, d: Array, da: Array) -> None:
    """da = dy where the condition holds, else 0."""
    stretched(kept_if, lo, hi, condition, d, da)


@kernel
def keep_unless(lo: int, hi: int, condition: Array, d: Array, db: Array) -> None:
    """db = 0 where the condition holds, else dy."""
    stretched(kept_unless, lo, hi, condition, d, db)


# --- comparisons: 1 and 0 ---------------------------------------------------------------------------------------------


@inlined
def above(a: Any, b: Any) -> Any:
    """a > b."""
    return a > b


@inlined
def at_least(a: Any, b: Any) -> Any:
    """a ≥ b."""
    return a >= b


@inlined
def alike(a: Any, b: Any) -> Any:
    """a = b."""
    return a == b


@inlined
def different(a: Any, b: Any) -> Any:
    """a ≠ b."""
    return a != b


@kernel
def greater_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = 1 where a > b, else 0."""
    stretched(above, lo, hi, a, b, y)


@kernel
def greater_equal_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = 1 where a ≥ b, else 0."""
    stretched(at_least, lo, hi, a, b, y)


@kernel
def equal_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = 1 where a = b, else 0."""
    stretched(alike, lo, hi, a, b, y)


@kernel
def not_equal_stretched(lo: int, hi: int, a: Array, b: Array, y: Array) -> None:
    """y = 1 where a ≠ b, else 0."""
    stretched(different, lo, hi, a, b, y)


# --- of one array: the gradient takes dy's place ----------------------------------------------------------------------


@kernel
def absolute(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = |x|."""
    for i in span(lo, hi):
        y[i] = abs(x[i])


@kernel
def absolute_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy sign(x)."""
    zero = d.dtype.type(0)
    for i in span(lo, hi):
        d[i] = d[i] if x[i] > zero else -d[i] if x[i] < zero else zero


@kernel
def cut_to(lo: int, hi: int, x: Array, y: Array, low: float, high: float) -> None:
    """y = min(max(x, low), high)."""
    least, most = x.dtype.type(low), x.dtype.type(high)
    for i in span(lo, hi):
        t = least if x[i] < least else x[i]
        y[i] = most if t > most else t


@kernel
def cut_to_grad(lo: int, hi: int, d: Array, x: Array, low: float, high: float) -> None:
    """dx = dy where low ≤ x ≤ high, else 0."""
    least, most, zero = x.dtype.type(low), x.dtype.type(high), d.dtype.type(0)
    for i in span(lo, hi):
        d[i] = d[i] if (x[i] >= least) & (x[i] <= most) else zero


@kernel
def sine(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = sin x."""
    for i in span(lo, hi):
        y[i] = math.sin(x[i])


@kernel
def sine_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = dy cos x."""
    for i in span(lo, hi):
        d[i] *= math.cos(x[i])


@kernel
def cosine(lo: int, hi: int, x: Array, y: Array) -> None:
    """y = cos x."""
    for i in span(lo, hi):
        y[i] = math.cos(x[i])


@kernel
def cosine_grad(lo: int, hi: int, d: Array, x: Array) -> None:
    """dx = -dy sin x."""
    for i in span(lo, hi):
        d[i] *= -math.sin(x[i])
