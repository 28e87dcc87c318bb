"""A team of threads that run one table of calls: every call's work is shared out, and all meet before the next one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np

from backlit.engines.fast import machine_code
from backlit.engines.fast.jit import inlined, kernel
from backlit.engines.fast.pointers import CODE, call, fetch, fetch_add, flush_small, give_way, restore

Array = Any

FUNCTION, WORDS, EXTENT, GRAIN, CHECKED, EVERY, COLUMNS = range(7)
"""Columns of a table of calls: address of the machine code (0: a call for Python), where its arguments begin, how many
units of work it has, in what multiples they are shared out, whether the call before it may have stopped all, and at
every how many-th step of the run it is done."""
ARRIVED, ROUND, STOP, GIVEN_UP, FIRST, COUNTERS = 0, 16, 32, 48, 64, 80
"""Entries of the shared counters, each on a cache line of its own; FIRST is the number, from 1, of the first step."""
STEPS, RESUMED, AT = range(3)
"""Entries of a thread's way: how many steps, whether it comes back from a call of Python's, and where it is."""
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
def work(part: int, parts: int, table: Array, words: Array, shared: Array, way: Array) -> None:
    """Do the calls as :func:`go_on` says, numbers below the normal ones counting as 0."""
    mode = flush_small()
    go_on(part, parts, table, words, shared, way)
    restore(mode)


@inlined
def go_on(part: int, parts: int, table: Array, words: Array, shared: Array, way: Array) -> None:
    """Do the calls from position way[AT] on, ``len(table)`` a step, until way[STEPS] are done or a call is Python's.

    way[AT] becomes the position reached. Where a call is Python's only the first thread comes back, way[RESUMED] when
    it goes on; the others wait for it.
    """
    size, words_at, first, at = len(table), words.ctypes.data, shared[FIRST], way[AT]
    stop_at, given_up = shared.ctypes.data + 8 * STOP, shared.ctypes.data + 8 * GIVEN_UP
    if way[RESUMED]:
        meet(shared, parts)
    while at < way[STEPS] * size:
        line, step = table[at % size], at // size
        if line[EVERY] > 1 and (first + step - 1) % line[EVERY]:
            at += 1
            continue
        meet(shared, parts)
        if (line[CHECKED] and fetch(stop_at)) or fetch(given_up):
            way[AT] = at
            return
        if line[FUNCTION]:
            lo, hi = share(line[EXTENT], line[GRAIN], part, parts)
            if lo < hi:
                call(line[FUNCTION], words_at + 8 * line[WORDS], lo, hi, step)
        elif part == 0:
            way[AT] = at
            return
        else:
            meet(shared, parts)
        at += 1
    way[AT] = at
    meet(shared, parts)


class _Member:
    """One thread's way through a table."""

    def __init__(self, table: Array, words: Array, shared: Array, part: int, parts: int) -> None:
        self.way, self.bounds = np.zeros(3, np.int64), (part, parts)
        self.given = (table, words, shared, self.way)  # kept: the machine code knows their addresses
        self.words = np.array(machine_code.words_of(self.given), np.int64)
        self.call = CODE(machine_code.address("work", self.given)), self.words.ctypes.data, *self.bounds, 0

    def go(self, steps: int, at: int = 0, *, resumed: bool = False) -> int:
        """Go on from a position to the end, or to a call that is Python's; gives the position reached."""
        self.way[:] = steps, resumed, at
        code, *given = self.call
        code(*given)
        return int(self.way[AT])


class Team:
    """``parts`` threads that run a table of calls together, the caller's among them."""

    def __init__(self, table: Array, words: Array, shared: Array, parts: int) -> None:
        self.size, self.shared = len(table), shared
        self.members = [_Member(table, words, shared, part, parts) for part in range(parts)]

    def run(self, steps: int, by_python: Callable[[int, int], None], first: int = 1) -> None:
        """Run the table ``steps`` times, ``first`` being the number of the first.

        ``by_python(line, step)`` does the calls that are Python's, in the caller's thread; what it raises ends all
        threads. The counters are set to 1 or more at STOP by a call that wants no more steps.
        """
        self.shared[:] = 0
        self.shared[FIRST] = first
        threads = [Thread(target=member.go, args=(steps,)) for member in self.members[1:]]
        try:
            for thread in threads:
                thread.start()
            self._lead(steps, by_python)
        except BaseException:
            self.shared[GIVEN_UP] = 1
            raise
        finally:
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _lead(self, steps: int, by_python: Callable[[int, int], None]) -> None:
        leader = self.members[0]
        at = leader.go(steps)
        while at < steps * self.size and not self.shared[STOP]:
            by_python(at % self.size, at // self.size)
            at = leader.go(steps, at + 1, resumed=True)
