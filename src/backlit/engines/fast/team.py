"""A team of threads that run one table of calls: every call's work is shared out, and all meet before the next one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np

from backlit.engines.fast import machine_code
from backlit.engines.fast.jit import inlined, kernel
from backlit.engines.fast.pointers import CODE, call, fetch, fetch_add, give_way

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


@inlined
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
        if looked > PATIENCE:
            give_way(looked > PATIENCE + TRUST)


@inlined
def share(extent: int, grain: int, part: int, parts: int) -> tuple[int, int]:
    """(lo, hi): the units of work of one thread, in multiples of ``grain``."""
    blocks = -(-extent // grain)
    return min(blocks * part // parts * grain, extent), min(blocks * (part + 1) // parts * grain, extent)


@kernel
def work(part: int, parts: int, table: Array, words: Array, shared: Array, steps: int, resumed: int, at: Array) -> None:
    """Do the calls from position ``at`` on, ``len(table)`` a step, until ``steps`` are done or a call is Python's.

    ``at`` becomes the position reached. Where a call is Python's only the first thread comes back, ``resumed`` when it
    goes on; the others wait for it.
    """
    size, words_at, first = len(table), words.ctypes.data, shared[FIRST]
    stop_at, given_up = shared.ctypes.data + 8 * STOP, shared.ctypes.data + 8 * GIVEN_UP
    if resumed:
        meet(shared, parts)
    while at[0] < steps * size:
        line, step = table[at[0] % size], at[0] // size
        if line[EVERY] > 1 and (first + step - 1) % line[EVERY]:
            at[0] += 1
            continue
        meet(shared, parts)
        if (line[CHECKED] and fetch(stop_at)) or fetch(given_up):
            return
        if line[FUNCTION]:
            lo, hi = share(line[EXTENT], line[GRAIN], part, parts)
            if lo < hi:
                call(line[FUNCTION], words_at + 8 * line[WORDS], lo, hi, step)
        elif part == 0:
            return
        else:
            meet(shared, parts)
        at[0] += 1
    meet(shared, parts)


class _Member:
    """One thread's way through a table."""

    def __init__(self, table: Array, words: Array, shared: Array, steps: int, part: int, parts: int) -> None:
        self.at, self.bounds = np.zeros(1, np.int64), (part, parts)
        self.given = [(table, words, shared, steps, resumed, self.at) for resumed in (0, 1)]
        self.words = [np.array(machine_code.words_of(given), np.int64) for given in self.given]
        self.code = CODE(machine_code.address("work", self.given[0]))

    def go(self, *, resumed: bool = False) -> int:
        """Go on until the end, or to a call that is Python's; gives the position reached. Python runs meanwhile."""
        self.code(self.words[resumed].ctypes.data, *self.bounds, 0)
        return int(self.at[0])


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
    leader, *others = (_Member(table, words, shared, steps, part, parts) for part in range(parts))
    threads = [Thread(target=other.go) for other in others]
    try:
        for thread in threads:
            thread.start()
        _lead(leader, table, shared, steps, by_python)
    except BaseException:
        shared[GIVEN_UP] = 1
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _lead(leader: _Member, table: Array, shared: Array, steps: int, by_python: Callable[[int, int], None]) -> None:
    at, size = leader.go(), len(table)
    while at < steps * size and not shared[STOP]:
        by_python(at % size, at // size)
        leader.at[0] += 1
        at = leader.go(resumed=True)
