"""Array functions: on symbolic values they add a node, on plain arrays they compute at once with NumPy."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from backlit import rules
from backlit.core.errors import InputError

if TYPE_CHECKING:
    from backlit.graph.builder import Builder


def builder_of(*values: Any) -> Builder | None:
    """The builder of the first symbolic value among ``values``, None where there is none."""
    return next((v.builder for v in values if hasattr(v, "builder")), None)


def apply(rule: str, *inputs: Any, name: str | None = None, **attributes: Any) -> Any:
    """The first output of ``rule`` on ``inputs``."""
    builder = builder_of(*inputs)
    if builder is not None:
        return builder.add(rule, *inputs, name=name, **attributes)[0]
    found = rules.get(rule)
    arrays = _arrays(found, inputs)
    if found.requires:
        found.requires(*arrays, **attributes)
    return found.call(np, *arrays, **attributes)[0]


def _arrays(rule: rules.Rule, inputs: tuple[Any, ...]) -> list[Any]:
    """``inputs`` as arrays; Python's numbers take the precision of the floating-point array beside them."""
    dtype = next((i.dtype for i in inputs if isinstance(i, np.ndarray) and i.dtype.kind == "f"), None)
    fixed = {place for place, name in enumerate(rule.inputs) if name in rule.constants}
    weak = [type(i) in (int, float) and place not in fixed for place, i in enumerate(inputs)]
    return [None if i is None else np.asarray(i, dtype if w else None) for i, w in zip(inputs, weak, strict=True)]


def __getattr__(name: str) -> Callable[..., Any]:
    """Every rule is a function of this module: ``functions.exp(x)``, ``functions.sum(x, axis=0)``."""
    if name not in rules.REGISTRY:
        raise AttributeError(name)
    return lambda *inputs, **attributes: apply(name, *inputs, **attributes)


def __dir__() -> list[str]:
    return sorted({*globals(), *rules.REGISTRY})


def transpose(x: Any, axes: tuple[int, ...] | None = None) -> Any:
    """Axes in the order ``axes``; reversed by default."""
    return apply("transpose", x, axes=tuple(range(np.ndim(x)))[::-1] if axes is None else tuple(axes))


def reshape(x: Any, shape: int | tuple[int, ...]) -> Any:
    """The same entries in another shape; one size may be -1."""
    return apply("reshape", x, shape=sizes(shape))


def sizes(shape: Any) -> tuple[int, ...]:
    """A shape given as one number or as several, as a tuple."""
    return (operator.index(shape),) if np.ndim(shape) == 0 else tuple(map(operator.index, shape))


def matmul(a: Any, b: Any) -> Any:
    """Matrix product ``a @ b``; a vector is a row on the left, a column on the right, and the axis is dropped."""
    left, right = np.ndim(a) == 1, np.ndim(b) == 1
    a = reshape(a, (1, -1)) if left else a
    b = reshape(b, (-1, 1)) if right else b
    y = apply("matmul", a, b)
    if left or right:
        return reshape(y, y.shape[: y.ndim - 2] + (() if left else (y.shape[-2],)) + (() if right else (y.shape[-1],)))
    return y


def getitem(x: Any, index: Any) -> Any:
    """``x[index]``: integers, slices, ``...`` and None together, or one integer array along the first axis."""
    if isinstance(index, list | np.ndarray):
        return apply("take", x, _integers(x, index), axis=0)
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, list | bool | np.bool | np.ndarray) or builder_of(p) for p in parts):
        raise InputError("index_kind", where=getattr(x, "name", "x"), got=repr(index))
    return apply("slice", x, index=parts)


def _integers(x: Any, index: Any) -> Any:
    array = np.asarray(index)
    if array.dtype.kind not in "iu":
        raise InputError("index_kind", where=getattr(x, "name", "x"), got=f"{array.dtype}{list(array.shape)}")
    return array


def take(x: Any, indices: Any, *, axis: int = 0) -> Any:
    """Entries of ``x`` at integer ``indices`` along ``axis``."""
    return apply("take", x, indices if builder_of(indices) else _integers(x, indices), axis=axis)


def square(x: Any) -> Any:
    """x²."""
    return apply("power", x, 2.0)


def size(x: Any) -> int:
    """Number of entries."""
    return math.prod(np.shape(x))
