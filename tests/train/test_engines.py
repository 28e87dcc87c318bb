"""Runs on the fast engine: near the reference run, and bit for bit themselves."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import backlit as bl
from backlit.core.events import StepDone

pytest.importorskip("numba")

X = np.random.default_rng(0).normal(size=(103, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 103)


def model():
    return bl.Sequential(bl.Dense(16, "relu"), bl.BatchNorm(), bl.Dropout(0.3), bl.Dense(3))


def fit(engine="fast", net=None, **options):
    settings = {"loss": "softmax_cross_entropy", "epochs": 4, "batch_size": 8, "validation": (X[:20], Y[:20])}
    settings |= {"optimizer": bl.NAdam(bl.ReduceOnPlateau(1e-2, patience=1)), "clip": bl.ClipByGlobalNorm(0.5)}
    return bl.fit(net or model(), (X, Y), engine=engine, progress=False, **settings | options)


def snapshots(run):
    return {p.name: p.read_bytes() for p in (run.dir / "snapshots").iterdir()}


def test_it_trains_as_the_reference_does():
    options = {"net": bl.Sequential(bl.Dense(16, "tanh"), bl.Dense(3)), "optimizer": bl.SGD(0.1)}
    fast = fit(**options)
    plain = fit("reference", **options | {"net": bl.Sequential(bl.Dense(16, "tanh"), bl.Dense(3))})
    for name in plain.history.keys() - {"seconds"}:
        assert np.allclose(fast.history[name], plain.history[name], rtol=2e-5), name
    for name, value in plain.model.params.items():
        assert np.allclose(fast.model.params[name], value, atol=2e-5), name


def test_two_runs_are_the_same_bit_for_bit(tmp_path):
    a, b = (fit(run_dir=tmp_path / name) for name in "ab")
    assert snapshots(a) == snapshots(b)


@pytest.mark.parametrize("stop", [1, 7, 13, 14, 40])
def test_interrupted_and_resumed_it_ends_where_the_uninterrupted_run_ends(tmp_path, stop):
    def interrupt(event):
        if isinstance(event, StepDone) and event.step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    whole = fit(run_dir=tmp_path / "whole")
    assert fit(run_dir=tmp_path / "cut", callbacks=[interrupt]).interrupted
    resumed = fit(run_dir=tmp_path / "cut", resume=True)
    last = f"step-{whole.step:08d}.safetensors"
    assert snapshots(resumed)[last] == snapshots(whole)[last]
    for name in whole.history.keys() - {"seconds"}:
        assert resumed.history[name] == whole.history[name], name


def test_past_steps_have_the_parameters_of_the_live_run(tmp_path):
    net, live = model(), {}

    def watch(event):
        if isinstance(event, StepDone):
            live[event.step + 1] = {n: a.copy() for n, a in net.params.items()}

    run = fit(net=net, callbacks=[watch], run_dir=tmp_path)
    again = bl.open_run(tmp_path, data=(X, Y), validation=(X[:20], Y[:20]))
    for step in (2, 13, 14, 15, 30, run.step):
        trace = again.at(step)
        assert all(np.array_equal(trace[n], a) for n, a in live[step].items()), step
        assert trace.explain("Δdense1.W[3,5]").ok
    assert all(same for _, same in again.verify())


def test_early_stopping_restores_the_best_epoch():
    run = fit(epochs=30, early_stopping=bl.EarlyStopping(patience=2))
    best = int(np.argmin(run.history["val_loss"]))
    rows = X[:20], Y[:20]
    graph_loss = bl.value_and_grad(run.model, *rows, loss="softmax_cross_entropy", training=False)[0]
    assert graph_loss == pytest.approx(run.history["val_loss"][best], rel=1e-5)
    assert run.reason == "early_stopping"


def test_what_is_recorded_is_what_the_reference_run_records():
    options = {"optimizer": bl.SGD(0.1), "net": None}
    fast, plain = fit(**options).recording, fit("reference", **options).recording
    rows = np.isin(plain["step"], fast["step"])
    assert len(fast["step"]) >= 1
    for name in fast.keys() - {"step"}:
        assert np.allclose(fast[name], plain[name][rows], rtol=1e-4, atol=1e-6, equal_nan=True), name


def test_a_step_that_is_not_finite_is_named_and_undone():
    net = bl.Sequential(bl.Dense(4, "relu"), bl.Dense(1))
    with pytest.raises(bl.BacklitError, match="not finite") as caught:
        bl.fit(net, (X, Y * 1.0), loss="mse", optimizer=bl.SGD(1e9), epochs=30, engine="fast", progress=False)
    assert caught.value.values["step"] > 1
    assert all(np.isfinite(p).all() for p in net.params.values())


def test_a_resumed_run_must_be_of_the_same_engine(tmp_path):
    fit("reference", run_dir=tmp_path, epochs=1)
    with pytest.raises(bl.BacklitError, match=r"engine"):
        fit("fast", run_dir=tmp_path, resume=True)


def test_what_it_cannot_do_it_says(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(bl.BacklitError) as caught:
        fit()
    assert caught.value.code == "BL434"
