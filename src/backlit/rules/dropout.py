"""dropout: every entry times a mask, which holds 0 (dropped) or 1/(1 - p) (kept).

Shapes: x[*S], mask[*S] or broadcast to it, as when whole channels are dropped; y[*S]. The mask is an input because a
rule is a pure function. Dividing by 1 - p in training ("inverted" dropout) lets prediction leave every entry as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import broadcast, listed
from backlit.rules.base import Case, rule


def forward(xp: Namespace, x: Array, mask: Array) -> Array:
    return x * mask


def backward(xp: Namespace, dy: Array, *, mask: Array) -> Array:
    return dy * mask


def shapes(x: Shape, mask: Shape) -> Shape:
    if broadcast("dropout", x=x, mask=mask) != x:
        raise InputError("shape_clash", rule="dropout", expected=listed(mask=x), got=listed(mask=mask))
    return x


def cases(rng: Any) -> Iterator[Case]:
    def mask(shape: Shape, p: float) -> Any:
        return (rng.random(shape) >= p) / (1.0 - p)

    for label, shape in (("matrix", (4, 5)), ("batch of one", (1, 5)), ("vector", (6,)), ("images", (2, 3, 2, 2))):
        yield Case(label, x=rng.normal(size=shape), mask=mask(shape, 0.5))
    yield Case("whole channels", x=rng.normal(size=(2, 3, 2, 4)), mask=mask((2, 1, 1, 4), 0.25))
    yield Case("nothing dropped", x=rng.normal(size=(3, 2)), mask=mask((3, 2), 0.0), expect={"dx": 1.0})


dropout = rule(
    "dropout",
    forward,
    backward,
    shapes=shapes,
    formulas=("y = x * mask", "dx = dy * mask"),
    constants=("mask",),
    expand=lambda o, x, mask: o.mul(x, mask),
    cases=cases,
    source="Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout, JMLR 15, 2014",
)
