"""What a run records while it trains: the numbers are those of the replayed step, and recording changes none."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import FileError
from backlit.train import recording
from backlit.train.recording import Recorder
from backlit.train.rundir import RunDir
from backlit.train.step import Samples
from train.problems import full_run, labelled

QUANTITIES = {"a", "delta", "gradient", "update", "parameters", "update_ratio"}


def mixed():
    """Every kind of activation that is watched, running averages, a mask, a parameter shared by two calls."""
    return bl.Sequential(
        bl.Dense(7, "relu"), bl.BatchNorm(), bl.Dense(5, "tanh"), bl.Dropout(0.2), bl.Dense(6, "sigmoid"), bl.Dense(3)
    )


def trained(model=None, **changes):
    settings = {"loss": "softmax_cross_entropy", "epochs": 3, "batch_size": 4, "progress": False, "seed": 1}
    return bl.fit(model or mixed(), labelled(), **settings | changes)


def wide(x):
    return np.asarray(x, np.float64)


def rms(x):
    return float(np.sqrt(np.mean(wide(x) ** 2)))


def together(*arrays):
    return float(np.linalg.norm(np.concatenate([wide(a).ravel() for a in arrays])))


def replayed(run, step):
    """What the columns of a step should hold, from its trace."""
    t, found = run.at(step), {}
    for layer in ("dense1", "batchnorm1", "dense2", "dropout1", "dense3", "dense4"):
        out = f"{layer}.a" if f"{layer}.a" in t.values else f"{layer}.z"
        found |= {f"{layer}.a": rms(t[out]), f"{layer}.delta": rms(t.delta(layer))}
    for layer in ("dense1", "batchnorm1", "dense2", "dense3", "dense4"):
        names = [n for n in t.graph.trainable if n.startswith(f"{layer}.")]
        moved = together(*(wide(t.update.params[n]) - wide(t.values[n]) for n in names))
        size = together(*(t.values[n] for n in names))
        found |= {f"{layer}.gradient": together(*(t.grads[n] for n in names)), f"{layer}.update": moved}
        found |= {f"{layer}.parameters": size, f"{layer}.update_ratio": moved / size}
    units = t["dense1.a"].T
    found["dense1.dead"] = sum(all(v == 0 for v in unit) for unit in units) / len(units)
    for layer, slope in (("dense2", lambda y: 1 - y * y), ("dense3", lambda y: 4 * y * (1 - y))):
        units = wide(t[f"{layer}.a"]).T
        found[f"{layer}.saturated"] = sum(sum(map(slope, u)) / len(u) < 0.05 for u in units) / len(units)
    return found


def test_every_number_is_the_replayed_steps():
    run = trained()
    recorded = run.recording
    assert recorded.pop("step").tolist() == list(range(1, run.step + 1))
    for step in range(1, run.step + 1):
        expected = replayed(run, step)
        assert recorded.keys() == expected.keys()
        for name, value in expected.items():
            assert recorded[name][step - 1] == pytest.approx(value, rel=2e-5, abs=1e-12), f"{name} of step {step}"


def test_accumulated_mini_batches_show_the_first_and_the_gradient_of_all():
    run = trained(accumulate=2, batch_size=3)
    t = run.at(2)
    assert run.recording["dense2.delta"][1] == pytest.approx(rms(t.delta("dense2")), rel=1e-5)
    whole = together(t.update.grads["dense2.W"], t.update.grads["dense2.b"])
    assert run.recording["dense2.gradient"][1] == pytest.approx(whole, rel=1e-6)


def test_the_gradient_is_the_one_before_clipping():
    loose, tight = trained(epochs=1), trained(epochs=1, clip=bl.ClipByGlobalNorm(1e-3))
    assert loose.recording["dense1.gradient"][0] == tight.recording["dense1.gradient"][0]


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"clip": bl.ClipByGlobalNorm(0.1)}])
def test_recording_changes_no_number_of_a_run(changes):
    on, off = trained(**changes), trained(**changes, record=False)
    assert off.recording == {}
    assert all(np.array_equal(on.model.params[n], p) for n, p in off.model.params.items())
    assert {k: v for k, v in on.history.items() if k != "seconds"} == {
        k: v for k, v in off.history.items() if k != "seconds"
    }


# --- files ----------------------------------------------------------------------------------------------------------


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n], equal_nan=True) for n in a)


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
def test_a_resumed_run_goes_on_recording_as_if_nothing_had_happened(tmp_path, stop):
    whole = full_run(tmp_path / "whole", early_stopping=None).recording
    ended = iter(range(1, 100))
    listener = lambda e: "stop" if type(e).__name__ == "StepDone" and next(ended) == stop else None  # noqa: E731
    part = full_run(tmp_path / "part", early_stopping=None, callbacks=[listener])
    assert part.recording["step"].tolist() == list(range(1, stop + 1))
    snapshot = RunDir(tmp_path / "part").last()
    snapshot.reason = "interrupted"
    RunDir(tmp_path / "part").save(snapshot)
    again = full_run(tmp_path / "part", early_stopping=None, resume=True)
    assert len(whole["step"]) == 12
    assert same(again.recording, whole)


def test_an_opened_run_has_its_recording(tmp_path):
    run = trained(run_dir=tmp_path)
    assert same(bl.open_run(tmp_path).recording, run.recording)
    assert len(run.recording["step"]) == run.step


def test_rows_after_the_snapshot_are_cut(tmp_path):
    """As after a crash between the two files."""
    run = trained(run_dir=tmp_path, epochs=2)
    (tmp_path / "snapshots" / f"step-{run.step:08d}.safetensors").unlink()
    again = trained(run_dir=tmp_path, epochs=2, resume=True)
    assert again.recording["step"].tolist() == list(range(1, run.step + 1))


def test_a_run_that_began_without_recording_can_go_on_with_it(tmp_path):
    trained(run_dir=tmp_path, record=False, epochs=1)
    assert not RunDir(tmp_path).recording.exists()
    run = trained(run_dir=tmp_path, epochs=2, resume=True)
    assert run.recording["step"].tolist() == [5, 6, 7, 8]


def test_overwriting_a_run_takes_its_recording_away(tmp_path):
    trained(run_dir=tmp_path)
    trained(run_dir=tmp_path, overwrite=True, record=False)
    assert bl.open_run(tmp_path).recording == {}


def test_a_damaged_recording_does_not_keep_a_run_from_being_opened(tmp_path):
    trained(run_dir=tmp_path)
    place = RunDir(tmp_path).recording
    place.write_bytes(place.read_bytes()[:-9])
    run = bl.open_run(tmp_path)
    assert run.step == 12
    with pytest.raises(FileError, match=r"recording\.safetensors"):
        _ = run.recording


# --- how often ------------------------------------------------------------------------------------------------------


def graph_of(model):
    X, y = labelled()
    model.build((4,), seed=0)
    return Samples((X.astype(np.float32),), y).graph(model, bl.SoftmaxCrossEntropy(), training=True)


@pytest.mark.parametrize("steps", [1, 64, 65, 250, 500, 1999, 2000, 2001, 10**6, 10**9])
def test_long_runs_are_thinned_to_a_bounded_number_of_rows(steps):
    every = Recorder.of(graph_of(mixed()), steps).every
    assert every in {2**k for k in range(40)}
    assert every > 1 or steps <= recording.ALL_STEPS
    assert -(-steps // every) <= recording.MOST_ROWS
    assert steps < 1000 or -(-steps // every) > recording.MOST_ROWS // 2 - 1


def test_many_columns_make_fewer_rows(monkeypatch):
    monkeypatch.setattr(recording, "MOST_NUMBERS", 500)
    recorder = Recorder.of(graph_of(mixed()), 240)
    assert 240 / recorder.every * len(recorder.columns.names) <= 500


def test_a_thinned_run_keeps_the_first_step_and_then_every_so_many(monkeypatch):
    monkeypatch.setattr(recording, "MOST_ROWS", 5)
    steps = trained(epochs=4).recording["step"].tolist()
    assert steps == [1, 5, 9, 13]


def test_more_epochs_thin_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MOST_ROWS", 8)
    assert trained(run_dir=tmp_path, epochs=2).recording["step"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    steps = trained(run_dir=tmp_path, epochs=4, resume=True).recording["step"].tolist()
    assert steps == [1, 3, 5, 7, 9, 11, 13, 15]


# --- numbers at the edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-40, 1e-25, 1e-10, 1.0, 1e20, 1e38])
def test_sizes_are_right_where_float32_squares_are_not(size):
    x = np.full((3, 5), size, np.float32)
    with np.errstate(all="ignore"):
        assert recording._rms(x) == pytest.approx(float(x[0, 0]), rel=1e-6)


def test_zero_and_no_entries_have_size_zero():
    assert recording._rms(np.zeros((2, 3), np.float32)) == 0
    assert recording._rms(np.zeros((0, 3), np.float32)) == 0


def test_parameters_that_are_all_zero_have_no_ratio():
    found = recording.with_ratios({"l.update": np.array([1.0, 2.0]), "l.parameters": np.array([0.0, 4.0])})
    assert np.isnan(found["l.update_ratio"][0])
    assert found["l.update_ratio"][1] == 0.5


@pytest.mark.parametrize(
    ("rule", "units", "share"),
    [
        ("relu", [[0, 0, 1, 0], [0, 2, 0, 1e-30]], 1 / 4),
        ("tanh", [[1, -0.99, 0.5, 0], [-1, 0.99, 1, 0]], 2 / 4),
        ("sigmoid", [[0, 1, 0.5, 1], [1, 1, 0.5, 0.9]], 2 / 4),
    ],
)
def test_units_that_do_nothing_are_counted(rule, units, share):
    y = np.array(units, np.float32)
    assert recording._idle(rule, y) == share
    assert recording._idle(rule, np.stack([y, y])) == share  # samples and places, then units


def test_dead_units_are_seen_in_a_run():
    model = bl.Sequential(bl.Dense(4, "relu"), bl.Dense(3)).build((4,), seed=0)
    model.params["dense1.b"] = np.array([-1e4, -1e4, -1e4, 0], np.float32)
    assert trained(model, epochs=1).recording["dense1.dead"].tolist() == [0.75] * 4


def test_only_what_leads_to_the_output_is_watched():
    """Neither the loss, nor running averages, nor what only moves entries."""
    model = bl.Sequential(bl.Flatten(), bl.Dense(4), bl.BatchNorm(), bl.Dense(3))
    X, y = labelled()
    run = trained_on(model, X.reshape(14, 2, 2), y)
    layers = {name.rpartition(".")[0] for name in run.recording} - {""}
    assert layers == {"dense1", "batchnorm1", "dense2"}
    assert {name.rpartition(".")[2] for name in run.recording} - {"step"} == QUANTITIES


def trained_on(model, X, y):
    return bl.fit(model, (X, y), loss="softmax_cross_entropy", epochs=1, batch_size=4, progress=False)


def test_frozen_layers_have_no_update_but_are_watched():
    model = bl.Sequential(bl.Dense(4, "relu", trainable=False), bl.Dense(3))
    names = set(trained(model).recording)
    assert {"dense1.a", "dense1.dead", "dense2.delta", "dense2.update"} <= names
    assert not {"dense1.update", "dense1.delta"} & names


def test_a_recorder_holds_little_memory():
    recorder = Recorder.of(graph_of(mixed()), 10**6)
    numbers = 8 * (len(recorder.columns.names) + 1) * recording.MOST_ROWS
    assert numbers < 8 * recording.MOST_NUMBERS
    assert all(later - first == recorder.every for first, later in pairwise(filter(recorder.due, range(1, 5000))))
