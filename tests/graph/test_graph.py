"""Graphs as data: the printer, the checker on graphs made wrong by hand, and what depends on what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import GraphError, InputError
from backlit.graph import Builder, Node, Value

LISTING = """\
input     x: float32[2, 3]
input     y: float32[2]
parameter dense1.W: float32[4, 3]
parameter dense1.b: float32[4]
parameter batchnorm1.gamma: float32[4]
parameter batchnorm1.beta: float32[4]
parameter dense2.W: float32[1, 4] (frozen)
parameter dense2.b: float32[1] (frozen)
state     batchnorm1.running_mean: float32[4]
state     batchnorm1.running_var: float32[4]
mask      dropout1.mask: float32[2, 4] rate=0.25
node      dense1.z: float32[2, 4] = linear(x, dense1.W, dense1.b)
node      batchnorm1.a: float32[2, 4], batchnorm1.mean: float32[4], batchnorm1.var: float32[4] = \
batchnorm(dense1.z, batchnorm1.gamma, batchnorm1.beta, eps=1e-05)
node      batchnorm1.running_mean.next: float32[4] = \
running_average(batchnorm1.running_mean, batchnorm1.mean, momentum=0.1, scale=1.0)
node      batchnorm1.running_var.next: float32[4] = \
running_average(batchnorm1.running_var, batchnorm1.var, momentum=0.1, scale=2.0)
node      dropout1.a: float32[2, 4] = dropout(batchnorm1.a, dropout1.mask)
node      dense2.z: float32[2, 1] = linear(dropout1.a, dense2.W, dense2.b)
node      target: float32[2, 1] = reshape(y, shape=(2, 1))
node      loss: float32[], loss.mass: float32[] = mse(dense2.z, target, -)
update    batchnorm1.running_mean ← batchnorm1.running_mean.next
update    batchnorm1.running_var ← batchnorm1.running_var.next
output    loss, dense2.z, loss.mass"""


def test_the_listing_of_a_graph():
    model = bl.Sequential(bl.Dense(4), bl.BatchNorm(), bl.Dropout(0.25), bl.Dense(1, trainable=False)).build((3,))
    graph = model.graph([((2, 3), "float32")], training=True, loss=bl.MSE(), target=((2,), "float32"))
    assert str(graph) == LISTING


def test_constants_are_listed():
    b = Builder(dtype="float64")
    assert str(b.graph((b.input("x", (2,)) ** 2,))).splitlines()[1:3] == [
        "constant  constant1: float64[]",
        "node      power1: float64[2] = power(x, constant1)",
    ]


# --- the checker ------------------------------------------------------------------------------------------------------


@pytest.fixture
def graph():
    """relu1 = relu(x), exp1 = exp(relu1), add1 = add(exp1, x)."""
    b = Builder()
    x = b.input("x", (2, 3))
    return b.graph((np.exp(bl.ops.relu(x)) + x,))


def test_a_good_graph_passes_and_is_returned(graph):
    assert graph.check() is graph
    assert [n.name for n in graph.nodes] == ["relu1", "exp1", "add1"]


def test_use_before_made(graph):
    relu, exp, add = graph.nodes
    with pytest.raises(GraphError, match=r"BL201\] exp1: the value 'relu1' is used before"):
        replace(graph, nodes=(exp, relu, add)).check()


def test_a_cycle_is_shown(graph):
    relu, exp, add = graph.nodes
    looped = replace(graph, nodes=(replace(relu, inputs=("exp1",)), exp, add))
    with pytest.raises(GraphError, match=r"BL201\] relu1[\s\S]*got: +relu1 → exp1 → relu1\n"):
        looped.check()


def test_a_node_of_itself(graph):
    relu, exp, add = graph.nodes
    with pytest.raises(GraphError, match=r"BL201\] relu1[\s\S]*relu1 → relu1\n"):
        replace(graph, nodes=(replace(relu, inputs=("relu1",)), exp, add)).check()


def test_made_twice(graph):
    relu, exp, add = graph.nodes
    with pytest.raises(GraphError, match=r"BL202\] relu1: the value 'relu1' is made twice"):
        replace(graph, nodes=(relu, relu, exp, add)).check()


def test_a_leaf_made_by_a_node(graph):
    relu, *_ = graph.nodes
    with pytest.raises(GraphError, match=r"BL202\] x"):
        replace(graph, nodes=(replace(relu, outputs=("x",)),)).check()


def test_an_unknown_value(graph):
    relu, exp, add = graph.nodes
    with pytest.raises(GraphError, match="'nothing'"):
        replace(graph, nodes=(relu, exp, replace(add, inputs=("exp1", "nothing")))).check()


def test_a_wrong_shape(graph):
    values = {**graph.values, "exp1": Value("exp1", (3, 2), "float32")}
    with pytest.raises(GraphError, match=r"BL203\] exp1[\s\S]*\(\(2, 3\),\)[\s\S]*\(\(3, 2\),\)"):
        replace(graph, values=values).check()


def test_a_wrong_dtype(graph):
    values = {**graph.values, "exp1": Value("exp1", (2, 3), "float64")}
    with pytest.raises(GraphError, match=r"BL217\] exp1[\s\S]*float32[\s\S]*float64"):
        replace(graph, values=values).check()


def test_the_dtype_of_a_comparison_is_its_own():
    b = Builder()
    mask = b.input("x", (2,)) > 0
    graph = b.graph((mask,))
    with pytest.raises(GraphError, match=r"BL217\] greater1[\s\S]*bool[\s\S]*float32"):
        replace(graph, values={**graph.values, mask.name: Value(mask.name, (2,), "float32")}).check()


@pytest.mark.parametrize(
    ("array", "says"), [(np.ones(3), r"BL203\] constant1[\s\S]*\(3,\)"), (np.ones(2, "float32"), r"BL217\] constant1")]
)
def test_a_constant_that_is_not_as_stated(array, says):
    b = Builder(dtype="float64")
    graph = b.graph((b.input("x", (2,)) * np.array([1.0, 2.0]),))
    with pytest.raises(GraphError, match=says):
        replace(graph, constants={"constant1": array}).check()


def test_an_update_that_does_not_fit_its_state():
    b = Builder()
    state = b.state("s", (2,), lambda _rng, shape: np.zeros(shape))
    b.update(state, np.sum(b.input("x", (2,))))
    with pytest.raises(GraphError, match=r"BL203\] s[\s\S]*\(\),[\s\S]*\(2,\)"):
        b.graph((state * 1.0,))


@pytest.mark.parametrize("name", ["x", "exp1", "add1"])
def test_a_value_that_is_not_described(graph, name):
    values = {n: v for n, v in graph.values.items() if n != name}
    with pytest.raises(GraphError, match=rf"BL216\] {name}: .*'{name}'"):
        replace(graph, values=values).check()


def test_a_leaf_of_a_shape_that_a_rule_cannot_take(graph):
    values = {**graph.values, "x": Value("x", (4,), "float32")}
    with pytest.raises((GraphError, InputError), match=r"relu1"):
        replace(graph, values=values).check()


@pytest.mark.parametrize("part", [{"outputs": ("nothing",)}, {"updates": {"x": "nothing"}}])
def test_an_output_that_nobody_makes(graph, part):
    with pytest.raises(GraphError, match=r"BL201\] outputs[\s\S]*'nothing'"):
        replace(graph, **part).check()


# --- what depends on what ---------------------------------------------------------------------------------------------


def test_only_differentiable_ways_are_walked():
    b = Builder()
    x, y = b.input("x", (2,)), b.input("y", (2,))
    mask = x > 0
    chosen = np.where(mask, y, 0.0)
    graph = b.graph((chosen,))
    assert graph.depends_on(("x",)) == {"x"}
    assert graph.depends_on(("y",)) == {"y", chosen.name}


def test_auxiliary_outputs_have_no_gradient():
    b = Builder()
    logits, labels = b.input("x", (2, 3)), b.input("labels", (2,), "int64")
    loss, mass, p = b.add("softmax_cross_entropy", logits, labels, name="loss")
    assert b.graph((loss, mass, p)).depends_on(("x",)) == {"x", "loss"}


def test_absent_inputs_are_no_operands():
    node = Node("linear", ("x", "W", None), ("z",), {})
    assert (node.operands, node.name) == (("x", "W"), "z")
