"""Schedules: values by hand, ends, purity, and a state that JSON can hold."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit import optim

PURE = [
    optim.Constant(0.2),
    optim.StepDecay(0.2, every=2, factor=0.5),
    optim.Exponential(0.2, factor=0.9),
    optim.Cosine(0.2, floor=0.01),
    optim.OneCycle(0.2),
    optim.OneCycle(0.2, curve="linear", rise=0.0),
    optim.Warmup(optim.Cosine(0.2), 3),
]
EVERY = [*PURE, optim.ReduceOnPlateau(0.2), optim.Warmup(optim.ReduceOnPlateau(0.2, metric="val_loss"), 3)]


def test_by_hand():
    assert optim.Constant(0.2)(7, 10, 5) == 0.2
    decay = optim.StepDecay(1.0, every=2, factor=0.5)
    assert [decay(step, 18, 3) for step in (1, 6, 7, 12, 13)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert optim.Exponential(1.0, factor=0.5)(4, 9, 3) == 0.5
    cosine = optim.Cosine(1.0, floor=0.2)
    assert [cosine(step, 4, 1) for step in (1, 3, 5)] == pytest.approx([1.0, 0.6, 0.2], abs=1e-15)
    assert cosine(2, 4, 1) == pytest.approx(0.2 + 0.4 * (1 + math.sqrt(0.5)))
    warm = optim.Warmup(optim.Constant(1.0), 4, start=0.2)
    assert [warm(step, 100, 10) for step in (1, 2, 3, 4, 5, 6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_one_cycle_peaks_and_ends_where_it_should():
    schedule = optim.OneCycle(1.0, rise=0.25, start_divisor=10.0, end_divisor=100.0)
    rates = [schedule(step, 40, 4) for step in range(1, 41)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] == pytest.approx(1e-3)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)


@pytest.mark.parametrize("schedule", EVERY, ids=str)
@settings(max_examples=40, deadline=None)
@given(total=st.integers(1, 60), over=st.integers(0, 5), per_epoch=st.integers(1, 9), data=st.data())
def test_every_rate_is_a_positive_number_at_most_the_given_one(schedule, total, over, per_epoch, data):
    step = data.draw(st.integers(1, total + over))
    rate = schedule(step, total, per_epoch)
    assert type(rate) is float
    assert -1e-17 <= rate <= 0.2 * (1 + 1e-12)
    assert rate == schedule.rate(schedule.initial(), step, total, per_epoch)


@pytest.mark.parametrize("schedule", PURE, ids=str)
def test_pure_schedules_have_nothing_to_remember(schedule):
    assert schedule.initial() == {}
    assert schedule.observe({}, 1.0) == {}
    assert schedule.monitor is None


@pytest.mark.parametrize("schedule", [optim.Cosine(0.2, floor=0.01), optim.OneCycle(0.2)], ids=str)
def test_beyond_the_end_the_rate_stays(schedule):
    assert schedule(101, 100, 10) <= schedule(100, 100, 10)
    assert schedule(150, 100, 10) == schedule(101, 100, 10)


def test_plateau_by_hand_through_json():
    schedule = optim.ReduceOnPlateau(1.0, factor=0.5, patience=1, floor=0.2)
    state, rates = schedule.initial(), []
    for metric in [3.0, 2.0, 2.0, 2.0, 1.0, math.nan, 1.0, 1.0, 1.0, 1.0, 1.0]:
        before = dict(state)
        new = schedule.observe(state, metric)
        assert state == before
        state = json.loads(json.dumps(new, allow_nan=False))
        rates.append(schedule.rate(state, 1, 1, 1))
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_a_first_metric_that_is_no_number_is_not_the_best():
    for mode, bad in (("min", math.inf), ("max", -math.inf), ("min", math.nan), ("max", math.nan)):
        schedule = optim.ReduceOnPlateau(1.0, mode=mode)
        state = schedule.observe(schedule.initial(), bad)
        assert (state["best"], state["bad"]) == (None, 1)
        assert schedule.observe(state, 5.0)["best"] == 5.0


@pytest.mark.parametrize(("mode", "metrics"), [("min", [-1.0, -0.99995, -1.2]), ("max", [-1.0, -1.00005, -0.8])])
def test_below_zero_a_step_back_is_no_improvement(mode, metrics):
    schedule = optim.ReduceOnPlateau(1.0, mode=mode)
    state, bests = schedule.initial(), []
    for metric in metrics:
        state = schedule.observe(state, metric)
        bests.append(state["best"])
    assert bests == [metrics[0], metrics[0], metrics[2]]


def test_warm_up_watches_what_it_wraps():
    schedule = optim.Warmup(optim.ReduceOnPlateau(1.0, patience=0, metric="val_loss"), 2, start=0.5)
    assert schedule.monitor == "val_loss"
    state = schedule.observe(schedule.observe(schedule.initial(), 1.0), 1.0)
    assert [schedule.rate(state, step, 9, 3) for step in (1, 2, 3)] == pytest.approx([0.05, 0.075, 0.1])


def test_an_optimizer_carries_a_number_or_a_schedule():
    cosine = optim.Cosine(0.1)
    assert optim.Adam(cosine).schedule is cosine
    assert optim.Adam(0.3).schedule == optim.Constant(0.3)
