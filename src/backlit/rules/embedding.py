"""embedding: rows of a table, chosen by number.

Shapes: indices[N, …] integers from 0 to V - 1, table E[V, D]; y[N, …, D]. A row's gradient is the sum over all places
where it was taken, and 0 where it never was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.rows import Rows
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number, listed
from backlit.rules.base import Case, rule


def forward(xp: Namespace, indices: Array, E: Array) -> Array:
    return xp.reshape(xp.take(E, xp.reshape(indices, (-1,)), axis=0), (*indices.shape, E.shape[1]))


def backward(xp: Namespace, dy: Array, *, indices: Array, E_shape: Shape) -> Array:
    return added_by_row(xp, xp.reshape(dy, (indices.size, E_shape[1])), xp.reshape(indices, (-1,)), E_shape[0])


def added_by_row(xp: Namespace, rows: Array, at: Array, size: int) -> Array:
    """total[v] = Σ_m [at_m = v] rows_m of rows[M, D] and at[M]; ``size`` rows.

    The array API standard has no such sum. NumPy sorts the rows and adds up each run, JAX has one of its own, and any
    other namespace takes the product with the matrix of [at_m = v].
    """
    total = xp.zeros((size, rows.shape[1]), dtype=rows.dtype)
    if isinstance(total, np.ndarray):
        return Rows.of(at, rows, total.shape).dense()
    if hasattr(total, "at"):
        return total.at[at].add(rows)
    if hasattr(xp, "scatter_add"):
        return xp.scatter_add(total, at, rows)
    hits = xp.expand_dims(xp.arange(size, dtype=at.dtype), axis=1) == xp.expand_dims(at, axis=0)
    return xp.matmul(as_number(xp, hits, xp.ones(hits.shape, dtype=rows.dtype)), rows)


def rows(dy: Array, *, indices: Array, E_shape: Shape) -> Rows:
    """The gradient as rows."""
    return Rows.of(indices.reshape(-1), dy.reshape(indices.size, E_shape[1]), E_shape)


def shapes(indices: Shape, E: Shape) -> Shape:
    if len(indices) < 1 or len(E) != 2 or 0 in E:
        expected = "indices[N, …], E[V ≥ 1, D ≥ 1]"
        raise InputError("shape_clash", rule="embedding", expected=expected, got=listed(indices=indices, E=E))
    return (*indices, E[1])


def requires(indices: Array, E: Any) -> None:
    size = E.shape[0]
    if indices.dtype.kind not in "iu":
        raise InputError("embedding_integers", got=f"indices{list(indices.shape)}: {indices.dtype}")
    bad = np.argwhere((indices < 0) | (indices >= size))
    if len(bad):
        at = tuple(int(i) for i in bad[0])
        expected, got = f"0 ≤ indices < {size}", f"indices[{', '.join(map(str, at))}] = {indices[at]}"
        raise InputError("embedding_range", size=size, count=len(bad), expected=expected, got=got)


def cases(rng: Any) -> Iterator[Case]:
    for label, indices, size in (
        ("a batch of sequences, numbers repeated", [[0, 2, 2], [4, 0, 2]], (5, 3)),
        ("one sequence", [1, 3, 0], (4, 2)),
        ("one for each sample", [2], (3, 2)),
        ("always the same row", [[1, 1], [1, 1]], (3, 2)),
        ("no samples", np.zeros((0, 2), np.int64), (3, 2)),
        ("a table of one row", [0, 0], (1, 4)),
    ):
        yield Case(label, indices=np.asarray(indices, np.int64), E=rng.normal(size=size))


embedding = rule(
    "embedding",
    forward,
    backward,
    shapes=shapes,
    formulas=("y[*n,d] = E[indices[*n],d]", "dE[v,d] = Sum(n, (indices[*n] == v) * dy[*n,d])"),
    constants=("indices",),
    integers=("indices",),
    requires=requires,
    rows=rows,
    cases=cases,
    moves=True,
    source="Bengio, Ducharme, Vincent, Jauvin: A neural probabilistic language model, JMLR 3, 2003",
)
