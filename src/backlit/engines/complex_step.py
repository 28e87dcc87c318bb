"""The complex-step engine: an array namespace in which one run of forward gives a directional derivative.

:class:`ComplexStep` computes with x + i h v, its arrays are :class:`Stepped`. For a real analytic f the derivative
along v is Im f(x + i h v) / h: nothing is subtracted, so h can be so small that no digit is lost. Functions that are
analytic in pieces go by the real part, which is the piece that x lies on: ``abs`` is x or -x, ``max`` is its largest
entry, a comparison compares real parts. On a kink itself this says nothing. A function that is not listed here is
refused (AttributeError), and an array of this namespace is no NumPy array, so nothing leaves the namespace unnoticed.

Source: Squire, Trapp: Using complex variables to estimate derivatives of real functions, SIAM Review 40(1), 1998;
Martins, Sturdza, Alonso: The complex-step derivative approximation, ACM TOMS 29(3), 2003 (the pieces).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from backlit.core.types import Array, Shape

STEP = 1e-40
"""h: its square is nothing beside any float64, itself far from underflow."""

_KINDS: Mapping[str, str] = {
    name: kind
    for kind, names in {
        "_analytic": "exp expm1 log log1p sqrt tanh sin cos add subtract multiply divide negative pow matmul tensordot"
        " sum prod mean reshape permute_dims matrix_transpose moveaxis expand_dims squeeze flip broadcast_to take",
        "_of_real_part": "sign floor less less_equal greater greater_equal equal not_equal zeros_like ones_like"
        " full_like",
        "_plain": "arange zeros ones full logical_and logical_or logical_not isfinite bool int8 int32 int64 float32"
        " float64 inf nan pi",
    }.items()
    for name in names.split()
}
"""Functions besides the methods of :class:`ComplexStep`: name -> the method that computes it."""


def _binary(function: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: getattr(XP, function)(self, other)  # noqa: PLW0108  XP is made below


def _swapped(function: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: getattr(XP, function)(other, self)


@dataclass(frozen=True, eq=False)
class Stepped:
    """An array x + i h v. To a rule it looks real: ``dtype`` is float64, comparisons are of real parts."""

    z: Array

    __array_ufunc__ = None  # NumPy leaves array * stepped to the latter

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return tuple(self.z.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(self.z.size)

    @property
    def dtype(self) -> Any:
        """That of the real part."""
        return np.dtype(np.float64)

    @property
    def T(self) -> Stepped:  # noqa: N802  the standard's name
        """Axes in reverse order."""
        return Stepped(self.z.T)

    def __getitem__(self, index: Any) -> Stepped:
        return Stepped(self.z[index])

    __add__ = _binary("add")
    __radd__ = _swapped("add")
    __sub__ = _binary("subtract")
    __rsub__ = _swapped("subtract")
    __mul__ = _binary("multiply")
    __rmul__ = _swapped("multiply")
    __truediv__ = _binary("divide")
    __rtruediv__ = _swapped("divide")
    __pow__ = _binary("pow")
    __rpow__ = _swapped("pow")
    __matmul__ = _binary("matmul")
    __rmatmul__ = _swapped("matmul")
    __lt__ = _binary("less")
    __le__ = _binary("less_equal")
    __gt__ = _binary("greater")
    __ge__ = _binary("greater_equal")
    __eq__ = _binary("equal")
    __ne__ = _binary("not_equal")
    __hash__ = object.__hash__

    def __neg__(self) -> Stepped:
        return Stepped(-self.z)

    def __abs__(self) -> Stepped:
        found: Stepped = XP.abs(self)
        return found

    def __array__(self, *_: Any, **__: Any) -> Array:  # NumPy's protocol
        raise TypeError("a rule must compute with the functions of its namespace")

    def __bool__(self) -> bool:
        raise TypeError("a rule must not branch on the values of an array")


class ComplexStep:
    """The namespace. What touches no :class:`Stepped` array is NumPy's own."""

    def __getattr__(self, name: str) -> Any:
        if name not in _KINDS:
            raise AttributeError(f"{name!r} is not known to the complex step: see {__name__}", name=name, obj=self)
        return getattr(np, name) if _KINDS[name] == "_plain" else partial(getattr(self, _KINDS[name]), name)

    def _analytic(self, name: str, *operands: Any, **options: Any) -> Any:
        found = getattr(np, name)(*map(_number, operands), **options)
        return Stepped(found) if any(isinstance(o, Stepped) for o in operands) else found

    def _of_real_part(self, name: str, *operands: Any, **options: Any) -> Array:
        return getattr(np, name)(*map(real, operands), **options)

    # --- by pieces ----------------------------------------------------------------------------------------------

    def abs(self, x: Any) -> Any:
        """Of x and -x the one that is not negative."""
        return self.where(real(x) < 0, -x, x)

    def where(self, condition: Array, a: Any, b: Any) -> Any:
        """``a`` where the condition holds, else ``b``; the condition is a plain array."""
        found = np.where(condition, _number(a), _number(b))
        return Stepped(found) if isinstance(a, Stepped) or isinstance(b, Stepped) else found

    def maximum(self, a: Any, b: Any) -> Any:
        """The larger one."""
        return self.where(real(a) >= real(b), a, b)

    def minimum(self, a: Any, b: Any) -> Any:
        """The smaller one."""
        return self.where(real(a) <= real(b), a, b)

    def clip(self, x: Any, low: Any = None, high: Any = None) -> Any:
        """``x`` between its bounds, else the bound."""
        x = x if low is None else self.where(real(x) < low, low, x)
        return x if high is None else self.where(real(x) > high, high, x)

    def max(self, x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
        """The largest entry, the mean of those that are equal to it."""
        return self._reached(x, np.max(real(x), axis=axis, keepdims=True), axis, keepdims=keepdims)

    def min(self, x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
        """The smallest entry, the mean of those that are equal to it."""
        return self._reached(x, np.min(real(x), axis=axis, keepdims=True), axis, keepdims=keepdims)

    def _reached(self, x: Any, extremum: Array, axis: Any, *, keepdims: bool) -> Any:
        at = real(x) == extremum
        count = np.sum(at, axis=axis, keepdims=keepdims)
        return self.sum(self.where(at, x, 0.0), axis=axis, keepdims=keepdims) / count

    # --- what makes and moves -----------------------------------------------------------------------------------

    def asarray(self, x: Any, *, dtype: Any = None) -> Any:
        """``x`` as it is, or as a NumPy array."""
        return x if isinstance(x, Stepped) else np.asarray(x, dtype=dtype)

    def astype(self, x: Any, dtype: Any, *, copy: bool = True) -> Any:
        """Plain arrays in ``dtype``; TypeError where a stepped one should become integers."""
        if not isinstance(x, Stepped):
            return np.astype(x, dtype, copy=copy)
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"a rule must not turn what it differentiates into {np.dtype(dtype)}")
        return x

    def concat(self, arrays: Sequence[Any], *, axis: int = 0) -> Any:
        """One after another along ``axis``."""
        return self._joined(np.concat, arrays, axis)

    def stack(self, arrays: Sequence[Any], *, axis: int = 0) -> Any:
        """One after another along a new axis."""
        return self._joined(np.stack, arrays, axis)

    def _joined(self, join: Callable[..., Array], arrays: Sequence[Any], axis: int) -> Any:
        found = join([_number(a) for a in arrays], axis=axis)
        return Stepped(found) if any(isinstance(a, Stepped) for a in arrays) else found

    def unstack(self, x: Any, *, axis: int = 0) -> tuple[Any, ...]:
        """The parts along ``axis``."""
        parts = tuple(np.moveaxis(_number(x), axis, 0))
        return tuple(map(Stepped, parts)) if isinstance(x, Stepped) else parts


XP = ComplexStep()


def step(x: Array, v: Array) -> Stepped:
    """The array x + i h v."""
    return Stepped(np.asarray(x, np.float64) + 1j * STEP * np.asarray(v))


def real(x: Any) -> Any:
    """The values: of a stepped array its real part, of anything else itself."""
    return x.z.real if isinstance(x, Stepped) else x


def slope(x: Any) -> Array:
    """The derivative along v: Im x / h; 0 of what does not depend on the step."""
    return x.z.imag / STEP if isinstance(x, Stepped) else np.zeros(np.shape(x))


def _number(x: Any) -> Any:
    return x.z if isinstance(x, Stepped) else x


def along(f: Callable[..., tuple[Any, ...]], values: Iterable[Any], v: Mapping[int, Array]) -> tuple[Any, ...]:
    """``f(xp, *values)``, arrays at the places in ``v`` moved along them: take :func:`real` and :func:`slope` of it."""
    with np.errstate(all="ignore"):
        return f(XP, *(step(x, v[i]) if i in v else x for i, x in enumerate(values)))
