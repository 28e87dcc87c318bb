"""The networks of the speed benchmark: sizes counted by hand, and every peer's first steps alike."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

COUNTED = {
    "tiny": 8 * 16 + 16 + 16 * 3 + 3,
    "lenet": (16 * 25 + 16) + (32 * 25 * 16 + 32) + (128 * 7 * 7 * 32 + 128) + (10 * 128 + 10),
    "convnet": (32 * 27 + 96) + (64 * 9 * 32 + 192) + (128 * 9 * 64 + 384) + (128 * 9 * 128 + 384) + 1290,
    "lstm": 65 * 64 + 512 * (64 + 128 + 1) + 65 * 129,
    "gpt": 65 * 128 + 64 * 128 + 4 * (12 * 128 * 128 + 9 * 128 + 4 * 128) + 256 + 65 * 129,
}
NEW = ("lenet", "convnet", "lstm", "gpt")


def small(name):
    """A workload with mini-batches of 4 and two of them; images of 8x8."""
    from workloads import WORKLOADS

    w = WORKLOADS[name]
    return replace(w, batch=4, rows=8, sample=(8, 8, w.sample[2]) if len(w.sample) == 3 else w.sample)


def losses(peer, name, steps=2):
    from workloads import Task

    made = importlib.import_module(f"peers.{peer}").Peer(Task(small(name)), 1)
    return np.array(made.run(steps), float)


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_as_counted_by_hand(name):
    from workloads import WORKLOADS, Task

    w = WORKLOADS[name]
    assert w.parameters == COUNTED[name]
    assert sum(a.size for a in Task(w).flat) == COUNTED[name]


def test_work_is_as_counted_by_hand():
    from workloads import WORKLOADS

    assert WORKLOADS["tiny"].flops == 16 * (4 * 8 * 16 + 6 * 16 * 3)
    first, second = 28 * 28 * 16 * 25, 14 * 14 * 32 * 25 * 16
    assert WORKLOADS["lenet"].flops == 64 * (4 * first + 6 * (second + 1568 * 128 + 1280))
    assert WORKLOADS["lstm"].flops == 32 * 6 * 64 * (512 * 64 + 512 * 128 + 128 * 65)
    assert WORKLOADS["gpt"].flops == 12 * 6 * 64 * (4 * (12 * 128 * 128 + 64 * 128) + 128 * 65)


def test_only_perceptrons_have_sizes():
    from workloads import WORKLOADS, workload

    assert {name for name, w in WORKLOADS.items() if not w.sizes} == set(NEW)
    assert workload("784-32-10,64").sizes == (784, 32, 10)
    assert workload("784-32-10,64").batch == 64
    with pytest.raises(ValueError, match="unpack"):
        workload("nonsense")


def test_tasks_are_the_same_every_time_and_symbols_are_of_the_alphabet():
    from workloads import Task

    for name in ("lenet", "gpt"):
        one, two = Task(small(name)), Task(small(name))
        assert all(map(np.array_equal, (one.X, one.y, *one.flat), (two.X, two.y, *two.flat)))
    assert one.X.dtype == np.int64
    assert 0 <= one.X.min() <= one.X.max() < 65
    assert one.y.shape == (8, 64)


@pytest.mark.parametrize("name", ["tiny", *NEW])
def test_the_engines_make_the_same_steps(name):
    assert losses("backlit_fast", name) == pytest.approx(losses("backlit_reference", name), rel=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["tiny", *NEW])
def test_pytorch_makes_the_same_steps(name):
    pytest.importorskip("torch")
    assert losses("torch_eager", name) == pytest.approx(losses("backlit_reference", name), rel=1e-4)


@pytest.mark.jax
@pytest.mark.parametrize(("peer", "name"), [*(("jax_jit", name) for name in ("tiny", *NEW)), ("jax_loop", "tiny")])
def test_jax_makes_the_same_steps(peer, name):
    pytest.importorskip("jax")
    assert losses(peer, name) == pytest.approx(losses("backlit_reference", name), rel=1e-4)


def test_scikit_learn_makes_the_same_steps():
    pytest.importorskip("sklearn")
    assert losses("scikit_learn", "tiny") == pytest.approx(losses("backlit_reference", "tiny"), rel=1e-4)


@pytest.mark.filterwarnings("ignore")  # what PyTorch says of itself while it compiles
@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "lstm"])
def test_compiled_pytorch_makes_the_same_steps(name):
    pytest.importorskip("torch")
    assert losses("torch_compile", name) == pytest.approx(losses("backlit_reference", name), rel=1e-4)


@pytest.mark.jax
def test_jax_carries_the_running_statistics_that_backlit_carries():
    """Momentum 0.1; the variance of a batch by N here, by N - 1 there, as the two libraries' users have it."""
    pytest.importorskip("jax")
    from peers import backlit_reference, jax_jit
    from workloads import Task

    ours, theirs = (module.Peer(Task(small("convnet")), 1) for module in (backlit_reference, jax_jit))
    assert ours.run(1)[0] == pytest.approx(float(theirs.run(1)[0]), rel=1e-4)
    mean, _ = theirs.state["running"][1]
    assert np.allclose(ours.running["batchnorm1.running_mean"], mean, atol=1e-6)
    assert np.any(np.asarray(mean) != 0)
