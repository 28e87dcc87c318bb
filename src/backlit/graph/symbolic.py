"""Symbolic values: they look like arrays, and computing with them adds nodes to a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from backlit.core.errors import GraphError
from backlit.graph import functions, numpy_bridge

if TYPE_CHECKING:
    from backlit.core.types import Array, Shape
    from backlit.graph.builder import Builder
    from backlit.graph.graph import Value


def _binary(rule: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: functions.apply(rule, self, other)


def _swapped(rule: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: functions.apply(rule, other, self)


def _unpacked(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """``(2, 3)`` whether a method was called with ``2, 3``, ``(2, 3)`` or ``[2, 3]``."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes


class Symbolic:
    """A value of a graph being built: it has a shape and a dtype, no numbers yet.

    ``+ - * / ** @``, comparisons, indexing, the methods below and the NumPy functions of
    :mod:`backlit.graph.numpy_bridge` work on it as on an array.
    """

    __hash__ = object.__hash__

    def __init__(self, builder: Builder, value: Value) -> None:
        self.builder, self.value = builder, value

    @property
    def name(self) -> str:
        """Dotted name in the graph."""
        return self.value.name

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return self.value.shape

    @property
    def dtype(self) -> str:
        """Name of the dtype, e.g. ``"float32"``."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def T(self) -> Any:  # noqa: N802  NumPy's name
        """Axes in reverse order."""
        return functions.transpose(self)

    __add__ = _binary("add")
    __radd__ = _swapped("add")
    __sub__ = _binary("sub")
    __rsub__ = _swapped("sub")
    __mul__ = _binary("mul")
    __rmul__ = _swapped("mul")
    __truediv__ = _binary("div")
    __rtruediv__ = _swapped("div")
    __pow__ = _binary("power")
    __rpow__ = _swapped("power")
    __gt__ = _binary("greater")
    __ge__ = _binary("greater_equal")
    __lt__ = _binary("less")
    __le__ = _binary("less_equal")

    def __eq__(self, other: object) -> Any:
        return functions.apply("equal", self, other)

    def __ne__(self, other: object) -> Any:
        return functions.apply("not_equal", self, other)

    def __matmul__(self, other: Any) -> Any:
        return functions.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return functions.matmul(other, self)

    def __pos__(self) -> Any:
        return self

    def __neg__(self) -> Any:
        return functions.apply("neg", self)

    def __abs__(self) -> Any:
        return functions.apply("abs", self)

    def __getitem__(self, index: Any) -> Any:
        return functions.getitem(self, index)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a value without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Sum over ``axis``."""
        return functions.apply("sum", self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Product over ``axis``."""
        return functions.apply("prod", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Mean over ``axis``."""
        return functions.apply("mean", self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Largest entry along ``axis``."""
        return functions.apply("max", self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Smallest entry along ``axis``."""
        return functions.apply("min", self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Variance over ``axis``."""
        return functions.apply("var", self, axis=axis, keepdims=keepdims)

    def std(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Standard deviation over ``axis``."""
        return functions.apply("std", self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Any:
        """The same entries in another shape; one size may be -1."""
        return functions.reshape(self, _unpacked(shape))

    def transpose(self, *axes: Any) -> Any:
        """Axes in the given order; reversed where none is given."""
        return functions.transpose(self, _unpacked(axes) or None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return numpy_bridge.ufunc(ufunc, method, inputs, options)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return numpy_bridge.function(func, args, kwargs)

    def _no_number(self, *_: object, **__: object) -> NoReturn:
        raise GraphError("symbolic_value", where=self.name, name=str(self.value))

    __bool__ = __float__ = __int__ = __index__ = _no_number

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        self._no_number(dtype, copy)

    def __repr__(self) -> str:
        return f"Symbolic({self.value})"
