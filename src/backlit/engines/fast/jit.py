"""How kernels are compiled: the one place that knows Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

FAST = frozenset({"contract", "reassoc", "nsz"})
"""What LLVM may assume: it may fuse and reorder sums, so that they vectorise; NaN and infinity stay what they are."""

KERNELS: dict[str, Callable[..., Any]] = {}
"""All kernels by name."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` when it is first called, keep the machine code on disk, release the interpreter's lock."""
    KERNELS[function.__name__] = made = unkept(function, cache=True)
    return made


def ordered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose sums stay as they are written, where a difference of large numbers must be taken first."""
    KERNELS[function.__name__] = made = unkept(function, cache=True, assume=FAST - {"reassoc"})
    return made


def kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled and kept on disk as a kernel is, without a name among the kernels: a whole listing."""
    return unkept(function, cache=True)


def unkept(function: Callable[..., Any], *, cache: bool = False, assume: frozenset[str] = FAST) -> Callable[..., Any]:
    """The same without keeping the machine code, and without a name among the kernels."""
    return njit(function, cache=cache, nogil=True, error_model="numpy", fastmath=set(assume))  # type: ignore[no-any-return]
