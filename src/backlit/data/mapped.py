"""Arrays that stay in their file: they are read where they are needed, and never copied as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backlit.core.errors import FileError
from backlit.core.types import Array

BLOCK = 1 << 22
"""Bytes of an array that are looked at together."""


def opened(X: Any) -> Any:
    """The array in the file ``X`` where that is the path of an ``.npy`` file, mapped into memory; else ``X`` itself.

    Raises FileError where there is no such file or it holds no such array.
    """
    if isinstance(X, tuple):
        return tuple(map(opened, X))
    if not isinstance(X, str | os.PathLike):
        return X
    path = Path(X)
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise FileError("mapped_missing", where=str(path)) from None
    except (ValueError, OSError) as error:
        raise FileError("mapped_file", where=str(path), got=str(error)) from None


def is_mapped(x: Any) -> bool:
    """Whether ``x`` is a memory-mapped array or a view of one."""
    while isinstance(x, np.ndarray):
        if isinstance(x, np.memmap):
            return True
        x = x.base
    return False


def blocks(x: Array) -> Iterator[tuple[int, Array]]:
    """(first row, rows) of ``x[N, …]``, a few megabytes at a time, at least one row."""
    rows = max(1, BLOCK // max(x.nbytes // max(len(x), 1), 1))
    return ((start, x[start : start + rows]) for start in range(0, len(x), rows))
