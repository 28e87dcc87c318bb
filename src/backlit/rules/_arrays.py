"""What the array rules share: broadcasting and its gradient, axes as the caller wrote them, the sides of a tie."""

from __future__ import annotations

from math import prod
from operator import index

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape


def broadcast(rule: str, **shapes: Shape) -> Shape:
    """The shape that the named ``shapes`` broadcast to, as in NumPy; InputError ``shape_clash`` where they do not."""
    result: Shape = ()
    for name, shape in shapes.items():
        rank = max(len(result), len(shape))
        pairs = list(zip(_filled(result, rank), _filled(shape, rank), strict=True))
        if any(m != n and 1 not in (m, n) for m, n in pairs):
            sizes = ", ".join("*" if n == 1 else f"1|{n}" for n in result)
            raise InputError("shape_clash", rule=rule, expected=f"{name}[…, {sizes}]", got=listed(**shapes))
        result = tuple(n if m == 1 else m for m, n in pairs)
    return result


def _filled(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape


def listed(**shapes: Shape) -> str:
    """Named shapes as an error shows them: ``a[3, 4], b[4]``."""
    return ", ".join(f"{name}{list(shape)}" for name, shape in shapes.items())


def unbroadcast(xp: Namespace, g: Array, shape: Shape) -> Array:
    """``g`` summed over the axes along which an array of ``shape`` was broadcast to the shape of ``g``."""
    lead = g.ndim - len(shape)
    stretched = (lead + k for k, n in enumerate(shape) if n == 1 != g.shape[lead + k])
    axes = (*range(lead), *stretched)
    return xp.reshape(xp.sum(g, axis=axes), shape) if axes else g


def normal_axes(axis: int | tuple[int, ...] | None, rank: int, rule: str = "") -> tuple[int, ...]:
    """``axis`` as a tuple of numbers from 0 to ``rank`` - 1 in the given order; None means all axes.

    Raises InputError: ``axis_range`` where there is no such axis, ``axis_repeated``, ``rule_option`` for no integer.
    """
    if axis is None:
        return tuple(range(rank))
    try:
        given = tuple(index(k) for k in axis) if isinstance(axis, (tuple, list)) else (index(axis),)
    except TypeError:
        expected = "int | (int, …) | None"
        raise InputError("rule_option", rule=rule, option="axis", expected=expected, got=repr(axis)) from None
    if any(not -rank <= k < rank for k in given):
        raise InputError("axis_range", rule=rule, rank=rank, expected=f"-{rank} ≤ axis < {rank}", got=f"axis = {axis}")
    axes = tuple(k % rank for k in given)
    if len(set(axes)) < len(axes):
        raise InputError("axis_repeated", rule=rule, axis=axis)
    return axes


def reduced(shape: Shape, axis: int | tuple[int, ...] | None, *, keepdims: bool, rule: str = "") -> Shape:
    """The shape after a reduction of ``shape`` over ``axis``."""
    axes = normal_axes(axis, len(shape), rule)
    return tuple(1 if k in axes else n for k, n in enumerate(shape) if keepdims or k not in axes)


def restore(xp: Namespace, y: Array, shape: Shape, axis: int | tuple[int, ...] | None) -> Array:
    """``y``, reduced from ``shape`` over ``axis`` with or without keepdims, stretched to ``shape`` again."""
    return xp.broadcast_to(xp.reshape(y, reduced(shape, axis, keepdims=True)), shape)


def count(shape: Shape, axis: int | tuple[int, ...] | None) -> int:
    """How many entries of ``shape`` lie along ``axis``."""
    return prod(shape[k] for k in normal_axes(axis, len(shape)))


def as_number(xp: Namespace, mask: Array, like: Array) -> Array:
    """A condition as 1 and 0 in the dtype of ``like``."""
    return xp.where(mask, xp.ones_like(like), xp.zeros_like(like))


def order(xp: Namespace, a: Array, b: Array) -> Array:
    """1 where a > b, -1 where a < b, else 0: which side of the tie a = b. Unlike sign(a - b) it knows that ∞ = ∞."""
    above, below = (xp.astype(xp.asarray(side), xp.int8) for side in (a > b, a < b))
    return above - below
