"""A graph goes into a file and comes back the same: every rule on every case, and whole models."""

from __future__ import annotations

import json

import numpy as np
import pytest

import backlit as bl
from backlit import rules
from backlit.core import files
from backlit.core.errors import BacklitError, GraphError
from backlit.engines import reference
from backlit.graph import Builder, Graph, Mask
from backlit.graph.store import from_json, to_json
from rules.calls import call, cases_of

CASES = [(rule, case) for rule in rules.REGISTRY.values() for case in cases_of(rule)]
IDS = [f"{rule.name}: {case.label}" for rule, case in CASES]


def staged(rule, case):
    """(graph of the rule on inputs x0, x1, …; their arrays)."""
    made = call(rule, case)
    b = Builder(dtype="float64")
    arrays = {f"x{i}": np.asarray(a) for i, a in enumerate(made.inputs) if a is not None}
    leaves = {name: b.input(name, a.shape, a.dtype.name) for name, a in arrays.items()}
    inputs = [leaves.get(f"x{i}") for i in range(len(made.inputs))]
    return b.graph(b.add(rule.name, *inputs, **made.attributes)), arrays


def through_file(graph, place):
    """As a trace does it: the graph's JSON in the header, its constants among the tensors."""
    files.write_tensors(place, graph.constants, {"graph": to_json(graph)})
    arrays, header = files.read_tensors(place)
    return from_json(header["graph"], arrays)


def assert_same(one, other):
    """Equal part by part; constants bit by bit."""
    for part in ("inputs", "parameters", "frozen", "state", "masks", "nodes", "outputs", "updates"):
        assert getattr(one, part) == getattr(other, part), part
    assert list(one.values.items()) == list(other.values.items())
    assert one.constants.keys() == other.constants.keys()
    for name, array in one.constants.items():
        again = np.asarray(other.constants[name])
        assert (again.dtype, again.tobytes()) == (array.dtype, np.ascontiguousarray(array).tobytes())


@pytest.mark.parametrize(("rule", "case"), CASES, ids=IDS)
def test_every_rule_comes_back_and_computes_the_same(tmp_path, rule, case):
    graph, arrays = staged(rule, case)
    again = through_file(graph, tmp_path / "g")
    assert_same(graph, again)
    assert str(again) == str(graph)
    wanted, found = (reference.forward(g, reference.leaves(g, arrays)) for g in (graph, again))
    assert {n: v.tobytes() for n, v in found.items()} == {n: np.asarray(v).tobytes() for n, v in wanted.items()}


@pytest.mark.parametrize(("rule", "case"), CASES, ids=IDS)
def test_attributes_keep_their_types(rule, case):
    """A tuple that came back as a list, or an integer as a float, would be another call."""
    graph, _ = staged(rule, case)
    again = from_json(json.loads(json.dumps(to_json(graph))), graph.constants)
    for one, other in zip(graph.nodes, again.nodes, strict=True):
        assert typed(dict(other.attributes)) == typed(dict(one.attributes))


def typed(value):
    """The value with the type of every part, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {k: typed(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return ("tuple", *map(typed, value))
    if isinstance(value, slice):
        return ("slice", typed(value.start), typed(value.stop), typed(value.step))
    plain = value.item() if isinstance(value, np.generic) else value
    return type(plain).__name__, plain


def model_graph(training=True):
    def net(x):
        h = bl.BatchNorm()(bl.Dense(5, "relu")(x))
        shared = bl.Dense(5, "tanh")
        return bl.Dense(3, trainable=False)(bl.Dropout(0.25)(shared(shared(h)) + h * 2.0))

    model = bl.Model(net).build((4,), seed=0)
    shapes = [((6, 4), "float32")]
    return model, model.graph(shapes, training=training, loss=bl.SoftmaxCrossEntropy(), target=((6,), "int64"))


@pytest.mark.parametrize("training", [True, False])
def test_a_model_comes_back_with_all_kinds_of_leaves(tmp_path, training):
    _, graph = model_graph(training)
    again = through_file(graph, tmp_path / "g")
    assert_same(graph, again)
    assert again.trainable == graph.trainable
    assert "dense3.W" in again.frozen
    assert again.constants
    assert (set(again.masks.values()) == {Mask(0.25)}) == training
    assert bool(again.updates) == training


def test_a_model_that_came_back_has_the_same_gradients(tmp_path):
    model, graph = model_graph()
    again = through_file(graph, tmp_path / "g")
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(6, 4)).astype(np.float32), "y": rng.integers(0, 3, 6)} | model.params | model.state
    found = [
        reference.value_and_grad(g, reference.leaves(g, given, seed=5, step=7), g.trainable)[1] for g in (graph, again)
    ]
    assert found[0].keys() == found[1].keys()
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_what_was_stored_twice_is_the_same_text():
    _, graph = model_graph()
    once = json.dumps(to_json(graph))
    assert json.dumps(to_json(from_json(json.loads(once), graph.constants))) == once


def test_the_json_holds_no_array_entries():
    b = Builder(dtype="float64")
    graph = b.graph((b.input("x", (1000,)) * np.arange(1000.0),))
    assert len(json.dumps(to_json(graph))) < 1000
    assert to_json(graph)["constants"] == ["constant1"]


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(1),
        slice(None),
        slice(1, None, 2),
        slice(None, None, -1),
        Ellipsis,
        None,
        (0, slice(1, 3)),
        (Ellipsis, None, -2),
        (slice(None, -1), Ellipsis, slice(np.int64(0), np.int64(2))),
    ],
    ids=repr,
)
def test_every_index_comes_back(index):
    """Tuples, slices and Ellipsis are no JSON values; NumPy is the judge of what they select."""
    array = np.arange(24.0).reshape(2, 3, 4)
    b = Builder(dtype="float64")
    graph = b.graph((b.input("x", array.shape)[index],))
    again = from_json(json.loads(json.dumps(to_json(graph))), {})
    found = reference.forward(again, {"x": array})[again.outputs[0]]
    assert np.array_equal(found, array[index])
    assert found.shape == array[index].shape


@pytest.mark.parametrize("value", [-np.inf, np.inf, 0.0, -0.0, 1e-320])
def test_numbers_json_is_bad_at_come_back(value):
    b = Builder(dtype="float64")
    graph = b.graph((bl.ops.pad(b.input("x", (2,)), widths=((1, 0),), value=value),))
    again = from_json(json.loads(json.dumps(to_json(graph))), {})
    found = reference.forward(again, {"x": np.ones(2)})[again.outputs[0]]
    assert found.tobytes() == np.array([value, 1.0, 1.0]).tobytes()


# --- what was changed on the way ------------------------------------------------------------------------------------


def tampered(data, change):
    change(data)
    return data


TAMPERED = {
    "another shape": lambda d: d["values"][0].__setitem__(1, [7]),
    "another dtype": lambda d: d["values"][-1].__setitem__(2, "int8"),
    "nodes in another order": lambda d: d["nodes"].reverse(),
    "a rule that is not there": lambda d: d["nodes"][0].__setitem__(0, "no_such_rule"),
    "an operand that is not there": lambda d: d["nodes"][0][1].__setitem__(0, "ghost"),
    "an output that nobody makes": lambda d: d["outputs"].append("ghost"),
    "a value without its description": lambda d: d["values"].pop(0),
    "an update of something else": lambda d: d["updates"].update(x="sum1"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_graph_that_was_changed_is_not_taken(what):
    b = Builder()
    graph = b.graph((np.exp(b.input("x", (2, 3))).sum(axis=0),))
    data = json.loads(json.dumps(to_json(graph)))
    assert isinstance(from_json(data, {}), Graph)
    with pytest.raises(BacklitError):
        from_json(tampered(data, TAMPERED[what]), {})


def test_a_constant_of_another_shape_is_not_taken():
    b = Builder(dtype="float64")
    graph = b.graph((b.input("x", (3,)) + np.ones(3),))
    with pytest.raises(GraphError, match="constant1"):
        from_json(to_json(graph), {"constant1": np.ones(4)})
    with pytest.raises(GraphError, match="constant1"):
        from_json(to_json(graph), {"constant1": np.ones(3, np.float32)})


# --- the listing of every rule --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "case"), CASES, ids=IDS)
def test_the_listing_tells_every_value_once(rule, case):
    graph, arrays = staged(rule, case)
    lines = str(graph).splitlines()
    made = [part.split(":")[0] for line in lines[:-1] for part in line[10:].split(" = ")[0].split("], ")]
    assert sorted(made) == sorted(graph.values)
    node = next(line for line in lines if line.startswith("node "))
    absent = len(graph.nodes[0].inputs) - len(arrays)
    called = node.split(f" = {rule.name}(", 1)[1]
    assert called.removesuffix(")").split(", ").count("-") == absent
    for key, value in graph.nodes[0].attributes.items():
        assert f"{key}={value!r}" in called
    assert lines[-1] == "output    " + ", ".join(graph.outputs)
    kinds = [line.split()[0] for line in lines]
    assert kinds == ["input"] * len(arrays) + ["node", "output"]


def test_the_listing_of_a_stored_model_is_that_of_the_model(tmp_path):
    _, graph = model_graph()
    text = str(through_file(graph, tmp_path / "g"))
    assert text == str(graph)
    assert "(frozen)" in text
    assert "rate=0.25" in text
    assert text.count("\nupdate ") == 2
    assert [line.split()[0] for line in text.splitlines() if "←" in line] == ["update"] * 2
