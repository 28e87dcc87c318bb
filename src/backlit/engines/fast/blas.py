"""NumPy's own BLAS without Python in between: the matrix product of the library NumPy has loaded, by its address."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.extending import overload
from numpy.lib.stride_tricks import as_strided

Array = Any

NAMES = (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", ""))
"""What a name such as ``cblas_sgemm`` has before and behind it in the libraries that NumPy is built with; those that
end with 64_ take 64-bit sizes."""
_ROWS, _PLAIN, _TRANSPOSED = 101, 111, 112


def _library() -> tuple[Any, str, str]:
    """(the loaded library, prefix, suffix); AttributeError where it has no matrix product under a known name."""
    found = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]  # noqa: SLF001  its imports are searched too
    for before, behind in NAMES:
        if hasattr(found, f"{before}cblas_sgemm{behind}"):
            return found, before, behind
    raise AttributeError("NumPy's BLAS has no cblas_sgemm under a known name")


_LIBRARY, _BEFORE, _BEHIND = _library()
_SIZE: Any = types.int64 if _BEHIND else types.int32


def _product(letter: str, real: Any) -> Any:
    """cblas_?gemm as a function that compiled code calls."""
    name = f"backlit_{letter}gemm{_BEHIND}"
    code = getattr(_LIBRARY, f"{_BEFORE}cblas_{letter}gemm{_BEHIND}")
    llvm.add_symbol(name, ctypes.cast(code, ctypes.c_void_p).value)
    flag, at, n = types.int32, types.int64, _SIZE
    return types.ExternalFunction(name, types.void(flag, flag, flag, n, n, n, real, at, n, at, n, real, at, n))


_sgemm, _dgemm = _product("s", types.float32), _product("d", types.float64)


def gemm(
    ta: bool, tb: bool, m: int, n: int, k: int, A: Array, a: int, lda: int, B: Array, b: int, ldb: int,
    beta: float, C: Array, c: int, ldc: int,
) -> None:  # fmt: skip
    """C[m, n] = op(A)[m, k] op(B)[k, n] + beta C, op the transpose where ``ta``, ``tb``, in rows.

    A matrix is the part of a contiguous array that begins at entry ``a`` and has rows ``lda`` entries apart.
    """
    left = _part(A, a, lda, (k, m) if ta else (m, k))
    right = _part(B, b, ldb, (n, k) if tb else (k, n))
    into = _part(C, c, ldc, (m, n))
    found = (left.T if ta else left) @ (right.T if tb else right)
    into[...] = found + beta * into if beta else found


def _part(A: Array, start: int, row: int, shape: tuple[int, int]) -> Array:
    size, (rows, columns) = A.itemsize, shape
    assert rows * columns == 0 or 0 <= start <= A.size - (rows - 1) * row - columns
    return as_strided(A.reshape(-1)[start:], shape, (row * size, size))


@overload(gemm)
def _gemm(ta, tb, m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    product, real, size = (_sgemm, np.float32, 4) if C.dtype == types.float32 else (_dgemm, np.float64, 8)

    def compiled(ta, tb, m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        left, right = _TRANSPOSED if ta else _PLAIN, _TRANSPOSED if tb else _PLAIN
        ia, ib, ic = A.ctypes.data + a * size, B.ctypes.data + b * size, C.ctypes.data + c * size
        product(_ROWS, left, right, m, n, k, real(1), ia, lda, ib, ldb, real(beta), ic, ldc)

    return compiled


# --- threads of the library: one, while a team of ours shares the work ------------------------------------------------

_lock, _running, _before = threading.Lock(), 0, 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let a product use one thread: the team shares the work out itself. Several programs may be inside at once."""
    global _running, _before  # noqa: PLW0603  the library's setting is global too
    with _lock:
        if not _running:
            _before = threads()
            set_threads(1)
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                set_threads(_before)


def _forget() -> None:
    """In a forked child, where only the thread lives on that forked: nobody else is inside."""
    global _lock, _running  # noqa: PLW0603
    _lock = threading.Lock()
    if _running:
        _running = 0
        set_threads(_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def threads() -> int:
    """The number of threads that NumPy's OpenBLAS uses; 1 for another library."""
    return int(_setting("get_num_threads")() or 1)


def set_threads(count: int) -> None:
    """Set it; another library than OpenBLAS takes no notice."""
    _setting("set_num_threads")(ctypes.c_int(count))


def _setting(name: str) -> Any:
    return getattr(_LIBRARY, f"{_BEFORE}openblas_{name}{_BEHIND}", lambda *_: None)
