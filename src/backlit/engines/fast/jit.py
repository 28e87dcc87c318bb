"""How kernels are compiled: the one place that says what Numba may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload

FAST = frozenset({"contract", "reassoc", "nsz", "arcp"})
"""What LLVM may assume: it may fuse and reorder sums, and multiply by a reciprocal, so that loops vectorise; NaN and
infinity stay what they are."""

KERNELS: dict[str, Callable[..., Any]] = {}
"""All kernels by name."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel: compiled when it is first used, the interpreter's lock released.

    Its machine code is kept on disk with what calls it, see :mod:`backlit.engines.fast.machine_code`: by itself Numba
    would not see that a function of another file, which it contains, has changed.
    """
    KERNELS[function.__name__] = made = _compiled(function, FAST)
    return made


def ordered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose sums stay as they are written, where a difference of large numbers must be taken first."""
    KERNELS[function.__name__] = made = _compiled(function, FAST - {"reassoc"})
    return made


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of kernels, not one by itself."""
    return _compiled(function, FAST)


def _compiled(function: Callable[..., Any], assume: frozenset[str]) -> Callable[..., Any]:
    return njit(  # type: ignore[no-any-return]
        function, nogil=True, error_model="numpy", fastmath=set(assume), forceinline=True
    )


def span(lo: int, hi: int) -> range:
    """``range(lo, hi)`` for kernels, ``lo`` at least 0.

    Compiled, its numbers are unsigned: an index that cannot be negative needs no wrapping around, and loops vectorise.
    """
    return range(lo, hi)


@overload(span)
def _span(lo, hi):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  as Numba wants it
    return lambda lo, hi: range(np.uint64(lo), np.uint64(hi))
