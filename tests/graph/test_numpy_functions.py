"""Operators, methods and NumPy functions on symbolic values: NumPy's numbers, and the slopes that differences show."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import BacklitError, GraphError, InputError
from backlit.engines import reference
from backlit.graph import Builder, numpy_bridge
from backlit.graph.symbolic import Symbolic

A = np.array([[0.7, -1.3, 2.1], [1.9, 0.4, -0.6]])
B = np.array([[1.2, 0.9, -0.8], [-2.2, 1.7, 0.3]])
P, Q = np.abs(A) + 0.5, np.abs(B) + 0.5
M, V = np.array([[0.3, -1.1], [0.8, 1.4], [-0.5, 0.6]]), np.array([0.2, -0.9, 1.6])
STACK = np.arange(24.0).reshape(2, 3, 4) / 7 - 1
ROW = np.array([0.5, -1.5, 2.5])

CALLS = {
    # operators, on both sides, with numbers and broadcasting
    "a + b": (lambda a, b: a + b, A, B),
    "a - b": (lambda a, b: a - b, A, B),
    "a * b": (lambda a, b: a * b, A, B),
    "a / b": (lambda a, b: a / b, A, B),
    "a ** b": (lambda a, b: a**b, P, B),
    "a + row": (lambda a, b: a + b, A, ROW),
    "column * row": (lambda a, b: a * b, A[:, :1], ROW),
    "2 + a": (lambda a: 2 + a, A),
    "2 - a": (lambda a: 2 - a, A),
    "2 * a": (lambda a: 2 * a, A),
    "2 / a": (lambda a: 2 / a, A),
    "2 ** a": (lambda a: 2**a, A),
    "a ** 2": (lambda a: a**2, A),
    "a ** 3 of negative numbers": (lambda a: a**3, A),
    "array - a": (lambda a: B - a, A),
    "array / a": (lambda a: B / a, A),
    "numpy number * a": (lambda a: np.float64(1.5) * a, A),
    "-a": (lambda a: -a, A),
    "+a": (lambda a: +a, A),
    "abs(a)": (abs, A),
    "a @ m": (lambda a, m: a @ m, A, M),
    "array @ m": (lambda m: A @ m, M),
    "a @ array": (lambda a: a @ M, A),
    "stack @ matrix": (lambda a, m: a @ m, STACK, np.arange(8.0).reshape(4, 2) / 3),
    "vector @ matrix": (lambda v, m: v @ m, V, M),
    "matrix @ vector": (lambda a, v: a @ v, A, V),
    "vector @ vector": (lambda v, w: v @ w, V, ROW),
    "stack @ vector": (lambda a, v: a @ v, STACK, np.arange(4.0)),
    "vector @ stack": (lambda v, a: v @ a, V, STACK),
    # comparisons, as masks
    "a > b": (lambda a, b: np.where(a > b, a, b), A, B),
    "a >= 0": (lambda a: (a >= 0) * a, A),
    "a < b": (lambda a, b: np.where(a < b, a * a, b), A, B),
    "a <= 0": (lambda a: a * (a <= 0), A),
    "0 < a": (lambda a: np.where(0 < a, a, 0.5 * a), A),  # noqa: SIM300  the swapped comparison is what is tested
    "a == 0": (lambda a: np.where(np.minimum(a, 0) == 0, 3 * a, a), A),
    "a != 0": (lambda a: np.where(np.minimum(a, 0) != 0, 3 * a, a), A),
    # indexing
    "a[1]": (lambda a: a[1], A),
    "a[-1, 0]": (lambda a: a[-1, 0], A),
    "a[np.int64(1)]": (lambda a: a[np.int64(1)], A),
    "a[:, 1:]": (lambda a: a[:, 1:], A),
    "a[..., ::-1]": (lambda a: a[..., ::-1], A),
    "a[None]": (lambda a: a[None], A),
    "a[integers]": (lambda a: a[np.array([1, 0, 1])], A),
    "a[list]": (lambda a: a[[1, 1]], A),
    "rows": (lambda a: sum(row * i for i, row in enumerate(a, start=1)), A),
    "unpacked": (lambda a: np.multiply(*a), A),
    # methods
    "a.sum()": (lambda a: a.sum(), A),
    "a.sum(0)": (lambda a: a.sum(0), A),
    "a.mean(axis, keepdims)": (lambda a: a.mean(axis=1, keepdims=True), A),
    "a.max(axis)": (lambda a: a.max(axis=1), A),
    "a.min()": (lambda a: a.min(), A),
    "a.var(axis)": (lambda a: a.var(axis=0), A),
    "a.std(axis)": (lambda a: a.std(axis=0), A),
    "a.prod(axis)": (lambda a: a.prod(axis=0), A),
    "a.reshape(3, 2)": (lambda a: a.reshape(3, 2), A),
    "a.reshape((3, -1))": (lambda a: a.reshape((3, -1)), A),
    "a.reshape([6])": (lambda a: a.reshape([6]), A),
    "a.reshape(-1)": (lambda a: a.reshape(-1), A),
    "a.T": (lambda a: a.T, A),
    "a.transpose()": (lambda a: a.transpose(), A),
    "a.transpose(1, 0)": (lambda a: a.transpose(1, 0), A),
    "a.transpose((2, 0, 1))": (lambda a: a.transpose((2, 0, 1)), STACK),
    # NumPy's functions
    "np.add": (np.add, A, B),
    "np.subtract": (np.subtract, A, B),
    "np.multiply": (np.multiply, A, B),
    "np.divide": (np.divide, A, B),
    "np.power": (np.power, P, Q),
    "np.maximum": (np.maximum, A, B),
    "np.minimum": (np.minimum, A, B),
    "np.maximum with 0": (lambda a: np.maximum(a, 0), A),
    "np.negative": (np.negative, A),
    "np.exp": (np.exp, A),
    "np.log": (np.log, P),
    "np.expm1": (np.expm1, A),
    "np.log1p": (np.log1p, P),
    "np.sin": (np.sin, A),
    "np.cos": (np.cos, A),
    "np.sqrt": (np.sqrt, P),
    "np.absolute": (np.absolute, A),
    "np.tanh": (np.tanh, A),
    "np.square": (np.square, A),
    "np.matmul": (np.matmul, A, M),
    "np.greater": (lambda a, b: np.where(np.greater(a, b), a, 0.0), A, B),
    "np.greater_equal": (lambda a, b: np.where(np.greater_equal(a, b), a, 0.0), A, B),
    "np.less": (lambda a, b: np.where(np.less(a, b), a, 0.0), A, B),
    "np.less_equal": (lambda a, b: np.where(np.less_equal(a, b), a, 0.0), A, B),
    "np.equal": (lambda a, b: np.where(np.equal(a, b), a, b), A, B),
    "np.not_equal": (lambda a, b: np.where(np.not_equal(a, b), a, b), A, B),
    "np.sum": (np.sum, A),
    "np.sum(axes, keepdims)": (lambda a: np.sum(a, axis=(0, 2), keepdims=True), STACK),
    "np.prod": (np.prod, A),
    "np.prod(axis, keepdims) with zeros": (lambda a: np.prod(a, axis=1, keepdims=True), A * (A > -1)),
    "np.std": (np.std, A),
    "np.std(axis, ddof)": (lambda a: np.std(a, axis=1, ddof=1), A),
    "np.mean": (lambda a: np.mean(a, 1), A),
    "np.max": (lambda a: np.max(a, axis=0), A),
    "np.min": (lambda a: np.min(a, axis=-1), A),
    "np.var": (lambda a: np.var(a, axis=1, ddof=1), A),
    "np.reshape": (lambda a: np.reshape(a, (3, 2)), A),
    "np.ravel": (np.ravel, A),
    "np.transpose": (np.transpose, A),
    "np.transpose(axes)": (lambda a: np.transpose(a, (1, 2, 0)), STACK),
    "np.concatenate": (lambda a, b: np.concatenate([a, b]), A, B),
    "np.concatenate(axis)": (lambda a, b: np.concatenate((a, b, a), axis=1), A, B),
    "np.stack": (lambda a, b: np.stack([a, b], axis=1), A, B),
    "np.where with an array": (lambda a, b: np.where(A > 0, a, b), A, B),
    "np.clip": (lambda a: np.clip(a, -1, 1), A),
    "np.clip by name": (lambda a: np.clip(a, a_min=None, a_max=0.5), A),
    "np.clip(min=, max=)": (lambda a: np.clip(a, min=-0.5, max=0.5), A),
    "np.take": (lambda a: np.take(a, [4, 0]), A),
    "np.take(axis)": (lambda a: np.take(a, [[2, 0]], axis=1), A),
    "np.broadcast_to": (lambda a: np.broadcast_to(a, (4, 3)), ROW),
    "np.broadcast_to a vector": (lambda a: np.broadcast_to(a, 4), ROW[:1]),
    "np.dot": (np.dot, A, M),
    "np.dot of vectors": (np.dot, V, ROW),
    "np.dot with a number": (lambda a: np.dot(a, 2.0), A),
    "np.pad": (lambda a: np.pad(a, 1), A),
    "np.pad(widths, value)": (lambda a: np.pad(a, ((0, 1), (2, 0)), constant_values=7.0), A),
    "np.shape, np.ndim, np.size": (lambda a: a * (np.shape(a)[0] + 10 * np.ndim(a) + 100 * np.size(a)), A),
}


def weighted(f):
    """A number whose slopes by every entry of f's result differ, so that no mix-up of entries stays hidden."""

    def number(*arrays):
        y = f(*arrays)
        return (y * np.cos(np.arange(float(y.size))).reshape(y.shape)).sum() if y.shape else 1.5 * y

    return number


@pytest.mark.parametrize("call", CALLS)
def test_values_are_numpy_s(call):
    f, *arrays = CALLS[call]
    b = Builder(dtype="float64")
    inputs = [b.input(f"x{i}", a.shape) for i, a in enumerate(arrays)]
    staged = f(*inputs)
    graph = b.graph((staged,))
    env = reference.leaves(graph, {s.name: a for s, a in zip(inputs, arrays, strict=True)})
    found = reference.forward(graph, env)[graph.outputs[0]]
    wanted = f(*arrays)
    assert staged.shape == np.shape(wanted)
    assert staged.dtype == found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("call", CALLS)
def test_gradients_are_the_slopes(call):
    f, *arrays = CALLS[call]
    number = weighted(f)
    found = bl.grad(number)(*arrays)
    for k, g in enumerate(found if len(arrays) > 1 else (found,)):
        h, slopes = 1e-6, np.zeros_like(arrays[k])
        for i in np.ndindex(slopes.shape):
            step = np.zeros_like(slopes)
            step[i] = h
            up, down = ([*arrays[:k], arrays[k] + s, *arrays[k + 1 :]] for s in (step, -step))
            slopes[i] = (number(*up) - number(*down)) / (2 * h)
        np.testing.assert_allclose(g, slopes, rtol=1e-6, atol=1e-8)


def test_every_numpy_function_of_the_bridge_is_called_above():
    known = {f.__name__ for f in (*numpy_bridge._BINARY, *numpy_bridge._UFUNCS, *numpy_bridge._FUNCTIONS)}
    told = " ".join(CALLS)
    assert not [name for name in known if f"np.{name}" not in told]


def test_every_operator_is_called_above():
    swapped = {"__radd__", "__rsub__", "__rmul__", "__rtruediv__", "__rpow__", "__rmatmul__"}
    signs = {"__add__", "__sub__", "__mul__", "__truediv__", "__pow__", "__matmul__", "__neg__", "__pos__", "__abs__"}
    orders = {"__gt__", "__ge__", "__lt__", "__le__", "__eq__", "__ne__"}
    operators = {n for n in vars(Symbolic) if n.startswith("__")} & set(dir(np.ndarray))
    others = {
        "__init__",
        "__hash__",
        "__doc__",
        "__module__",
        "__getitem__",
        "__len__",
        "__iter__",
        "__bool__",
        "__repr__",
    }
    numbers = {"__float__", "__int__", "__index__", "__array__", "__array_ufunc__", "__array_function__"}
    assert operators - others - numbers - {"__dict__", "__weakref__"} == swapped | signs | orders


@pytest.mark.jax
@pytest.mark.parametrize("call", CALLS)
def test_gradients_agree_with_jax(call):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    f, *arrays = CALLS[call]
    if f in vars(np).values() or "np." in call or call == "a[list]":
        pytest.skip("written with NumPy itself, which JAX does not differentiate")
    theirs = jax.grad(
        lambda *xs: jax.numpy.sum(f(*xs) * np.cos(np.arange(np.size(f(*arrays)))).reshape(np.shape(f(*arrays)))),
        argnums=tuple(range(len(arrays))),
    )
    try:
        wanted = theirs(*map(jax.numpy.asarray, arrays))
    except jax.errors.TracerArrayConversionError:
        pytest.skip("written with NumPy itself, which JAX does not differentiate")
    scale = 1.0 if np.ndim(f(*arrays)) else 1.5
    found = bl.grad(weighted(f))(*arrays)
    for g, w in zip(found if len(arrays) > 1 else (found,), wanted, strict=True):
        np.testing.assert_allclose(g, scale * w, rtol=1e-12, atol=1e-13)


# --- what is refused --------------------------------------------------------------------------------------------------


def staged(f, array=A):
    b = Builder(dtype="float64")
    return f(b.input("x", array.shape))


REFUSED = {
    "np.arctan": (np.arctan, GraphError, "BL210"),
    "np.sum(dtype)": (lambda x: np.sum(x, dtype=float), GraphError, r"numpy\.sum\(…, dtype=\)"),
    "np.add.reduce": (np.add.reduce, GraphError, r"numpy\.add\.reduce"),
    "out=": (lambda x: np.add(x, 1.0, out=np.zeros(1)), GraphError, "out"),
    "np.pad(edge)": (lambda x: np.pad(x, 1, mode="edge"), GraphError, "mode='edge'"),
    "np.dot of stacks": (lambda x: np.dot(x[None], x[None]), GraphError, "dot of arrays with more than two axes"),
    "np.linalg.norm": (np.linalg.norm, GraphError, "norm"),
    "if": (lambda x: 1 if x[0, 0] > 0 else 0, GraphError, r"BL209.*greater1"),
    "float()": (lambda x: float(x.sum()), GraphError, "BL209"),
    "int()": (lambda x: int(x.sum()), GraphError, "BL209"),
    "as an index": (lambda x: [1, 2, 3][x.sum()], GraphError, "BL209"),
    "np.asarray": (np.asarray, GraphError, "BL209"),
    "a mask": (lambda x: x[A > 0], InputError, r"BL215.*\n.*\n.*bool\[2, 3\]"),
    "a mask of one axis": (lambda x: x[np.array([True, False])], InputError, "BL215"),
    "a truth value": (lambda x: x[True], InputError, "BL215"),
    "several integer arrays": (lambda x: x[np.arange(2), np.arange(2)], InputError, "BL215"),
    "an integer array for another axis": (lambda x: x[:, [0, 2]], InputError, "BL215"),
    "floating indices": (lambda x: x[np.array([0.0, 1.0])], InputError, r"BL215[\s\S]*float64\[2\]"),
    "a symbolic index": (lambda x: x[x.sum()], InputError, "BL215"),
    "an index out of range": (lambda x: x[2], InputError, r"BL113.*slice1|BL113"),
    "too many indices": (lambda x: x[0, 0, 0], InputError, "BL113"),
    "shapes that do not fit": (lambda x: x + np.ones(4), InputError, r"BL102.*add1[\s\S]*\[4\]"),
    "matmul of widths that differ": (lambda x: x @ np.ones((2, 2)), InputError, "BL102.*matmul1"),
    "an axis that is not there": (lambda x: x.sum(axis=2), InputError, "BL103"),
    "another size": (lambda x: x.reshape(4), InputError, "reshape1"),
    "text": (lambda x: x + "1", InputError, "BL208"),
    "complex numbers": (lambda x: x * 1j, InputError, "BL208"),
    "an unknown option": (lambda x: bl.ops.sum(x, axes=0), InputError, r"BL213[\s\S]*sum\(x, axis=, keepdims=\)"),
    "an option by position": (lambda x: bl.ops.sum(x, 0), InputError, "BL213"),
    "an input too few": (bl.ops.maximum, InputError, r"BL213[\s\S]*maximum\(a, b\)"),
    "an input too many": (lambda x: bl.ops.exp(x, x), InputError, "BL213"),
    "an option left out": (bl.ops.broadcast_to, InputError, r"BL213[\s\S]*shape="),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    f, kind, says = REFUSED[what]
    with pytest.raises(kind, match=says) as caught:
        staged(f)
    assert isinstance(caught.value, BacklitError)
    assert all(caught.value.part(p) for p in ("problem", "expected", "got", "fix"))


def test_a_value_of_another_graph_is_refused_by_name():
    kept = Builder().input("kept", (2,))
    with pytest.raises(GraphError, match=r"BL204\] kept"):
        Builder().input("x", (2,)) + kept


def test_len_needs_an_axis():
    assert staged(len) == 2
    with pytest.raises(TypeError, match="without axes"):
        staged(lambda x: len(x.sum()))


def test_a_symbolic_value_can_be_a_key_and_says_what_it_is():
    x = Builder().input("x", (2, 3))
    assert {x: 1}[x] == 1
    assert repr(x) == "Symbolic(x: float32[2, 3])"
    assert (x.shape, x.ndim, x.size, x.dtype, x.name) == ((2, 3), 2, 6, "float32", "x")
