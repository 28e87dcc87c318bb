"""What holds for every kernel, of whichever family."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines import fast
from backlit.engines.fast import families, machine_code
from backlit.engines.fast.jit import KERNELS
from engines.kernel_calls import CHECKED, Calls, by_machine_code, by_python, needs_machine_code, own

PACKAGE, HERE = Path(fast.__file__).parent, Path(__file__).parent
FILES = sorted(path.stem for path in PACKAGE.glob("kernels_*.py"))
ALLOCATING = {
    "zeros",
    "empty",
    "ones",
    "full",
    "array",
    "astype",
    "concatenate",
    "zeros_like",
    "empty_like",
    "ones_like",
}


def kernels():
    """Every kernel of every family."""
    return {name: f for file in FILES for name, f in own(import_module(f"backlit.engines.fast.{file}")).items()}


@pytest.mark.parametrize("file", FILES)
def test_every_family_has_tests_of_its_own_and_kernels(file):
    assert own(import_module(f"backlit.engines.fast.{file}"))
    assert file in (HERE / f"test_{file}.py").read_text("utf-8")


def test_no_two_kernels_have_one_name():
    functions = [n for file in FILES for n in own(import_module(f"backlit.engines.fast.{file}"))]
    assert len(functions) == len(set(functions))


@pytest.mark.parametrize("name", kernels())
def test_a_kernel_takes_the_bounds_of_its_work_first_then_the_step(name):
    taken = list(inspect.signature(KERNELS[name]).parameters)
    assert taken[:2] == ["lo", "hi"]
    assert "step" not in taken[3:]
    assert machine_code.takes_step(name) == (taken[2:3] == ["step"])


@pytest.mark.parametrize("name", kernels())
def test_a_kernel_says_what_it_does_in_at_most_forty_lines(name):
    assert KERNELS[name].__doc__
    assert len(inspect.getsource(KERNELS[name]).splitlines()) <= 41  # with the line of its decorator


@pytest.mark.parametrize("name", kernels())
def test_a_kernel_allocates_no_array(name):
    """It writes in place: neither does it return one, nor call what makes one."""
    assert not set(KERNELS[name].__code__.co_names) & ALLOCATING
    assert "return " not in inspect.getsource(KERNELS[name]).split('"""')[-1]


def test_what_is_lowered_is_a_kernel_of_a_family():
    assert set(families.__all__) >= set(FILES)
    assert set(kernels()) <= set(KERNELS)


# --- the calls of these tests would notice ----------------------------------------------------------------------------


def greedy(lo, hi, x):
    """Does one entry more than its share."""
    for i in range(lo, min(hi + 1, x.size)):
        x[i] += 1.0


def in_turn(lo, hi, x):
    """Needs what the share before it has written."""
    for i in range(max(lo, 1), hi):
        x[i] += x[i - 1]


@pytest.mark.parametrize("wrong", [greedy, in_turn])
def test_work_that_cannot_be_shared_is_noticed(monkeypatch, wrong):
    monkeypatch.setitem(KERNELS, wrong.__name__, wrong)
    with pytest.raises(AssertionError, match="shares"):
        Calls(by_python)(wrong.__name__, 17, np.ones(17))


@pytest.mark.skipif(not CHECKED, reason="bounds are not checked")
@needs_machine_code
@pytest.mark.parametrize(("lo", "hi"), [(0, 6), (5, 7)])
def test_machine_code_that_checks_bounds_says_so(lo, hi):
    with pytest.raises(IndexError):
        by_machine_code("copy", lo, hi, np.arange(9.0), np.zeros(5))


@needs_machine_code
def test_machine_code_writes_into_the_arrays_it_is_given():
    x, y = np.arange(5.0), np.zeros(5)
    by_machine_code("copy", 1, 4, x, y)
    assert y.tolist() == [0.0, 1.0, 2.0, 3.0, 0.0]
