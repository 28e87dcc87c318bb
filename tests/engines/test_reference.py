"""The interpreter: forward and backward of small graphs by hand, sums over ways, masks by key, dtypes, jax.numpy."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError
from backlit.engines import reference
from backlit.graph import Builder


def ones(_generator, shape):
    return np.ones(shape)


def run(stage, arrays, *, wrt=None, dtype="float64"):
    b = Builder(dtype=dtype)
    inputs = [b.input(name, a.shape, a.dtype.name) for name, a in arrays.items()]
    graph = b.graph((stage(*inputs),))
    return reference.value_and_grad(graph, reference.leaves(graph, arrays), wrt or graph.inputs)


# --- forward and backward by hand -------------------------------------------------------------------------------------


def test_a_chain():
    """y = exp(x²), dy/dx = 2 x exp(x²), with every value and gradient between."""
    x = np.array(0.5)
    values, d = run(lambda x: np.exp(x**2), {"x": x})
    assert {n: float(v) for n, v in values.items()} == pytest.approx(
        {"x": 0.5, "constant1": 2.0, "power1": 0.25, "exp1": np.exp(0.25)}, rel=1e-15
    )
    assert {n: float(g) for n, g in d.items()} == pytest.approx(
        {"exp1": 1.0, "power1": np.exp(0.25), "x": np.exp(0.25)}, rel=1e-15
    )


def test_ways_add_up():
    """L = x y + x, so that ∂L/∂x = y + 1 and ∂L/∂y = x."""
    _, d = run(lambda x, y: x * y + x, {"x": np.array(3.0), "y": np.array(5.0)})
    assert (d["x"], d["y"]) == (6.0, 3.0)


def test_a_value_twice_in_one_node_adds_up():
    _, d = run(lambda x: x * x * x, {"x": np.array(2.0)})
    assert d["x"] == 12.0
    _, d = run(lambda x: bl.ops.concatenate(x, x, x).sum(), {"x": np.ones(2)})
    np.testing.assert_array_equal(d["x"], [3.0, 3.0])


def test_gradients_have_the_shapes_of_their_values_after_broadcasting():
    arrays = {"a": np.ones((2, 3)), "b": np.arange(3.0), "c": np.array(2.0)}
    _, d = run(lambda a, b, c: (a * b * c).sum(), arrays)
    np.testing.assert_array_equal(d["a"], [[0, 2, 4], [0, 2, 4]])
    np.testing.assert_array_equal(d["b"], [4, 4, 4])
    assert d["c"] == 6.0


def test_only_what_was_asked_for_is_walked():
    _, d = run(lambda x, y: np.exp(x) * np.log(y), {"x": np.array(1.0), "y": np.array(2.0)}, wrt=("y",))
    assert set(d) == {"mul1", "log1", "y"}
    assert d["y"] == pytest.approx(np.e / 2)


def test_what_is_not_used_gets_zeros():
    b = Builder()
    x, w = b.input("x", (2,)), b.parameter("w", (2, 3), ones)
    graph = b.graph((x.sum(),))
    assert w.name == "w"
    _, d = reference.value_and_grad(
        graph, {"x": np.ones(2, "float32"), "w": np.ones((2, 3), "float32")}, graph.trainable
    )
    np.testing.assert_array_equal(d["w"], np.zeros((2, 3)))
    assert d["w"].dtype == np.float32


def test_no_gradient_through_a_comparison_or_a_label():
    _, d = run(lambda x: ((x > 0) * 1.0).sum(), {"x": np.array([1.0, -1.0])})
    np.testing.assert_array_equal(d["x"], [0.0, 0.0])


def test_any_value_can_be_asked_for():
    b = Builder(dtype="float64")
    x = b.input("x", (2,))
    h = x * 3.0
    graph = b.graph(((h * h).sum(),))
    _, d = reference.value_and_grad(graph, reference.leaves(graph, {"x": np.array([1.0, 2.0])}), (h.name,))
    np.testing.assert_array_equal(d[h.name], [6.0, 12.0])
    assert "x" not in d


def test_the_output_itself():
    _, d = run(lambda x: x, {"x": np.array(4.0)})
    assert d["x"] == 1.0


def test_two_layers_by_hand():
    """z = W x + b, δ = ∂L/∂z, ∂L/∂W = δ xᵀ, ∂L/∂b = δ, summed over the samples."""
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(4, 3)), rng.normal(size=(2, 3)), rng.normal(size=2)
    build = Builder(dtype="float64")
    given = {"x": x, "W": W, "b": b}
    leaf = [build.input("x", x.shape), *(build.parameter(n, given[n].shape, ones) for n in ("W", "b"))]
    graph = build.graph((np.tanh(build.add("linear", *leaf, name="z")[0]).sum(),))
    values, d = reference.value_and_grad(graph, reference.leaves(graph, given), graph.trainable)
    delta = 1 - np.tanh(x @ W.T + b) ** 2
    np.testing.assert_allclose(values["z"], x @ W.T + b, rtol=1e-15)
    np.testing.assert_allclose(d["z"], delta, rtol=1e-12)
    np.testing.assert_allclose(d["W"], sum(np.outer(delta[n], x[n]) for n in range(4)), rtol=1e-12)
    np.testing.assert_allclose(d["b"], delta.sum(axis=0), rtol=1e-12)


def test_values_are_not_changed_by_the_walk_back():
    x = np.array([1.0, -2.0])
    b = Builder(dtype="float64")
    graph = b.graph(((bl.ops.relu(b.input("x", (2,))) ** 2).sum(),))
    values = reference.forward(graph, reference.leaves(graph, {"x": x}))
    before = {n: np.copy(v) for n, v in values.items()}
    first = reference.backward(graph, values, ("x",), graph.outputs[0])
    again = reference.backward(graph, values, ("x",), graph.outputs[0])
    for name, value in values.items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(first["x"], again["x"])


# --- leaves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "came"),
    [({}, "x = None"), ({"x": np.ones(3)}, r"x\[3\]"), ({"x": np.ones((2, 1))}, r"x\[2, 1\]")],
)
def test_a_leaf_that_is_missing_or_of_another_shape_is_named(given, came):
    b = Builder()
    graph = b.graph((b.input("x", (2,)).sum(),))
    with pytest.raises(InputError, match=rf"BL212\] x[\s\S]*float32\[2\][\s\S]*{came}"):
        reference.leaves(graph, given)


def masks(shape=(200, 50), rate=0.3, dtype="float32", name="dropout1.mask"):
    b = Builder(dtype=dtype)
    graph = b.graph((b.mask(name, shape, rate),))

    def draw(**key):
        return reference.leaves(graph, {}, **key)[name]

    return draw


def test_a_mask_is_a_function_of_its_key():
    draw = masks()
    first = draw(seed=1, step=2)
    np.testing.assert_array_equal(first, draw(seed=1, step=2))
    for other in (draw(seed=2, step=2), draw(seed=1, step=3), draw(seed=1, step=2, part=1)):
        assert (other != first).any()
    assert (masks(name="dropout2.mask")(seed=1, step=2) != first).any()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mask_keeps_its_share_and_the_mean(rate, dtype):
    mask = masks(rate=rate, dtype=dtype)(seed=0, step=1)
    assert set(np.unique(mask)) == {0, np.dtype(dtype).type(1 / (1 - rate))}
    assert mask.dtype == dtype
    assert np.mean(mask == 0) == pytest.approx(rate, abs=0.02)


def test_masks_of_both_precisions_drop_the_same_entries():
    a, b = (masks(dtype=t)(seed=3, step=4) for t in ("float32", "float64"))
    np.testing.assert_array_equal(a == 0, b == 0)


# --- precisions and namespaces ----------------------------------------------------------------------------------------


def network(dtype, seed=0):
    layers = bl.Dense(5, "tanh"), bl.LayerNorm(), bl.Dropout(0.3), bl.Residual(bl.Dense(5, "gelu")), bl.Dense(3)
    model = bl.Sequential(*layers).build((4,), seed=seed, dtype="float64")
    x, y = np.random.default_rng(1).normal(size=(6, 4)), np.array([0, 1, 2, 2, 1, 0])
    graph = model.graph(
        [((6, 4), dtype)], training=True, loss=bl.SoftmaxCrossEntropy(), target=((6,), "int64"), dtype=dtype
    )
    given = {n: a.astype(dtype) for n, a in ({"x": x} | model.params).items()} | {"y": y}
    return graph, reference.leaves(graph, given, seed=seed, step=1)


def test_float32_is_float64_rounded():
    values, d = reference.value_and_grad(*(args := network("float64")), args[0].trainable)
    single, e = reference.value_and_grad(*(args := network("float32")), args[0].trainable)
    assert {a.dtype.name for n, a in (single | e).items() if n != "y"} == {"float32"}
    assert {a.dtype.name for n, a in (values | d).items() if n != "y"} == {"float64"}
    for name, g in d.items():
        np.testing.assert_allclose(e[name], g, rtol=2e-4, atol=2e-6)


@pytest.mark.jax
def test_on_jax_under_jit_the_same(monkeypatch):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    graph, env = network("float64")
    values, d = reference.value_and_grad(graph, env, graph.trainable)
    jitted = jax.jit(lambda env: reference.value_and_grad(graph, env, graph.trainable, xp=jax.numpy))
    found, e = jitted({n: jax.numpy.asarray(a) for n, a in env.items()})
    assert (set(found), set(e)) == (set(values), set(d))
    for name in values:
        np.testing.assert_allclose(found[name], values[name], rtol=1e-12, atol=1e-14)
    for name in d:
        np.testing.assert_allclose(e[name], d[name], rtol=1e-11, atol=1e-14)


@pytest.mark.jax
def test_the_walk_back_is_the_derivative_that_jax_finds():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    graph, env = network("float64")
    _, d = reference.value_and_grad(graph, env, graph.trainable)

    def loss(params):
        return reference.forward(graph, env | params, xp=jax.numpy)[graph.outputs[0]]

    wanted = jax.grad(loss)({n: jax.numpy.asarray(env[n]) for n in graph.trainable})
    for name, g in wanted.items():
        np.testing.assert_allclose(d[name], g, rtol=1e-10, atol=1e-13)
