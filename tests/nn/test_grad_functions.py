"""Gradients of functions that are no network, against closed forms and central differences."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import GraphError, InputError

EXAMPLES = Path(__file__).parents[2] / "examples" / "backprop_without_networks"


def central_differences(f, x, h=1e-5):
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        found[i] = (f(x + step) - f(x - step)) / (2 * h)
    return found


@pytest.fixture
def rng():
    return np.random.default_rng(5)


# --- logistic regression ----------------------------------------------------------------------------------------------


def logistic(w, b, X, t):
    """Mean of ln(1 + e⁻ᵐ) with the margins m = t (X w + b), t = ±1."""
    return np.mean(np.log(1.0 + np.exp(-t * (X @ w + b))))


def test_logistic_regression(rng):
    X, t = rng.normal(size=(20, 3)), rng.choice([-1.0, 1.0], 20)
    w, b = rng.normal(size=3), 0.3
    value, (dw, db) = bl.value_and_grad(logistic)(w, b, X=X, t=t)
    s = -t / (1 + np.exp(t * (X @ w + b))) / len(t)
    np.testing.assert_allclose(value, logistic(w, b, X, t), rtol=1e-15)
    np.testing.assert_allclose(dw, X.T @ s, rtol=1e-12)
    np.testing.assert_allclose(db, s.sum(), rtol=1e-12)
    assert dw.shape == (3,)
    assert np.shape(db) == ()


# --- matrix factorisation ---------------------------------------------------------------------------------------------


def factorisation(U, V, R, seen):
    return np.sum(seen * (R - U @ V.T) ** 2) + 0.1 * (np.sum(U**2) + np.sum(V**2))


def test_matrix_factorisation(rng):
    U, V, R = rng.normal(size=(5, 2)), rng.normal(size=(4, 2)), rng.normal(size=(5, 4))
    seen = rng.random((5, 4)) < 0.6
    dU, dV = bl.grad(factorisation)(U, V, R=R, seen=seen.astype(float))
    E = seen * (U @ V.T - R)
    np.testing.assert_allclose(dU, 2 * E @ V + 0.2 * U, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dV, 2 * E.T @ U + 0.2 * V, rtol=1e-12, atol=1e-14)


def test_a_mask_of_truth_values_works_as_numpy_has_it(rng):
    U, V, R = rng.normal(size=(5, 2)), rng.normal(size=(4, 2)), rng.normal(size=(5, 4))
    seen = rng.random((5, 4)) < 0.6
    for found, wanted in zip(
        bl.grad(factorisation)(U, V, R=R, seen=seen), bl.grad(factorisation)(U, V, R=R, seen=seen * 1.0), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


# --- the Rosenbrock function ------------------------------------------------------------------------------------------


def rosenbrock(p):
    return np.sum(100.0 * (p[1:] - p[:-1] ** 2) ** 2 + (1.0 - p[:-1]) ** 2)


def rosenbrock_of_two(p):
    x, y = p
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def test_rosenbrock(rng):
    p = rng.normal(size=2)
    x, y = p
    wanted = [-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)]
    np.testing.assert_allclose(bl.grad(rosenbrock)(p), wanted, rtol=1e-12)
    np.testing.assert_allclose(bl.grad(rosenbrock_of_two)(p), wanted, rtol=1e-12)
    np.testing.assert_array_equal(bl.grad(rosenbrock)(np.ones(5)), 0.0)


def test_rosenbrock_of_many_variables(rng):
    p = rng.normal(size=6)
    np.testing.assert_allclose(bl.grad(rosenbrock)(p), central_differences(rosenbrock, p), rtol=1e-6, atol=1e-6)


# --- linear least squares ---------------------------------------------------------------------------------------------


def squares(w, A, b):
    return ((A @ w - b) ** 2).sum()


def test_least_squares(rng):
    A, b = rng.normal(size=(12, 4)), rng.normal(size=12)
    w = rng.normal(size=4)
    np.testing.assert_allclose(bl.grad(squares)(w, A=A, b=b), 2 * A.T @ (A @ w - b), rtol=1e-12)
    best = np.linalg.solve(A.T @ A, A.T @ b)
    np.testing.assert_allclose(bl.grad(squares)(best, A=A, b=b), 0.0, atol=1e-12)


def test_by_every_argument(rng):
    A, b, w = rng.normal(size=(5, 2)), rng.normal(size=5), rng.normal(size=2)
    dw, dA, db = bl.grad(squares)(w, A, b)
    e = 2 * (A @ w - b)
    np.testing.assert_allclose(dA, np.outer(e, w), rtol=1e-12)
    np.testing.assert_allclose(db, -e, rtol=1e-12)
    np.testing.assert_allclose(dw, A.T @ e, rtol=1e-12)


@pytest.mark.jax
def test_all_four_agree_with_jax(rng):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    jax.config.update("jax_enable_x64", True)
    X, t, w = rng.normal(size=(9, 3)), rng.choice([-1.0, 1.0], 9), rng.normal(size=3)
    U, V, R = rng.normal(size=(5, 2)), rng.normal(size=(4, 2)), rng.normal(size=(5, 4))

    def in_jax(f, *arguments):
        names = dict(f.__globals__) | {"np": jnp}
        theirs = type(f)(f.__code__, names)
        return jax.grad(theirs, argnums=tuple(range(len(arguments))))(*map(jnp.asarray, arguments))

    for f, arguments in (
        (logistic, (w, np.array(0.2), X, t)),
        (factorisation, (U, V, R, np.ones((5, 4)))),
        (squares, (w, X, t)),
        (rosenbrock, (rng.normal(size=4),)),
    ):
        ours = bl.grad(f)(*arguments)
        for a, b in zip(ours if len(arguments) > 1 else (ours,), in_jax(f, *arguments), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


# --- how the functions behave -----------------------------------------------------------------------------------------


def test_one_argument_gives_an_array_and_several_a_tuple():
    assert bl.grad(lambda a: a * a)(3.0) == 6.0
    assert bl.grad(lambda a, b: a * b)(3.0, 4.0) == (4.0, 3.0)


def test_integers_and_lists_are_taken_as_numbers():
    np.testing.assert_array_equal(bl.grad(lambda a: (a**2).sum())([1, -2]), [2.0, -4.0])
    np.testing.assert_array_equal(bl.grad(lambda a: (a**2).sum())(np.array([1, -2])), [2.0, -4.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_has_the_dtype_of_the_argument(dtype):
    value, g = bl.value_and_grad(lambda a: np.mean(2 * a**2 + 1.5))(np.arange(1, 4, dtype=dtype))
    assert (value.dtype, g.dtype) == (dtype, dtype)
    np.testing.assert_allclose(g, [4 / 3, 8 / 3, 4], rtol=1e-6)


def test_an_argument_that_is_not_used_gets_zeros():
    a, b = bl.grad(lambda a, b: (a * a).sum())(np.ones(2), np.ones((2, 3)))
    np.testing.assert_array_equal(a, [2, 2])
    np.testing.assert_array_equal(b, np.zeros((2, 3)))


def test_a_constant_function_has_gradient_zero():
    assert bl.value_and_grad(lambda a: 3.0)(np.ones(2))[0] == 3.0
    np.testing.assert_array_equal(bl.grad(lambda a: 3.0)(np.ones(2)), [0, 0])


def test_the_name_and_docstring_stay():
    assert bl.grad(rosenbrock).__name__ == "rosenbrock"
    assert bl.value_and_grad(factorisation).__name__ == "factorisation"


def test_arguments_are_not_changed(rng):
    p = rng.normal(size=3)
    before = p.copy()
    bl.grad(rosenbrock)(p)
    np.testing.assert_array_equal(p, before)


def test_a_result_that_is_no_number_is_refused_by_name():
    with pytest.raises(GraphError, match=r"\[BL211\] squared: .*\n.*shape \[\]\n.*\[3\]"):
        bl.grad(_squared())(np.ones(3))


def _squared():
    def squared(x):
        return x * x

    return squared


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        ("text", "argument2"),
        (None, "argument2"),
        (1j, "argument2"),
        ([[1, 2], [3]], "argument2"),
        ({"W": "text"}, r"argument2\['W'\]"),
        ([np.ones(2), {"b": (np.ones(1), None)}], r"argument2\[1\]\['b'\]\[1\]"),
    ],
)
def test_arguments_that_are_no_numbers_are_refused(bad, where):
    with pytest.raises(InputError, match=rf"BL208\] {where}:"):
        bl.grad(lambda a, b: a)(1.0, bad)


# --- arrays in dicts, lists and tuples --------------------------------------------------------------------------------


def network(params, x):
    for layer in params["layers"]:
        x = np.tanh(x @ layer["W"].T + layer["b"])
    return params["scale"] * np.mean(x**2)


def test_the_gradient_of_nested_parameters_has_their_structure(rng):
    layers = [{"W": rng.normal(size=(4, 3)), "b": rng.normal(size=4)}, {"W": rng.normal(size=(2, 4)), "b": np.zeros(2)}]
    params, x = {"layers": layers, "scale": 3.0}, rng.normal(size=(5, 3))
    value, (d, dx) = bl.value_and_grad(network)(params, x)
    assert value == pytest.approx(network(params, x), rel=1e-14)
    assert list(d) == ["layers", "scale"]
    assert [list(layer) for layer in d["layers"]] == [["W", "b"], ["W", "b"]]
    assert d["scale"] == pytest.approx(value / 3, rel=1e-14)
    np.testing.assert_allclose(dx, central_differences(lambda t: network(params, t), x), rtol=1e-7, atol=1e-9)
    for k, layer in enumerate(layers):
        for name, array in layer.items():

            def at(t, k=k, name=name):
                changed = [{**old, name: t} if k == i else old for i, old in enumerate(layers)]
                return network({"layers": changed, "scale": 3.0}, x)

            np.testing.assert_allclose(d["layers"][k][name], central_differences(at, array), rtol=1e-7, atol=1e-9)


class Pair(NamedTuple):
    W: Any
    b: Any


@pytest.mark.parametrize(
    ("tree", "number", "wanted"),
    [
        ((np.array([2.0]), np.array(3.0)), lambda t: (t[0] * t[1]).sum(), (np.array([3.0]), np.array(2.0))),
        ([np.array(2.0), 5.0], lambda t: t[0] * t[1], [np.array(5.0), np.array(2.0)]),
        (Pair(np.array(2.0), np.array(3.0)), lambda t: t.W * t.b**2, Pair(np.array(9.0), np.array(12.0))),
        ({1: np.array(2.0), "1": np.array(3.0)}, lambda t: t[1] * t["1"], {1: np.array(3.0), "1": np.array(2.0)}),
        ([(), {}, np.array(2.0)], lambda t: t[2] ** 2, [(), {}, np.array(4.0)]),
        ({"w": [1.0, 2.0]}, lambda t: (t["w"] ** 2).sum(), {"w": np.array([2.0, 4.0])}),
        ([[1.0, 2.0], [3.0, 4.0]], lambda t: (t**2)[0].sum(), np.array([[2.0, 4.0], [0.0, 0.0]])),
        (((np.array(1.0),),), lambda t: 3 * t[0][0], ((np.array(3.0),),)),
    ],
)
def test_structures(tree, number, wanted):
    found = bl.grad(number)(tree)
    assert type(found) is type(wanted)
    assert described(found) == described(wanted)


def described(tree):
    """(type, parts) of each tuple and list, the numbers of each leaf."""
    if isinstance(tree, dict):
        return {k: described(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree), [described(v) for v in tree]
    return np.asarray(tree).tolist()


def test_every_leaf_keeps_its_dtype():
    d = bl.grad(lambda p: (p["a"] * p["b"]).sum())({"a": np.ones(2, "float32"), "b": np.ones(2)})
    assert (d["a"].dtype, d["b"].dtype) == (np.float32, np.float64)


def test_a_float64_array_in_a_plain_function_stays_float64():
    data = np.array([0.1, 0.2])
    value, g = bl.value_and_grad(lambda w: (w * data).sum())(np.ones(2, "float32"))
    assert value.dtype == np.float64
    assert value == pytest.approx(0.3, rel=1e-15)
    assert g.dtype == np.float32


@pytest.mark.jax
def test_nested_parameters_agree_with_jax(rng):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    params = {"layers": [{"W": rng.normal(size=(4, 3)), "b": rng.normal(size=4)}], "scale": np.array(3.0)}
    x = rng.normal(size=(5, 3))
    theirs = type(network)(network.__code__, {"np": jax.numpy})
    wanted = jax.grad(theirs)(jax.tree.map(jax.numpy.asarray, params), jax.numpy.asarray(x))
    found = bl.grad(lambda p: network(p, x))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), found, wanted)


def test_a_gradient_of_a_gradient_is_refused_not_wrong():
    with pytest.raises(GraphError, match="BL209"):
        bl.grad(lambda p: bl.grad(lambda q: (q**3).sum())(p).sum())(np.ones(2))


# --- the examples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("least_squares", "largest gradient entry at the solution"),
        ("logistic_regression", "accuracy"),
        ("matrix_factorisation", "hidden entries"),
        ("rosenbrock", "minimum at (1.0000, 1.0000)"),
    ],
)
def test_the_examples_run_and_show_their_result(name, says, capsys):
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text("utf-8").splitlines()) <= 40
    runpy.run_path(str(path), run_name="__main__")
    out = capsys.readouterr().out
    assert says in out
    assert "ok" in out.split()
    assert "backlit" in sys.modules


def test_there_is_no_example_without_a_test():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {
        "least_squares",
        "logistic_regression",
        "matrix_factorisation",
        "rosenbrock",
    }
