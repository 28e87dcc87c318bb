"""Entries copied to other places: reshape, transpose, broadcast_to, concatenate, stack, pad.

backward carries each entry of dy back to where it came from, and adds up what came from one entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise
from math import prod
from typing import Any, TypeAlias

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import broadcast, listed, normal_axes, unbroadcast
from backlit.rules.base import Case, rule

SOURCE = "Array API standard 2024.12, manipulation functions"
MOVED = ("y[*p] = x[source(p)]", "dx[*q] = Sum(p, dy[*p] * (source(p) == q))")
_MOVED_FROM_SEVERAL = ("y[*p] = xs[source(p)]", "dxs[*q] = Sum(p, dy[*p] * (source(p) == q))")


# --- reshape ----------------------------------------------------------------------------------------------------------


def reshape_forward(xp: Namespace, x: Array, *, shape: Shape) -> Array:
    return xp.reshape(x, shape)


def reshape_backward(xp: Namespace, dy: Array, *, x_shape: Shape) -> Array:
    return xp.reshape(dy, x_shape)


def reshape_shapes(x: Shape, *, shape: Shape) -> Shape:
    size, known = prod(x), prod(n for n in shape if n != -1)
    free = shape.count(-1)
    if free > 1 or any(n < -1 for n in shape) or (size != known if not free else known == 0 or size % known):
        raise InputError("reshape_size", expected=f"Π shape = {size}", got=f"{listed(x=x)}, shape = {shape}")
    return tuple(size // known if n == -1 else n for n in shape)


def reshape_cases(rng: Any) -> Iterator[Case]:
    for label, shape, to in (
        ("flatten", (2, 3, 2), (2, -1)),
        ("to a vector", (2, 3), (6,)),
        ("entry to number", (1, 1), ()),
        ("number to entry", (), (1, 1)),
        ("no entries", (0, 3), (3, 0)),
    ):
        yield Case(label, x=rng.normal(size=shape), shape=to)


reshape = rule(
    "reshape",
    reshape_forward,
    reshape_backward,
    shapes=reshape_shapes,
    formulas=MOVED,
    cases=reshape_cases,
    source=SOURCE,
    moves=True,
)


# --- transpose --------------------------------------------------------------------------------------------------------


def transpose_forward(xp: Namespace, x: Array, *, axes: tuple[int, ...]) -> Array:
    return xp.permute_dims(x, normal_axes(axes, x.ndim, "transpose"))


def transpose_backward(xp: Namespace, dy: Array, *, axes: tuple[int, ...]) -> Array:
    went = normal_axes(axes, dy.ndim, "transpose")
    return xp.permute_dims(dy, tuple(went.index(k) for k in range(dy.ndim)))


def transpose_shapes(x: Shape, *, axes: tuple[int, ...]) -> Shape:
    order = normal_axes(axes, len(x), "transpose")
    if len(order) != len(x):
        raise InputError("rule_option", rule="transpose", option="axes", expected=f"{len(x)} × int", got=str(axes))
    return tuple(x[k] for k in order)


def transpose_cases(rng: Any) -> Iterator[Case]:
    for label, shape, axes in (
        ("matrix", (2, 3), (1, 0)),
        ("cycle", (2, 3, 4), (2, 0, 1)),
        ("negative axes", (2, 1, 3), (-1, 0, -2)),
        ("number", (), ()),
    ):
        yield Case(label, x=rng.normal(size=shape), axes=axes)


transpose = rule(
    "transpose",
    transpose_forward,
    transpose_backward,
    shapes=transpose_shapes,
    formulas=MOVED,
    cases=transpose_cases,
    source=SOURCE,
    moves=True,
)


# --- broadcast_to -----------------------------------------------------------------------------------------------------


def broadcast_to_forward(xp: Namespace, x: Array, *, shape: Shape) -> Array:
    return xp.broadcast_to(x, shape)


def broadcast_to_backward(xp: Namespace, dy: Array, *, x_shape: Shape) -> Array:
    return unbroadcast(xp, dy, x_shape)


def broadcast_to_shapes(x: Shape, *, shape: Shape) -> Shape:
    wanted = tuple(shape)
    if broadcast("broadcast_to", shape=wanted, x=x) != wanted:
        raise InputError("shape_clash", rule="broadcast_to", expected=f"x → {list(wanted)}", got=listed(x=x))
    return wanted


def broadcast_to_cases(rng: Any) -> Iterator[Case]:
    for label, shape, to in (
        ("a row for every row", (3,), (2, 3)),
        ("a column for every column", (2, 1), (2, 3)),
        ("number", (), (2, 2)),
        ("inner axis of several", (2, 1, 2), (3, 2, 4, 2)),
        ("as it is", (2, 3), (2, 3)),
    ):
        yield Case(label, x=rng.normal(size=shape), shape=to)


broadcast_to = rule(
    "broadcast_to",
    broadcast_to_forward,
    broadcast_to_backward,
    shapes=broadcast_to_shapes,
    formulas=MOVED,
    cases=broadcast_to_cases,
    source=SOURCE,
    moves=True,
)


# --- concatenate, stack -----------------------------------------------------------------------------------------------


def concatenate_forward(xp: Namespace, *xs: Array, axis: int = 0) -> Array:
    return xp.concat(xs, axis=axis)


def concatenate_backward(xp: Namespace, dy: Array, *, xs_shape: tuple[Shape, ...], axis: int) -> tuple[Array, ...]:
    (k,) = normal_axes(axis, dy.ndim, "concatenate")
    ends = accumulate((shape[k] for shape in xs_shape), initial=0)
    return tuple(dy[(slice(None),) * k + (slice(start, stop), ...)] for start, stop in pairwise(ends))


def concatenate_shapes(*xs: Shape, axis: int = 0) -> Shape:
    first = _first("concatenate", xs)
    (k,) = normal_axes(axis, len(first), "concatenate")
    if any(len(x) != len(first) or _without(x, k) != _without(first, k) for x in xs):
        expected = ", ".join("*" if i == k else str(n) for i, n in enumerate(first))
        raise InputError("shape_clash", rule="concatenate", expected=f"xs[i][{expected}]", got=_numbered(xs))
    return (*first[:k], sum(x[k] for x in xs), *first[k + 1 :])


def _first(rule: str, xs: tuple[Shape, ...]) -> Shape:
    if not xs:
        raise InputError("rule_option", rule=rule, option="xs", expected="xs[0], …", got="()")
    return xs[0]


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _numbered(xs: tuple[Shape, ...]) -> str:
    return listed(**{f"xs[{i}]": x for i, x in enumerate(xs)})


def concatenate_cases(rng: Any) -> Iterator[Case]:
    for label, shapes, axis in (
        ("rows", ((2, 3), (1, 3), (3, 3)), 0),
        ("last axis", ((2, 1, 2), (2, 1, 3)), -1),
        ("only one", ((2, 3),), 1),
        ("one of them empty", ((0, 2), (2, 2)), 0),
    ):
        yield Case(label, xs=tuple(rng.normal(size=s) for s in shapes), axis=axis)


concatenate = rule(
    "concatenate",
    concatenate_forward,
    concatenate_backward,
    shapes=concatenate_shapes,
    formulas=_MOVED_FROM_SEVERAL,
    cases=concatenate_cases,
    source=SOURCE,
    moves=True,
)


def stack_forward(xp: Namespace, *xs: Array, axis: int = 0) -> Array:
    return xp.stack(xs, axis=axis)


def stack_backward(xp: Namespace, dy: Array, *, axis: int) -> tuple[Array, ...]:
    return tuple(xp.unstack(dy, axis=axis))


def stack_shapes(*xs: Shape, axis: int = 0) -> Shape:
    first = _first("stack", xs)
    (k,) = normal_axes(axis, len(first) + 1, "stack")
    if any(x != first for x in xs):
        raise InputError("shape_clash", rule="stack", expected=f"xs[i]{list(first)}", got=_numbered(xs))
    return (*first[:k], len(xs), *first[k:])


def stack_cases(rng: Any) -> Iterator[Case]:
    for label, shapes, axis in (
        ("new first axis", ((2, 3), (2, 3), (2, 3)), 0),
        ("new last axis", ((2, 3), (2, 3)), -1),
        ("numbers", ((), (), ()), 0),
        ("only one", ((2,),), 1),
    ):
        yield Case(label, xs=tuple(rng.normal(size=s) for s in shapes), axis=axis)


def _expand_stack(o: Any, *xs: Any, axis: int) -> Any:
    (k,) = normal_axes(axis, len(xs[0].shape) + 1, "stack")
    return o.concatenate(*(o.reshape(x, shape=(*x.shape[:k], 1, *x.shape[k:])) for x in xs), axis=k)


stack = rule(
    "stack",
    stack_forward,
    stack_backward,
    shapes=stack_shapes,
    formulas=_MOVED_FROM_SEVERAL,
    expand=_expand_stack,
    cases=stack_cases,
    source=SOURCE,
    moves=True,
)


# --- pad --------------------------------------------------------------------------------------------------------------

Widths: TypeAlias = tuple[tuple[int, ...], ...]
"""(entries before, entries after) for each axis."""


def pad_forward(xp: Namespace, x: Array, *, widths: Widths, value: float = 0.0) -> Array:
    for axis, width in enumerate(widths):
        before, after = (_filled(xp, x, axis, n, value) for n in width)
        x = xp.concat([before, x, after], axis=axis)
    return x


def _filled(xp: Namespace, x: Array, axis: int, size: int, value: float) -> Array:
    return xp.full((*x.shape[:axis], size, *x.shape[axis + 1 :]), value, dtype=x.dtype)


def pad_backward(xp: Namespace, dy: Array, *, widths: Widths) -> Array:
    inner = (slice(before, n - after) for (before, after), n in zip(widths, dy.shape, strict=True))
    return dy[tuple(inner)]


def pad_shapes(x: Shape, *, widths: Widths, value: float = 0.0) -> Shape:
    if len(widths) != len(x) or any(len(w) != 2 or min(w) < 0 for w in widths):
        expected = f"{len(x)} × (before ≥ 0, after ≥ 0)"
        raise InputError("rule_option", rule="pad", option="widths", expected=expected, got=str(widths))
    return tuple(before + n + after for (before, after), n in zip(widths, x, strict=True))


def pad_cases(rng: Any) -> Iterator[Case]:
    yield Case("matrix", x=rng.normal(size=(2, 3)), widths=((1, 2), (0, 1)))
    yield Case("with another value", x=rng.normal(size=(1, 2)), widths=((0, 1), (2, 0)), value=-1.5)
    yield Case("no widths", x=rng.normal(size=(2, 2)), widths=((0, 0), (0, 0)))
    yield Case("number", x=rng.normal(size=()), widths=())


pad = rule(
    "pad",
    pad_forward,
    pad_backward,
    shapes=pad_shapes,
    formulas=("y[*p] = x[source(p)] if source(p) >= 0 else value", MOVED[1]),
    cases=pad_cases,
    source=SOURCE,
    moves=True,
)
