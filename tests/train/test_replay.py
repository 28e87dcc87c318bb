"""The replay microscope: any past step of a run, bit for bit as it was, or a reason why it cannot be shown."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import backlit as bl
from backlit.core import files
from backlit.core.errors import FileError, InputError
from backlit.core.events import StepDone
from backlit.train.progress import Progress
from backlit.train.rundir import RunDir
from train.problems import everything, full_run, labelled, mlp


class Live:
    """Keeps copies of the parameters and the running statistics before every step."""

    def __init__(self, model):
        self.model = model
        self.before = [self._now()]

    def _now(self):
        return {name: a.copy() for name, a in (self.model.params | self.model.state).items()}

    def __call__(self, event):
        if isinstance(event, StepDone):
            self.before.append(self._now())


def assert_as_it_was(run, live, steps=None):
    for step in steps or range(1, run.step + 1):
        trace = run.at(step)
        for name, array in live.before[step - 1].items():
            assert trace[name].tobytes() == array.tobytes(), f"{name} before step {step}"
            assert trace[name].dtype == array.dtype
        for name, array in trace.update.params.items():
            assert array.tobytes() == live.before[step][name].tobytes(), f"{name} after step {step}"


def recorded(run_dir=None, model=None, **options):
    model = model or everything().build((4,), seed=3)
    live = Live(model)
    settings = {"early_stopping": bl.EarlyStopping(patience=20)} | options
    return full_run(run_dir, model=model, callbacks=[live], **settings), live


def reopened(path, **options):
    X, y = labelled()
    Xv, yv = labelled(10, seed=1)
    weights = np.linspace(0.5, 1.5, len(y))
    settings = {"data": (X, y), "validation": (Xv, (yv + 1) % 3), "sample_weight": weights}
    return bl.open_run(path, **settings | options)


# --- bit for bit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [None, 1, 5])
def test_every_step_of_a_run_in_memory(every):
    run, live = recorded(snapshot_every=every)
    assert run.step == 12
    assert_as_it_was(run, live)


@pytest.mark.parametrize("every", [None, 1, 5])
def test_every_step_of_a_run_on_disk(tmp_path, every):
    _, live = recorded(tmp_path, snapshot_every=every)
    assert_as_it_was(reopened(tmp_path), live)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": bl.SGD(bl.Cosine(0.1), momentum=0.9)},
        {"optimizer": bl.Adam(bl.OneCycle(0.01)), "clip": None},
        {"optimizer": bl.AdamW(0.01), "accumulate": 1, "sample_weight": None},
        {"optimizer": bl.Lion(0.001), "shuffle": False},
        {"validation": None, "early_stopping": None, "metrics": None},
        {
            "optimizer": bl.Adam(bl.ReduceOnPlateau(0.5, factor=0.1, patience=0)),
            "validation": None,
            "early_stopping": None,
        },
        {"early_stopping": bl.EarlyStopping(patience=1)},
        {"model": mlp()},
    ],
    ids="-".join,
)
def test_every_step_with_other_settings(options):
    run, live = recorded(snapshot_every=3, **options)
    assert_as_it_was(run, live)


def test_snapshots_in_memory_are_those_on_disk(tmp_path):
    options = {"snapshot_every": 3, "accumulate": 1, "batch_size": 3}
    kept, place = recorded(**options)[0].place.kept, recorded(tmp_path, **options)[0].place
    assert list(kept) == list(place.snapshots())
    for step, progress in kept.items():
        arrays, header = progress.as_snapshot()
        wanted, told = place.nearest(step).as_snapshot()
        assert header == told
        assert arrays.keys() == wanted.keys()
        assert all(np.array_equal(arrays[name], wanted[name]) for name in wanted), step


def test_a_plateau_schedule_sees_what_it_saw_when_snapshots_lie_inside_an_epoch():
    plateau = bl.ReduceOnPlateau(0.5, factor=0.1, patience=0)
    options = {"optimizer": bl.SGD(plateau), "validation": None, "early_stopping": None, "accumulate": 1}
    run, live = recorded(snapshot_every=3, epochs=8, batch_size=3, **options)
    rates = [run.at(step).update.learning_rate for step in range(1, run.step + 1)]
    assert len(set(rates)) > 1
    assert_as_it_was(run, live)


def test_losses_gradients_and_samples_are_those_of_the_step(tmp_path):
    seen = []
    X, y = labelled()
    watch = [lambda event: seen.append(event) if isinstance(event, StepDone) else None]
    settings = {"epochs": 3, "batch_size": 4, "seed": 5, "progress": False, "run_dir": tmp_path}
    run = bl.fit(everything(), (X, y), loss="softmax_cross_entropy", callbacks=watch, **settings)
    for event in seen:
        trace = run.at(event.step)
        assert trace.loss == event.loss
        assert trace.step == event.step
        assert len(trace.notes["samples"]) == event.samples
        np.testing.assert_array_equal(trace["x"], X[trace.notes["samples"]].astype(np.float32))
        np.testing.assert_array_equal(trace["y"], y[trace.notes["samples"]])
        assert trace.update.learning_rate == event.learning_rate


def test_looking_changes_nothing():
    run, _ = recorded()
    before = {name: p.copy() for name, p in run.model.params.items()}
    first = run.at(7)
    run.at(2)
    assert first.diff(run.at(7)) == []
    assert all(np.array_equal(before[name], p) for name, p in run.model.params.items())
    assert run.step == 12


def test_a_step_that_accumulates_shows_each_of_its_batches():
    run, _ = recorded()
    parts = [run.at(2, part=i) for i in range(2)]
    samples = [set(t.notes["samples"]) for t in parts]
    assert not samples[0] & samples[1]
    assert all(np.array_equal(parts[0][n], parts[1][n]) for n in run.model.params)
    assert parts[0].loss != parts[1].loss
    with pytest.raises(InputError):
        run.at(2, part=5)


def test_a_resumed_run_is_replayed_across_the_seam(tmp_path):
    _, live = recorded(tmp_path / "whole")
    recorded(tmp_path / "parts", epochs=2)
    recorded(tmp_path / "parts", resume=True)
    assert_as_it_was(reopened(tmp_path / "parts"), live)


# --- proof ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
def test_every_stretch_between_snapshots_is_proved(tmp_path, on_disk):
    run, _ = recorded(tmp_path if on_disk else None, snapshot_every=2)
    run = reopened(tmp_path) if on_disk else run
    found = run.verify()
    assert [step for step, _ in found] == run.snapshot_steps()[1:]
    assert all(equal for _, equal in found)


def test_a_snapshot_that_was_tampered_with_is_noticed(tmp_path):
    """Its own hash tells, or where that was forged too, the replay."""
    recorded(tmp_path, snapshot_every=2)
    path = RunDir(tmp_path).snapshots()[6]
    arrays, header = files.read_tensors(path)
    arrays["params/dense1.W"][0, 0] += 1e-6
    forged = Progress.from_snapshot(arrays, {k: v for k, v in header.items() if k != "sha256"}, "").as_snapshot()
    for contents in ((arrays, header), forged):
        files.write_tensors(path, *contents)
        found = dict(reopened(tmp_path).verify())
        assert not found[6]
        assert found[4]


def test_a_step_that_leads_elsewhere_than_to_its_snapshot_is_refused_unless_forced(tmp_path):
    _, live = recorded(tmp_path, snapshot_every=2)
    path = RunDir(tmp_path).snapshots()[6]
    progress = RunDir(tmp_path).load(path)
    for group in (progress.params, next(iter(progress.slots.values()))):
        name = next(iter(group))
        kept = group[name].copy()
        group[name] = kept + 1e-6
        files.write_tensors(path, *progress.as_snapshot())
        group[name] = kept
        with pytest.raises(FileError, match="step 6, done again, does not lead") as caught:
            reopened(tmp_path).at(6)
        assert caught.value.code == "BL440"
        assert caught.value.part("expected")[:16] != caught.value.part("got")
        assert_as_it_was(reopened(tmp_path), live, [5])
        assert reopened(tmp_path).at(6, force=True).step == 6


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_every_snapshot_is_met_again_on_the_way(tmp_path, engine):
    if engine == "fast":
        pytest.importorskip("numba")
    data = labelled(60)
    settings = {"loss": "softmax_cross_entropy", "epochs": 3, "batch_size": 4, "snapshot_every": 5, "engine": engine}
    bl.fit(mlp(), data, **settings, run_dir=tmp_path, progress=False)
    run = bl.open_run(tmp_path, data=data)
    for step in run.snapshot_steps()[1:]:
        assert run.at(step).step == step
    assert all(equal for _, equal in run.verify())


def test_snapshots_without_hashes_are_read_and_proved(tmp_path):
    """As they were written before there were hashes."""
    _, live = recorded(tmp_path, snapshot_every=2)
    for path in RunDir(tmp_path).snapshots().values():
        arrays, header = files.read_tensors(path)
        files.write_tensors(path, arrays, {k: v for k, v in header.items() if k not in ("sha256", "jumps")})
    run = reopened(tmp_path)
    assert_as_it_was(run, live, [1, 6, 7, 12])
    assert all(equal for _, equal in run.verify())


def test_thinned_snapshots_still_lead_everywhere(tmp_path):
    run, live = recorded(tmp_path, snapshot_every=1, snapshot_mb=0.02)
    steps = run.snapshot_steps()
    assert 2 <= len(steps) < 12
    assert (steps[0], steps[-1]) == (0, 12)
    assert_as_it_was(reopened(tmp_path), live)


# --- what cannot be shown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, -1, 13])
def test_a_step_that_was_not_made(step):
    with pytest.raises(InputError, match=r"1 <= step <= 12") as caught:
        recorded()[0].at(step)
    assert caught.value.code == "BL430"


def test_without_data_there_is_no_past(tmp_path):
    recorded(tmp_path)
    for ask in (lambda run: run.at(3), bl.Run.verify):
        with pytest.raises(InputError, match="data") as caught:
            ask(bl.open_run(tmp_path))
        assert caught.value.code == "BL431"


@pytest.mark.parametrize(
    "changes",
    [
        {"data": (labelled()[0] + 1e-3, labelled()[1])},
        {"data": (labelled()[0][::-1].copy(), labelled()[1][::-1].copy())},
        {"sample_weight": None},
        {"validation": labelled(10, seed=2)},
        {"validation": None},
    ],
    ids=["other numbers", "another order", "no weights", "other validation", "no validation"],
)
def test_changed_data_are_refused(tmp_path, changes):
    recorded(tmp_path)
    with pytest.raises(FileError, match="not the data") as caught:
        reopened(tmp_path, **changes).at(3)
    assert caught.value.code == "BL432"
    assert "sha256" in str(caught.value) or "-" in caught.value.part("got")


def test_changed_data_may_be_forced(tmp_path):
    _, live = recorded(tmp_path)
    run = reopened(tmp_path, data=(labelled()[0] + 1e-3, labelled()[1]))
    trace = run.at(12, force=True)
    assert any(not np.array_equal(trace[name], a) for name, a in live.before[11].items())
    assert not all(equal for _, equal in run.verify(force=True))


def test_a_damaged_snapshot_names_the_one_before(tmp_path):
    recorded(tmp_path, snapshot_every=4)
    path = RunDir(tmp_path).snapshots()[8]
    path.write_bytes(path.read_bytes()[:200])
    run = reopened(tmp_path)
    assert run.at(8).step == 8, "step 8 begins before the damaged snapshot"
    with pytest.raises(FileError, match=r"step-0000000[0-7]"):
        run.at(9)


def test_without_snapshots_there_is_no_past(tmp_path):
    recorded(tmp_path)
    run = reopened(tmp_path)
    for path in RunDir(tmp_path).snapshots().values():
        path.unlink()
    with pytest.raises(FileError, match="snapshot"):
        run.at(3)


def test_a_run_of_a_newer_version_is_refused(tmp_path):
    recorded(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(FileError, match="newer version"):
        reopened(tmp_path)


def test_a_snapshot_of_a_newer_version_is_refused(tmp_path):
    recorded(tmp_path)
    path = RunDir(tmp_path).snapshots()[0]
    arrays, header = files.read_tensors(path)
    files.write_tensors(path, arrays, header | {"format": 99})
    with pytest.raises(FileError, match="newer version"):
        reopened(tmp_path).at(1)


# --- a real run -----------------------------------------------------------------------------------------------------

EVERY = 50
"""Distance of the snapshots."""


@pytest.mark.slow
def test_twenty_random_steps_of_mnist_and_how_long_they_take(tmp_path):
    try:
        X, y = bl.data.load("mnist").flattened().train
    except FileError:
        pytest.skip("mnist is not here: set BACKLIT_DATA")
    X, y = X[:20_000], y[:20_000]
    model = bl.Sequential(bl.Dense(128, "relu"), bl.Dense(10)).build((784,), seed=0)
    live, began = Live(model), time.perf_counter()
    run = bl.fit(model, (X, y), loss="softmax_cross_entropy", optimizer=bl.Adam(1e-3), epochs=2, batch_size=128, seed=0,
                 progress=False, snapshot_every=EVERY, run_dir=tmp_path, callbacks=[live])  # fmt: skip
    a_step = (time.perf_counter() - began) / run.step
    run = bl.open_run(tmp_path, data=(X, y))
    load = _seconds(lambda: run.nearest(EVERY))
    run.at(1)
    steps = np.random.default_rng(0).choice(run.step, 20, replace=False) + 1
    times = [_seconds(lambda step=int(step): assert_as_it_was(run, live, [step])) for step in steps]
    bound = EVERY * a_step + load
    print(f"step {1e3 * a_step:.1f} ms, load {1e3 * load:.1f} ms, K = {EVERY}: bound {1e3 * bound:.0f} ms;"  # noqa: T201
          f" any step {1e3 * np.median(times):.0f} ms (median), {1e3 * max(times):.0f} ms (most)")  # fmt: skip
    assert np.median(times) <= bound + _seconds(run.data.fingerprints)
    change = run.at(int(steps[0])).walk("Δdense1.W[5,400]")
    assert change.ok


def _seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
