"""Checks of arrays before a model sees them: each names the array, the first bad place, and how many there are."""

from __future__ import annotations

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.data.mapped import blocks


def check_features(X: Array, where: str = "X") -> None:
    """``X[N, …]`` must be numbers, all finite, at least one row; targets of a regression are checked the same way.

    Raises InputError naming ``where``: not numbers (object, text), no rows, a NaN or infinity (first index, count).
    """
    X = as_array(X, where)
    if X.dtype.kind not in "biuf":
        raise InputError("data_array_dtype", where=where, dtype=X.dtype)
    if X.ndim == 0:
        raise InputError("data_array_rank", where=where, shape=[])
    if X.size == 0:
        raise InputError("data_empty_batch", where=where, shape=list(X.shape))
    _check_finite(X, where)


def as_array(X: Array, where: str = "X") -> Array:
    """``X`` as an array. Raises InputError where its rows are of unequal length."""
    try:
        return np.asarray(X)
    except ValueError as error:
        raise InputError("data_ragged", where=where, got=str(error).partition(". ")[2] or str(error)) from None


def _check_finite(X: Array, where: str) -> None:
    if X.dtype.kind != "f":
        return
    bad = [
        (start + int(row), *map(int, place))
        for start, block in blocks(X)
        if not np.isfinite(block).all()
        for row, *place in np.argwhere(~np.isfinite(block))
    ]
    if bad:
        raise InputError("data_not_finite", where=where, value=X[bad[0]], index=list(bad[0]), count=len(bad))


def check_labels(y: Array, classes: int, where: str = "y", *, ignore: int | None = None) -> None:
    """``y[N]`` must be integers in [0, ``classes``), or ``ignore`` where that is given.

    Raises InputError naming ``where``: one-hot or column labels, no rows, floats or text, a label out of range.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise InputError("data_label_shape", where=where, shape=list(y.shape))
    if y.size == 0:
        raise InputError("data_empty_batch", where=where, shape=list(y.shape))
    if y.dtype.kind not in "iu":
        raise InputError("data_label_dtype", where=where, dtype=y.dtype)
    bad = np.flatnonzero(((y < 0) | (y >= classes)) & (True if ignore is None else y != ignore))
    if len(bad):
        found = {"value": int(y[bad[0]]), "index": int(bad[0]), "count": len(bad)}
        raise InputError("data_label_range", where=where, classes=classes, most=classes - 1, **found)


def check_lengths(X: Array, y: Array, where: str = "X, y") -> None:
    """``X[N, …]`` and ``y[N, …]`` must have the same N. Raises InputError naming ``where``."""
    x_shape, y_shape = list(as_array(X, where).shape), list(as_array(y, where).shape)
    if x_shape[:1] != y_shape[:1]:
        raise InputError("data_lengths", where=where, x=x_shape, y=y_shape)
