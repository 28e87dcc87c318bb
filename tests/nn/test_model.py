"""Models: names by order, shared and frozen layers, several inputs, seeds, precision, prediction, staging, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import GraphError, InputError, UnknownNameError
from backlit.nn import predicting
from backlit.nn.grad import loss_graph
from backlit.nn.model import GRAPHS_KEPT

X = np.random.default_rng(0).normal(size=(11, 3))
Y = np.random.default_rng(1).normal(size=(11, 2))


def sequential(*layers, **settings):
    return bl.Sequential(*(layers or (bl.Dense(4, "tanh"), bl.Dense(2)))).build((3,), **settings)


def fit(model, x=X, y=Y, **settings):
    return bl.fit(model, (x, y), **{"loss": "mse", "optimizer": bl.SGD(0.1), "epochs": 1, "progress": False} | settings)


# --- names ------------------------------------------------------------------------------------------------------------


def test_layers_are_named_by_order():
    model = sequential(bl.Dense(4), bl.ReLU(), bl.Dense(4), bl.LayerNorm(), bl.ReLU(), bl.Dense(2))
    names = [n.name for n in model.graph([((2, 3), "float32")])]
    assert names == ["dense1.z", "relu1.a", "dense2.z", "layernorm1.a", "relu2.a", "dense3.z"]
    assert list(model.params)[:4] == ["dense1.W", "dense1.b", "dense2.W", "dense2.b"]


def test_a_name_of_ones_own_and_counted_ones():
    model = sequential(bl.Dense(4, name="dense2"), bl.Dense(4), bl.Dense(2), bl.Dense(2, name="head"))
    assert [n.split(".")[0] for n in model.params if n.endswith("W")] == ["dense2", "dense1", "dense3", "head"]
    with pytest.raises(InputError, match=r"BL207.*'a'"):
        sequential(bl.Dense(4, name="a"), bl.Dense(4, name="a"))


def test_layers_made_in_the_function_are_named_by_order():
    def f(x):
        h = bl.Dense(4, "relu")(x)
        return bl.Dense(2)(h + bl.Dense(4, "tanh")(h))

    model = bl.Model(f).build((3,))
    names = [n.name for n in model.graph([((2, 3), "float32")])]
    assert names == ["dense1.z", "dense1.a", "dense2.z", "dense2.a", "add1", "dense3.z"]
    assert model.params["dense3.W"].shape == (2, 4)


def test_a_shared_layer_has_one_parameter_and_a_name_for_each_call():
    layer = bl.Dense(3, "tanh")
    model = sequential(layer, layer, bl.Dense(2), dtype="float64")
    assert list(model.params) == ["dense1.W", "dense1.b", "dense2.W", "dense2.b"]
    names = [n.name for n in model.graph([((2, 3), "float64")])]
    assert names == ["dense1.z", "dense1.a", "dense1@2.z", "dense1@2.a", "dense2.z"]
    W = model.params["dense1.W"]
    h = np.tanh(np.tanh(X @ W.T) @ W.T)
    np.testing.assert_allclose(model.predict(X), h @ model.params["dense2.W"].T, rtol=1e-13)


def test_the_gradient_of_a_shared_layer_is_the_sum_of_its_calls():
    shared = bl.Dense(3)
    model = sequential(shared, shared, dtype="float64")
    _, grads = bl.value_and_grad(model, X, X, loss="mse")
    apart = sequential(bl.Dense(3), bl.Dense(3), dtype="float64")
    apart.params = {n: model.params[f"dense1.{n[-1]}"] for n in apart.params}
    _, parts = bl.value_and_grad(apart, X, X, loss="mse")
    for p in "Wb":
        np.testing.assert_allclose(grads[f"dense1.{p}"], parts[f"dense1.{p}"] + parts[f"dense2.{p}"], rtol=1e-12)


def test_a_shared_layer_needs_inputs_of_one_width():
    layer = bl.Dense(4)
    with pytest.raises(InputError, match=r"BL206\] dense1\.W"):
        sequential(layer, layer)


def test_models_in_models():
    inner = bl.Sequential(bl.Dense(4, "relu"), bl.Dense(3))
    model = sequential(bl.Dense(3), inner, bl.Dense(3), inner)
    assert [n for n in model.params if n.endswith("W")] == ["dense1.W", "dense2.W", "dense3.W", "dense4.W"]
    names = [n.name for n in model.graph([((2, 3), "float32")])]
    assert names[-3:] == ["dense2@2.z", "dense2@2.a", "dense3@2.z"]
    assert not inner.built  # it only lends its layers


def test_a_layer_inside_itself():
    loop = bl.Residual(bl.Dense(3))
    object.__setattr__(loop, "layers", (loop,))
    with pytest.raises(GraphError, match=r"BL205[\s\S]*Residual → residual"):
        sequential(loop)


# --- several inputs ---------------------------------------------------------------------------------------------------


def two(a, b):
    return bl.Dense(2)(bl.Concatenate()(bl.Dense(4, "relu")(a), b))


def test_two_inputs():
    model = bl.Model(two).build([(3,), (2,)], dtype="float64")
    assert model.samples == ((3,), (2,))
    assert model.params["dense2.W"].shape == (2, 6)
    h = np.concatenate([np.maximum(X @ model.params["dense1.W"].T, 0), Y], axis=1)
    np.testing.assert_allclose(model.predict((X, Y)), h @ model.params["dense2.W"].T, rtol=1e-13)
    np.testing.assert_array_equal(model(X, Y), model.predict((X, Y)))
    assert model.graph([((2, 3), "float64"), ((2, 2), "float64")]).inputs == ("x1", "x2")


def test_two_inputs_are_fitted_and_built_when_needed():
    model = bl.Model(two)
    losses = fit(model, (X, Y), Y, epochs=30, batch_size=4).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_one_input_for_two_is_refused():
    with pytest.raises(InputError, match=r"BL305[\s\S]*x\[N, 3\], x\[N, 2\][\s\S]*x\[11, 3\]"):
        bl.Model(two).build([(3,), (2,)]).predict(X)


# --- frozen parameters ------------------------------------------------------------------------------------------------


def test_frozen_parameters_have_no_gradient_and_stay():
    model = sequential(bl.Dense(4, "tanh", trainable=False), bl.Dense(2), dtype="float64")
    before = {n: p.copy() for n, p in model.params.items()}
    _, grads = bl.value_and_grad(model, X, Y, loss="mse")
    assert set(grads) == {"dense2.W", "dense2.b"}
    fit(model, optimizer=bl.AdamW(0.1, weight_decay=0.5))
    for name in ("dense1.W", "dense1.b"):
        np.testing.assert_array_equal(model.params[name], before[name])
    assert (model.params["dense2.W"] != before["dense2.W"]).all()
    assert model.summary().frozen == 16


def test_gradients_pass_through_a_frozen_layer():
    layers = bl.Dense(4, "tanh"), bl.Dense(2)
    _, free = bl.value_and_grad(sequential(*layers), X, Y, loss="mse")
    model = sequential(layers[0], replace(layers[1], trainable=False))
    _, grads = bl.value_and_grad(model, X, Y, loss="mse")
    assert set(grads) == {"dense1.W", "dense1.b"}
    np.testing.assert_array_equal(grads["dense1.W"], free["dense1.W"])


# --- seeds and precision ----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights():
    one, again, other = sequential(seed=4), sequential(seed=4), sequential(seed=5)
    for name, p in one.params.items():
        np.testing.assert_array_equal(p, again.params[name])
    assert (one.params["dense1.W"] != other.params["dense1.W"]).any()


def test_a_layer_added_elsewhere_changes_no_other():
    one = sequential(bl.Dense(4, "relu"), bl.Dense(2, name="head"))
    other = sequential(bl.Dense(4, "relu"), bl.LayerNorm(), bl.Dense(4), bl.Dense(2, name="head"))
    for name in ("dense1.W", "head.W"):
        np.testing.assert_array_equal(one.params[name], other.params[name])


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64"), float])
def test_float64_everywhere(dtype):
    model = sequential(bl.Dense(4, "gelu"), bl.BatchNorm(), bl.Dropout(0.3), bl.Dense(2), dtype=dtype)
    assert model.dtype == "float64"
    assert {a.dtype.name for a in (model.params | model.state).values()} == {"float64"}
    assert {g.dtype.name for g in bl.value_and_grad(model, X, Y, loss="mse")[1].values()} == {"float64"}
    fit(model)
    assert {a.dtype.name for a in (model.params | model.state).values()} == {"float64"}


def test_float32_unless_told_whatever_the_data():
    model = sequential(bl.Dense(4, "gelu"), bl.BatchNorm(), bl.Dropout(0.3), bl.Dense(2))
    assert model.predict(X).dtype == model.predict(X.astype("float16")).dtype == np.float32
    assert model.predict(np.ones((2, 3), int)).dtype == np.float32
    assert {g.dtype.name for g in bl.value_and_grad(model, X, Y, loss="mse")[1].values()} == {"float32"}


def scaled(x):
    return bl.Dense(2)(x * np.array([0.1, 0.2, 0.3]) + np.ones((1, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_arrays_take_the_precision_of_the_model(dtype):
    model = bl.Model(scaled).build((3,), dtype=dtype)
    assert model.predict(X).dtype == dtype
    assert {g.dtype.name for g in bl.value_and_grad(model, X, Y, loss="mse")[1].values()} == {dtype}
    graph, _ = loss_graph(model, X, Y, loss="mse", dtype="float64")
    assert {v.dtype for v in graph.values.values()} == {"float64"}
    constants = graph.constants.values()
    assert any(np.array_equal(c, [0.1, 0.2, 0.3]) for c in constants)  # not by way of float32


def test_the_same_weights_in_both_precisions():
    single, double = sequential(), sequential(dtype="float64")
    for name, p in single.params.items():
        np.testing.assert_array_equal(p, double.params[name].astype("float32"))
    np.testing.assert_allclose(single.predict(X), double.predict(X), rtol=1e-5, atol=1e-6)


def test_value_and_grad_repeats_by_seed_and_step_and_leaves_the_model_alone():
    model = sequential(bl.Dense(40), bl.BatchNorm(), bl.Dropout(0.5), bl.Dense(2))
    kept = {n: a.copy() for n, a in (model.params | model.state).items()}
    first = bl.value_and_grad(model, X, Y, loss="mse", seed=1, step=2)
    again = bl.value_and_grad(model, X, Y, loss="mse", seed=1, step=2)
    other = bl.value_and_grad(model, X, Y, loss="mse", seed=1, step=3)
    assert first[0] == again[0] != other[0]
    for name, g in first[1].items():
        np.testing.assert_array_equal(g, again[1][name])
    for name, a in (model.params | model.state).items():
        np.testing.assert_array_equal(a, kept[name])
    quiet = bl.value_and_grad(model, X, Y, loss="mse", training=False)
    assert quiet[0] == pytest.approx(np.mean((model.predict(X) - Y) ** 2), rel=1e-5)


def test_weights_of_samples():
    model, w = sequential(dtype="float64"), np.arange(11.0)
    loss, _ = bl.value_and_grad(model, X, Y, loss="mse", weights=w)
    errors = ((model.predict(X) - Y) ** 2).mean(axis=1)
    assert loss == pytest.approx((w * errors).sum() / w.sum(), rel=1e-12)


# --- prediction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 10, 11, 1000])
def test_predict_in_batches_is_predict_at_once(batch_size):
    model = sequential(bl.Dense(5, "relu"), bl.BatchNorm(), bl.Dropout(0.9), bl.Dense(2), dtype="float64")
    fit(model)
    np.testing.assert_allclose(model.predict(X, batch_size=batch_size), model.predict(X), rtol=1e-13, atol=1e-15)


def test_predict_proba():
    model = sequential(dtype="float64")
    z = model.predict(X)
    np.testing.assert_allclose(model.predict_proba(X), np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-13)
    one = sequential(bl.Dense(1), dtype="float64")
    np.testing.assert_allclose(one.predict_proba(X), 1 / (1 + np.exp(-one.predict(X))), rtol=1e-13)


def test_a_model_of_no_layers_gives_its_input():
    np.testing.assert_array_equal(bl.Sequential().build((3,), dtype="float64").predict(X), X)


# --- staging ----------------------------------------------------------------------------------------------------------


def test_the_function_is_called_once_for_each_shape():
    calls = []

    def f(x):
        calls.append(x.shape)
        return bl.Dense(2)(x)

    model = bl.Model(f).build((3,))
    assert calls == [(2, 3)]
    for _ in range(3):
        model.predict(X)
    assert calls == [(2, 3), (11, 3)]
    model.predict(X, batch_size=4)
    assert calls[2:] == [(4, 3), (3, 3)]
    before = len(calls)
    for step in range(1, 4):
        bl.value_and_grad(model, X, Y, loss="mse", step=step)
    assert len(calls) == before + 1
    bl.value_and_grad(model, X, Y, loss=bl.Huber(0.5))
    bl.value_and_grad(model, X, Y, loss=bl.Huber(0.5))
    assert len(calls) == before + 2


def test_a_graph_can_be_kept():
    model = sequential()
    assert model.graph([((2, 3), "float32")]) is model.graph([((2, 3), "float32")])
    assert model.graph([((2, 3), "float32")]) is not model.graph([((3, 3), "float32")])
    old = model.graph([((2, 3), "float32")])
    assert model.build((3,)).graph([((2, 3), "float32")]) is not old


def test_the_graphs_used_last_are_kept_and_no_more():
    model = sequential()
    first, second = (model.graph([((n, 3), "float32")]) for n in (1, 2))
    for n in range(3, 3 + GRAPHS_KEPT - 2):
        model.graph([((n, 3), "float32")])
    assert model.graph([((1, 3), "float32")]) is first  # and so used last
    model.graph([((100, 3), "float32")])
    assert len(model._graphs) == GRAPHS_KEPT == 32
    assert model.graph([((1, 3), "float32")]) is first
    assert model.graph([((2, 3), "float32")]) is not second


def test_building_that_fails_leaves_the_model_as_it_was():
    model = bl.Sequential(bl.Residual(bl.Dense(4)))
    with pytest.raises(InputError, match="BL312"):
        model.build((3,))
    assert not model.built
    model.build((4,))
    kept = dict(model.params)
    with pytest.raises(InputError, match="BL312"):
        model.build((3,))
    assert (model.samples, list(model.params)) == (((4,),), list(kept))


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(11,), (11, 1)])
@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "binary_cross_entropy"])
def test_the_target_of_one_output_may_be_a_vector(loss, shape):
    model, y = sequential(bl.Dense(1)), (Y[:, 0] > 0).astype(float)
    assert bl.value_and_grad(model, X, y.reshape(shape), loss=loss)[0] == bl.value_and_grad(model, X, y, loss=loss)[0]


@pytest.mark.parametrize("weights", [[1, 2], (1.0, 2.0), np.array([1, 2])])
def test_class_weights_in_any_form(weights):
    labels = (Y[:, 0] > 0).astype(int)
    loss, _ = bl.value_and_grad(
        sequential(dtype="float64"), X, labels, loss=bl.SoftmaxCrossEntropy(class_weights=weights)
    )
    p = sequential(dtype="float64").predict_proba(X)[np.arange(11), labels]
    w = np.array([1.0, 2.0])[labels]
    assert loss == pytest.approx(-(w * np.log(p)).sum() / w.sum(), rel=1e-12)


@pytest.mark.parametrize("weight", [3.0, 3, [3.0, 3.0], np.array([3.0, 3.0]), np.float32(3)])
def test_pos_weight_in_any_form(weight):
    y = (Y > 0).astype(float)
    loss, _ = bl.value_and_grad(sequential(dtype="float64"), X, y, loss=bl.BinaryCrossEntropy(pos_weight=weight))
    p = 1 / (1 + np.exp(-sequential(dtype="float64").predict(X)))
    assert loss == pytest.approx(-np.mean(3 * y * np.log(p) + (1 - y) * np.log(1 - p)), rel=1e-12)


@pytest.mark.parametrize(
    ("last", "loss"),
    [("softmax", "softmax_cross_entropy"), ("sigmoid", "softmax_cross_entropy"), ("sigmoid", "binary_cross_entropy")],
)
def test_an_activation_that_the_loss_has_itself_is_refused(last, loss):
    y = np.zeros(11, int) if loss.startswith("soft") else np.zeros((11, 2))
    with pytest.raises(InputError, match=rf"BL307\] dense1\.a.*{loss}.*{last}"):
        bl.value_and_grad(sequential(bl.Dense(2, last)), X, y, loss=loss)


@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_probabilities_for_a_loss_of_log_probabilities_are_refused_with_the_remedy(last):
    P = np.full((11, 2), 0.5)
    with pytest.raises(InputError, match=rf"BL320\] dense1\.a.*kl_divergence.*{last}[\s\S]*fix: .*'log_softmax'"):
        bl.value_and_grad(sequential(bl.Dense(2, last)), X, P, loss="kl_divergence")
    loss, _ = bl.value_and_grad(sequential(bl.Dense(2, "log_softmax"), dtype="float64"), X, P, loss="kl_divergence")
    q = sequential(bl.Dense(2, "softmax"), dtype="float64").predict(X)
    assert loss == pytest.approx(np.mean(np.sum(0.5 * np.log(0.5 / q), axis=1)), rel=1e-12)


# --- errors -----------------------------------------------------------------------------------------------------------

REFUSED = {
    "not built": (lambda: bl.Sequential(bl.Dense(2)).predict(X), InputError, "BL304"),
    "no summary yet": (lambda: bl.Sequential(bl.Dense(2)).summary(), InputError, "BL304"),
    "not saved yet": (lambda: bl.save(bl.Sequential(bl.Dense(2)), "never.safetensors"), InputError, "BL304"),
    "too many features": (lambda: sequential().predict(np.ones((4, 5))), InputError, r"x\[N, 3\][\s\S]*x\[4, 5\]"),
    "transposed": (lambda: sequential().predict(X.T), InputError, r"BL305[\s\S]*x\[3, 11\]"),
    "one sample": (lambda: sequential().predict(X[0]), InputError, r"BL305[\s\S]*x\[3\][\s\S]*x\[None\]"),
    "no samples": (lambda: sequential().predict(X[:0]), InputError, r"BL315\] x[\s\S]*x\[0, 3\]"),
    "a number": (lambda: sequential().predict(3.0), InputError, "BL315"),
    "text": (lambda: sequential().predict(np.array([["a", "b", "c"]])), InputError, "BL208"),
    "a list of layers": (lambda: bl.Sequential([bl.Dense(2)]), InputError, "BL309"),
    "a class": (lambda: bl.Sequential(bl.Dense), InputError, "BL309"),
    "a name": (lambda: bl.Sequential("relu"), InputError, r"BL309[\s\S]*'relu'"),
    "a number as sample shape": (lambda: bl.Sequential(bl.Dense(2)).build(3), InputError, r"BL306[\s\S]*\(64,\)"),
    "an empty axis": (lambda: bl.Sequential(bl.Dense(2)).build((0,)), InputError, "BL306"),
    "an unknown dtype": (lambda: sequential(dtype="flaot32"), InputError, r"dtype[\s\S]*float32[\s\S]*'flaot32'"),
    "whole numbers": (lambda: sequential(dtype=int), InputError, "dtype"),
    "a function without result": (lambda: bl.Model(lambda x: None).build((3,)), InputError, r"BL308[\s\S]*NoneType"),
    "two results": (lambda: bl.Model(lambda x: (x, x)).build((3,)), InputError, r"BL308[\s\S]*tuple"),
    "a shape clash": (lambda: bl.Model(lambda x: x + bl.Dense(4)(x)).build((3,)), InputError, r"BL102\] add1"),
    "unknown loss": (lambda: bl.value_and_grad(sequential(), X, Y, loss="mes"), UnknownNameError, r"did you mean mse"),
    "a target of another width": (
        lambda: bl.value_and_grad(sequential(), X, X, loss="mse"), InputError, r"BL151\] loss[\s\S]*11, 2[\s\S]*11, 3",
    ),
    "as many targets as samples": (
        lambda: bl.value_and_grad(sequential(), X, Y[:5], loss="mse"), InputError, r"loss[\s\S]*5, 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    make, kind, says = REFUSED[what]
    with pytest.raises(kind, match=says) as caught:
        make()
    assert all(caught.value.part(p) for p in ("problem", "expected", "got", "fix"))


def test_what_models_say_of_themselves():
    assert repr(bl.Sequential(bl.Dense(2))).startswith("Sequential(Dense(")
    assert repr(bl.Model(two)) == "Model(two)"


# --- how many samples at once -----------------------------------------------------------------------------------------


def rows_seen(model, monkeypatch):
    """The sizes of the batches that prediction walks through, filled in as it does."""
    sizes = []
    inner = predicting._by_reference
    monkeypatch.setattr(predicting, "_by_reference", lambda model, a: sizes.append(len(a[0])) or inner(model, a))
    return sizes


def test_prediction_takes_a_thousand_samples_at_once_and_fewer_of_large_ones(monkeypatch):
    small = bl.Sequential(bl.Dense(2)).build((3,))
    sizes = rows_seen(small, monkeypatch)
    small.predict(np.zeros((1500, 3)))
    assert sizes == [1024, 476]
    sizes.clear()
    large = bl.Sequential(bl.Dense(1 << 17, "relu"), bl.Dense(1, init=0.0)).build((1,))
    large.predict(np.zeros((300, 1)))
    assert sizes == [255, 45], "a sample takes 2^20 bytes and 4 more, of 2^28 at once"


def test_a_batch_size_that_is_given_counts(monkeypatch):
    model = bl.Sequential(bl.Dense(2)).build((3,))
    sizes = rows_seen(model, monkeypatch)
    model.predict(np.zeros((5, 3)), batch_size=2)
    assert sizes == [2, 2, 1]


def test_however_many_at_once_the_numbers_are_the_same():
    model = bl.Sequential(bl.Dense(4, "tanh"), bl.Dense(2)).build((3,), dtype="float64")
    X = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(model.predict(X, batch_size=7), model.predict(X), rtol=1e-13)
