"""Entries chosen by index: slice (integers, slices, ``...``, None) and take (an array of integers along one axis)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number, listed, normal_axes
from backlit.rules.base import Case, rule
from backlit.rules.movement import MOVED

# --- slice ------------------------------------------------------------------------------------------------------------

Index: TypeAlias = tuple[Any, ...]
"""Integers, slices, ``...`` and None, as in ``x[1, ..., None, ::2]``."""


def slice_forward(xp: Namespace, x: Array, *, index: Index) -> Array:
    return x[tuple(_within(i) for i in _placed(index, x.shape))]


def slice_backward(xp: Namespace, dy: Array, *, x_shape: Shape, index: Index) -> Array:
    chosen = [i for i in _placed(index, x_shape) if i is not None]
    dy = xp.reshape(dy, tuple(len(i) if isinstance(i, range) else 1 for i in chosen))
    for axis, (i, size) in enumerate(zip(chosen, x_shape, strict=True)):
        dy = _scattered(xp, dy, axis, i if isinstance(i, range) else range(i, i + 1), size)
    return dy


def _placed(index: Index, shape: Shape) -> list[range | int | None]:
    """The index with one entry for every axis, the positions a range or an integer ≥ 0, and None for each new axis."""
    gap = [slice(None)] * (len(shape) - sum(i is not None and i is not Ellipsis for i in index))
    at = next((k for k, i in enumerate(index) if i is Ellipsis), len(index))
    sizes = iter(shape)
    full = (*index[:at], *gap, *index[at + 1 :])
    return [None if i is None else _positions(i, next(sizes)) for i in full]


def _positions(i: Any, size: int) -> range | int:
    return range(*i.indices(size)) if isinstance(i, slice) else range(size)[i]


def _within(i: range | int | None) -> slice | int | None:
    """The positions as a slice that stays inside its axis: the array API standard leaves others undefined."""
    if not isinstance(i, range):
        return i
    return slice(i.start, i.stop if i.stop >= 0 else None, i.step) if i else slice(0, 0)


def _scattered(xp: Namespace, g: Array, axis: int, to: range, size: int) -> Array:
    """Zeros of ``size`` along ``axis``, with the entries of ``g`` at the positions ``to``."""
    if to == range(size):
        return g
    zero = xp.zeros((*g.shape[:axis], 1, *g.shape[axis + 1 :]), dtype=g.dtype)
    origin = np.full(size, len(to))
    origin[list(to)] = np.arange(len(to))
    return xp.take(xp.concat([g, zero], axis=axis), xp.asarray(origin), axis=axis)


def slice_shapes(x: Shape, *, index: Index) -> Shape:
    try:
        placed = _placed(index, x) if _countable(index, len(x)) else None
    except (IndexError, TypeError, ValueError):
        placed = None
    if placed is None:
        raise InputError("index_range", expected=_expected(x), got=f"x[{_shown(index)}]")
    return tuple(1 if i is None else len(i) for i in placed if not isinstance(i, int))


def _countable(index: Index, rank: int) -> bool:
    """One ``...`` at most, no more entries than axes, no booleans (to NumPy these are masks)."""
    several = sum(i is Ellipsis for i in index) > 1 or sum(i is not None and i is not Ellipsis for i in index) > rank
    return not several and not any(isinstance(i, (bool, np.bool)) for i in index)


def _expected(x: Shape) -> str:
    return f"{listed(x=x)}: " + ", ".join(f"-{n} ≤ i{k} < {n}" for k, n in enumerate(x))


def _shown(index: Index) -> str:
    return ", ".join("..." if i is Ellipsis else str(i) for i in index)


def slice_cases(rng: Any) -> Iterator[Case]:
    for label, shape, index in (
        ("row", (3, 4), (1,)),
        ("last entry of each row", (3, 4), (..., -1)),
        ("steps", (5, 4), (slice(None, None, 2), slice(1, 3))),
        ("backwards", (5, 4), (slice(None, None, -2), slice(3, 0, -1))),
        ("new axes", (2, 3), (None, 0, ..., None)),
        ("one entry", (2, 3), (0, -1)),
        ("past the end", (2, 3), (slice(1, 9), slice(-9, 2))),
        ("no entries", (2, 3), (slice(0, 0),)),
        ("all", (2, 3), ()),
    ):
        yield Case(label, x=rng.normal(size=shape), index=index)


slice_ = rule(
    "slice",
    slice_forward,
    slice_backward,
    shapes=slice_shapes,
    formulas=MOVED,
    cases=slice_cases,
    source="Array API standard 2024.12, indexing",
    moves=True,
)


# --- take -------------------------------------------------------------------------------------------------------------


def take_forward(xp: Namespace, x: Array, indices: Array, *, axis: int = 0) -> Array:
    (k,) = normal_axes(axis, x.ndim, "take")
    rows = xp.take(x, xp.reshape(indices, (-1,)), axis=k)
    return xp.reshape(rows, take_shapes(x.shape, indices.shape, axis=k))


def take_backward(xp: Namespace, dy: Array, *, x_shape: Shape, indices: Array, axis: int) -> Array:
    """A product with the matrix of [position = index]: what was taken twice adds up, in any array namespace."""
    (k,) = normal_axes(axis, len(x_shape), "take")
    positions = xp.arange(x_shape[k])
    taken = xp.reshape(xp.astype(indices, positions.dtype), (-1,)) % x_shape[k]
    hits = positions[:, None] == taken[None, :]
    rows = xp.reshape(dy, (*x_shape[:k], hits.shape[1], *x_shape[k + 1 :]))
    ones = xp.ones(hits.shape, dtype=dy.dtype)
    return xp.moveaxis(xp.tensordot(as_number(xp, hits, ones), rows, axes=((1,), (k,))), 0, k)


def take_shapes(x: Shape, indices: Shape, *, axis: int = 0) -> Shape:
    (k,) = normal_axes(axis, len(x), "take")
    return (*x[:k], *indices, *x[k + 1 :])


def take_cases(rng: Any) -> Iterator[Case]:
    for label, shape, indices, axis in (
        ("rows, one twice", (4, 3), [2, 0, 2], 0),
        ("columns", (2, 4), [3, 1], 1),
        ("a table of rows", (5, 2), [[0, 4, 4], [1, 0, 4]], 0),
        ("counted from the end", (2, 3, 2), [-1, 0, -3], -2),
        ("one row", (3, 2), 1, 0),
        ("none", (3, 2), [], 0),
    ):
        yield Case(label, x=rng.normal(size=shape), indices=np.array(indices, dtype=np.int64), axis=axis)


take = rule(
    "take",
    take_forward,
    take_backward,
    shapes=take_shapes,
    formulas=MOVED,
    constants=("indices",),
    integers=("indices",),
    cases=take_cases,
    source="Array API standard 2024.12, take",
    moves=True,
)
