"""Where machine code is kept, and when it is made again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import (
    compiler,
    elf,
    jit,
    kernels_dense,
    machine_code,
    pointers,
    products,
    split_code,
    split_products,
    vector_code,
)
from backlit.engines.fast.jit import KERNELS
from engines.kernel_calls import by_machine_code, needs_machine_code

pytestmark = needs_machine_code
SCRIPT = """
import sys
import numpy as np
import backlit as bl
X, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3
model = bl.Sequential(bl.Dense(5, "relu"), bl.Dense(3)).build((4,), seed=0)
run = bl.fit(model, (X, y), loss="softmax_cross_entropy", epochs=1, batch_size=5, engine="fast", seed=0)
from backlit.engines.fast import machine_code
print(machine_code.cache_folder())
print(run.history["loss"][-1], "numba" in sys.modules, "llvmlite" in sys.modules)
"""


def process(cache, **environment):
    """(cache folder, loss) of a run in a process of its own."""
    asked = os.environ | {"BACKLIT_CACHE": str(cache)} | environment
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], env=asked, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    folder, loss = found.stdout.splitlines()[-2:]
    return Path(folder), loss


def files(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_what_one_process_has_compiled_the_next_one_finds(tmp_path):
    folder, loss = process(tmp_path)
    assert folder == tmp_path / "backlit" / "kernels"
    before = files(folder)
    assert sum(name.endswith(".o") for name in before) > 10
    value, *loaded = loss.split()
    assert loaded == ["True", "True"]
    _, again = process(tmp_path)
    assert again == f"{value} False {not elf.can_link(next(folder.glob('*.o')).read_bytes())}"  # without the compiler
    assert files(folder) == before


@pytest.mark.slow
def test_where_the_cache_cannot_be_written_it_compiles_all_the_same(tmp_path):
    (tmp_path / "file").write_text("")
    folder, _ = process(tmp_path / "file", HOME=str(tmp_path / "file"), XDG_CACHE_HOME=str(tmp_path / "file"))
    assert tmp_path not in folder.parents
    assert not folder.exists()  # taken away at the end


def test_the_cache_folder_is_the_one_asked_for_else_the_user_s(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path / "a"))
    assert machine_code.cache_folder() == tmp_path / "a" / "backlit" / "kernels"
    monkeypatch.delenv("BACKLIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert machine_code.cache_folder() == tmp_path / "b" / "backlit" / "kernels"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path / "file"))
    elsewhere = machine_code.cache_folder()
    assert tmp_path not in elsewhere.parents
    assert elsewhere == machine_code.cache_folder()
    assert os.access(elsewhere, os.W_OK)


# --- which machine code it is -----------------------------------------------------------------------------------------


def test_a_changed_source_is_another_module(monkeypatch):
    before = machine_code.version("k", "text", kernels_dense.__name__)
    assert before == machine_code.version("k", "text", kernels_dense.__name__)
    assert before != machine_code.version("k", "another text", kernels_dense.__name__)
    monkeypatch.setattr(machine_code, "_sources", lambda _: "another source")
    assert before != machine_code.version("k", "text", kernels_dense.__name__)


def test_the_source_is_that_of_all_files_the_machine_code_comes_from():
    found = machine_code._sources(kernels_dense.__name__)
    for module in (kernels_dense, products, split_products, jit, pointers, compiler, vector_code, split_code):
        assert Path(module.__file__).read_text("utf-8") in found


def test_another_compiler_or_processor_makes_other_machine_code(monkeypatch):
    before = machine_code.version("k", "text", kernels_dense.__name__)
    monkeypatch.setattr(machine_code, "_compiler", lambda: "another")
    assert before != machine_code.version("k", "text", kernels_dense.__name__)


def test_a_kernel_that_allocates_is_refused(monkeypatch):
    """What is linked without Numba has nothing to allocate with."""

    def greedy(lo, hi, y):
        y[lo:hi] = np.ones(5)[lo:hi]

    monkeypatch.setattr(greedy, "__module__", kernels_dense.__name__)
    monkeypatch.setitem(KERNELS, "greedy", greedy)
    monkeypatch.setitem(jit.ASSUMED, greedy, jit.FAST)
    with pytest.raises(RuntimeError, match="neither allocate"):
        machine_code.address("greedy", (np.zeros(5),))


def test_a_kernel_has_one_address_for_one_kind_of_arguments():
    x, y = np.zeros(3), np.zeros(3, np.float32)
    first = machine_code.address("add_to", (x, x))
    assert first == machine_code.address("add_to", (np.zeros(7), x))
    assert first != machine_code.address("add_to", (y, y))
    assert machine_code.waiting([("add_to", (x, x)), ("add_to", (y, y))]) == 0


def test_what_waits_is_what_the_cache_does_not_hold(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path))
    x = np.zeros(3)
    assert machine_code.waiting([("add_to", (x, x)), ("add_to", (x, x)), ("copy", (x, x))]) == 2


def every_kind(lo, hi, step, a, n, b, r, c):
    a[lo:hi, 0] = step
    b[0], b[1] = n, a.shape[1]
    c[lo, hi, 1] = r


def test_arguments_of_every_kind_arrive(monkeypatch):
    """Through the words: numbers of both kinds, arrays of several shapes and dtypes, the step."""
    monkeypatch.setattr(every_kind, "__module__", kernels_dense.__name__)
    monkeypatch.setitem(KERNELS, "every_kind", every_kind)
    monkeypatch.setitem(jit.ASSUMED, every_kind, jit.FAST)
    monkeypatch.setattr(machine_code, "_sources", lambda _: Path(__file__).read_text("utf-8"))
    a, b, c = np.zeros((4, 5)), np.zeros(2, np.uint16), np.zeros((2, 4, 3), np.float32)
    by_machine_code("every_kind", 1, 3, a, np.int64(77), b, np.float64(-2.5), c, step=9)
    assert a[:, 0].tolist() == [0.0, 9.0, 9.0, 0.0]
    assert b.tolist() == [77, 5]
    assert c[1, 3, 1] == -2.5
    assert np.count_nonzero(c) == 1


def test_an_array_that_does_not_lie_in_one_piece_is_refused():
    with pytest.raises(AssertionError):
        machine_code.address("add_to", (np.zeros((4, 4))[:, 0], np.zeros(4)))
