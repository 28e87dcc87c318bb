"""A team of threads that run one table of calls: every call's work is shared out, and all meet before the next one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from threading import Thread
from typing import Any

import llvmlite.binding as llvm
from numba import njit, types

from backlit.engines.fast.pointers import call, fetch, fetch_add

Array = Any

FUNCTION, WORDS, EXTENT, GRAIN, CHECKED, COLUMNS = range(6)
"""Columns of a table of calls: address of the machine code (0: a call for Python), where its arguments begin, how many
units of work it has, in what multiples they are shared out, and whether the call before it may have stopped all."""
ARRIVED, ROUND, STOP, COUNTERS = 0, 16, 32, 48
"""Entries of the shared counters, each on a cache line of its own."""
PATIENCE = 4000
"""How many times to look before giving the core away."""


def _yielding() -> Any:
    library, name = (ctypes.WinDLL("kernel32"), "SwitchToThread") if sys.platform == "win32" else (ctypes.CDLL(None), "sched_yield")  # type: ignore[attr-defined,unused-ignore]  # fmt: skip  # noqa: E501
    llvm.add_symbol("backlit_yield", ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    return types.ExternalFunction("backlit_yield", types.int32())


_yield = _yielding()


@njit(cache=True, nogil=True, inline="always")
def meet(shared: Array, parts: int) -> None:
    """Wait until all threads of the team are here."""
    if parts == 1:
        return
    at, turn = shared.ctypes.data + 8 * ARRIVED, fetch(shared.ctypes.data + 8 * ROUND)
    if fetch_add(at, 1) == parts - 1:
        fetch_add(at, -parts)
        fetch_add(shared.ctypes.data + 8 * ROUND, 1)
        return
    looked = 0
    while fetch(shared.ctypes.data + 8 * ROUND) == turn:
        looked += 1
        if looked > PATIENCE:
            _yield()


@njit(cache=True, nogil=True)
def share(extent: int, grain: int, part: int, parts: int) -> tuple[int, int]:
    """(lo, hi): the units of work of one thread, in multiples of ``grain``."""
    blocks = -(-extent // grain)
    return min(blocks * part // parts * grain, extent), min(blocks * (part + 1) // parts * grain, extent)


@njit(cache=True, nogil=True)
def work(
    table: Array, words: Array, shared: Array, part: int, parts: int, at: int, steps: int, resumed: bool
) -> int:  # fmt: skip
    """Do the calls from position ``at`` on, ``len(table)`` a step, until ``steps`` are done or a call is Python's.

    Gives the position reached. Where a call is Python's only the first thread comes back, ``resumed`` when it goes on;
    the others wait for it.
    """
    size, words_at, stop_at = len(table), words.ctypes.data, shared.ctypes.data + 8 * STOP
    if resumed:
        meet(shared, parts)
    while at < steps * size:
        line = table[at % size]
        meet(shared, parts)
        if line[CHECKED] and fetch(stop_at):
            return at
        if line[FUNCTION]:
            lo, hi = share(line[EXTENT], line[GRAIN], part, parts)
            if lo < hi:
                call(line[FUNCTION], words_at + 8 * line[WORDS], lo, hi, at // size)
        elif part == 0:
            return at
        else:
            meet(shared, parts)
            if fetch(stop_at):
                return at
        at += 1
    meet(shared, parts)
    return at


def run(
    table: Array, words: Array, stop: Array, steps: int, parts: int, by_python: Callable[[int, int], None]
) -> None:  # fmt: skip
    """Run a table ``steps`` times with a team of ``parts`` threads, the caller's among them.

    ``by_python(line, step)`` does the calls that are Python's, in the caller's thread. ``stop``, the shared counters,
    is set to 1 at STOP by a call that wants no more steps.
    """
    stop[:] = 0
    others = [Thread(target=work, args=(table, words, stop, part, parts, 0, steps, False)) for part in range(1, parts)]
    for thread in others:
        thread.start()
    try:
        _lead(table, words, stop, steps, parts, by_python)
    finally:
        for thread in others:
            thread.join()


def _lead(
    table: Array, words: Array, stop: Array, steps: int, parts: int, by_python: Callable[[int, int], None]
) -> None:  # fmt: skip
    size = len(table)
    at = work(table, words, stop, 0, parts, 0, steps, False)
    while at < steps * size and not stop[STOP]:
        try:
            by_python(at % size, at // size)
        except BaseException:
            stop[STOP] = 1
            meet(stop, parts)
            raise
        at = work(table, words, stop, 0, parts, at + 1, steps, True)
