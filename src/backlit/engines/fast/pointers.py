"""What a table of calls needs of the machine: numbers that are addresses, and counters that threads share.

As Python they are written with ctypes; :mod:`backlit.engines.fast.compiler` has an instruction for each.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from typing import Any

CODE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)
"""Machine code that is called as f(words, lo, hi, step)."""
_lock = threading.Lock()

YIELD, SLEEP = "backlit_yield", "backlit_sleep"
"""Functions of the operating system that compiled code calls; SLEEP takes a uint32."""
NAP = 1 if sys.platform == "win32" else 50
"""A millisecond there, microseconds elsewhere."""


def of_system() -> dict[str, int]:
    """The addresses of these functions."""
    windows = sys.platform == "win32"
    library = ctypes.WinDLL("kernel32") if windows else ctypes.CDLL(None)  # type: ignore[attr-defined,unused-ignore]
    names = {YIELD: "SwitchToThread", SLEEP: "Sleep"} if windows else {YIELD: "sched_yield", SLEEP: "usleep"}
    return {own: _place(getattr(library, n)) for own, n in names.items()}


def of_library(name: str) -> int:
    """The address of a function of C's library, such as logf; LookupError where it has none of that name."""
    try:
        return _place(getattr(ctypes.CDLL(None), name))
    except AttributeError:
        raise LookupError(f"compiled code needs {name!r}, which C's library does not have") from None


def _place(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def ask_for_tiles() -> bool:
    """Whether Linux lets this process use the tiles of AMX, 8 KB of registers for each thread that does."""
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return bool(ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0)


def flush_small() -> int:
    """Let this thread take numbers below the normal ones for 0, where the processor can; gives how it was before.

    A sum with such a number takes a hundred times as long. Gradients that vanish are full of them.
    """
    return 0


def restore(mode: int) -> None:
    """Let this thread take small numbers as it did before."""


def call(function: int, words: int, lo: int, hi: int, step: int) -> None:
    """Call the machine code at address ``function`` as f(words, lo, hi, step)."""
    CODE(function)(words, lo, hi, step)


def fetch_add(address: int, amount: int) -> int:
    """Add to the int64 at ``address`` as one indivisible act, and give what it was before."""
    with _lock:
        place = ctypes.c_int64.from_address(address)
        place.value += amount
        return place.value - amount


def fetch(address: int) -> int:
    """The int64 at ``address`` as it is now, whichever thread wrote it."""
    return ctypes.c_int64.from_address(address).value


def give_way(naps: bool) -> None:
    """Let another thread have the core, for a nap where it ``naps``."""
    time.sleep(5e-5 if naps else 0)
