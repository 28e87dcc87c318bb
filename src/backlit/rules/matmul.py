"""matmul: the matrix product of the last two axes, for every index of the leading ones.

Shapes: a[*N, I, K], b[*M, K, J] -> y[*broadcast(N, M), I, J]. Both have at least two axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import broadcast, listed, unbroadcast
from backlit.rules.base import Case, rule


def forward(xp: Namespace, a: Array, b: Array) -> Array:
    return xp.matmul(a, b)


def backward(xp: Namespace, dy: Array, *, a: Array, b: Array) -> tuple[Array, Array]:
    da = xp.matmul(dy, xp.matrix_transpose(b))
    db = xp.matmul(xp.matrix_transpose(a), dy)
    return unbroadcast(xp, da, a.shape), unbroadcast(xp, db, b.shape)


def shapes(a: Shape, b: Shape) -> Shape:
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise InputError("shape_clash", rule="matmul", expected="a[…, I, K], b[…, K, J]", got=listed(a=a, b=b))
    return (*broadcast("matmul", a=a[:-2], b=b[:-2]), a[-2], b[-1])


def cases(rng: Any) -> Iterator[Case]:
    pairs: tuple[tuple[str, Shape, Shape], ...] = (
        ("matrices", (2, 3), (3, 4)),
        ("row times column", (1, 3), (3, 1)),
        ("column times row", (3, 1), (1, 2)),
        ("batch", (2, 3, 4), (2, 4, 2)),
        ("batch of one", (1, 2, 3), (1, 3, 2)),
        ("one matrix for the batch", (4, 2, 3), (3, 2)),
        ("leading axes stretched", (2, 1, 2, 3), (3, 3, 2)),
    )
    for label, a, b in pairs:
        yield Case(label, a=rng.normal(size=a), b=rng.normal(size=b))


matmul = rule(
    "matmul",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        "y[*n,i,j] = Sum(k, a[*n,i,k] * b[*n,k,j])",
        "da[*n,i,k] = Sum(j, dy[*n,i,j] * b[*n,k,j])",
        "db[*n,k,j] = Sum(i, a[*n,i,k] * dy[*n,i,j])",
    ),
    cases=cases,
    source="Giles: Collected matrix derivative results for forward and reverse mode AD, 2008, section 2.2",
)
