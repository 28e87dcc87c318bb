"""Kernels called as tests need it: as written or by the address of their machine code, at once and in shares."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from backlit.engines.fast import machine_code
from backlit.engines.fast.jit import KERNELS, as_python
from backlit.engines.fast.pointers import CODE

needs_machine_code = pytest.mark.skipif(as_python(), reason="nothing is compiled")
CHECKED = os.environ.get("NUMBA_BOUNDSCHECK", "0") not in {"", "0"}


def own(module):
    """The kernels of a file by name."""
    return {name: function for name, function in vars(module).items() if KERNELS.get(name) is function}


def untested(module, file):
    """Kernels of a file whose names do not stand in quotes in the text of its tests."""
    text = Path(file).read_text("utf-8")
    return [name for name in own(module) if f'"{name}"' not in text]


def by_python(name, lo, hi, *arguments, step=0):
    counted = (step,) if machine_code.takes_step(name) else ()
    with np.errstate(all="ignore"):  # as machine code does
        KERNELS[name](lo, hi, *counted, *arguments)


def by_machine_code(name, lo, hi, *arguments, step=0):
    """As a team calls it; or with every index checked, as Numba compiles it by itself."""
    if as_python():
        pytest.skip("nothing is compiled")
    if CHECKED:
        from backlit.engines.fast.compiler import checked

        counted = (step,) if machine_code.takes_step(name) else ()
        checked(name)(lo, hi, *counted, *arguments)
        return
    words = np.array(machine_code.words_of(arguments), np.int64)
    CODE(machine_code.address(name, arguments))(words.ctypes.data, lo, hi, step)


class Calls:
    """``run(name, extent, *arguments)``: all the work of a kernel at once; shares of it must give the same bits.

    ``units`` is for matrix products, whose last bits depend on the size of what BLAS is given: how many eps of the
    largest entry the shares may differ by.
    """

    def __init__(self, do):
        self.do, self.rng = do, np.random.default_rng(11)

    def __call__(self, name, extent, *arguments, step=0, units=0):
        again = [[*map(copies(arguments), arguments)] for _ in range(2)]
        self.do(name, 0, extent, *arguments, step=step)
        for given, parts in zip(again, (2, 3), strict=True):
            for lo, hi in self.shares(extent, parts):
                self.do(name, lo, hi, *given, step=step)
            for i, (whole, shared) in enumerate(zip(arguments, given, strict=True)):
                same(whole, shared, units, f"argument {i} of {name} in {parts} shares")

    def shares(self, extent, parts):
        """The work cut at random places, the last share first: no share may need another."""
        cuts = [0, *sorted(int(c) for c in self.rng.integers(0, extent + 1, parts - 1)), extent]
        return [(lo, hi) for lo, hi in pairwise(cuts) if lo < hi][::-1]


def copies(arguments):
    """A function that copies an argument, one that was given twice to the same copy."""
    made = {id(a): a.copy() if isinstance(a, np.ndarray) else a for a in arguments}
    return lambda argument: made[id(argument)]


def same(whole, shared, units, what):
    whole, shared = np.asarray(whole), np.asarray(shared)
    if units and whole.dtype.kind == "f":
        close(shared, whole, whole.dtype, units)
    else:
        assert whole.tobytes() == shared.tobytes(), what


def close(found, want, dtype, units=16):
    """Within ``units`` eps of the largest finite entry."""
    eps = float(np.finfo(dtype).eps)
    scale = float(np.abs(want[np.isfinite(want)]).max(initial=0.0)) if np.ndim(want) else abs(float(want))
    np.testing.assert_allclose(found, want, rtol=units * eps, atol=units * eps * scale)


def wide(*arrays):
    """The same in float64, what the definitions are calculated in."""
    return [a.astype(np.float64) for a in arrays]
