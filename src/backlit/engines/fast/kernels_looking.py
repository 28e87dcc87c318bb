"""Kernels that look at what a step has made, for the recording: into[step, column] receives a number.

Sums of squares are in float64; the root, and the division by the count, are left to the reader.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import kernel

Array = Any


@kernel
def look_squares(lo: int, hi: int, step: int, x: Array, into: Array, column: int) -> None:
    """into += Σ x², of a flat array."""
    total = 0.0
    for i in range(x.size):
        total += x[i] * x[i]
    into[step, column] += total


@kernel
def look_change(lo: int, hi: int, step: int, x: Array, before: Array, start: int, into: Array, column: int) -> None:
    """into += Σ (x - before)², of a flat array; ``before`` begins at entry ``start``."""
    old, total = before[start:], 0.0
    for i in range(x.size):
        t = x[i] - old[i]
        total += t * t
    into[step, column] += total


@kernel
def look_dead(lo: int, hi: int, step: int, y: Array, into: Array, column: int) -> None:
    """into = the number of columns that are nowhere above 0."""
    count = 0
    for j in range(y.shape[1]):
        alive = False
        for n in range(y.shape[0]):
            if not y[n, j] <= 0:
                alive = True
                break
        count += not alive
    into[step, column] = count


@kernel
def look_flat(
    lo: int, hi: int, step: int, y: Array, square: float, linear: float, constant: float, least: float, into: Array,
    column: int,
) -> None:  # fmt: skip
    """into = the number of columns whose mean of square·y² + linear·y + constant, a slope, is below ``least``."""
    count = 0
    for j in range(y.shape[1]):
        total = 0.0
        for n in range(y.shape[0]):
            total += square * y[n, j] * y[n, j] + linear * y[n, j] + constant
        count += total < least * y.shape[0]
    into[step, column] = count
