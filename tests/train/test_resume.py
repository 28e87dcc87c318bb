"""A run that was stopped and goes on ends, bit for bit, where the one that was not stopped ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import FileError
from backlit.core.events import EpochDone, RunStarted, SnapshotSaved, StepDone
from backlit.train.rundir import RunDir
from train.problems import Recorder, everything, full_run, labelled, mlp, without_seconds

HERE = Path(__file__).parent


def interrupt_at(*steps):
    """Ctrl-C in the middle of each of the steps."""
    return [lambda e: isinstance(e, StepDone) and e.step in steps and signal.raise_signal(signal.SIGINT)]


def last_snapshot(folder):
    step, path = list(RunDir(folder).snapshots().items())[-1]
    return step, path.read_bytes()


def ending(run):
    """All that must not depend on how a run got to its end, seconds aside."""
    arrays = {name: a.tobytes() for name, a in (run.model.params | run.model.state).items()}
    rows = RunDir(run.dir).read_metrics()
    lines = [without_seconds(row) for row in rows]
    return last_snapshot(run.dir), arrays, without_seconds(run.history), lines, run.step, run.reason


VARIANTS = {
    "to the last epoch": {"early_stopping": bl.EarlyStopping(patience=50)},
    "stopped early": {},
    "without early stopping": {"early_stopping": None},
    "converged": {"early_stopping": None, "until": bl.Converged(loss_tolerance=0.3, patience=2)},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Each variant of the run, uninterrupted."""
    return {name: full_run(tmp_path_factory.mktemp("whole"), **changes) for name, changes in VARIANTS.items()}


def test_the_run_goes_through_what_it_should(whole):
    reasons = {name: run.reason for name, run in whole.items()}
    want = {"to the last epoch": "epochs", "stopped early": "early_stopping", "without early stopping": "epochs"}
    assert reasons == want | {"converged": "converged"}
    assert whole["stopped early"].step < 12
    assert whole["converged"].step < 12
    assert len(set(whole["to the last epoch"].history["learning_rate"])) > 1
    best = int(np.argmin(whole["to the last epoch"].history["val_loss"]))
    assert best < 5  # the best epoch is restored at the end


def test_two_identical_runs_write_identical_snapshots(whole, tmp_path):
    again = full_run(tmp_path, **VARIANTS["to the last epoch"])
    first = whole["to the last epoch"]
    assert ending(again) == ending(first)
    a, b = RunDir(first.dir).snapshots(), RunDir(tmp_path).snapshots()
    assert list(a) == list(b)
    assert all(a[step].read_bytes() == b[step].read_bytes() for step in a)


def quick(name):
    return name == "to the last epoch"


@pytest.mark.parametrize("step", range(1, 13))
@pytest.mark.parametrize("name", [n if quick(n) else pytest.param(n, marks=pytest.mark.slow) for n in VARIANTS])
def test_interrupted_at_any_step(whole, name, step, tmp_path):
    stopped = full_run(tmp_path, callbacks=interrupt_at(step), **VARIANTS[name])
    if step < whole[name].step:
        assert stopped.interrupted
        assert stopped.step == step
    resumed = full_run(tmp_path, resume=True, **VARIANTS[name])
    assert ending(resumed) == ending(whole[name])
    assert list(resumed.model.params) == list(whole[name].model.params)


def test_interrupted_at_every_step(whole, tmp_path):
    name = "to the last epoch"
    full_run(tmp_path, callbacks=interrupt_at(1), **VARIANTS[name])
    for step in range(2, 12):
        assert full_run(tmp_path, resume=True, callbacks=interrupt_at(step), **VARIANTS[name]).step == step
    assert ending(full_run(tmp_path, resume=True, **VARIANTS[name])) == ending(whole[name])


@pytest.mark.parametrize("event", [RunStarted, EpochDone, SnapshotSaved])
def test_interrupted_between_steps(whole, event, tmp_path):
    name, pressed = "to the last epoch", []

    def press(e):
        if isinstance(e, event) and not pressed:
            pressed.append(e)
            signal.raise_signal(signal.SIGINT)

    assert full_run(tmp_path, callbacks=[press], **VARIANTS[name]).interrupted
    assert ending(full_run(tmp_path, resume=True, **VARIANTS[name])) == ending(whole[name])


@pytest.mark.parametrize("kind", [StepDone, EpochDone, SnapshotSaved])
@pytest.mark.parametrize("when", [1, 4])
def test_an_exception_loses_nothing(whole, kind, when, tmp_path):
    """What a crash leaves behind: the last snapshot, and perhaps a line of metrics that is ahead of it."""
    name, seen = "to the last epoch", []

    def crash(event):
        seen.append(isinstance(event, kind))
        if sum(seen) == when and seen[-1]:
            raise RuntimeError("a crash")

    with pytest.raises(RuntimeError, match="a crash"):
        full_run(tmp_path, callbacks=[crash], **VARIANTS[name])
    if kind is SnapshotSaved and when == 1:
        assert not RunDir(tmp_path).exists  # run.json comes after the first snapshot, so there is no run yet
    assert ending(full_run(tmp_path, resume=True, **VARIANTS[name])) == ending(whole[name])


SCRIPT = """
import os, signal, sys
from train.problems import full_run
from backlit.core.events import StepDone
die = lambda e: isinstance(e, StepDone) and e.step == int(sys.argv[2]) and os.kill(os.getpid(), signal.SIGKILL)
full_run(sys.argv[1], callbacks=[die], snapshot_every=3, early_stopping=None)
"""


@pytest.mark.parametrize("step", [1, 7, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_and_resumed(whole, step, tmp_path):
    places = os.pathsep.join([str(HERE.parent), str(HERE.parent.parent / "src")])
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(step)], env=os.environ | {"PYTHONPATH": places}, check=False
    )
    assert told.returncode == -signal.SIGKILL
    last = last_snapshot(tmp_path)[0]
    assert last == {1: 0, 7: 6, 10: 9}[step]
    assert bl.open_run(tmp_path).reason == ""
    resumed = full_run(tmp_path, resume=True, snapshot_every=3, early_stopping=None)
    straight = full_run(tmp_path / "straight", snapshot_every=3, early_stopping=None)
    assert ending(resumed) == ending(straight)
    assert ending(straight)[1:] == ending(whole["without early stopping"])[1:]


def test_a_snapshot_lost_costs_only_time(whole, tmp_path):
    name = "to the last epoch"
    full_run(tmp_path, callbacks=interrupt_at(9), **VARIANTS[name])
    for step, path in RunDir(tmp_path).snapshots().items():
        if step > 4:
            path.unlink()
    assert ending(full_run(tmp_path, resume=True, **VARIANTS[name])) == ending(whole[name])


# --- finished runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_resuming_a_finished_run_does_nothing(whole, name, tmp_path):
    first = full_run(tmp_path, **VARIANTS[name])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    recorder = Recorder()
    again = full_run(tmp_path, resume=True, callbacks=[recorder], **VARIANTS[name])
    assert not recorder.of(StepDone)
    assert again.history == first.history
    assert ending(again) == ending(whole[name])
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["to the last epoch", "without early stopping"])
def test_more_epochs_go_on(whole, name, tmp_path):
    """The schedule does not look at the number of steps, so the longer run is the same."""
    short = full_run(tmp_path, **VARIANTS[name] | {"epochs": 2})
    assert short.step == 4
    assert ending(full_run(tmp_path, resume=True, **VARIANTS[name])) == ending(whole[name])


def test_more_epochs_with_a_constant_rate(tmp_path):
    def run(epochs, place, **more):
        return bl.fit(
            everything(), labelled(), loss="softmax_cross_entropy", epochs=epochs, batch_size=4, progress=False,
            run_dir=tmp_path / place, **more,
        )  # fmt: skip

    long = run(5, "long")
    run(1, "short")
    run(3, "short", resume=True)
    assert ending(run(5, "short", resume=True)) == ending(long)
    assert bl.open_run(tmp_path / "short").record["settings"]["epochs"] == 5


def test_fewer_epochs_than_were_made_change_nothing(tmp_path):
    name = "without early stopping"
    first = full_run(tmp_path, **VARIANTS[name])
    again = full_run(tmp_path, resume=True, **VARIANTS[name] | {"epochs": 2})
    assert ending(again) == ending(first)


def test_a_run_that_is_not_there_is_begun(whole, tmp_path):
    name = "stopped early"
    assert ending(full_run(tmp_path / "new", resume=True, **VARIANTS[name])) == ending(whole[name])


def test_the_model_given_may_have_any_parameters(whole, tmp_path):
    """They come from the snapshot."""
    name = "to the last epoch"
    full_run(tmp_path, callbacks=interrupt_at(5), **VARIANTS[name])
    other = everything().build((4,), seed=99)
    assert ending(full_run(tmp_path, resume=True, model=other, **VARIANTS[name])) == ending(whole[name])


# --- another run ----------------------------------------------------------------------------------------------------

X, Y = labelled()
CHANGES = {
    "settings.batch_size": {"batch_size": 5},
    "settings.seed": {"seed": 4},
    "settings.shuffle": {"shuffle": False},
    "settings.accumulate": {"accumulate": 3},
    "settings.loss.label_smoothing": {"loss": bl.SoftmaxCrossEntropy(label_smoothing=0.1)},
    "settings.optimizer.beta1": {"optimizer": bl.NAdam(bl.ReduceOnPlateau(0.05, factor=0.5, patience=1), beta1=0.8)},
    "settings.optimizer.learning_rate.factor": {
        "optimizer": bl.NAdam(bl.ReduceOnPlateau(0.05, factor=0.4, patience=1))
    },
    "settings.optimizer.amsgrad": {"optimizer": bl.Adam(bl.ReduceOnPlateau(0.05, factor=0.5, patience=1))},
    "settings.clip.limit": {"clip": bl.ClipByGlobalNorm(2.0)},
    "settings.clip": {"clip": None},
    "settings.metrics": {"metrics": ["accuracy"]},
    "settings.early_stopping.patience": {"early_stopping": bl.EarlyStopping(patience=9)},
    "settings.converged": {"until": "converged"},
    "data.train": {"sample_weight": np.ones(14)},
    "data.validation": {"validation": (X, Y)},
    "model.recipe": {"model": bl.Sequential(bl.Dense(6, "tanh"), bl.BatchNorm(), bl.Dropout(0.3), bl.Dense(3))},
    "model.dtype": {"model": everything().build((4,), dtype="float64")},
}


@pytest.mark.parametrize("field", CHANGES)
def test_another_run_is_refused_by_the_field_that_differs(field, tmp_path_factory, finished):
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    with pytest.raises(FileError) as caught:
        full_run(finished, resume=True, **CHANGES[field])
    assert caught.value.code == "BL404"
    assert caught.value.values["name"].startswith(field)
    assert f"{field}" in str(caught.value)
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("finished")
    full_run(place)
    return place


def test_other_data_are_refused(finished):
    settings = {"loss": "softmax_cross_entropy", "progress": False, "resume": True, "run_dir": finished}
    settings |= {"batch_size": 4, "accumulate": 2, "seed": 3}
    settings["optimizer"] = bl.NAdam(bl.ReduceOnPlateau(0.05, factor=0.5, patience=1))
    settings["clip"], settings["metrics"] = bl.ClipByGlobalNorm(1.0), ["accuracy", "top2"]
    settings["early_stopping"], settings["validation"] = bl.EarlyStopping(patience=4), labelled(10, seed=1)
    for data, field in (((X[:-1], Y[:-1]), "data.samples"), ((X + 1e-6, Y), "data.train")):
        with pytest.raises(FileError, match=field):
            bl.fit(everything(), data, **settings)


def test_settings_that_decide_no_number_may_change(finished):
    before = last_snapshot(finished)
    full_run(finished, resume=True, snapshot_every=1, snapshot_mb=1.0, notes={"again": True}, callbacks=[Recorder()])
    assert last_snapshot(finished) == before
    assert bl.open_run(finished).record["notes"] == {"again": True}


def test_parameters_of_another_function_are_refused(tmp_path):
    def narrow(x):
        return bl.Dense(3)(x)

    def wide(x):
        return bl.Dense(3)(bl.Dense(7)(x))

    settings = {"loss": "softmax_cross_entropy", "progress": False, "run_dir": tmp_path, "epochs": 1}
    bl.fit(bl.Model(narrow), (X, Y), **settings)
    with pytest.raises(bl.BacklitError, match=r"dense1\.W") as caught:
        bl.fit(bl.Model(wide), (X, Y), resume=True, **settings)
    assert caught.value.code == "BL311"


def test_a_stopped_run_stays_stopped(tmp_path):
    def stop(event):
        return "stop" if isinstance(event, StepDone) and event.step == 3 else None

    settings = {"loss": "softmax_cross_entropy", "progress": False, "run_dir": tmp_path}
    first = bl.fit(mlp(), (X, Y), callbacks=[stop], **settings)
    again = bl.fit(mlp(), (X, Y), resume=True, **settings)
    assert (again.step, again.reason) == (first.step, first.reason) == (3, "stopped")
