"""A trace holds everything of one step under its name: values, δ, gradients, single samples, differences, files."""

from __future__ import annotations

from unicodedata import east_asian_width

import numpy as np
import pytest

import backlit as bl
from backlit.core import files
from backlit.core.errors import FileError, InputError, UnknownNameError
from backlit.core.i18n import LANGUAGES, use_language
from backlit.glass.trace import Trace, of_graph
from backlit.graph.builder import Builder
from glass.graphs import batch, mlp, of_everything, of_mlp


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# --- values and gradients by name -----------------------------------------------------------------------------------


def test_every_z_a_delta_and_gradient_of_a_net_by_hand():
    trace, (X, y), p = of_mlp(), batch(), mlp().params
    z1 = X @ p["dense1.W"].T + p["dense1.b"]
    a1 = np.tanh(z1)
    z2 = a1 @ p["dense2.W"].T + p["dense2.b"]
    d2 = (softmax(z2) - np.eye(3)[y]) / len(y)
    d1 = (d2 @ p["dense2.W"]) * (1 - a1**2)
    loss = -np.mean(np.log(softmax(z2)[np.arange(len(y)), y]))
    for name, want in {"x": X, "dense1.z": z1, "dense1.a": a1, "dense2.z": z2}.items():
        np.testing.assert_allclose(trace[name], want, rtol=1e-13, atol=1e-15)
    for layer, want in {"dense1": d1, "dense2": d2}.items():
        np.testing.assert_allclose(trace.delta(layer), want, rtol=1e-12, atol=1e-15)
    wanted = {"dense1.W": d1.T @ X, "dense1.b": d1.sum(0), "dense2.W": d2.T @ a1, "dense2.b": d2.sum(0)}
    wanted |= {"dense1.a": d2 @ p["dense2.W"], "x": d1 @ p["dense1.W"], "loss": 1.0}
    for name, want in wanted.items():
        np.testing.assert_allclose(trace.grad(name), want, rtol=1e-12, atol=1e-15)
    assert trace.loss == pytest.approx(loss, rel=1e-14)


def test_parameters_are_values_and_gradients_have_their_shape():
    trace = of_everything()
    assert {"dense1.W", "dense1.b", "batchnorm1.gamma", "dropout1.mask", "y"} <= set(trace)
    for name, g in trace.grads.items():
        assert g.shape == trace[name].shape


def test_the_a_of_a_layer_without_activation_is_its_z():
    trace = of_mlp()
    assert trace["dense2.a"] is trace["dense2.z"]
    assert trace.grad("dense2.a") is trace.grad("dense2.z")
    assert "dense2.a" not in trace


def test_delta_of_a_layer_without_z_is_that_of_what_it_gives():
    trace = of_everything()
    assert trace.delta("batchnorm1") is trace.grads["batchnorm1.a"]
    assert trace.delta("concatenate1") is trace.grads["concatenate1"]


def test_layers_and_names_are_listed_in_order():
    trace = of_mlp()
    assert trace.layers == ("dense1", "dense2", "loss")
    assert trace.names()[: len(trace.values)] == list(trace)
    assert "∂dense1.W" in trace.names()


def test_names_that_do_not_exist_offer_the_nearest():
    trace = of_mlp()
    for ask in (trace.__getitem__, trace.grad, trace.delta, trace.per_sample):
        with pytest.raises(UnknownNameError, match="dense1"):
            ask("dens1.W")


@pytest.mark.parametrize("name", ["y", "dropout1.mask", "batchnorm1.running_mean"])
def test_labels_masks_and_running_statistics_have_no_gradient(name):
    with pytest.raises(InputError, match="no gradient") as caught:
        of_everything().grad(name)
    assert caught.value.code == "BL901"


def test_frozen_parameters_have_no_gradient():
    model = bl.Sequential(bl.Dense(5, trainable=False), bl.Dense(3)).build((4,))
    trace = bl.trace(model, *batch(), loss="softmax_cross_entropy")
    with pytest.raises(InputError, match=r"dense2\.W"):
        trace.grad("dense1.W")
    assert trace["dense1.W"].shape == (5, 4)


def test_tracing_leaves_the_model_as_it_is():
    model = mlp()
    before = {name: p.copy() for name, p in model.params.items()}
    bl.trace(model, *batch(), loss="softmax_cross_entropy")
    assert all(np.array_equal(before[name], p) for name, p in model.params.items())


def test_another_precision():
    single, double = bl.trace(mlp(), *batch(), loss="softmax_cross_entropy", dtype="float32"), of_mlp()
    assert single["dense1.z"].dtype == single.grad("dense1.W").dtype == np.float32
    np.testing.assert_allclose(single["dense1.z"], double["dense1.z"], rtol=1e-5, atol=1e-6)


def test_dropout_is_drawn_by_seed_and_step_and_not_at_inference():
    model = bl.Sequential(bl.Dense(30), bl.Dropout(0.5), bl.Dense(3)).build((4,))
    masks = [
        bl.trace(model, *batch(), loss="softmax_cross_entropy", **key)["dropout1.mask"]
        for key in ({}, {}, {"step": 2}, {"seed": 1})
    ]
    assert [np.array_equal(masks[0], other) for other in masks[1:]] == [True, False, False]
    assert "dropout1.mask" not in bl.trace(model, *batch(), loss="softmax_cross_entropy", training=False)


# --- sample by sample -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameter", ["dense1.W", "dense1.b", "dense2.W", "dense2.b"])
def test_gradients_of_samples_are_those_of_batches_of_one(parameter):
    (X, y), model = batch(), mlp()
    found = bl.trace(model, X, y, loss="softmax_cross_entropy").per_sample(parameter)
    for n in range(len(y)):
        alone = bl.value_and_grad(model, X[n : n + 1], y[n : n + 1], loss="softmax_cross_entropy")[1][parameter]
        np.testing.assert_allclose(found[n], alone / len(y), rtol=1e-12, atol=1e-15)


def test_gradients_of_samples_add_up_to_the_gradient():
    trace = of_everything()
    for name in trace.graph.trainable:
        found = trace.per_sample(name)
        assert found.shape == (6, *trace[name].shape)
        np.testing.assert_allclose(found.sum(axis=0), trace.grad(name), rtol=1e-12, atol=1e-14)


class Turned(bl.Layer):
    """x Wᵀ by way of a transposition, or with W meeting the data only after the samples are averaged."""

    def __init__(self, averaged=False):
        super().__init__()
        object.__setattr__(self, "averaged", averaged)

    def stage(self, scope, x):
        W = scope.parameter("W", (3, x.shape[-1]), lambda rng, shape: rng.normal(size=shape))
        return x + np.mean(x, axis=0) * W[0] if self.averaged else x @ (2.0 * W.T)


def test_a_parameter_may_go_through_nodes_of_its_own_first():
    (X, y), model = batch(), bl.Sequential(Turned()).build((4,), dtype="float64")
    found = bl.trace(model, X, y, loss="softmax_cross_entropy").per_sample("turned1.W")
    for n in range(len(y)):
        alone = bl.value_and_grad(model, X[n : n + 1], y[n : n + 1], loss="softmax_cross_entropy")[1]["turned1.W"]
        np.testing.assert_allclose(found[n], alone / len(y), rtol=1e-12, atol=1e-15)


def test_where_samples_are_gone_it_is_said():
    X, _ = batch()
    model = bl.Sequential(Turned(averaged=True)).build((4,), dtype="float64")
    with pytest.raises(InputError, match="sample") as caught:
        bl.trace(model, X, X, loss="mse").per_sample("turned1.W")
    assert caught.value.code == "BL907"


# --- comparison -----------------------------------------------------------------------------------------------------


def test_a_trace_does_not_differ_from_itself_done_again():
    assert of_everything().diff(of_everything()) == []


def test_a_difference_says_where_and_how_large():
    X, y = batch()
    other = X.copy()
    other[2, 1] += 0.5
    model = mlp()
    a, b = (bl.trace(model, x, y, loss="softmax_cross_entropy") for x in (X, other))
    found = {d.name: d for d in a.diff(b)}
    assert (found["x"].entries, found["x"].at, found["x"].largest) == (1, (2, 1), 0.5)
    assert found["dense1.z"].at[0] == 2
    assert found["dense1.z"].entries == 5
    assert next(iter(found)) == "x"
    assert {"loss", "∂dense1.W"} <= found.keys()
    assert not {"dense1.W", "y"} & found.keys()


def test_a_value_that_the_other_lacks_differs_everywhere():
    wider = bl.trace(
        bl.Sequential(bl.Dense(6, "tanh"), bl.Dense(3)).build((4,), seed=1, dtype="float64"),
        *batch(),
        loss="softmax_cross_entropy",
    )
    found = {d.name: d for d in of_mlp().diff(wider)}
    assert np.isnan(found["dense1.z"].largest)
    assert found["dense1.z"].entries == 30
    plain = bl.trace(bl.Sequential(bl.Dense(3)).build((4,)), *batch(), loss="softmax_cross_entropy")
    assert "dense2.z" in {d.name for d in of_mlp().diff(plain)}


def test_nan_equals_nan():
    a, b = of_mlp(), of_mlp()
    for trace in (a, b):
        trace.values["x"][0, 0] = np.nan
    assert "x" not in {d.name for d in a.diff(b)}


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [of_mlp, of_everything])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trace_comes_back_from_its_file(tmp_path, make, dtype):
    trace = make(dtype)
    again = Trace.load(trace.save(tmp_path / "step.safetensors"))
    assert trace.diff(again) == again.diff(trace) == []
    assert list(again) == list(trace)
    assert str(again.graph) == str(trace.graph)
    assert (again.step, again.notes, again.loss) == (trace.step, trace.notes, trace.loss)
    assert again.names() == trace.names()


def test_a_trace_from_a_file_explains_itself(tmp_path):
    trace = of_everything()
    again = Trace.load(trace.save(tmp_path / "step.safetensors"))
    for name in ("dense1.W[0,1]", "batchnorm1.delta[2,3]", "concatenate1[1,1]", "∂slice1[0,0]", "loss"):
        assert again.explain(name).value == trace.explain(name).value
        assert again.explain(name).ok
        assert str(again.explain(name)) == str(trace.explain(name))


def test_a_cut_file_is_damaged(tmp_path):
    path = of_mlp().save(tmp_path / "step.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match="damaged"):
        Trace.load(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = files.write_tensors(tmp_path / "other.safetensors", {"a": np.zeros(2)}, {"format": 1})
    with pytest.raises(FileError, match="damaged"):
        Trace.load(path)


def test_a_file_of_a_newer_version_is_refused(tmp_path):
    path = of_mlp().save(tmp_path / "step.safetensors")
    arrays, header = files.read_tensors(path)
    files.write_tensors(path, arrays, header | {"format": 2})
    with pytest.raises(FileError, match="newer"):
        Trace.load(path)


# --- printing -------------------------------------------------------------------------------------------------------


def test_printing_shows_every_value_with_its_gradients_norm():
    trace = of_mlp()
    lines = str(trace).splitlines()
    assert lines[0] == f"step 1, 6 samples, loss {trace.loss:.6g}"
    assert lines[1].split()[:3] == ["name", "shape", "mean"]
    row = next(line for line in lines if line.startswith("dense1.W")).split()
    assert row[1:3] == ["[5,", "4]"]
    assert row[-1] == f"{np.linalg.norm(trace.grad('dense1.W')):.4g}"
    assert float(row[3]) == pytest.approx(trace["dense1.W"].mean(), rel=1e-3)
    assert not any(line.startswith("y ") for line in lines), "labels are no quantities"


def test_printing_in_chinese():
    with use_language("zh"):
        assert "个样本" in str(of_mlp())
        assert "名称" in of_mlp()._repr_html_()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_columns_line_up_in_a_terminal(lang):
    """A full-width character takes two places."""
    trace = of_mlp()
    with use_language(lang):
        _, head, rule, *rows = str(trace).splitlines()
    places = lambda text: sum(2 if east_asian_width(c) in "WF" else 1 for c in text)  # noqa: E731
    full = [line for line, row in zip(rows, trace.rows(), strict=True) if row[-1]]
    assert len({places(line) for line in (head, rule, *full)}) == 1
    second = places(head[: head.index({"en": "shape", "zh": "形状"}[lang])])
    assert {line.index("[") for line in rows if "[" in line} == {second}


def test_a_notebook_shows_a_table():
    html = of_mlp()._repr_html_()
    assert html.count("<tr>") == len(of_mlp().rows()) + 1
    assert "<td>dense1.z</td>" in html


def test_an_empty_array_is_left_out_of_the_table():
    builder = Builder(dtype="float64")
    x = builder.input("x", (0, 2))
    graph = builder.graph((builder.add("sum", x, name="loss")[0],))
    assert [row[0] for row in of_graph(graph, {"x": np.zeros((0, 2))}).rows()] == ["loss"]
