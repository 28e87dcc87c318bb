"""Staging: names, shapes, dtypes, constants, shared parameters, layers entered twice."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import BacklitError, GraphError, InputError, UnknownNameError
from backlit.engines import reference
from backlit.graph import Builder, Mask


def ones(_generator, shape):
    return np.ones(shape)


# --- names ------------------------------------------------------------------------------------------------------------


def test_nodes_are_counted_by_rule():
    b = Builder()
    x = b.input("x", (2,))
    assert [n.name for n in (x + x, x * x, x + x, bl.ops.relu(x))] == ["add1", "mul1", "add2", "relu1"]


def test_a_name_of_ones_own():
    b = Builder()
    (y,) = b.add("relu", b.input("x", (2,)), name="mine.a")
    assert y.name == "mine.a"
    with pytest.raises(GraphError, match=r"BL202\] mine\.a"):
        b.add("relu", y, name="mine.a")


def test_several_outputs_share_the_owner():
    b = Builder()
    x = b.input("x", (4, 3))
    gamma, beta = b.parameter("g", (3,), ones), b.parameter("h", (3,), ones)
    assert [v.name for v in b.add("batchnorm", x, gamma, beta, name="batchnorm1.a")] == [
        "batchnorm1.a",
        "batchnorm1.mean",
        "batchnorm1.var",
    ]
    assert [v.name for v in b.add("layernorm", x, gamma, beta)] == ["layernorm1", "layernorm1.mean", "layernorm1.var"]


def test_leaves_have_names_of_their_own():
    b = Builder()
    b.input("x", (2,))
    with pytest.raises(GraphError, match="BL202"):
        b.input("x", (2,))
    with pytest.raises(GraphError, match="BL202"):
        b.parameter("x", (2,), ones)


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(UnknownNameError, match="relu"):
        Builder().add("rleu", 1.0)


# --- leaves -----------------------------------------------------------------------------------------------------------


def test_a_parameter_asked_for_twice_is_one():
    b = Builder()
    first, again = (b.parameter("dense1.W", (2, 3), ones) for _ in range(2))
    assert (first.value, list(b.initializers)) == (again.value, ["dense1.W"])
    with pytest.raises(InputError, match=r"BL206\] dense1\.W[\s\S]*\[2, 3\][\s\S]*\[2, 4\]"):
        b.parameter("dense1.W", (2, 4), ones)


def test_a_state_asked_for_twice_is_one_and_goes_on_from_its_last_update():
    b = Builder()
    mean = b.state("bn.mean", (3,), ones)
    assert b.latest(mean).name == "bn.mean"
    new = mean * 0.5
    b.update(mean, new)
    assert b.state("bn.mean", (3,), ones).name == "bn.mean"
    assert b.latest(mean).name == new.name
    with pytest.raises(InputError, match="BL206"):
        b.state("bn.mean", (4,), ones)


def test_all_kinds_of_leaves_reach_the_graph():
    b = Builder()
    x, s = b.input("x", (2,)), b.state("s", (2,), ones)
    w, f = b.parameter("w", (2,), ones), b.parameter("f", (2,), ones, trainable=False)
    m = b.mask("m", (2,), 0.25)
    y = x * w + f * s * m + np.array([1.0, 2.0], "float32")
    b.update(s, y)
    g = b.graph((y,))
    assert (g.inputs, g.parameters, g.trainable, g.state) == (("x",), ("w", "f"), ("w",), ("s",))
    assert (dict(g.masks), list(g.constants), dict(g.updates)) == ({"m": Mask(0.25)}, ["constant1"], {"s": y.name})
    assert g.leaves == {"x", "w", "f", "s", "m", "constant1"}
    assert g.frozen == {"f"}
    assert [n.name for n in g] == [n.name for n in g.nodes]
    assert g.producer[y.name].rule == "add"


def test_outputs_by_name_or_in_order():
    b = Builder()
    x = b.input("x", (2,))
    y, z = x + 1.0, x * 2.0
    assert b.graph({"sum": y, "product": z}).outputs == (y.name, z.name)
    assert b.graph((z, y)).outputs == (z.name, y.name)


# --- shapes and dtypes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "shape"),
    [((2, 3), (3,), (2, 3)), ((2, 1), (1, 3), (2, 3)), ((), (2,), (2,)), ((4, 1, 3), (2, 1), (4, 2, 3))],
)
def test_broadcasting(left, right, shape):
    b = Builder()
    assert (b.input("x", left) + b.input("y", right)).shape == shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [2, 0.1, True, np.float64(0.1), np.float32(0.1), np.int64(3), np.arange(3)])
def test_numbers_and_integer_arrays_take_the_dtype_of_the_array(dtype, number):
    b = Builder(dtype="float32")
    x = b.input("x", (3,), dtype)
    y = x * number
    assert y.dtype == dtype
    (constant,) = b.graph((y,)).constants.values()
    assert constant.dtype == dtype


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [("float32", "float32", "float32"), ("float32", "float64", "float64"), ("float64", "float32", "float64")],
)
def test_dtypes_are_joined_as_numpy_does(one, other, both):
    b = Builder()
    y = b.input("x", (2,), one) + b.input("y", (2,), other)
    assert y.dtype == both == (np.ones(2, one) + np.ones(2, other)).dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_in_a_uniform_graph_floating_constants_take_its_dtype(dtype, kind):
    b = Builder(dtype=dtype, uniform=True)
    y = np.where(np.array([True, False]), b.input("x", (2,)), np.array([0.5, 0.25], kind))
    graph = b.graph((np.take(y, np.array([1, 0])),))
    assert [graph.values[name].dtype for name in graph.constants] == ["bool", dtype, "int64"]
    assert y.dtype == dtype


def test_comparisons_are_truth_values_and_choices_are_not():
    b = Builder()
    x = b.input("x", (2,))
    assert (x > 0).dtype == "bool"
    assert np.where(x > 0, x, 0.0).dtype == "float32"


def test_labels_do_not_change_the_dtype():
    b = Builder()
    logits, labels = b.input("x", (2, 3)), b.input("y", (2,), "int64")
    assert b.add("softmax_cross_entropy", logits, labels)[0].dtype == "float32"


def test_the_stated_dtype_is_the_one_the_run_has():
    b = Builder(dtype="float32")
    x = b.input("x", (4, 3))
    y = bl.ops.gelu(bl.ops.softmax(x / 3) ** 2 * 1.7 - np.log(np.square(x) + 0.5))
    graph = b.graph((y.var(axis=0).sum(),))
    env = reference.forward(graph, reference.leaves(graph, {"x": np.ones((4, 3), "float32")}))
    assert {n: v.dtype for n, v in graph.values.items()} == {n: env[n].dtype.name for n in graph.values}
    assert {n: v.shape for n, v in graph.values.items()} == {n: env[n].shape for n in graph.values}


# --- layers -----------------------------------------------------------------------------------------------------------


def entered(b, layer, kind="dense", name=None):
    with b.layer(layer, kind, name) as names:
        return names


def test_layers_are_counted_by_kind_and_shared_calls_marked():
    b, one, two = Builder(), object(), object()
    assert entered(b, one) == ("dense1", "dense1")
    assert entered(b, two) == ("dense2", "dense2")
    assert entered(b, one) == ("dense1", "dense1@2")
    assert entered(b, one) == ("dense1", "dense1@3")
    assert entered(b, object(), "relu") == ("relu1", "relu1")


def test_a_given_name_is_kept_and_counted_names_go_round_it():
    b = Builder()
    assert entered(b, object(), name="dense1") == ("dense1", "dense1")
    assert entered(b, object()) == ("dense2", "dense2")
    with pytest.raises(InputError, match=r"BL207.*'dense2'"):
        entered(b, object(), name="dense2")


@pytest.mark.parametrize("name", ["", "a.b", "a@2", "a[0]", "a b"])
def test_names_that_would_not_be_one_part_of_a_dotted_name_are_refused(name):
    with pytest.raises(InputError, match="BL214"):
        entered(Builder(), object(), name=name)


def test_a_layer_inside_itself_is_a_cycle():
    b, layer = Builder(), object()
    with (
        b.layer(layer, "dense", None),
        pytest.raises(GraphError, match=r"BL205\] dense[\s\S]*object → dense"),
        b.layer(layer, "dense", None),
    ):
        pass
    assert entered(b, layer) == ("dense1", "dense1@2")  # after the error it is closed again


# --- array functions on plain arrays ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (lambda: bl.ops.exp([0.0, 1.0]), np.exp([0.0, 1.0])),
        (lambda: bl.ops.sum(np.ones((2, 3)), axis=0), [2, 2, 2]),
        (lambda: bl.ops.concatenate(np.ones(1), np.zeros(2)), [1, 0, 0]),
        (lambda: bl.ops.transpose([[1, 2], [3, 4]]), [[1, 3], [2, 4]]),
        (lambda: bl.ops.transpose(np.ones((2, 3, 4)), (1, 0, 2)).shape, (3, 2, 4)),
        (lambda: bl.ops.reshape(np.arange(4), (2, -1)), [[0, 1], [2, 3]]),
        (lambda: bl.ops.reshape(np.arange(4), -1), [0, 1, 2, 3]),
        (lambda: bl.ops.matmul([1.0, 2.0], [3.0, 4.0]), 11),
        (lambda: bl.ops.matmul([1.0, 2.0], [[3.0], [4.0]]), [11]),
        (lambda: bl.ops.matmul([[1.0, 2.0]], [3.0, 4.0]), [11]),
        (lambda: bl.ops.take([[1, 2, 3]], [2, 0], axis=1), [[3, 1]]),
        (lambda: bl.ops.getitem(np.arange(5), slice(1, 3)), [1, 2]),
        (lambda: bl.ops.square([3.0]), [9]),
        (lambda: bl.ops.size([[1, 2]]), 2),
        (lambda: bl.ops.linear(np.ones((1, 2)), np.eye(2)), [[1, 1]]),
        (lambda: bl.ops.relu(-1.0), 0),
    ],
)
def test_on_arrays_a_function_computes_at_once(found, wanted):
    np.testing.assert_array_equal(found(), wanted)


def test_there_is_a_function_for_every_rule():
    from backlit import rules

    assert set(rules.REGISTRY) <= set(dir(bl.ops))
    with pytest.raises(AttributeError):
        bl.ops.no_such_rule  # noqa: B018


def test_one_symbolic_operand_is_enough():
    x = Builder().input("x", (2,))
    assert bl.ops.maximum(np.zeros(2), x).shape == (2,)
    assert isinstance(bl.ops.concatenate(np.zeros(1), x), type(x))


def test_errors_of_rules_name_the_node():
    b = Builder()
    with pytest.raises(BacklitError) as caught:
        b.add("linear", b.input("x", (2, 3)), b.parameter("W", (4, 5), ones), name="dense7.z")
    assert caught.value.values["where"] == "dense7.z"
