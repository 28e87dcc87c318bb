"""What may be compiled, and what LLVM may assume of it: a register, which needs no compiler, as kernels do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

FAST = frozenset({"contract", "reassoc", "nsz", "arcp"})
"""What LLVM may assume: it may fuse and reorder sums, and multiply by a reciprocal, so that loops vectorise; NaN and
infinity stay what they are."""

KERNELS: dict[str, Callable[..., Any]] = {}
"""All kernels by name, as they are written: each is plain Python too."""
ASSUMED: dict[Callable[..., Any], frozenset[str]] = {}
"""What LLVM may assume of each kernel and of each function that is a part of kernels."""
BY_TYPE: dict[Callable[..., Any], tuple[Callable[..., Any], Callable[..., Any]]] = {}
"""Functions of one number that are two: one for a float32, one for any other."""


def as_python() -> bool:
    """Whether nothing is compiled: ``NUMBA_DISABLE_JIT`` is set, for looking closely."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel: compiled when it is first used, see :mod:`backlit.engines.fast.machine_code`."""
    KERNELS[function.__name__] = function
    return inlined(function)


def ordered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose sums stay as they are written, where a difference of large numbers must be taken first."""
    kernel(function)
    ASSUMED[function] = FAST - {"reassoc"}
    return function


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of kernels, not one by itself."""
    ASSUMED[function] = FAST
    return function


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that becomes part of each loop it is called in, its sums in the order they are written in."""
    ASSUMED[function] = frozenset({"contract"})
    return function


def by_type(name: str, single: Callable[..., Any], double: Callable[..., Any]) -> Callable[[Any], Any]:
    """One name for two functions of one number: of a float32, and of any other."""

    def pick(x: Any) -> Any:
        return single(x) if isinstance(x, np.float32) else double(x)

    pick.__name__ = pick.__qualname__ = name
    pick.__module__ = single.__module__
    BY_TYPE[pick] = single, double
    return pick


def span(lo: int, hi: int) -> range:
    """``range(lo, hi)`` for kernels, ``lo`` at least 0.

    Compiled, its numbers are unsigned: an index that cannot be negative needs no wrapping around, and loops vectorise.
    """
    return range(lo, hi)
