"""Which snapshots stay: within the budget at every moment, closer near start, end and jumps, enough to replay."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import backlit as bl
from backlit.core.events import SnapshotSaved, StepDone
from backlit.train import rundir
from backlit.train.rundir import Memory, RunDir, surplus
from train.problems import mlp

SIZE = 1_000_000
"""Bytes of a snapshot in what is simulated; the budget in MB is then their number."""


def kept(count, budget, jumps=(), every=1):
    """The snapshots left after a run that saved every so many steps and noticed jumps when they were over."""
    left = set()
    for step in range(0, count * every + 1, every):
        left.add(step)
        left -= set(surplus(dict.fromkeys(left, SIZE), budget, [j for j in jumps if j < step]))
        assert len(left) <= max(budget, 2), "within the budget after each snapshot"
    return np.array(sorted(left))


def gap_around(steps, place):
    """The mean distance of snapshots within a twentieth of the run on both sides of a step."""
    reach = (steps[-1] - steps[0]) / 20
    near = [b - a for a, b in pairwise(steps) if b >= place - reach and a <= place + reach]
    return float(np.mean(near))


# --- the rule -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "budget", "every"), [(1000, 40, 1), (1000, 20, 1), (1000, 40, 7), (5000, 60, 1)])
def test_snapshots_are_closer_near_start_and_end(count, budget, every):
    steps = kept(count, budget, every=every)
    assert len(steps) == budget
    assert (steps[0], steps[-1]) == (0, count * every)
    middle = gap_around(steps, count * every // 2)
    assert gap_around(steps, 0) < middle / 2
    assert gap_around(steps, count * every) < middle / 2


@pytest.mark.parametrize("jump", [300, 400, 613])
def test_snapshots_are_closer_near_a_jump(jump):
    steps, without = kept(1000, 40, [jump]), kept(1000, 40)
    assert jump in steps
    assert gap_around(steps, jump) < 0.7 * gap_around(without, jump)
    far = max((jump / 2, (1000 + jump) / 2), key=lambda place: min(place, abs(place - jump), 1000 - place))
    assert gap_around(steps, jump) < 0.7 * gap_around(steps, far)


@pytest.mark.parametrize("budget", [9, 12, 40])
def test_jumps_survive_as_long_as_a_third_of_the_places_is_enough_for_them(budget):
    jumps = [111, 500, 777]
    assert set(jumps) <= set(kept(1000, budget, jumps))


def test_many_jumps_leave_places_for_others():
    jumps = list(range(200, 1000, 100))
    steps = kept(1000, 9, jumps)
    assert set(jumps[:3]) <= set(steps)
    assert len(set(steps) - set(jumps)) > 3


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 4, 17])
def test_first_and_last_stay_whatever_the_budget(budget):
    steps = kept(50, budget, [20])
    assert (steps[0], steps[-1]) == (0, 50)
    assert len(steps) == max(budget, 2)


def test_nothing_is_far_from_a_snapshot():
    """However unequal, no gap is more than three times what equal ones would be."""
    for budget in (10, 20, 40, 100):
        assert np.diff(kept(1000, budget)).max() <= 3.0 * 1000 / (budget - 1)


def test_the_gap_that_is_least_needed_goes_by_hand():
    """Length 16: step 4 would leave a gap of 8, step 8 one of 6, and step 10, six before the end, one of 8."""
    steps = np.array([0, 4, 8, 10, 16])
    np.testing.assert_allclose(
        rundir.needed(steps, []), [8 / (4 / 16 + 1 / 8), 6 / (8 / 16 + 1 / 8), 8 / (6 / 16 + 1 / 8)]
    )
    assert surplus(dict.fromkeys(steps.tolist(), SIZE), 4) == [8]
    assert rundir.needed(steps, [8])[1] == np.inf
    assert surplus(dict.fromkeys(steps.tolist(), SIZE), 4, [8]) != [8]


def test_sizes_count_not_numbers():
    sizes = {0: SIZE, 1: 5 * SIZE, 2: SIZE, 3: SIZE, 4: SIZE}
    assert surplus(sizes, 9) == []
    dropped = surplus(sizes, 8.9)
    assert sum(size for step, size in sizes.items() if step not in dropped) <= 8.9e6


def test_they_are_not_more_than_can_be_listed_quickly():
    sizes = dict.fromkeys(range(rundir.MOST + 7), 1)
    assert len(surplus(sizes, 256.0)) == 7


def test_the_same_steps_stay_every_time():
    assert np.array_equal(kept(700, 30, [250]), kept(700, 30, [250]))


# --- real runs ------------------------------------------------------------------------------------------------------

SHOCK = 61
"""The step whose samples are out of all proportion."""


def samples():
    X = np.random.default_rng(0).normal(size=(480, 4))
    X[4 * (SHOCK - 1) : 4 * SHOCK] *= 30.0
    return X, np.stack([X.sum(axis=1), X[:, 0]], axis=1)


def shocked(run_dir=None, callbacks=(), model=None, **options):
    """120 steps of four samples in order, a snapshot every second step."""
    settings = {"loss": "mse", "optimizer": bl.SGD(0.01), "epochs": 1, "batch_size": 4, "shuffle": False}
    settings |= {"snapshot_every": 2, "progress": False, "run_dir": run_dir, "callbacks": callbacks}
    return bl.fit(model or mlp(outputs=2), samples(), **settings | options)


def of_one(tmp_path):
    """Bytes of the largest snapshot of such a run."""
    return max(p.stat().st_size for p in RunDir(shocked(tmp_path / "one").dir).snapshots().values())


def test_the_folder_is_within_the_budget_after_every_snapshot(tmp_path):
    size = of_one(tmp_path)
    budget, seen = 14.5 * size, []

    def weigh(event):
        if isinstance(event, SnapshotSaved):
            files = list((tmp_path / "r" / "snapshots").iterdir())
            seen.append((len(files), sum(p.stat().st_size for p in files)))

    shocked(tmp_path / "r", [weigh], snapshot_mb=budget / 1e6)
    assert len(seen) > 60
    assert all(weight <= budget for _, weight in seen)
    assert max(count for count, _ in seen) >= 14
    assert seen[-1][0] >= 14, "and not emptier than it must be"


def test_a_jump_of_the_loss_keeps_the_snapshots_near_it(tmp_path):
    run = shocked(tmp_path / "r", snapshot_mb=20.5 * of_one(tmp_path) / 1e6)
    steps = np.array(run.snapshot_steps())
    assert run.nearest(120).jumps["found"][0][0] == SHOCK - 1
    assert (steps[0], steps[-1]) == (0, 120)
    assert SHOCK - 1 in steps
    assert 20 <= len(steps) <= 24
    assert gap_around(steps, SHOCK - 1) < gap_around(steps, 90)


def test_in_memory_they_are_thinned_alike():
    all_of_them = shocked().place.kept
    memory = Memory(20.5 * all_of_them[60].nbytes / 1e6)
    for progress in all_of_them.values():
        memory.save(progress)
    steps = list(memory.snapshots())
    assert 20 <= len(steps) <= 22
    assert {0, SHOCK - 1, 120} <= set(steps)
    assert memory.sizes.keys() == memory.kept.keys()
    assert sum(memory.sizes.values()) <= memory.budget_mb * 1e6


def test_every_step_of_a_thinned_run_is_replayed_bit_for_bit(tmp_path):
    live = {}
    model = mlp(outputs=2)

    def copy(event):
        if isinstance(event, StepDone):
            live[event.step] = {n: p.tobytes() for n, p in model.params.items()}

    shocked(tmp_path / "r", [copy], model, snapshot_mb=9.5 * of_one(tmp_path) / 1e6)
    run = bl.open_run(tmp_path / "r", data=samples())
    assert 5 <= len(run.snapshot_steps()) <= 10
    assert all(equal for _, equal in run.verify())
    for step in range(1, 121):
        trace = run.at(step)
        assert {n: p.tobytes() for n, p in trace.update.params.items()} == live[step], step


def test_a_resumed_run_knows_the_jumps_that_it_had(tmp_path):
    whole = shocked(tmp_path / "whole")
    stop = lambda e: "stop" if isinstance(e, StepDone) and e.step == 75 else None  # noqa: E731
    shocked(tmp_path / "parts", [stop])
    place = RunDir(tmp_path / "parts")
    last = place.last()
    last.reason = "interrupted"
    place.save(last)
    shocked(tmp_path / "parts", resume=True)
    assert place.last().jumps == whole.place.last().jumps
    assert whole.place.last().jumps["found"]


def test_thousands_of_epochs_keep_a_bounded_number(monkeypatch):
    monkeypatch.setattr(rundir, "MOST", 20)
    X = np.eye(4)
    run = bl.fit(mlp(), (X, [0, 1, 2, 0]), loss="softmax_cross_entropy", epochs=200, batch_size=4, progress=False)
    assert len(run.snapshot_steps()) == 20
    assert run.place.sizes.keys() == run.place.kept.keys()
    assert run.at(101).step == 101
