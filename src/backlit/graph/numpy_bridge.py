"""NumPy functions on symbolic values: a plain NumPy function can be staged and differentiated as it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, NoReturn

import numpy as np

from backlit.core.errors import GraphError
from backlit.graph import functions

_BINARY = {
    np.add: "add",
    np.subtract: "sub",
    np.multiply: "mul",
    np.divide: "div",
    np.power: "power",
    np.maximum: "maximum",
    np.minimum: "minimum",
    np.negative: "neg",
    np.exp: "exp",
    np.expm1: "expm1",
    np.log: "log",
    np.log1p: "log1p",
    np.sin: "sin",
    np.cos: "cos",
    np.sqrt: "sqrt",
    np.absolute: "abs",
    np.tanh: "tanh",
    np.greater: "greater",
    np.greater_equal: "greater_equal",
    np.less: "less",
    np.less_equal: "less_equal",
    np.equal: "equal",
    np.not_equal: "not_equal",
}


def _reduction(rule: str) -> Callable[..., Any]:
    return lambda x, axis=None, *, keepdims=False: functions.apply(rule, x, axis=axis, keepdims=keepdims)


def _joining(rule: str) -> Callable[..., Any]:
    return lambda arrays, axis=0: functions.apply(rule, *arrays, axis=axis)


def _spread(rule: str) -> Callable[..., Any]:
    return lambda x, axis=None, *, ddof=0, keepdims=False: functions.apply(
        rule, x, axis=axis, keepdims=keepdims, correction=ddof
    )


def _take(x: Any, indices: Any, axis: int | None = None) -> Any:
    return functions.take(functions.reshape(x, -1), indices) if axis is None else functions.take(x, indices, axis=axis)


def _dot(a: Any, b: Any) -> Any:
    if np.ndim(a) > 2 or np.ndim(b) > 2:  # not the matrix product there
        _refuse("dot of arrays with more than two axes")
    return functions.apply("mul", a, b) if 0 in (np.ndim(a), np.ndim(b)) else functions.matmul(a, b)


def _pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: float = 0.0) -> Any:
    if mode != "constant":
        _refuse(f"pad(mode={mode!r})")
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    return functions.apply("pad", x, widths=tuple((int(a), int(b)) for a, b in widths), value=constant_values)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: _reduction("sum"),
    np.prod: _reduction("prod"),
    np.mean: _reduction("mean"),
    np.max: _reduction("max"),
    np.min: _reduction("min"),
    np.var: _spread("var"),
    np.std: _spread("std"),
    np.reshape: functions.reshape,
    np.ravel: lambda x: functions.reshape(x, (-1,)),
    np.transpose: functions.transpose,
    np.concatenate: _joining("concatenate"),
    np.stack: _joining("stack"),
    np.where: lambda condition, a, b: functions.apply("where", condition, a, b),
    np.clip: lambda x, a_min=None, a_max=None, *, min=None, max=None: functions.apply(  # noqa: A006  NumPy's names
        "clip", x, low=min if a_min is None else a_min, high=max if a_max is None else a_max
    ),
    np.take: _take,
    np.broadcast_to: lambda x, shape: functions.apply("broadcast_to", x, shape=functions.sizes(shape)),
    np.dot: _dot,
    np.pad: _pad,
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: functions.size,
}
_UFUNCS: dict[Any, Callable[..., Any]] = {np.matmul: functions.matmul, np.square: functions.square}


def ufunc(func: Any, method: str, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
    """What ``func(*inputs)`` means on symbolic values; GraphError where there is no rule for it."""
    if method != "__call__" or options:
        _refuse(f"{func.__name__}.{method}({', '.join(options)})")
    if func in _UFUNCS:
        return _UFUNCS[func](*inputs)
    if func not in _BINARY:
        _refuse(func.__name__)
    return functions.apply(_BINARY[func], *inputs)


def function(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What ``func(*args, **kwargs)`` means on symbolic values; GraphError where there is no rule for it."""
    if func not in _FUNCTIONS:
        _refuse(func.__name__)
    try:
        signature(_FUNCTIONS[func]).bind(*args, **kwargs)
    except TypeError:
        _refuse(f"{func.__name__}({', '.join([*(['…'] if args else []), *(f'{k}=' for k in kwargs)])})")
    return _FUNCTIONS[func](*args, **kwargs)


def _refuse(name: str) -> NoReturn:
    known = sorted({f.__name__ for f in (*_BINARY, *_UFUNCS, *_FUNCTIONS)})
    raise GraphError("no_numpy_function", where="function", name=name, known=", ".join(known))
