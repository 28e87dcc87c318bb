"""Timing with a clock of its own: what is timed, how often, and on which numbers."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.glass import timing
from backlit.glass.cost import step_graph
from backlit.glass.memory import Walk
from backlit.glass.timing import REPEATS, measure, samples
from backlit.nn import losses


class Clock:
    """Each call of the timed function takes the next of the ``durations``; reading the clock takes nothing."""

    def __init__(self, *durations):
        self.durations, self.now, self.calls = list(durations), 0.0, 0

    def __call__(self):
        return self.now

    def work(self):
        self.calls += 1
        self.now += self.durations.pop(0)
        return self.calls


def network(x):
    h = bl.Dense(4, "tanh")(x)
    return bl.Dense(3)(bl.Dropout(0.5)(h + bl.Dense(4, "relu")(h)))


def step(make=network, loss="softmax_cross_entropy", batch=6):
    model = bl.Model(make).build((5,), seed=0)
    return model, step_graph(model, batch, losses.get(loss))


def test_the_median_is_taken_after_one_call_that_warms_up(monkeypatch):
    clock = Clock(1000.0, 5.0, 1.0, 9.0, 2.0, 8.0, 3.0, 700.0)
    monkeypatch.setattr(timing, "perf_counter", clock)
    assert timing._timed(clock.work) == (1, 5.0)
    assert clock.calls == 1 + REPEATS


def test_every_node_is_timed_forward_and_those_on_the_way_back_again():
    model, graph = step()
    back = Walk(graph).back
    found = measure(model, graph, back, bl.Adam(1e-3))
    assert set(found.forward) == {n.name for n in graph.nodes}
    assert set(found.backward) == {n.name for n, _ in back}
    assert set(found.update) == set(graph.trainable) == set(model.params)
    times = [*found.forward.values(), *found.backward.values(), *found.update.values()]
    assert all(0 < t < 1 for t in times)


def test_the_numbers_that_are_timed_are_those_of_a_step():
    """Each gradient that the walk collects is the one that the whole step gives."""
    model, graph = step()
    values = timing.reference.leaves(graph, samples(graph) | model.params | model.state, seed=model.seed, step=1)
    for node in graph.nodes:
        timing._forward(node, values)
    d = {graph.outputs[0]: np.ones_like(values[graph.outputs[0]])}
    for node, given in Walk(graph).back:
        timing._backward(node, given, values, d)
    whole, want = timing.reference.value_and_grad(graph, values, graph.trainable)
    assert float(values[graph.outputs[0]]) == float(whole[graph.outputs[0]])
    for name in (*graph.trainable, "dense1.a"):
        np.testing.assert_array_equal(d[name], want[name], err_msg=name)


def test_measuring_does_not_train():
    model, graph = step()
    before = {n: a.copy() for n, a in (model.params | model.state).items()}
    measure(model, graph, Walk(graph).back, bl.SGD(10.0))
    for name, array in (model.params | model.state).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("loss", "dtype", "shape"),
    [("softmax_cross_entropy", "int64", (6,)), ("mse", "float32", (6, 3)), ("binary_cross_entropy", "float32", (6, 3))],
)
def test_targets_are_of_the_kind_that_the_loss_takes(loss, dtype, shape):
    _, graph = step(loss=loss)
    found = samples(graph)
    assert set(found) == set(graph.inputs)
    assert (found["y"].dtype.name, found["y"].shape) == (dtype, shape)
    if dtype == "int64":
        assert set(np.unique(found["y"])) <= {0, 1, 2}
    else:
        assert found["y"].min() >= 0
        assert found["y"].max() < 1


def test_inputs_are_normal_numbers_and_the_same_each_time():
    _, graph = step(batch=400)
    x = samples(graph)["x"]
    assert (x.shape, x.dtype.name) == ((400, 5), "float32")
    assert abs(float(x.mean())) < 0.1
    assert float(x.std()) == pytest.approx(1.0, abs=0.1)
    np.testing.assert_array_equal(samples(graph)["x"], x)


def test_two_inputs_are_not_the_same_numbers():
    model = bl.Model(lambda a, b: bl.Dense(2)(a) * bl.Dense(2)(b)).build([(3,), (3,)], seed=0)
    found = samples(step_graph(model, 4, losses.get("mse")))
    first, second = (found[name] for name in list(found)[:2])
    assert not np.array_equal(first, second)


def test_a_graph_without_a_loss_has_no_targets():
    model = bl.Model(network).build((5,), seed=0)
    graph = step_graph(model, 2, None)
    assert set(samples(graph)) == {"x"}
    found = measure(model, graph, Walk(graph).back, bl.SGD(0.1))
    assert set(found.update) == set(model.params)


def test_a_parameter_without_a_gradient_is_updated_with_zeros():
    """One that the loss does not depend on still has an update to be timed."""
    seen = []

    class Watching(bl.SGD):
        def update(self, xp, p, g, state, *, lr, t):
            seen.append(g)
            return super().update(xp, p, g, state, lr=lr, t=t)

    timing._update(np.ones(3), {}, "w", Watching(0.1))
    assert len(seen) == 1 + REPEATS
    assert all(not g.any() and g.shape == (3,) for g in seen)


def test_numbers_that_overflow_are_timed_without_a_warning():
    model = bl.Model(lambda x: np.exp(bl.Dense(3)(x) * 1e4)).build((5,), seed=0)
    graph = step_graph(model, 3, losses.get("mse"))
    assert measure(model, graph, Walk(graph).back, bl.SGD(0.1)).forward
