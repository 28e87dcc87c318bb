"""A table of calls run by one, two and three threads: shares, stops, lines for Python, exceptions, forks."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
from itertools import pairwise
from threading import Thread

import numpy as np
import pytest

pytest.importorskip("numba")

import backlit as bl
from backlit import optim
from backlit.engines.fast import machine_code, pointers, team
from engines.kernel_calls import needs_machine_code
from engines.test_fast import Job

PARTS = [1, 2, 3]


class Table:
    """Lines of (kernel, extent, grain, *arguments); a line of None is Python's."""

    def __init__(self, *lines, checked=(), shared=None):
        words = []
        self.table = np.zeros((len(lines), team.COLUMNS), np.int64)
        self.shared = np.zeros(team.COUNTERS, np.int64) if shared is None else shared
        for at, (row, line) in enumerate(zip(self.table, lines, strict=True)):
            row[team.CHECKED] = at in checked
            if line is not None:
                kernel, extent, grain, *arguments = line
                row[[team.WORDS, team.EXTENT, team.GRAIN]] = len(words), extent, grain
                row[team.FUNCTION] = machine_code.address(kernel, arguments)
                words += machine_code.words_of(arguments)
        self.words = np.array(words, np.int64)

    def run(self, steps, parts, by_python=None):
        team.Team(self.table, self.words, self.shared, parts).run(steps, by_python)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("grain", [1, 16])
@pytest.mark.parametrize("extent", [0, 1, 15, 16, 17, 100])
def test_shares_are_in_order_and_make_up_the_whole(extent, grain, parts):
    shares = [team.share(extent, grain, part, parts) for part in range(parts)]
    assert shares[0][0] == 0
    assert shares[-1][1] == extent
    assert all(before[1] == after[0] for before, after in pairwise(shares))
    assert all(lo % grain == 0 or lo == extent for lo, _ in shares)
    blocks = [-(-(hi - lo) // grain) for lo, hi in shares]
    assert max(blocks) - min(blocks) <= 1


# --- a table ----------------------------------------------------------------------------------------------------------


@needs_machine_code
@pytest.mark.parametrize("parts", PARTS)
def test_each_line_waits_for_what_the_line_before_has_written_everywhere(parts):
    """Row sums of a transpose need all of it; one thread late or early in 300 rounds would show."""
    x = np.random.default_rng(0).normal(size=(37, 53))
    y, back, sums, total = np.zeros((53, 37)), np.zeros((37, 53)), np.zeros(37), np.zeros(37)
    Table(
        ("transpose", 53, 1, x, y), ("sum_rows", 37, 1, y, sums), ("transpose", 37, 1, y, back),
        ("add_to", 37, 16, total, sums), ("fill", 53 * 37, 16, y.reshape(-1), 0.0),
    ).run(300, parts)  # fmt: skip
    assert np.array_equal(back, x)
    assert not y.any()
    np.testing.assert_allclose(total, 300 * x.sum(axis=1), rtol=1e-12)


@needs_machine_code
@pytest.mark.parametrize("parts", PARTS)
def test_a_stop_ends_the_step_it_is_noted_in_before_the_next_line(parts):
    (losses, masses, norms), stats, count = np.zeros((3, 5)), np.array([1.0, 4.0]), np.zeros(100)
    shared = np.zeros(team.COUNTERS, np.int64)
    note = ("note", 1, 1, stats, np.ones(1), losses, masses, norms, shared[team.STOP : team.STOP + 1])
    t = Table(None, note, ("add_to", 100, 1, count, np.ones(100)), checked={2}, shared=shared)

    def by_python(_, step):
        stats[0] = np.nan if step == 2 else 1.0

    t.run(5, parts, by_python)
    assert shared[team.STOP] == 3
    assert count.tolist() == [2.0] * 100
    assert np.array_equal(losses, [1.0, 1.0, np.nan, 0.0, 0.0], equal_nan=True)


@needs_machine_code
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_line_for_python_anywhere(parts, at):
    """It is done once a step, in the caller's thread, after the lines before it and before those behind."""
    x, y, ones, seen = np.zeros(100), np.zeros(100), np.ones(100), []
    lines = [("add_to", 100, 1, x, ones), ("copy", 100, 1, x, y)]

    def by_python(line, step):
        seen.append((line, step, threading.current_thread(), x.min(), x.max(), y.min(), y.max()))
        x[:] *= 2.0

    Table(*lines[:at], None, *lines[at:]).run(3, parts, by_python)
    assert [s[:3] for s in seen] == [(at, step, threading.current_thread()) for step in range(3)]
    assert all(low == high for s in seen for low, high in (s[3:5], s[5:7]))
    assert x.tolist() == [{0: 7.0, 1: 14.0, 2: 14.0}[at]] * 100
    assert y.tolist() == [{0: 7.0, 1: 14.0, 2: 7.0}[at]] * 100


@needs_machine_code
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_exception_in_a_line_for_python_ends_all_threads_and_reaches_the_caller(parts, kind):
    x, before = np.zeros(100), threading.active_count()

    def by_python(_, step):
        if step == 2:
            raise kind("here")

    t = Table(("add_to", 100, 1, x, np.ones(100)), None)
    with pytest.raises(kind, match="here"):
        t.run(5, parts, by_python)
    assert threading.active_count() == before
    assert x.tolist() == [3.0] * 100
    t.run(1, parts, lambda *_: None)
    assert x.tolist() == [4.0] * 100


@needs_machine_code
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no such signals here")
def test_ctrl_c_between_lines_ends_all_threads():
    """Ctrl-C is heard where the leader comes back to Python, which may be before the line that is Python's."""
    x, before = np.zeros(100), threading.active_count()
    timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
    t = Table(("add_to", 100, 1, x, np.ones(100)), None)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            t.run(50_000_000, 2, lambda *_: None)
    finally:
        signal.signal(signal.SIGINT, handler)
        timer.join()
    assert threading.active_count() == before


# --- programs ---------------------------------------------------------------------------------------------------------


def job(seed, parts):
    model = bl.Sequential(bl.Dense(40, "relu"), bl.Dropout(0.3), bl.Dense(40, "relu"), bl.Dense(3))
    return Job(model, optimizer=optim.Adam(0.01 * seed), clip=optim.ClipByNorm(0.1), dtype="float32", parts=parts)


@pytest.mark.parametrize("parts", [(1, 1), (2, 2), (1, 2)])
def test_two_programs_at_once_have_the_bits_they_have_alone(parts):
    alone, together = ([job(seed, p) for seed, p in zip((1, 2), parts, strict=True)] for _ in range(2))
    for each in alone:
        each.steps(40)
    threads = [Thread(target=each.steps, args=(40,)) for each in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(alone, together, strict=True):
        assert a.vectors.params.any()
        assert np.array_equal(a.vectors.params, b.vectors.params)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("parts", [1, 2])
def test_a_team_in_a_forked_child(parts):
    here, there = job(1, parts), job(1, parts)
    here.steps(3)
    there.steps(3)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child():
        there.steps(5, first=4)
        sender.send(there.vectors.params)

    process = context.Process(target=child)
    process.start()
    assert receiver.poll(60)
    found = receiver.recv()
    process.join()
    here.steps(5, first=4)
    assert np.array_equal(found, here.vectors.params)


# --- numbers below the normal ones ------------------------------------------------------------------------------------

SMALL = np.float32(1e-40)
of_x86 = pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="only x86 flushes small numbers")


def halved(values):
    """Lines that halve numbers, and where."""
    y = np.full(len(values), np.nan, values.dtype)
    return ("multiply", len(values), 1, values, np.full_like(values, 0.5), y), y


@needs_machine_code
@of_x86
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_below_the_normal_ones_count_as_0_in_every_thread(parts, dtype):
    """What is given and what is found; the least normal number stays."""
    tiny = np.finfo(dtype).tiny
    line, y = halved(np.array([tiny / 4, tiny, 2 * tiny, -tiny / 4, 1.0] * 9, dtype))
    Table(line).run(2, parts)
    assert np.array_equal(y, np.array([0.0, 0.0, tiny, 0.0, 0.5] * 9, dtype))


@needs_machine_code
@pytest.mark.parametrize("parts", PARTS)
def test_the_caller_s_numbers_stay_as_small_as_they_were(parts):
    """Behind a table, in a line of Python's, and where that raises."""
    line, _ = halved(np.ones(8, np.float32))
    seen = []

    def look(*_):
        seen.append(SMALL * np.float32(0.5))

    def fail(*_):
        look()
        raise KeyError("stop")

    table = Table(line, None, line)
    table.run(3, parts, look)
    with pytest.raises(KeyError):
        table.run(3, parts, fail)
    look()
    assert len(seen) == 5
    assert min(seen) > 0


@needs_machine_code
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(bad):
    line, y = halved(np.array([bad, 1.0], np.float32))
    Table(line).run(1, 1)
    assert np.array_equal(y, np.array([bad, 0.5], np.float32), equal_nan=True)


def test_as_python_nothing_about_small_numbers_changes():
    mode = pointers.flush_small()
    assert SMALL * np.float32(0.5) > 0
    pointers.restore(mode)
    assert SMALL * np.float32(0.5) > 0
