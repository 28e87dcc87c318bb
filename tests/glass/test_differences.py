"""Central differences against derivatives known in closed form: accurate, honest about their error, wary of kinks."""

from __future__ import annotations

import math

import numpy as np
import pytest

import backlit as bl
from backlit.glass.differences import LADDER, Derivative, Point, derivative
from backlit.nn.grad import loss_graph


def along(f):
    """A smooth line h -> f(h) as points without kinks."""
    return lambda h: Point(float(f(h)), {})


def of(f) -> Derivative:
    return derivative(along(f), along(f)(0.0))


KNOWN = {
    "a constant": (lambda h: 3.0, 0.0),
    "a line": (lambda h: 2.0 - 7.0 * h, -7.0),
    "a square": (lambda h: (1.5 + h) ** 2, 3.0),
    "a cubic": (lambda h: (1.0 + h) ** 3, 3.0),
    "exp": (lambda h: math.exp(1.0 + h), math.e),
    "log": (lambda h: math.log(0.3 + h), 1 / 0.3),
    "sin": (lambda h: math.sin(20.0 * h), 20.0),
    "1/x": (lambda h: 1.0 / (0.5 + h), -4.0),
    "√": (lambda h: math.sqrt(0.04 + h), 2.5),
    "tanh, steep": (lambda h: math.tanh(200.0 * h), 200.0),
    "tanh, flat": (lambda h: math.tanh(4.0 + h), 1 - math.tanh(4.0) ** 2),
    "large values": (lambda h: 1e8 + 1e6 * math.sin(h), 1e6),
    "small values": (lambda h: 1e-12 * math.exp(h), 1e-12),
    "a large constant": (lambda h: 1e6 + math.exp(h), 1.0),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_error_is_no_larger_than_estimated(name):
    f, slope = KNOWN[name]
    found = of(f)
    assert abs(found.value - slope) <= 10 * found.error
    assert found.step in LADDER
    assert found.kinks == {}


@pytest.mark.parametrize("name", [n for n in KNOWN if n != "a large constant"])
def test_it_is_accurate(name):
    """Far better than the check's tolerance of 1e-6, also where one fixed step would be bad."""
    f, slope = KNOWN[name]
    assert of(f).value == pytest.approx(slope, rel=2e-9, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1.0, 1e3])
def test_the_step_is_chosen_to_fit(scale):
    """A feature of this width: steps beyond it are wrong, and known to be."""
    found = of(lambda h: math.sin(h / scale))
    assert abs(found.value * scale - 1.0) <= 10 * found.error * scale
    if 1e-3 <= scale <= 1.0:
        assert found.value * scale == pytest.approx(1.0, rel=1e-8)


@pytest.mark.parametrize("seed", range(40))
def test_the_estimate_is_honest_on_random_curves(seed):
    rng = np.random.default_rng(seed)
    frequency, phase = np.exp(rng.uniform(-1, 4, 3)), rng.uniform(0, 6, 3)
    amplitude = np.exp(rng.uniform(-3, 3, 3))
    found = of(lambda h: np.sum(amplitude * np.sin(frequency * h + phase)))
    slope = np.sum(amplitude * frequency * np.cos(phase))
    assert abs(found.value - slope) <= 10 * found.error
    assert found.error <= 1e-6 * np.linalg.norm(amplitude * frequency)


def test_an_estimate_that_is_noise_says_so():
    """The slope is lost in the rounding of the values; the estimate is as large as the error."""
    found = of(lambda h: 1e16 + math.exp(h))
    assert found.error > 0.1


def test_rounding_noise_enters_the_estimate():
    assert of(lambda h: 1e6 + math.exp(h)).error > 1e-9


# --- kinks ----------------------------------------------------------------------------------------------------------


def bent(at, slope=1.0):
    """A line with a kink at ``at``; the piece it lies on is counted as a rule's would be."""
    return lambda h: Point(slope * max(h - at, 0.0), {"bend": np.array([h > at])})


def test_a_kink_within_the_smallest_step_stops_it():
    f = bent(0.0)
    found = derivative(f, f(0.0))
    assert math.isnan(found.value)
    assert found.error == math.inf
    assert found.kinks == {"bend": 1}


@pytest.mark.parametrize("at", [-5e-3, -5e-5, 5e-6, 3e-4, 0.5])
def test_steps_that_stay_on_one_side_are_used(at):
    f = bent(at, slope=3.0)
    found = derivative(f, f(0.0))
    assert found.kinks == {}
    assert found.step < abs(at)
    assert found.value == pytest.approx(3.0 if at < 0 else 0.0, rel=1e-9)


def test_a_kink_that_is_not_looked_for_would_be_missed():
    """Without the pieces the same function gives half the slope, with an estimate that looks good."""
    found = of(lambda h: 3.0 * max(h, 0.0))
    assert found.value == pytest.approx(1.5)
    assert found.error < 1e-6


def test_entries_that_crossed_are_counted_for_each_node():
    a, b = (
        Point(0.0, {"r": np.array([0, 1, 1]), "s": np.array([2])}),
        Point(0.0, {"r": np.array([1, 1, 0]), "s": np.array([2])}),
    )
    assert a.crossed(b) == {"r": 2}
    assert a.crossed(a) == {}


def test_points_of_a_graph_know_their_kinks():
    model = bl.Sequential(bl.Dense(3, "relu"), bl.Dense(2, "tanh"), bl.Dense(1)).build((2,), dtype="float64")
    graph, env = loss_graph(model, np.ones((4, 2)), np.zeros(4), loss="mse")
    point = Point.of(graph, env)
    z = np.ones((4, 2)) @ model.params["dense1.W"].T
    assert list(point.pieces) == ["dense1.a"]
    assert np.array_equal(point.pieces["dense1.a"] == point.pieces["dense1.a"].max(), z > 0) or (z > 0).all()
    moved = Point.of(graph, env | {"dense1.b": -2 * z[0]})
    assert point.crossed(moved) == {"dense1.a": 12}
    assert point.loss == pytest.approx(float(np.mean(model.predict(np.ones((4, 2))) ** 2)), rel=1e-12)
