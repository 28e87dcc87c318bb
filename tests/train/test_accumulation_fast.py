"""Accumulated steps of the fast engine: those of the reference engine, and bit for bit themselves."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import backlit as bl
from backlit.core.events import StepDone
from train.problems import everything, full_run, labelled, without_seconds

pytest.importorskip("numba")

X, Y = labelled(samples=53)


def plain():
    return bl.Sequential(bl.Dense(5, "tanh"), bl.Dense(3))


def trained(engine="fast", *, net=everything, dtype="float64", **changes):
    """5 steps an epoch of up to 3 parts of 4; the last has one whole part and one of a sample."""
    settings = {"loss": "softmax_cross_entropy", "optimizer": bl.SGD(0.05, momentum=0.9), "epochs": 3, "batch_size": 4}
    settings |= {"accumulate": 3, "seed": 1, "engine": engine, "progress": False}
    return bl.fit(net().build((4,), dtype=dtype), (X, Y), **settings | changes)


def assert_near(fast, reference, tolerance=1e-12):
    assert fast.step == reference.step
    for name, p in (reference.model.params | reference.model.state).items():
        found = (fast.model.params | fast.model.state)[name]
        np.testing.assert_allclose(found, p, rtol=tolerance, atol=tolerance, err_msg=name)
    for name, values in without_seconds(reference.history).items():
        np.testing.assert_allclose(fast.history[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


CASES = {
    "plain": {},
    "one part": {"batch_size": 53},
    "part by part": {"batch_size": 1, "net": plain},
    "a smaller part first": {"batch_size": 26, "accumulate": 2},
    "clipped by norm": {"clip": bl.ClipByGlobalNorm(0.1)},
    "clipped each": {"clip": bl.ClipByNorm(0.05)},
    "adam": {"optimizer": bl.Adam(0.01), "epochs": 1},
    "nadam": {"optimizer": bl.NAdam(0.01), "epochs": 1},
    "sample weights": {"sample_weight": np.linspace(0, 2, 53)},
    "parts without mass": {"sample_weight": (np.arange(53) % 13 == 0).astype(float), "shuffle": False, "net": plain},
    "ignored": {"loss": bl.SoftmaxCrossEntropy(ignore=2)},
    "smoothed": {"loss": bl.SoftmaxCrossEntropy(label_smoothing=0.1)},
    "augmented": {"augment": [bl.augment.MixUp(0.4)]},
    "frozen": {"net": lambda: bl.Sequential(bl.Dense(6, "relu", trainable=False), bl.BatchNorm(), bl.Dense(3))},
    "without kernels": {"net": lambda: bl.Sequential(bl.Dense(6), bl.Activation("softmax"), bl.Dense(3))},
}


@pytest.mark.parametrize("case", CASES)
def test_it_trains_as_the_reference_does(case):
    with np.errstate(all="ignore"):
        assert_near(trained(**CASES[case]), trained("reference", **CASES[case]))


def test_in_float32():
    """An epoch of plain descent, so that nothing magnifies what is only rounding: 64 eps."""
    options = {"optimizer": bl.SGD(0.1), "epochs": 1, "dtype": "float32"}
    fast, reference = trained(**options), trained("reference", **options)
    assert_near(fast, reference, 64 * float(np.finfo(np.float32).eps))
    assert {p.dtype.name for p in fast.model.params.values()} == {"float32"}


def test_what_is_recorded_is_of_the_first_part_and_of_the_whole_step():
    fast, reference = (trained(engine).recording for engine in ("fast", "reference"))
    assert fast["step"].tolist() == reference["step"].tolist() == list(range(1, 16))
    for name, column in reference.items():
        np.testing.assert_allclose(fast[name], column, rtol=1e-9, atol=1e-12, err_msg=name)


def test_steps_that_are_not_recorded_are_the_same(monkeypatch):
    from backlit.train import recording

    every, none = trained(), trained(record=False)
    monkeypatch.setattr(recording, "ALL_STEPS", 1)
    monkeypatch.setattr(recording, "FAST_STEPS", 4)
    some = trained()
    assert some.recording["step"].tolist() == [1, 5, 9, 13]
    for name, column in some.recording.items():
        assert np.array_equal(column, every.recording[name][::4], equal_nan=True), name
    for name, p in every.model.params.items():
        assert np.array_equal(p, none.model.params[name])
        assert np.array_equal(p, some.model.params[name])


def snapshots(run):
    return {p.name: p.read_bytes() for p in (run.dir / "snapshots").iterdir()}


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_interrupted_and_resumed_it_ends_where_the_uninterrupted_run_ends(tmp_path, stop):
    def interrupt(event):
        if isinstance(event, StepDone) and event.step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    whole = full_run(tmp_path / "whole", engine="fast")
    assert full_run(tmp_path / "cut", engine="fast", callbacks=[interrupt]).interrupted
    resumed = full_run(tmp_path / "cut", engine="fast", resume=True)
    last = f"step-{whole.step:08d}.safetensors"
    assert snapshots(resumed)[last] == snapshots(whole)[last]
    assert without_seconds(resumed.history) == without_seconds(whole.history)


def test_past_steps_are_done_again_bit_for_bit(tmp_path):
    run = full_run(tmp_path, engine="fast", snapshot_every=3)
    assert all(same for _, same in run.verify())
    for part in (0, 1):
        trace = run.at(5, part=part)
        assert trace.explain("Δdense1.W[3,2]").ok
        assert trace.explain("dense1.W[3,2]").ok


@pytest.mark.parametrize("bad", [2, 9])
def test_a_step_that_is_not_finite_is_named_and_undone(bad):
    """The sample lies in the first part of step 1, or in its last: running statistics are put back too."""
    net, y = everything().build((4,), dtype="float64"), np.zeros((53, 3))
    y[bad] = 1e200  # its square is not finite
    params, state = dict(net.params), {n: a.copy() for n, a in net.state.items()}
    with pytest.raises(bl.BacklitError, match="not finite") as caught:
        bl.fit(net, (X, y), loss="mse", batch_size=4, accumulate=3, shuffle=False, engine="fast", progress=False)
    assert caught.value.values["step"] == 1
    assert caught.value.values["where"] == "loss"
    for name, a in (params | state).items():
        assert np.array_equal((net.params | net.state)[name], a), name
