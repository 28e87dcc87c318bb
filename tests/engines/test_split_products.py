"""Products by a processor's matrix unit: what a float32 is split in, and how exact its products are."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

import backlit as bl
from backlit.engines.fast import pointers, processor
from backlit.engines.fast.products import gemm
from backlit.engines.fast.split_products import worth
from engines.kernel_calls import needs_machine_code
from engines.test_products import compiled

SIZE = 64
needs_matrix_unit = pytest.mark.skipif(
    not processor.has_matrix_unit(), reason="this processor has no matrix unit that Linux lends"
)


def product(A, B):
    """A B of float32 by machine code, k as long as it takes."""
    assert worth(A.shape[0], B.shape[1], A.shape[1])
    C = np.full((A.shape[0], B.shape[1]), np.nan, np.float32)
    compiled(False, False, *C.shape, A.shape[1], A, 0, A.shape[1], B, 0, B.shape[1], 0.0, C, 0, C.shape[1])
    return C


def diagonal(values):
    """Squares of 64 of these numbers."""
    return np.diag(np.resize(values, SIZE).astype(np.float32))


@needs_machine_code
@needs_matrix_unit
def test_a_number_times_1_is_itself_to_the_last_bit():
    """Three parts have all 24 bits: nothing is lost, whichever of the two is split."""
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(SIZE, SIZE)) * 10.0 ** rng.integers(-20, 30, (SIZE, SIZE))).astype(np.float32)
    one = np.eye(SIZE, dtype=np.float32)
    assert np.array_equal(product(x, one), x)
    assert np.array_equal(product(one, x), x)


@needs_machine_code
@needs_matrix_unit
def test_the_product_of_two_numbers_is_as_exact_as_float32_has_it():
    """a b of random bits, one term alone: within 2⁻²³, the last bit or two, of the exact product."""
    rng = np.random.default_rng(6)
    bits = rng.integers(0, 1 << 23, (2, SIZE * SIZE), dtype=np.uint32) | np.uint32(127 << 23)
    worst = 0.0
    for a, b in zip(*(row.view(np.float32).reshape(SIZE, SIZE) for row in bits), strict=True):
        exact = a.astype(np.float64) * b
        worst = max(worst, np.abs(np.diag(product(diagonal(a), diagonal(b))) / exact - 1).max())
    assert worst < 2.0**-23


@needs_machine_code
@needs_matrix_unit
@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 64), (128, 96, 784), (256, 200, 2048)])
def test_sums_are_no_less_exact_than_numpy_s(m, n, k):
    """The largest error of Σ a b to Σ |a b| is at most that of NumPy's product of float32."""
    rng = np.random.default_rng(8)
    A, B = rng.normal(size=(m, k)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)
    exact, size = A.astype(np.float64) @ B, np.abs(A).astype(np.float64) @ np.abs(B)
    ours, theirs = (np.abs((C - exact) / size).max() for C in (product(A, B), A @ B))
    assert ours <= theirs


@needs_machine_code
@needs_matrix_unit
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so_and_where_it_is(bad):
    """Its row, and its column where it is on the right; NaN of any bits."""
    A, B = np.ones((SIZE, SIZE), np.float32), np.ones((SIZE, SIZE), np.float32)
    A[3, 5] = bad
    C = product(A, B)
    assert not np.isfinite(C[3]).any()
    assert np.isfinite(np.delete(C, 3, 0)).all()
    C = product(B, A)
    assert not np.isfinite(C[:, 5]).any()
    assert np.isfinite(np.delete(C, 5, 1)).all()


@needs_machine_code
@needs_matrix_unit
@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF])
def test_every_nan_is_seen(bits):
    A = np.eye(SIZE, dtype=np.float32)
    A.view(np.uint32)[3, 3] = bits
    assert np.isnan(product(A, np.ones((SIZE, SIZE), np.float32))[3]).all()


@needs_machine_code
@needs_matrix_unit
def test_large_and_small_numbers():
    """Up to 3.38e38 nothing overflows that is finite; what is below 2⁻¹²⁶ counts as 0."""
    values = np.array([3.38e38, -3e38, 1e-30, 1e-37, 1e-41, 0.0])
    found = np.diag(product(diagonal(values), diagonal([1.0])))[: len(values)]
    assert np.array_equal(found[:3], values[:3].astype(np.float32))
    assert np.abs(found - values)[3:].max() < 2.0**-126


@needs_machine_code
@needs_matrix_unit
def test_threads_have_a_unit_each():
    """What one does to its tiles no other sees."""
    rng = np.random.default_rng(3)
    pairs = [[rng.normal(size=(200, 200)).astype(np.float32) for _ in range(2)] for _ in range(4)]
    want = [product(A, B) for A, B in pairs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            found = list(pool.map(lambda pair: product(*pair), pairs))
            assert all(np.array_equal(f, w) for f, w in zip(found, want, strict=True))


@needs_machine_code
@needs_matrix_unit
@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize(("ta", "tb"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(64, 64, 96), (64, 96, 100), (97, 128, 64), (65, 160, 545), (96, 97, 1025), (600, 70, 520)]
)
def test_what_is_split_ahead_is_what_the_next_panel_needs(ta, tb, m, n, k, beta):
    """One, two or many blocks of rows; panels that are whole or not, cuts of a whole number of tiles or not.

    What lies between the rows of A and B is not read.
    """
    rng = np.random.default_rng(m + n + k)

    def inside(rows, columns):
        whole = np.full((rows, columns + 7), np.nan, np.float32)
        whole[:, :columns] = rng.normal(size=(rows, columns))
        return whole, whole[:, :columns].astype(np.float64)

    (A, a), (B, b), (C, c) = inside(*((k, m) if ta else (m, k))), inside(*((n, k) if tb else (k, n))), inside(m, n)
    a, b = a.T if ta else a, b.T if tb else b
    exact, size = a @ b + beta * c, np.abs(a) @ np.abs(b) + np.abs(c)
    compiled(ta, tb, m, n, k, A, 0, A.shape[1], B, 0, B.shape[1], beta, C, 0, C.shape[1])
    assert np.abs((C[:, :n] - exact) / size).max() < 2.0**-21
    assert np.isnan(C[:, n:]).all()


@needs_machine_code
@needs_matrix_unit
@pytest.mark.parametrize("size", [96, 200])
def test_the_same_product_has_the_same_bits_again(size):
    """Whatever the tiles and the stack held before."""
    rng = np.random.default_rng(size)
    A, B, other = (rng.normal(size=(size, size)).astype(np.float32) for _ in range(3))
    first = product(A, B)
    product(other, np.full_like(B, np.nan))
    assert np.array_equal(product(A, B), first)


@needs_machine_code
@needs_matrix_unit
@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 64), (700, 100, 1100)])
def test_a_thread_with_two_megabytes_of_stack_is_enough(m, n, k):
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(m, k)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)
    want, found = product(A, B), []
    before = threading.stack_size(2 << 20)
    try:
        thread = threading.Thread(target=lambda: found.append(product(A, B)))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert np.array_equal(found[0], want)


FORKED = """
import os, sys
import numpy as np
sys.path.insert(0, {tests!r})
from engines.test_split_products import product
A = np.random.default_rng(0).normal(size=(100, 100)).astype("f")
before = product(A, A)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(product(A, A), before) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_machine_code
@needs_matrix_unit
def test_a_forked_process_has_it_too():
    script = FORKED.format(tests=str(Path(__file__).parents[1]))
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["0"], found.stderr


@needs_machine_code
@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_large_enough_for_it_trains_as_by_the_reference_engine(monkeypatch, threads):
    """Ten steps of Adam in float32: as near as two orders of summation come."""
    monkeypatch.setenv("BACKLIT_THREADS", str(threads))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(960, 130)).astype(np.float32), rng.integers(0, 7, 960)

    def trained(engine):
        model = bl.Sequential(bl.Dense(200, "tanh"), bl.Dense(150, "tanh"), bl.Dense(7)).build((130,), seed=1)
        options = {"loss": "softmax_cross_entropy", "epochs": 1, "batch_size": 96, "seed": 2, "progress": False}
        run = bl.fit(model, (X, y), engine=engine, **options)
        assert run.settings.threads == threads
        return run.history["loss"], model.params

    (losses, fast), (expected, reference) = trained("fast"), trained("reference")
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name, value in fast.items():
        np.testing.assert_allclose(value, reference[name], atol=2e-5, err_msg=name)
    again, same = trained("fast")
    assert again == losses
    assert all(np.array_equal(same[name], value) for name, value in fast.items())


def test_small_products_are_not_split():
    assert worth(64, 64, 64)
    assert not any(worth(*sizes) for sizes in ((63, 900, 900), (900, 63, 900), (900, 900, 63), (1, 10, 0)))


@pytest.mark.parametrize("flags", ["fpu avx512f amx_bf16 amx_tile", "fpu avx512f", "fpu amx_bf16", ""])
def test_it_is_used_where_it_is_lent_and_not_forbidden(monkeypatch, flags):
    ask, there = processor.has_matrix_unit.__wrapped__, flags.endswith("tile")
    monkeypatch.setattr(processor, "_first_core", lambda: {"flags": flags})
    monkeypatch.setattr(processor.sys, "platform", "linux")
    monkeypatch.delenv("BACKLIT_MATRIX_UNIT", raising=False)
    monkeypatch.setattr(pointers, "ask_for_tiles", lambda: True)
    assert ask() is there
    monkeypatch.setattr(pointers, "ask_for_tiles", lambda: False)
    assert ask() is False
    monkeypatch.setattr(pointers, "ask_for_tiles", lambda: True)
    monkeypatch.setenv("BACKLIT_MATRIX_UNIT", "0")
    assert ask() is False
    monkeypatch.delenv("BACKLIT_MATRIX_UNIT")
    monkeypatch.setattr(processor.sys, "platform", "darwin")
    assert ask() is False


def test_as_python_a_product_is_numpy_s():
    A = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    C = np.empty_like(A)
    gemm(False, True, SIZE, SIZE, SIZE, A, 0, SIZE, A, 0, SIZE, 0.0, C, 0, SIZE)
    assert np.array_equal(C, A @ A.T)
