"""A team of threads that run one table of calls: every call's work is shared out, and all meet before the next one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from threading import Thread
from typing import Any

import llvmlite.binding as llvm
from numba import njit, types

from backlit.engines.fast import machine_code
from backlit.engines.fast.pointers import call, fetch, fetch_add

Array = Any

FUNCTION, WORDS, EXTENT, GRAIN, CHECKED, EVERY, COLUMNS = range(7)
"""Columns of a table of calls: address of the machine code (0: a call for Python), where its arguments begin, how many
units of work it has, in what multiples they are shared out, whether the call before it may have stopped all, and at
every how many-th step of the run it is done."""
ARRIVED, ROUND, STOP, GIVEN_UP, FIRST, COUNTERS = 0, 16, 32, 48, 64, 80
"""Entries of the shared counters, each on a cache line of its own; FIRST is the number, from 1, of the first step."""
PATIENCE, TRUST = 4000, 4000
"""How many times to look before giving the core away, and how many times to give it away before sleeping: another
program has the core that the others need."""


def _of_system(name: str, of_windows: str, *takes: Any) -> Any:
    """A function of the operating system that compiled code calls."""
    windows = sys.platform == "win32"
    library = ctypes.WinDLL("kernel32") if windows else ctypes.CDLL(None)  # type: ignore[attr-defined,unused-ignore]
    code = ctypes.cast(getattr(library, of_windows if windows else name), ctypes.c_void_p).value
    llvm.add_symbol(f"backlit_{name}", code)
    return types.ExternalFunction(f"backlit_{name}", types.int32(*takes))


_yield = _of_system("sched_yield", "SwitchToThread")
_sleep = _of_system("usleep", "Sleep", types.uint32)
_NAP = 1 if sys.platform == "win32" else 50
"""A millisecond there, microseconds elsewhere."""


@njit(nogil=True, inline="always")
def meet(shared: Array, parts: int) -> None:
    """Wait until all threads of the team are here, or the leader has given up."""
    if parts == 1:
        return
    at, turn = shared.ctypes.data + 8 * ARRIVED, fetch(shared.ctypes.data + 8 * ROUND)
    given_up, looked = shared.ctypes.data + 8 * GIVEN_UP, 0
    if fetch_add(at, 1) == parts - 1:
        fetch_add(at, -parts)
        fetch_add(shared.ctypes.data + 8 * ROUND, 1)
        return
    while fetch(shared.ctypes.data + 8 * ROUND) == turn and not fetch(given_up):
        looked += 1
        if looked > PATIENCE + TRUST:
            _sleep(_NAP)
        elif looked > PATIENCE:
            _yield()


@njit(nogil=True)
def share(extent: int, grain: int, part: int, parts: int) -> tuple[int, int]:
    """(lo, hi): the units of work of one thread, in multiples of ``grain``."""
    blocks = -(-extent // grain)
    return min(blocks * part // parts * grain, extent), min(blocks * (part + 1) // parts * grain, extent)


@njit(nogil=True)
def work(
    table: Array, words: Array, shared: Array, part: int, parts: int, at: int, steps: int, resumed: bool
) -> int:  # fmt: skip
    """Do the calls from position ``at`` on, ``len(table)`` a step, until ``steps`` are done or a call is Python's.

    Gives the position reached. Where a call is Python's only the first thread comes back, ``resumed`` when it goes on;
    the others wait for it.
    """
    size, words_at, first = len(table), words.ctypes.data, shared[FIRST]
    stop_at, given_up = shared.ctypes.data + 8 * STOP, shared.ctypes.data + 8 * GIVEN_UP
    if resumed:
        meet(shared, parts)
    while at < steps * size:
        line = table[at % size]
        if line[EVERY] > 1 and (first + at // size - 1) % line[EVERY]:
            at += 1
            continue
        meet(shared, parts)
        if (line[CHECKED] and fetch(stop_at)) or fetch(given_up):
            return at
        if line[FUNCTION]:
            lo, hi = share(line[EXTENT], line[GRAIN], part, parts)
            if lo < hi:
                call(line[FUNCTION], words_at + 8 * line[WORDS], lo, hi, at // size)
        elif part == 0:
            return at
        else:
            meet(shared, parts)
        at += 1
    meet(shared, parts)
    return at


_TEXT = """from numba import njit

from backlit.engines.fast import team


@njit(cache=True, nogil=True)
def work(table, words, shared, part, parts, at, steps, resumed):
    return team.work(table, words, shared, part, parts, at, steps, resumed)
"""


@cache
def _work() -> Callable[..., int]:
    """``work`` with machine code that is kept for the next process."""
    made = machine_code.module(machine_code.version("team", _TEXT, __name__), _TEXT)
    return made.work  # type: ignore[no-any-return]


def run(
    table: Array, words: Array, shared: Array, steps: int, parts: int, by_python: Callable[[int, int], None],
    first: int = 1,
) -> None:  # fmt: skip
    """Run a table ``steps`` times with a team of ``parts`` threads, the caller's among them.

    ``by_python(line, step)`` does the calls that are Python's, in the caller's thread; what it raises ends all threads.
    ``shared``, the counters, is set to 1 or more at STOP by a call that wants no more steps.
    """
    shared[:] = 0
    shared[FIRST] = first
    given = (table, words, shared)
    others = [Thread(target=_work(), args=(*given, part, parts, 0, steps, False)) for part in range(1, parts)]
    try:
        for thread in others:
            thread.start()
        _lead(*given, steps, parts, by_python)
    except BaseException:
        shared[GIVEN_UP] = 1
        raise
    finally:
        for thread in others:
            if thread.ident is not None:
                thread.join()


def _lead(
    table: Array, words: Array, shared: Array, steps: int, parts: int, by_python: Callable[[int, int], None]
) -> None:  # fmt: skip
    size, work = len(table), _work()
    at = work(table, words, shared, 0, parts, 0, steps, False)
    while at < steps * size and not shared[STOP]:
        by_python(at % size, at // size)
        at = work(table, words, shared, 0, parts, at + 1, steps, True)
