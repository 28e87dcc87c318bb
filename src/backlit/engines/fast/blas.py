"""The threads of NumPy's own BLAS, which the rules without a kernel use for their products."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

NAMES = ("scipy_openblas_{}64_", "openblas_{}64_", "scipy_openblas_{}", "openblas_{}")
"""What OpenBLAS calls a setting in the libraries that NumPy is built with."""

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


@cache
def _setting(name: str) -> Any:
    library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]  # noqa: SLF001  its imports are searched too
    return next((getattr(library, n.format(name)) for n in NAMES if hasattr(library, n.format(name))), lambda *_: None)
