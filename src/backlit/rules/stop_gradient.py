"""stop_gradient: the same numbers, through which no gradient passes: y = x, and ∂L/∂x gets nothing from y.

It cuts the chain rule on purpose, as truncated backpropagation through time does between one stretch and the next.
Shapes: y has the shape of x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.types import Array, Namespace
from backlit.rules.base import Case, rule, same_shape


def forward(xp: Namespace, x: Array) -> Array:
    return x


def cases(rng: Any) -> Iterator[Case]:
    yield Case("matrix", x=rng.normal(size=(2, 3)))
    yield Case("number", x=rng.normal(size=()))


stop_gradient = rule(
    "stop_gradient",
    forward,
    None,
    shapes=same_shape,
    formulas=("y = x",),
    cases=cases,
    source="Williams, Peng: An efficient gradient-based algorithm for on-line training of recurrent network"
    " trajectories, Neural Computation 2, 1990",
)
