"""Jumps of the loss: what is one, what is not, and that it does not matter how the steps came or were interrupted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from backlit.train import jumps


def found(losses, *, every=1, seen=None):
    """The jumps of a run with these losses, an interval closed every so many steps."""
    seen = {} if seen is None else seen
    for step, loss in enumerate(losses, 1):
        seen = jumps.watch(seen, [loss])
        seen = jumps.close(seen, step) if step % every == 0 else seen
    return jumps.steps_of(seen)


def noisy(count, seed=0):
    """A loss as training shows it: falling fast, then slowly, with noise in proportion."""
    rng = np.random.default_rng(seed)
    falling = 0.1 + 2.2 / (1 + 0.1 * np.arange(count))
    return (falling * np.exp(0.1 * rng.normal(size=count))).tolist()


# --- what is a jump -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_loss_that_falls_with_noise_has_no_jump(seed):
    assert found(noisy(2000, seed), every=20) == []


@pytest.mark.parametrize("times", [20.0, 1e3, 1e30])
def test_a_spike_is_a_jump_known_by_the_step_before_its_interval(times):
    losses = noisy(400)
    losses[256] *= times  # step 257, in the interval of the steps 241 … 260
    assert found(losses, every=20) == [240]


def test_a_fall_is_a_jump_too_and_what_stays_there_has_jumped_once():
    assert found([1.0, 1.01, 0.99, 1.0, 1.02, *[0.1] * 40]) == [5]


def test_by_hand():
    recent = [1.0, 2.0, 3.0, 4.0, 5.0]  # median 3, distances 2 1 0 1 2, their median 1
    bound = 8 * 1.4826 * 1 + 0.25 * 3
    assert jumps.leap(recent, 3 + 0.999 * bound) == 0
    assert jumps.leap(recent, 3 + 1.5 * bound) == pytest.approx(0.6)
    assert jumps.leap(recent, 3 - 4 * bound) == pytest.approx(0.8)


def test_a_loss_that_never_moves_may_change_by_a_quarter():
    assert jumps.leap([1.0] * 9, 1.25) == 0
    assert jumps.leap([1.0] * 9, 1.26) > 0.5
    assert jumps.leap([0.0] * 9, 0.0) == 0
    assert jumps.leap([0.0] * 9, 1e-9) == 1


def test_nothing_is_a_jump_before_there_is_something_to_compare_with():
    assert found([1.0, 1e9, 1.0, 1e-9]) == []
    assert jumps.leap([1.0] * (jumps.FEWEST - 1), 99.0) == 0


def test_the_largest_are_remembered_the_largest_first():
    losses = [1.0] * 600
    places = [50 * k for k in range(1, 12)]
    for k, place in enumerate(places):
        losses[place] = 10.0 + (7 * k) % 11
    told = found(losses)
    want = sorted(places, key=lambda p: -losses[p])[: jumps.MOST]
    assert told == want


def test_what_is_known_stays_small_and_is_json():
    seen = {}
    for step, loss in enumerate(noisy(3000), 1):
        seen = jumps.close(jumps.watch(seen, [loss * (100 if step % 97 == 0 else 1)]), step)
    text = json.dumps(seen, allow_nan=False)
    assert len(text) < 2000
    assert json.loads(text) == seen


def test_it_does_not_matter_how_the_steps_are_grouped():
    losses = noisy(400)
    losses[300] *= 50
    one, many = {}, {}
    for k in range(0, 400, 20):
        for loss in losses[k : k + 20]:
            one = jumps.watch(one, [loss])
        many = jumps.watch(jumps.watch(many, losses[k : k + 7]), losses[k + 7 : k + 20])
        one, many = jumps.close(one, k + 20), jumps.close(many, k + 20)
        assert one == many
    assert jumps.steps_of(one) == [300]


def test_what_is_known_is_not_changed_in_place():
    seen = jumps.close(jumps.watch({}, [1.0]), 1)
    before = json.dumps(seen)
    jumps.close(jumps.watch(seen, [2.0]), 2)
    assert json.dumps(seen) == before


def test_an_interval_without_steps_says_nothing():
    seen = jumps.close(jumps.watch({}, [1.0]), 1)
    assert jumps.close(seen, 1) == seen
