"""Array functions on plain arrays and on symbolic values, with NumPy as the judge of both."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit import rules
from backlit.core.errors import BacklitError, GraphError, InputError
from backlit.engines import reference
from backlit.graph import Builder, functions, numpy_bridge

A = np.array([[0.7, -1.3, 2.1], [1.9, 0.4, -0.6]])
STACK = np.arange(24.0).reshape(2, 3, 4) / 7 - 1
V3, V4 = np.array([0.5, -1.5, 2.5]), np.array([1.0, 0.25, -2.0, 3.0])


def on_symbols(f, *arrays):
    """What the staged function computes."""
    b = Builder(dtype="float64")
    made = f(*(b.input(f"x{i}", a.shape, a.dtype.name) for i, a in enumerate(arrays)))
    graph = b.graph((made,))
    env = reference.leaves(graph, {f"x{i}": a for i, a in enumerate(arrays)})
    found = reference.forward(graph, env)[graph.outputs[0]]
    assert (made.shape, made.dtype) == (np.shape(found), found.dtype.name), "as it was announced"
    return found


FUNCTIONS = {
    "transpose": (functions.transpose, np.transpose, STACK),
    "transpose of a vector": (functions.transpose, np.transpose, V3),
    "transpose(axes)": (lambda x: functions.transpose(x, (2, 0, 1)), lambda x: np.transpose(x, (2, 0, 1)), STACK),
    "transpose(list)": (lambda x: functions.transpose(x, [1, 0]), np.transpose, A),
    "reshape to a number": (lambda x: functions.reshape(x, 6), np.ravel, A),
    "reshape to NumPy's number": (lambda x: functions.reshape(x, np.int64(6)), np.ravel, A),
    "reshape(-1)": (lambda x: functions.reshape(x, (2, -1, 2)), lambda x: np.reshape(x, (2, -1, 2)), STACK),
    "reshape(list)": (lambda x: functions.reshape(x, [3, 2]), lambda x: np.reshape(x, (3, 2)), A),
    "reshape to NumPy's numbers": (
        lambda x: functions.reshape(x, np.array([3, 2])),
        lambda x: np.reshape(x, (3, 2)),
        A,
    ),
    "reshape to nothing": (lambda x: functions.reshape(x, ()), lambda x: np.reshape(x, ()), np.array([[3.5]])),
    "matmul": (functions.matmul, np.matmul, A, STACK[0]),
    "matmul of stacks": (functions.matmul, np.matmul, STACK, STACK.transpose(0, 2, 1)),
    "matmul, one stack": (functions.matmul, np.matmul, A, STACK),
    "matmul of vectors": (functions.matmul, np.matmul, V3, V3[::-1].copy()),
    "matmul, vector left": (functions.matmul, np.matmul, V3, STACK),
    "matmul, vector right": (functions.matmul, np.matmul, STACK, V4),
    "getitem, number": (lambda x: functions.getitem(x, 1), lambda x: x[1], STACK),
    "getitem, several": (lambda x: functions.getitem(x, (0, slice(None, None, 2), -1)), lambda x: x[0, ::2, -1], STACK),
    "getitem, new axis": (lambda x: functions.getitem(x, (None, ..., 0)), lambda x: x[None, ..., 0], STACK),
    "getitem, list": (lambda x: functions.getitem(x, [1, 0, 1]), lambda x: x[[1, 0, 1]], STACK),
    "getitem, table": (lambda x: functions.getitem(x, np.array([[1, 0], [0, 0]])), lambda x: x[[[1, 0], [0, 0]]], A),
    "getitem, negative": (lambda x: functions.getitem(x, np.array([-1, -2])), lambda x: x[[-1, -2]], A),
    "take": (lambda x: functions.take(x, np.array([1, 1, 0])), lambda x: np.take(x, [1, 1, 0], axis=0), STACK),
    "take(axis)": (lambda x: functions.take(x, np.array([[2, 0]]), axis=1), lambda x: x[:, [[2, 0]]], STACK),
    "take(last axis)": (lambda x: functions.take(x, np.array([3]), axis=-1), lambda x: x[..., [3]], STACK),
    "square": (functions.square, lambda x: x * x, A),
    "sum(axis)": (lambda x: functions.sum(x, axis=-1), lambda x: np.add.reduce(x, 2), STACK),
    "concatenate": (lambda x, y: functions.concatenate(x, y, axis=1), lambda x, y: np.hstack([x, y]), A, A[:, :1]),
    "broadcast_to": (lambda x: functions.broadcast_to(x, shape=(2, 1, 3)), lambda x: np.stack([x[None], x[None]]), V3),
    "linear": (functions.linear, lambda x, W: x @ W.T, A, STACK[0].T.copy()),
    "where": (lambda x: functions.where(x > 0, x, 0.0), lambda x: x.clip(min=0), A),
    "greater": (lambda x: functions.greater(x, 0.5), lambda x: x > 0.5, A),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_on_arrays(name):
    f, wanted, *arrays = FUNCTIONS[name]
    found = f(*arrays)
    np.testing.assert_allclose(found, wanted(*arrays), rtol=1e-15)
    assert np.shape(found) == np.shape(wanted(*arrays))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_on_symbols(name):
    f, wanted, *arrays = FUNCTIONS[name]
    found = on_symbols(f, *arrays)
    np.testing.assert_allclose(found, wanted(*arrays), rtol=1e-15)
    assert np.shape(found) == np.shape(wanted(*arrays))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_are_left_as_they_are(name):
    f, _, *arrays = FUNCTIONS[name]
    copies = [a.copy() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    try:
        f(*arrays)
    finally:
        for array in arrays:
            array.flags.writeable = True
    assert all(np.array_equal(a, c) for a, c in zip(arrays, copies, strict=True))


def test_every_function_written_here_is_called_above():
    own = {n for n, f in vars(functions).items() if callable(f) and getattr(f, "__module__", "") == functions.__name__}
    tested_apart = {"builder_of", "apply", "size", "sizes"}
    assert {n for n in own if not n.startswith("_")} - tested_apart == {
        n.split("(")[0].split(",")[0].split()[0] for n in FUNCTIONS
    } & own


@pytest.mark.parametrize(("shape", "size"), [((), 1), ((0, 3), 0), ((2, 3, 4), 24)])
def test_size_of_arrays_and_symbols(shape, size):
    assert functions.size(np.zeros(shape)) == functions.size(Builder().input("x", shape)) == size


def test_the_builder_is_that_of_the_first_symbol():
    b = Builder()
    x = b.input("x", (2,))
    assert functions.builder_of(1.0, None, np.zeros(2)) is None
    assert functions.builder_of(np.zeros(2), None, x) is b


def test_a_node_may_be_named():
    x = Builder().input("x", (2,))
    assert functions.apply("relu", x, name="mine.a").name == "mine.a"


@pytest.mark.parametrize("rule", rules.REGISTRY)
def test_every_rule_is_reached_by_its_name(rule):
    assert rule in dir(functions)
    assert callable(getattr(functions, rule))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_keep_their_precision(dtype):
    x = A.astype(dtype)
    for f in (functions.square, functions.transpose, lambda a: functions.matmul(a, a.T), functions.relu):
        assert f(x).dtype == dtype
    assert functions.maximum(x, 0).dtype == functions.add(0.1, x).dtype == dtype
    assert functions.add(x, np.float64(0.1)).dtype == np.float64, "NumPy's numbers have a precision of their own"
    assert functions.apply("take", x, 1, axis=0).tolist() == x[1].tolist(), "an index stays one"


@pytest.mark.parametrize("sizes", [2.5, (2, 1.5), "23", None])
def test_sizes_are_whole_numbers(sizes):
    with pytest.raises(TypeError):
        functions.reshape(A, sizes)


@pytest.mark.parametrize(
    ("index", "got"),
    [
        (np.array([True, False]), r"bool\[2\]"),
        (np.array([0.0, 1.0]), r"float64\[2\]"),
        ([0.5], r"float64\[1\]"),
        (True, "True"),
        ((slice(None), [0, 1]), r"\[0, 1\]"),
        ((np.array([0]), 1), "array"),
    ],
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_indices_of_other_kinds_are_refused_on_both(index, got, symbolic):
    x = Builder().input("mine", A.shape) if symbolic else A
    with pytest.raises(InputError, match=got) as caught:
        functions.getitem(x, index)
    assert caught.value.values["where"] == ("mine" if symbolic else "x")


# --- the bridge to NumPy --------------------------------------------------------------------------------------------

FINE = {
    "sum of the last axes": (lambda x: np.sum(x, axis=(-1, 0)), STACK),
    "mean over several axes": (lambda x: np.mean(x, axis=(0, 2), keepdims=True), STACK),
    "std of one sample corrected": (lambda x: np.std(x, axis=0, ddof=1), A),
    "transpose by negative axes": (lambda x: np.transpose(x, (-1, 0, 1)), STACK),
    "stack at the end": (lambda x: np.stack([x, 2 * x], axis=-1), A),
    "concatenate from the end": (lambda x: np.concatenate([x, x], axis=-1), A),
    "reshape to NumPy's number": (lambda x: np.reshape(x, np.int64(-1)), A),
    "broadcast to NumPy's number": (lambda x: np.broadcast_to(x, np.int64(4)), V3[:1]),
    "take one": (lambda x: np.take(x, 2, axis=1), STACK),
    "take from all": (lambda x: np.take(x, np.array([[23, 0], [5, 5]])), STACK),
    "take from the end": (lambda x: np.take(x, [-1, -3], axis=2), STACK),
    "clip below only": (lambda x: np.clip(x, 0.0, None), A),
    "pad one axis": (lambda x: np.pad(x, ((1, 2),)), V3),
    "pad before and after alike": (lambda x: np.pad(x, (1, 2)), A),
    "dot of a stack with a number": (lambda x: np.dot(0.5, x), A),
    "swapped comparison": (lambda x: np.where(np.less(0.5, x), x, -x), A),
    "a power from the left": (lambda x: np.power(2.0, x), A),
    "a minimum with a number": (lambda x: np.minimum(0.25, x), A),
}


@pytest.mark.parametrize("what", FINE)
def test_the_bridge_gives_numpy_s_numbers(what):
    f, x = FINE[what]
    found = on_symbols(f, x)
    np.testing.assert_allclose(found, f(x), rtol=1e-14, atol=1e-15)
    assert found.shape == f(x).shape


REFUSED = {
    "add.accumulate": np.add.accumulate,
    "add.outer": lambda x: np.add.outer(x, x),
    "add.at": lambda x: np.add.at(x, [0], 1.0),
    "multiply.reduceat": lambda x: np.multiply.reduceat(x, [0]),
    "where=": lambda x: np.add(x, 1.0, where=A > 0),
    "dtype=": lambda x: np.exp(x, dtype=np.float32),
    "matmul out=": lambda x: np.matmul(x, x, out=np.zeros((2, 2))),
    "sum initial=": lambda x: np.sum(x, initial=3.0),
    "max where=": lambda x: np.max(x, where=A > 0, initial=0.0),
    "ravel by columns": lambda x: np.ravel(x, order="F"),
    "reshape by columns": lambda x: np.reshape(x, (3, 2), order="F"),
    "where with one argument": np.where,
    "take mode=": lambda x: np.take(x, [7], mode="wrap"),
    "clip out=": lambda x: np.clip(x, 0, 1, out=np.zeros((2, 3))),
    "pad reflect": lambda x: np.pad(x, 1, mode="reflect"),
    "sort": np.sort,
    "argmax": np.argmax,
    "cumsum": np.cumsum,
    "einsum": lambda x: np.einsum("ij->i", x),
    "floor": np.floor,
    "sign": np.sign,
    "logical_not": np.logical_not,
    "concatenate casting=": lambda x: np.concatenate([x, x], casting="unsafe"),
    "std correction=": lambda x: np.std(x, correction=1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_there_is_no_rule_for_is_refused_by_its_name(what):
    name = what.split()[0].split(".")[0]
    b = Builder(dtype="float64")
    x = b.input("x", A.shape)
    with pytest.raises(GraphError) as caught:
        REFUSED[what](x)
    error = caught.value
    assert error.code == "BL210"
    assert name.removesuffix("=") in error.part("problem") + error.part("got") or "=" in name
    assert len(b.graph((x,)).nodes) == 0, "nothing half done is left in the graph"


def test_a_refusal_lists_what_there_is():
    with pytest.raises(GraphError) as caught:
        np.arctan2(Builder().input("x", (2,)), 1.0)
    listed = caught.value.values["known"].split(", ")
    assert listed == sorted(set(listed))
    assert {"tanh", "sum", "matmul", "square", "pad"} <= set(listed)
    assert set(listed) <= {f.__name__ for f in (*numpy_bridge._BINARY, *numpy_bridge._UFUNCS, *numpy_bridge._FUNCTIONS)}


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.concatenate([x, np.ones((3, 4))]),
        lambda x: np.sum(x, axis=5),
        lambda x: np.stack([x, x[:1]]),
        lambda x: np.broadcast_to(x, (4, 4)),
        lambda x: np.reshape(x, (4, 4)),
        lambda x: np.transpose(x, (0, 0)),
        lambda x: np.take(x, [0.5], axis=0),
        lambda x: np.matmul(x, x),
    ],
    ids=["concatenate", "sum", "stack", "broadcast_to", "reshape", "transpose", "take", "matmul"],
)
def test_arguments_that_do_not_fit_are_errors_of_ours(f):
    with pytest.raises(BacklitError) as caught:
        f(Builder(dtype="float64").input("x", A.shape))
    assert all(caught.value.part(p) for p in ("problem", "expected", "got", "fix"))


def test_the_facade_offers_the_same_functions():
    assert bl.ops is functions
