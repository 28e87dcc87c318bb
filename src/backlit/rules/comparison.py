"""Comparisons, entry by entry with broadcasting: greater, greater_equal, less, less_equal, equal, not_equal.

Their result is a constant of differentiation: it has no gradient, and what switches on it has a kink on the tie a = b.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import broadcast, order
from backlit.rules.base import Case, Rule, rule


def _comparison(name: str, sign: str, compare: Callable[[Array, Array], Array]) -> Rule:
    def forward(xp: Namespace, a: Array, b: Array) -> Array:
        return compare(a, b)

    def shapes(a: Shape, b: Shape) -> Shape:
        return broadcast(name, a=a, b=b)

    def cases(rng: Any) -> Iterator[Case]:
        yield Case("a column against a row", a=rng.normal(size=(2, 1)), b=rng.normal(size=3))
        yield Case("against a number", a=rng.normal(size=(2, 3)), b=rng.normal(size=()))
        low_tied_high, known = np.array([-1.0, 2.0, 3.5]), [compare(-1, 2), compare(2, 2), compare(3.5, 2)]
        yield Case("below, tied, above", a=low_tied_high, b=np.array(2.0), on_kink=True, expect={"y": known})

    return rule(
        name,
        forward,
        None,
        shapes=shapes,
        formulas=(f"y = a {sign} b",),
        kinks=order,
        kink_note="∂y/∂a = ∂y/∂b = 0",
        cases=cases,
        source="Array API standard 2024.12, comparison functions",
        dtype="bool",
    )


greater = _comparison("greater", ">", operator.gt)
greater_equal = _comparison("greater_equal", ">=", operator.ge)
less = _comparison("less", "<", operator.lt)
less_equal = _comparison("less_equal", "<=", operator.le)
equal = _comparison("equal", "==", operator.eq)
not_equal = _comparison("not_equal", "!=", operator.ne)
