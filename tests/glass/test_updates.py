"""Receipts of updates: every optimizer line by line, clipping and accumulation; walks to the loss and to the data."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError
from backlit.core.i18n import use_language
from backlit.glass.receipts import Entry
from backlit.glass.trace import Trace
from backlit.glass.walk import walk
from glass.graphs import batch, mlp, of_everything, of_mlp

OPTIMIZERS = {
    "sgd": bl.SGD(0.1),
    "momentum": bl.SGD(0.1, momentum=0.9, dampening=0.1),
    "nesterov": bl.SGD(0.1, momentum=0.9, nesterov=True),
    "penalties": bl.SGD(0.1, l1=0.01, l2=0.1),
    "adagrad": bl.Adagrad(0.1, lr_decay=0.1),
    "adadelta": bl.Adadelta(),
    "rmsprop": bl.RMSprop(0.01, momentum=0.9, centered=True),
    "adam": bl.Adam(0.01),
    "amsgrad": bl.Adam(0.01, amsgrad=True),
    "adamw": bl.AdamW(0.01, weight_decay=0.1),
    "nadam": bl.NAdam(0.01),
    "lion": bl.Lion(0.01, weight_decay=0.1),
}


def run(optimizer=None, dtype="float32", **options):
    settings = {"loss": "softmax_cross_entropy", "epochs": 2, "batch_size": 3, "progress": False, "seed": 1}
    return bl.fit(mlp(dtype), batch(12), optimizer=optimizer or bl.Adam(0.01), **settings | options)


# --- updates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_change_is_that_of_the_parameters(name, dtype):
    trained = run(OPTIMIZERS[name], dtype)
    before, after = trained.at(5), trained.at(6)
    for entry in ("dense1.W[3,2]", "dense2.b[1]", "dense1.b[0]"):
        receipt = before.explain(f"Δ{entry}")
        p, index = receipt.entry.name, receipt.entry.index
        assert receipt.value == (after[p] - before[p])[index]
        assert receipt.value.dtype == dtype
        assert receipt.ok
        gap = abs(float(receipt.value) - receipt.exact)
        assert gap <= 8 * np.finfo(dtype).eps * (
            abs(float(before[p][index])) + sum(abs(t.value) for t in receipt.terms)
        )
        assert sum(t.share for t in receipt.terms) == pytest.approx(1.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_lines_of_an_optimizer_are_steps_with_their_numbers(name):
    optimizer = OPTIMIZERS[name]
    receipt = run(optimizer, "float64").at(5).explain("Δdense1.W[3,2]")
    assert tuple(step.formula for step in receipt.steps) == optimizer.formulas
    for step in receipt.steps:
        functions = {"sqrt": np.sqrt, "sign": np.sign, "max": max, "__builtins__": {}}
        assert eval(step.numbers, functions) == pytest.approx(step.value, rel=1e-4, abs=1e-9), step
        assert f"    = {step.numbers} = " in str(step)
    printed = str(receipt)
    assert all(step.formula in printed for step in receipt.steps)
    assert [s["name"] for s in receipt.as_dict()["steps"]] == [s.name for s in receipt.steps]


def test_adam_by_hand():
    trained = run(bl.Adam(0.01), "float64")
    trace = trained.at(1)
    g = trace.grad("dense1.W")[3, 2]
    steps = {step.name: step.value for step in trace.explain("Δdense1.W[3,2]").steps}
    assert steps["m"] == pytest.approx(0.1 * g, rel=1e-12)
    assert steps["v"] == pytest.approx(0.001 * g * g, rel=1e-12)
    assert steps["m_hat"] == pytest.approx(g, rel=1e-12)
    assert steps["v_hat"] == pytest.approx(g * g, rel=1e-12)
    assert steps["p"] == pytest.approx(trace["dense1.W"][3, 2] - 0.01 * g / (abs(g) + 1e-8), rel=1e-12)


def test_decay_and_gradient_are_terms_of_their_own():
    trace = run(OPTIMIZERS["adamw"], "float64").at(4)
    terms = {t.label: t for t in trace.explain("Δdense1.W[1,1]").terms}
    decay = terms["-lr * weight_decay * p"]
    assert decay.value == pytest.approx(-0.01 * 0.1 * trace["dense1.W"][1, 1], rel=1e-9)
    assert [str(e) for e, _ in decay.operands] == ["dense1.W[1,1]"]
    (other,) = [t for label, t in terms.items() if "m_hat" in label]
    assert [str(e) for e, _ in other.operands] == ["∂dense1.W[1,1]"]


def test_a_penalty_rests_on_the_parameter_too():
    (term,) = run(OPTIMIZERS["penalties"]).at(2).explain("Δdense1.W[1,1]").terms
    assert {str(e) for e, _ in term.operands} == {"∂dense1.W[1,1]", "dense1.W[1,1]"}


@pytest.mark.parametrize(
    "clip", [bl.ClipByGlobalNorm(0.05), bl.ClipByNorm(0.05), bl.ClipByValue(0.01), bl.ClipByGlobalNorm(1e6), None]
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_gradient_that_an_optimizer_is_given(clip, accumulate):
    trained = run(
        bl.SGD(0.1), "float32", clip=clip, accumulate=accumulate, batch_size=2, sample_weight=np.linspace(1, 2, 12)
    )
    trace = trained.at(2, part=accumulate - 1)
    receipt = trace.explain("g dense1.W[3,2]")
    assert receipt.value == trace.update.grads["dense1.W"][3, 2]
    assert receipt.ok
    assert receipt.exact == pytest.approx(float(receipt.value), rel=1e-5)
    assert len(receipt.terms) == accumulate
    assert sum(t.share for t in receipt.terms) == pytest.approx(1.0)
    own = next(t for t in receipt.terms if t.operands)
    assert own.label == f"i={accumulate - 1}"
    assert own.operands == ((Entry("grad", "dense1.W", (3, 2)), float(trace.grad("dense1.W")[3, 2])),)
    plain = clip is None and accumulate == 1
    assert trace.explain("Δdense1.W[3,2]").rests_on == (Entry("grad" if plain else "given", "dense1.W", (3, 2)),)
    assert (clip is None) == ("clip" not in receipt.formula)


def test_accumulated_gradients_by_hand():
    trained = run(bl.SGD(0.1), "float64", accumulate=2, sample_weight=np.linspace(1, 2, 12))
    parts = [trained.at(1, part=i) for i in range(2)]
    masses = [float(t["loss.mass"]) for t in parts]
    want = sum(m * t.grad("dense1.W")[0, 1] for m, t in zip(masses, parts, strict=True)) / sum(masses)
    assert parts[0].explain("g dense1.W[0,1]").exact == pytest.approx(want, rel=1e-12)
    assert parts[0].explain("Δdense1.W[0,1]").exact == pytest.approx(-0.1 * want, rel=1e-9)


def test_an_update_comes_back_from_a_file(tmp_path):
    trace = run(OPTIMIZERS["nadam"], accumulate=2, clip=bl.ClipByGlobalNorm(0.1)).at(2)
    again = Trace.load(trace.save(tmp_path / "step.safetensors"))
    for name in ("Δdense1.W[3,2]", "g dense1.W[3,2]"):
        assert str(again.explain(name)) == str(trace.explain(name))
        assert again.explain(name).ok
    assert again.update.optimizer == trace.update.optimizer
    assert list(again.update.grads) == list(trace.update.grads) == list(again.update.shares[1].grads)
    assert again.notes["samples"] == trace.notes["samples"]


@pytest.mark.parametrize("entry", ["Δx[0,0]", "Δdense1.z[0,0]", "gdense1.W[0,0]"])
def test_only_parameters_are_updated(entry):
    with pytest.raises((InputError, LookupError)):
        run().at(1).explain(entry)


# --- walks ----------------------------------------------------------------------------------------------------------


def names(receipts):
    return [str(r.entry) for r in receipts]


def test_a_walk_leads_from_a_change_to_the_loss_and_to_the_data():
    trace = run(dtype="float64").at(3)
    found = trace.walk("Δdense2.W[1,4]")
    up, down = names(found.up), names(found.down)
    n = up[2].removeprefix("dense2.δ[").split(",")[0]
    assert up == ["Δdense2.W[1,4]", "∂dense2.W[1,4]", f"dense2.δ[{n},1]", "loss"]
    assert down[:2] == [f"dense1.a[{n},4]", f"dense1.z[{n},4]"]
    pixel = int(np.argmax(np.abs(trace["x"][int(n)] * trace["dense1.W"][4])))
    assert down[2] == f"x[{n},{pixel}]" == str(found.end)
    products = trace.delta("dense2")[:, 1] * trace["dense1.a"][:, 4]
    assert int(n) == int(np.argmax(np.abs(products)))
    assert found.ok
    assert len(found) == 7 == len(list(found))
    assert found[-1] is found.down[-1]


def test_a_walk_from_the_first_layer_goes_through_every_delta():
    found = run().at(3).walk("Δdense1.W[2,3]")
    kinds = [name.split("[")[0] for name in names(found.up)]
    assert kinds == ["Δdense1.W", "∂dense1.W", "dense1.δ", "∂dense1.a", "dense2.δ", "loss"]
    assert len(found.down) == 1
    assert found.end.name == "x"
    assert found.end.index[1] == 3


def test_a_walk_from_a_value_leads_down_only():
    found = of_mlp().walk("loss")
    assert found.up == ()
    assert [name.split("[")[0] for name in names(found.down)] == ["loss", "dense2.z", "dense1.a", "dense1.z", "x"]


def test_targets_are_not_where_a_walk_ends():
    X, y = batch()
    trace = bl.trace(mlp(), X, np.eye(3)[y], loss="mse")
    assert trace.walk("loss").end.name == "x"
    assert trace.walk("dense2.W[0,0]").end.name == "x"


def test_a_walk_passes_clipping():
    trace = run(clip=bl.ClipByGlobalNorm(0.01)).at(2)
    assert names(trace.walk("Δdense2.b[0]").up)[:3] == ["Δdense2.b[0]", "g dense2.b[0]", "∂dense2.b[0]"]


def test_every_number_on_the_way_through_a_large_model_is_computed_again():
    trace = of_everything("float32")
    for name in trace.graph.trainable:
        found = walk(trace, Entry("grad", name, (0,) * trace[name].ndim))
        assert found.ok, name
        assert names(found.up)[-1] == "loss"


def test_depth_bounds_each_way():
    found = of_mlp().walk("dense1.W[2,3]", depth=2)
    assert names(found.up) == ["∂dense1.W[2,3]", *names(found.up)[1:]]
    assert len(found.up) == 2
    assert len(of_mlp().walk("loss", depth=1)) == 1


def test_a_walk_from_a_dead_unit_ends_there_and_shows_why():
    model = bl.Sequential(bl.Dense(2, "relu"), bl.Dense(3)).build((4,), dtype="float64")
    model.params["dense1.b"][:] = -100.0
    found = bl.trace(model, *batch(), loss="softmax_cross_entropy").walk("dense1.delta[0,1]")
    assert names(found.up) == ["dense1.δ[0,1]"]
    assert found.down[0].entry == Entry("value", "dense1.z", (0, 1))
    assert found.down[0].value < 0


def test_a_walk_prints_itself():
    found = run().at(3).walk("Δdense2.W[1,4]")
    assert "on to the loss" in str(found)
    assert "down to the data" in str(found)
    with use_language("zh"):
        assert "沿链式法则" in str(found)
    assert found._repr_html_().count("<p><b>") == len(found)


# --- the box opened -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("dense1.z", {"matmul", "transpose", "add"}),
        ("batchnorm1.a[0,1]", {"mean", "var", "sqrt"}),
        ("loss", {"log_softmax", "sum"}),
        ("dense1.a", {"sigmoid", "sub"}),
    ],
)
def test_a_fused_rule_opens_into_smaller_ones(name, rules):
    trace = of_everything()
    box, node = trace.open(name), trace.graph.producer[name.split("[")[0]]
    assert rules <= {n.rule for n in box.graph.nodes}
    np.testing.assert_allclose(box[box.graph.outputs[1]], trace[node.name], rtol=1e-12, atol=1e-14)
    for leaf in box.graph.inputs:
        assert box[leaf] is trace[leaf]
        if leaf in box.grads and len([n for n in trace.graph.nodes if leaf in n.operands]) == 1:
            np.testing.assert_allclose(box.grad(leaf), trace.grad(leaf), rtol=1e-9, atol=1e-13)
    for kind, arrays in (("value", box.values), ("grad", box.grads)):
        for inside, array in arrays.items():
            assert box.explain(Entry(kind, inside, (0,) * array.ndim)).ok
    assert f"inside {node.name}" in str(box)


@pytest.mark.parametrize("name", ["x", "dense2.a", "concatenate1"])
def test_what_is_not_made_of_smaller_rules_stays_closed(name):
    with pytest.raises(InputError, match="smaller rules") as caught:
        of_everything().open(name)
    assert caught.value.code == "BL906"


def test_an_update_must_be_known():
    trace = run().at(1)
    bare = dataclasses.replace(trace, update=None)
    with pytest.raises(InputError, match="no update"):
        bare.explain("g dense1.W[0,0]")
