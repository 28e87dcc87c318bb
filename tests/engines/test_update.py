"""The kernels that are made from the optimizers' formulas, against the formulas themselves."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import optim
from backlit.engines.fast.jit import KERNELS
from backlit.engines.fast.update import kernel_of
from engines.kernel_calls import close
from optim.variants import VARIANTS, learning_rate

SIZE, STEPS = 37, 10


def start(optimizer, dtype="float64"):
    """(parameters, the gradients of all steps, slots)."""
    rng = np.random.default_rng(2)
    p, noise = rng.normal(size=SIZE).astype(dtype), rng.normal(size=(STEPS, SIZE)).astype(dtype)
    p[:2], noise[:, 1] = 0.0, 0.0  # where sign and the root meet their edge
    return p, noise, optimizer.init(np, p)


def by_formulas(optimizer, dtype="float64"):
    p, noise, slots = start(optimizer, dtype)
    lr = learning_rate(optimizer)
    for t in range(1, STEPS + 1):
        p, slots = optimizer.update(np, p, noise[t - 1] + p, slots, lr=lr / t, t=t)
    return {"p": p} | slots


def by_kernel(run, optimizer, dtype="float64", first=1):
    """Steps first … of a stretch, as a team is given them.

    The last entries of a share, done one by one, may be rounded otherwise than those done as vectors: in float32, and
    where there are several quotients.
    """
    p, noise, slots = start(optimizer, dtype)
    name, order, numbers, _, shared = kernel_of(optimizer)
    rates = learning_rate(optimizer) / np.arange(1.0, STEPS + 1)
    clock, units = np.array([first]), 0 if dtype == "float64" and not shared else 4
    for step in range(STEPS):
        vectors = [p, noise[step] + p, *(slots[n].reshape(-1) for n in order)]
        run(name, SIZE, *vectors, rates, clock, *numbers, step=step, units=units)
        if shared:
            run(shared, 1, *vectors, rates, clock, *numbers, step=step)
    return {"p": p} | slots


@pytest.mark.parametrize("variant", VARIANTS)
def test_ten_updates(run, variant):
    optimizer = VARIANTS[variant].optimizer
    want = by_formulas(optimizer)
    for name, found in by_kernel(run, optimizer).items():
        np.testing.assert_allclose(found, want[name], rtol=1e-13, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(
    "variant", ["adam all", "sgd all penalties", "adadelta all", "rmsprop centered momentum", "lion decay", "nadam"]
)
def test_ten_updates_in_float32(run, variant):
    """A thousand eps of the largest: Lion and Adadelta magnify what is only rounding."""
    optimizer = VARIANTS[variant].optimizer
    want = by_formulas(optimizer)
    for name, found in by_kernel(run, optimizer, "float32").items():
        assert found.dtype == np.float32
        close(found, want[name], np.float32, units=1000)


def test_an_update_counts_from_the_clock(run):
    optimizer = optim.Adam(0.01)
    assert not np.allclose(by_kernel(run, optimizer, first=1)["p"], by_kernel(run, optimizer, first=7)["p"])


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("nadam")])
def test_a_number_for_all_parameters_moves_on_when_all_have_read_it(run, variant):
    optimizer = VARIANTS[variant].optimizer
    name, order, numbers, _, shared = kernel_of(optimizer)
    p, noise, slots = start(optimizer)
    vectors = [p, noise[0], *(slots[n].reshape(-1) for n in order)]
    given = (*vectors, np.full(1, 0.1), np.ones(1, np.int64), *numbers)
    run(name, SIZE, *given, units=4)
    assert slots["mu_product"] == 1
    moved = p.copy()
    run(shared, 1, *given)
    assert slots["mu_product"] == optimizer.beta1 * (1 - 0.5 * 0.96 ** (1 * optimizer.momentum_decay))
    assert np.array_equal(moved, p)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_that_were_read_are_updated_and_no_others(run, variant):
    """A table of 7 rows of 4 that begins at entry 5: what lies around it, and rows that were not read, stay."""
    optimizer, first, width = VARIANTS[variant].optimizer, 5, 4
    name, order, numbers, by_rows, _ = kernel_of(optimizer)
    p, noise, slots = start(optimizer)
    whole, vectors = ([p.copy(), noise[0].copy(), *(slots[n].reshape(-1).copy() for n in order)] for _ in range(2))
    rest = (np.full(1, 0.1), np.ones(1, np.int64), *numbers)
    read = np.array([0, 1, 0, 0, 1, 1, 0])
    moved = np.zeros(SIZE, bool)
    moved[first : first + 28] = np.repeat(read, width)
    run(name, SIZE, *whole, *rest, units=4)
    run(by_rows, 7, *vectors, *rest, read, first, width, units=4)
    for found, before, after in zip(vectors, (p, noise[0], *(slots[n] for n in order)), whole, strict=True):
        if before.ndim:
            np.testing.assert_allclose(found, np.where(moved, after, before), rtol=1e-13, atol=1e-15)
    assert not read.any()


def test_optimizers_without_such_a_number_have_one_kernel():
    assert [n for n, v in VARIANTS.items() if kernel_of(v.optimizer).shared] == [n for n in VARIANTS if "nadam" in n]


def test_a_kernel_is_made_once_for_all_numbers():
    assert kernel_of(optim.Adam(0.1, 0.5))[0] == kernel_of(optim.Adam(0.2, 0.6))[0]
    assert kernel_of(optim.Adam())[0] != kernel_of(optim.Adam(l2=0.1))[0]
    assert kernel_of(optim.Adam(0.1, 0.5))[2] == (0.5, 0.999, 1e-8)


def test_what_is_the_same_for_all_parameters_is_calculated_before_the_loop():
    name, *_ = kernel_of(optim.Adam())
    text = inspect.getsource(KERNELS[name])
    before, loop = text.split("for i in span(lo, hi):")
    assert "** t" in before
    assert "beta" not in loop
    assert "lr" not in loop
    assert "p_[i], m_[i], v_[i] = (p, m, v)" in loop or "p_[i] = p" in loop
