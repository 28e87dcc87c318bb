"""Open boxes: the numbers inside a fused rule, against NumPy and against differences of the whole step."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError, UnknownNameError
from backlit.core.i18n import use_language
from backlit.glass.openbox import opened
from glass.graphs import batch, of_everything, of_mlp


def by_rule(box, rule):
    return [n.name for n in box.graph.nodes if n.rule == rule]


def test_the_steps_of_softmax_cross_entropy_by_numpy():
    trace = of_mlp()
    box = opened(trace, "loss")
    z, y = trace["dense2.z"], trace["y"]
    logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    (name,) = by_rule(box, "log_softmax")
    np.testing.assert_allclose(box[name], logs, rtol=1e-12)
    assert box.loss == pytest.approx(-logs[np.arange(6), y].mean(), rel=1e-13)
    assert box.loss == pytest.approx(trace.loss, rel=1e-13)
    np.testing.assert_allclose(box.grad("dense2.z"), (np.exp(logs) - np.eye(3)[y]) / 6, rtol=1e-12, atol=1e-16)


def test_the_gradient_inside_is_that_of_the_steps_loss():
    """Of a hidden layer, by differences of the whole step's loss with what is inside moved."""
    model = bl.Sequential(bl.Dense(3), bl.LayerNorm(), bl.Dense(2)).build((4,), seed=1, dtype="float64")
    X, y = batch(classes=2)
    trace = bl.trace(model, X, y, loss="softmax_cross_entropy")
    box = opened(trace, "layernorm1.a")
    W, b = model.params["dense2.W"], model.params["dense2.b"]

    def loss(z):
        mean, var = z.mean(axis=1, keepdims=True), z.var(axis=1, keepdims=True)
        out = ((z - mean) / np.sqrt(var + 1e-5)) @ W.T + b
        return -(out - np.log(np.exp(out).sum(axis=1, keepdims=True)))[np.arange(6), y].mean()

    z, h = trace["dense1.z"], 1e-5
    moved = np.zeros_like(z)
    for at in np.ndindex(z.shape):
        one = np.zeros_like(z)
        one[at] = h
        moved[at] = (loss(z + one) - loss(z - one)) / (2 * h)
    np.testing.assert_allclose(box.grad("dense1.z"), moved, rtol=1e-5, atol=1e-9)


def test_its_last_value_is_the_output_weighted_by_its_gradient():
    trace = of_everything()
    box = opened(trace, "batchnorm1.a")
    want = np.sum(trace["batchnorm1.a"] * trace.grad("batchnorm1.a"))
    assert box.loss == pytest.approx(want, rel=1e-10)
    np.testing.assert_allclose(box.grad(box.graph.outputs[1]), trace.grad("batchnorm1.a"), rtol=1e-12)


@pytest.mark.parametrize("name", ["batchnorm1.a[3,1]", "batchnorm1.a", "batchnorm1.mean", "batchnorm1.var[2]"])
def test_any_output_of_a_node_opens_it(name):
    box = opened(of_everything(), name)
    assert box.notes["opened"] == "batchnorm1.a"
    assert len(by_rule(box, "var")) + len(by_rule(box, "mean")) >= 1


def test_an_activation_without_a_name_of_its_own_is_z_and_opens_the_layer():
    box = opened(of_mlp(), "dense2.a")
    assert set(box.graph.inputs) == {"dense1.a", "dense2.W", "dense2.b"}
    assert by_rule(box, "matmul")


def test_what_is_absent_stays_absent():
    model = bl.Sequential(bl.Dense(3, bias=False)).build((4,), seed=0, dtype="float64")
    trace = bl.trace(model, *batch(), loss="softmax_cross_entropy")
    box = opened(trace, "dense1.z")
    assert set(box.graph.inputs) == {"x", "dense1.W"}
    np.testing.assert_allclose(box[box.graph.outputs[1]], trace["x"] @ trace["dense1.W"].T, rtol=1e-13)


def test_an_input_given_twice_is_one_leaf_with_both_gradients():
    """y = linear(x, x): both ways come together in ∂L/∂x."""
    model = bl.Model(lambda x: bl.ops.linear(x, x)).build((4,), dtype="float64")
    X = np.random.default_rng(0).normal(size=(3, 4))
    trace = bl.trace(model, X, np.zeros((3, 3)), loss="mse")
    node = trace.graph.producer[trace.graph.outputs[1]]
    assert node.rule == "linear"
    box = opened(trace, node.name)
    assert box.graph.inputs == ("x",)
    np.testing.assert_allclose(box.grad("x"), trace.grad("x"), rtol=1e-12)


def test_where_no_gradient_comes_back_the_outputs_are_only_added_up():
    model = bl.Sequential(bl.Dense(3, "sigmoid"), bl.Dense(2)).build((4,), seed=0, dtype="float64")
    trace = bl.trace(model, *batch(classes=2), loss="softmax_cross_entropy")
    bare = type(trace)(trace.graph, trace.values, {})
    box = opened(bare, "dense1.a")
    assert box.loss == pytest.approx(trace["dense1.a"].sum(), rel=1e-13)


def test_the_precision_is_the_traces():
    box = opened(of_mlp("float32"), "loss")
    assert {a.dtype.name for a in box.values.values()} == {"float32", "int64", "bool"}


def test_an_open_box_says_what_it_shows():
    box = opened(of_mlp(), "loss")
    assert str(box).startswith("inside loss")
    assert box.step == 1
    with use_language("zh"):
        assert str(box).startswith("loss 的内部")


def test_a_closed_box_names_those_that_open():
    with pytest.raises(InputError) as caught:
        opened(of_mlp(), "x[0,0]")
    assert (caught.value.code, caught.value.part("got")) == ("BL906", "x")
    assert "dense1.z" in caught.value.part("expected")
    assert "loss" in caught.value.part("expected")


def test_a_name_that_does_not_exist_offers_the_nearest():
    with pytest.raises(UnknownNameError, match=r"dense1\.z"):
        opened(of_mlp(), "dense1.x")


def test_inside_ctc_are_the_sums_over_alignments():
    """Every alignment spelled out: after t frames a state holds the log of the sum of all ways to be there."""
    model = bl.Sequential(bl.Dense(3)).build((4, 2), seed=1, dtype="float64")
    X, y = np.random.default_rng(0).normal(size=(2, 4, 2)), np.array([[1, 2], [2, 0]])
    trace = bl.trace(model, X, y, loss="ctc")
    box = opened(trace, "loss")
    assert box.loss == pytest.approx(trace.loss, rel=1e-13)
    np.testing.assert_allclose(box.grad("dense1.z"), trace.grad("dense1.z"), rtol=1e-11, atol=1e-15)
    p = np.exp(trace["dense1.z"]) / np.exp(trace["dense1.z"]).sum(axis=-1, keepdims=True)
    *_, last = [box[name] for name in by_rule(box, "logsumexp")[:-1]]
    ways = [c for c in itertools.product(range(3), repeat=4) if read(c) == [1, 2]]
    want = sum(math.prod(p[0, t, c] for t, c in enumerate(way)) for way in ways)
    ended = np.exp(last[0] + np.log(p[0, 3, [0, 1, 0, 2, 0]]))
    assert ended[3] + ended[4] == pytest.approx(want, rel=1e-12)


def read(alignment):
    """The label of an alignment: repetitions dropped, then blanks."""
    return [c for c, _ in itertools.groupby(alignment) if c]
