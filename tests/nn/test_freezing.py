"""Freezing: by name or in the recipe, before or after building, in files and in runs; fit leaves it bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import FileError, InputError, UnknownNameError
from backlit.train.replay import replay, verify

X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.random.default_rng(1).normal(size=(12, 2))


def three(**settings):
    return bl.Sequential(bl.Dense(4, "tanh"), bl.Dense(4, "tanh"), bl.Dense(2), **settings)


def fit(model, **settings):
    optimizer = bl.AdamW(0.05, weight_decay=0.1)
    return bl.fit(model, (X, Y), **{"loss": "mse", "optimizer": optimizer, "epochs": 3, "batch_size": 5} | settings)


def moved(model, **settings):
    """Parameters that a run of fit changes in any bit, by name."""
    before = {n: p.copy() for n, p in model.params.items()}
    fit(model, **settings)
    return {n for n, p in model.params.items() if p.tobytes() != before[n].tobytes()}


FREEZE = {
    "a layer": (lambda m: m.freeze("dense1"), {"dense1.W", "dense1.b"}),
    "a parameter": (lambda m: m.freeze("dense1.b"), {"dense1.b"}),
    "several": (lambda m: m.freeze("dense1", "dense3.W"), {"dense1.W", "dense1.b", "dense3.W"}),
    "one after another": (lambda m: m.freeze("dense1").freeze("dense2.b"), {"dense1.W", "dense1.b", "dense2.b"}),
    "all but one": (lambda m: m.freeze("dense1").unfreeze("dense1.b"), {"dense1.W"}),
    "there and back": (lambda m: m.freeze("dense1", "dense2").unfreeze("dense2", "dense1"), set()),
    "the last word counts": (lambda m: m.freeze("dense1.W").unfreeze("dense1").freeze("dense1.W"), {"dense1.W"}),
    "nothing": (lambda m: m.freeze(), set()),
    "set at once": (lambda m: m, set()),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", FREEZE)
def test_fit_leaves_what_is_frozen_bit_for_bit(what, when):
    freeze, wanted = FREEZE[what]
    model = three()
    if when == "before":
        freeze(model).build((3,))
    else:
        freeze(model.build((3,)))
    assert set(model.frozen) == wanted
    assert moved(model) == set(model.params) - wanted
    assert set(bl.value_and_grad(model, X, Y, loss="mse")[1]) == set(model.params) - wanted
    assert model.summary().frozen == sum(model.params[n].size for n in wanted)


def test_what_is_frozen_can_be_set():
    model = three().build((3,))
    model.frozen = ["dense2.b", "dense1.W"]
    assert model.frozen == ("dense1.W", "dense2.b")
    model.frozen = []
    assert model.frozen == ()
    with pytest.raises(UnknownNameError, match=r"parameter named 'dense1'[\s\S]*dense1\.W"):
        model.frozen = ["dense1"]


def test_the_same_steps_as_the_recipe_frozen():
    by_name = three().build((3,)).freeze("dense2")
    layers = bl.Dense(4, "tanh"), bl.Dense(4, "tanh", trainable=False), bl.Dense(2)
    in_recipe = bl.Sequential(*layers).build((3,))
    fit(by_name), fit(in_recipe)
    for name, p in by_name.params.items():
        np.testing.assert_array_equal(p, in_recipe.params[name])


def test_unfreeze_goes_over_the_recipe():
    model = bl.Sequential(bl.Dense(4, trainable=False), bl.Dense(2)).build((3,)).unfreeze("dense1.W")
    assert model.frozen == ("dense1.b",)
    assert moved(model) == {"dense1.W", "dense2.W", "dense2.b"}


def test_between_two_runs():
    model = three().build((3,))
    assert moved(model) == set(model.params)
    assert moved(model.freeze("dense1")) == set(model.params) - {"dense1.W", "dense1.b"}
    assert moved(model.unfreeze("dense1")) == set(model.params)


def test_freezing_stays_when_the_model_is_built_again():
    model = three().build((3,)).freeze("dense1.W")
    assert model.build((5,)).frozen == ("dense1.W",)


# --- parts ------------------------------------------------------------------------------------------------------------


def stay(model):
    model.build((3,))
    return set(model.params) - moved(model)


INNER = {"dense1.W", "dense1.b", "dense2.W", "dense2.b"}


def test_a_frozen_residual_freezes_the_layers_in_it():
    block = bl.Residual(bl.Dense(4, "relu"), bl.Sequential(bl.Dense(3)), trainable=False)
    assert stay(bl.Sequential(block, bl.Dense(2))) == INNER


def test_a_frozen_sequential_freezes_the_layers_in_it():
    part = bl.Sequential(bl.Dense(4, "relu"), bl.Residual(bl.Dense(4)), trainable=False)
    assert stay(bl.Sequential(part, bl.Dense(2))) == INNER
    assert stay(bl.Sequential(bl.Dense(4), bl.Dense(2), trainable=False)) == INNER


def test_a_frozen_function_freezes_the_layers_in_it():
    part = bl.Model(lambda x: bl.Dense(4)(bl.Dense(4, "relu")(x)), trainable=False)
    assert stay(bl.Sequential(part, bl.Dense(2))) == INNER


def test_a_layer_shared_with_a_frozen_part_is_frozen_whichever_call_comes_first():
    shared = bl.Dense(3, "tanh")
    frozen = bl.Residual(shared, trainable=False)
    for parts in ((shared, frozen), (frozen, shared)):
        assert stay(bl.Sequential(*parts, bl.Dense(2))) == {"dense1.W", "dense1.b"}


def test_the_name_of_a_residual_stands_for_all_in_it():
    model = bl.Sequential(bl.Residual(bl.Dense(4, "relu"), bl.Dense(3), name="skip"), bl.Dense(2)).build((3,))
    assert set(model.freeze("skip").frozen) == INNER
    assert set(model.unfreeze("dense2").frozen) == {"dense1.W", "dense1.b"}


def test_a_frozen_normalisation_keeps_its_parameters_while_its_statistics_move():
    model = bl.Sequential(bl.BatchNorm(), bl.Dense(2)).build((3,)).freeze("batchnorm1")
    mean = model.state["batchnorm1.running_mean"].copy()
    assert moved(model) == {"dense1.W", "dense1.b"}
    assert (model.state["batchnorm1.running_mean"] != mean).all()


def test_names_of_a_part_mean_nothing_in_the_whole():
    part = bl.Sequential(bl.Dense(4)).freeze("dense1")
    with pytest.raises(InputError, match=r"BL319\] Sequential[\s\S]*dense1[\s\S]*trainable=False"):
        bl.Sequential(bl.Dense(3), part).build((3,))


# --- names that do not exist ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"), [("dnese1", "dense1"), ("dense1.w", r"dense1\.W"), ("dense4", "dense3"), (3, "dense1")]
)
@pytest.mark.parametrize("method", ["freeze", "unfreeze"])
def test_an_unknown_name_is_refused_with_the_nearest(method, name, near):
    model = three().build((3,))
    with pytest.raises(UnknownNameError, match=rf"no layer with parameters, or parameter, named {name!r}[\s\S]*{near}"):
        getattr(model, method)("dense2", name)
    assert model.frozen == ()  # all or nothing


def test_a_layer_without_parameters_cannot_be_frozen():
    with pytest.raises(UnknownNameError, match="'relu1'"):
        bl.Sequential(bl.ReLU(), bl.Dense(2)).build((3,)).freeze("relu1")


def test_an_unknown_name_given_early_is_said_when_the_model_is_built_and_can_be_mended():
    model = three().freeze("dense2", "dnese1")
    with pytest.raises(UnknownNameError, match=r"'dnese1'[\s\S]*dense1"):
        model.build((3,))
    assert not model.built
    assert model.build((3,)).frozen == ("dense2.W", "dense2.b")


def test_what_is_frozen_is_known_once_the_model_is_built():
    with pytest.raises(InputError, match="BL304"):
        three().frozen  # noqa: B018
    with pytest.raises(InputError, match="BL304"):
        three().frozen = []


# --- files and runs ---------------------------------------------------------------------------------------------------


def named(x):
    return bl.Dense(2)(bl.Dense(4, "tanh")(x))


@pytest.mark.parametrize("freeze", [("dense1",), ("dense2.b",), ()])
def test_a_saved_model_comes_back_frozen(freeze, tmp_path):
    for model, given in ((three(), None), (bl.Model(named), bl.Model(named))):
        model.build((3,)).freeze(*freeze)
        bl.save(model, tmp_path / "m.safetensors")
        loaded = bl.load(tmp_path / "m.safetensors", model=given)
        assert loaded.frozen == model.frozen
        assert moved(loaded) == set(model.params) - set(model.frozen)


def test_the_file_says_more_than_the_recipe(tmp_path):
    block = bl.Residual(bl.Dense(3), trainable=False)
    model = bl.Sequential(bl.Sequential(block, trainable=False), bl.Dense(2)).build((3,)).unfreeze("dense1.b")
    loaded = bl.load(bl.save(model, tmp_path / "m.safetensors"))
    assert loaded.frozen == ("dense1.W",)
    assert not loaded.layers[0].trainable
    assert not loaded.layers[0].layers[0].trainable


def test_a_loaded_model_can_be_a_part(tmp_path):
    bl.save(bl.Sequential(bl.Dense(3, trainable=False)).build((3,)), tmp_path / "m.safetensors")
    assert bl.Sequential(bl.load(tmp_path / "m.safetensors"), bl.Dense(2)).build((3,)).frozen == (
        "dense1.W",
        "dense1.b",
    )


def test_a_run_tells_what_was_frozen_and_is_opened_so(tmp_path):
    model = three().build((3,)).freeze("dense1")
    fit(model, run_dir=tmp_path)
    record = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert record["model"]["frozen"] == ["dense1.W", "dense1.b"]
    assert bl.open_run(tmp_path).model.frozen == ("dense1.W", "dense1.b")


def test_a_run_does_not_go_on_with_other_parameters_frozen(tmp_path):
    fit(three().build((3,)).freeze("dense1"), run_dir=tmp_path)
    with pytest.raises(FileError, match=r"model\.frozen"):
        fit(three().build((3,)), run_dir=tmp_path, resume=True, epochs=4)
    run = fit(three().build((3,)).freeze("dense1"), run_dir=tmp_path, resume=True, epochs=4)
    assert run.step == 12


def test_the_past_of_a_run_is_as_it_was_whatever_is_frozen_now():
    model = three().build((3,)).freeze("dense1")
    run = fit(model)
    model.unfreeze("dense1").freeze("dense3")
    assert all(same for _, same in verify(run))
    grads, _, params = replay(run, 2).update()
    assert set(grads) == {"dense2.W", "dense2.b", "dense3.W", "dense3.b"}
    np.testing.assert_array_equal(params["dense1.W"], run.nearest(0).params["dense1.W"])
    assert set(model.frozen) == {"dense3.W", "dense3.b"}  # looking back changes nothing
