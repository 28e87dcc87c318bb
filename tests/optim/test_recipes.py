"""Recipes: what they refuse, how they are named, and their way through JSON."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from backlit import optim
from backlit.core.errors import InputError, UnknownNameError
from backlit.core.i18n import catalogue, use_language
from backlit.optim.recipe import RECIPES
from optim.variants import VARIANTS

SCHEDULES = [
    optim.Constant(0.1),
    optim.StepDecay(0.1, every=3, factor=0.2),
    optim.Exponential(0.1),
    optim.Cosine(0.1, floor=0.01),
    optim.Warmup(optim.Cosine(0.1), 5),
    optim.OneCycle(0.1, curve="linear"),
    optim.ReduceOnPlateau(0.1, mode="max", metric="val_accuracy"),
]
CLIPS = [optim.ClipByValue(1.0), optim.ClipByNorm(2), optim.ClipByGlobalNorm(0.5)]
OPTIMIZERS = [variant.optimizer for variant in VARIANTS.values()]
COMPOSED = [optim.AdamW(optim.Warmup(optim.ReduceOnPlateau(0.1), 10), l1=0.1)]


@pytest.mark.parametrize("recipe", [*SCHEDULES, *CLIPS, *OPTIMIZERS, *COMPOSED], ids=str)
def test_every_recipe_survives_json_pickle_and_copy(recipe):
    text = json.dumps(optim.to_config(recipe), allow_nan=False)
    for again in (optim.from_config(json.loads(text)), pickle.loads(pickle.dumps(recipe)), copy.deepcopy(recipe)):
        assert type(again) is type(recipe)
        assert again == recipe
        assert hash(again) == hash(recipe)


def test_every_named_recipe_is_in_the_round_trip_above():
    assert {type(r) for r in [*SCHEDULES, *CLIPS, *OPTIMIZERS]} == set(RECIPES.values())


def test_a_configuration_reads_as_the_options():
    assert optim.to_config(optim.SGD(optim.Exponential(0.5), 0.9)) == {
        "name": "sgd",
        "learning_rate": {"name": "exponential", "learning_rate": 0.5, "factor": 0.95},
        "l1": 0.0,
        "l2": 0.0,
        "weight_decay": 0.0,
        "momentum": 0.9,
        "nesterov": False,
        "dampening": 0.0,
    }
    assert optim.from_config({"name": "adam"}) == optim.Adam()


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        (None, InputError, "BL806"),
        ({}, InputError, "BL806"),
        ({"name": 3}, InputError, "BL806"),
        ({"name": "adamm"}, UnknownNameError, "adam"),
        ({"name": "adam", "momentum": 0.9}, UnknownNameError, "option of Adam"),
        ({"name": "adam", "learning_rate": {"name": "cosin"}}, UnknownNameError, "cosine"),
        ({"name": "cosine", "floor": 0.0}, InputError, "(?s)BL807.*Cosine.*learning_rate"),
        ({"name": "adam", "beta1": 2.0}, InputError, "BL801"),
    ],
)
def test_a_damaged_configuration_is_refused(config, error, says):
    with pytest.raises(error, match=says):
        optim.from_config(config)


def test_a_class_without_a_name_has_no_configuration_and_a_name_is_given_once():
    class Nameless(optim.Clip):
        pass

    with pytest.raises(InputError, match=r"(?s)BL808.*Nameless"):
        optim.to_config(Nameless(1.0))
    with pytest.raises(ValueError, match="'adam' is defined twice"):
        type("Other", (optim.Optimizer,), {}, name="adam")
    assert RECIPES["adam"] is optim.Adam


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "nadam", "lion"])
def test_optimizers_by_name(name):
    found = optim.get(name)
    assert found.name == name
    assert found == type(found)()
    assert optim.get(found) is found
    assert found.source


def test_unknown_optimizers_offer_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean adam"):
        optim.get("adm")
    with pytest.raises(UnknownNameError) as caught:
        optim.get("cosine")  # a recipe, but no optimizer
    assert "clip_by_norm" not in str(caught.value)
    for wrong in (optim.Adam, None, 0.1, optim.Cosine(0.1)):
        with pytest.raises(InputError, match="BL803"):
            optim.get(wrong)


BAD = [
    (lambda: optim.SGD(0.0), "0 < learning_rate", "learning_rate = 0.0"),
    (lambda: optim.SGD(-1e-3), "0 < learning_rate", "-0.001"),
    (lambda: optim.Adam("0.001"), "float, 0 < learning_rate | Schedule", "'0.001'"),
    (lambda: optim.Adam(float("nan")), "0 < learning_rate", "nan"),
    (lambda: optim.Adam(float("inf")), "0 < learning_rate", "inf"),
    (lambda: optim.Adam(True), "0 < learning_rate", "True"),
    (lambda: optim.Adam(optim.ClipByNorm(1.0)), "Schedule", "ClipByNorm"),
    (lambda: optim.Adam(beta1=1.0), "0 <= beta1 < 1", "beta1 = 1.0"),
    (lambda: optim.Adam(beta2=-0.1), "0 <= beta2 < 1", "-0.1"),
    (lambda: optim.Adam(eps=0.0), "0 < eps", "0.0"),
    (lambda: optim.Adam(amsgrad=1), "True | False", "amsgrad = 1"),
    (lambda: optim.AdamW(weight_decay=-0.01), "0 <= weight_decay", "-0.01"),
    (lambda: optim.Lion(l1=None), "0 <= l1", "None"),
    (lambda: optim.RMSprop(rho=1.5), "0 <= rho < 1", "1.5"),
    (lambda: optim.Adadelta(rho=np.ones(2)), "0 <= rho < 1", "array"),
    (lambda: optim.Adagrad(lr_decay=-1), "0 <= lr_decay", "-1"),
    (lambda: optim.NAdam(momentum_decay=-1), "0 <= momentum_decay", "-1"),
    (lambda: optim.SGD(momentum=1.0), "0 <= momentum < 1", "1.0"),
    (lambda: optim.ClipByValue(0), "0 < limit", "limit = 0"),
    (lambda: optim.ClipByGlobalNorm(-1.0), "0 < limit", "-1.0"),
    (lambda: optim.StepDecay(0.1, every=0), "int, 1 <= every", "every = 0"),
    (lambda: optim.StepDecay(0.1, every=2.5), "int, 1 <= every", "2.5"),
    (lambda: optim.StepDecay(0.1, factor=1.1), "0 < factor <= 1", "1.1"),
    (lambda: optim.Warmup(0.1, 5), "Schedule", "schedule = 0.1"),
    (lambda: optim.Warmup(optim.Constant(0.1), 5, start=0.0), "0 < start <= 1", "0.0"),
    (lambda: optim.OneCycle(0.1, curve="cos"), "'cosine' | 'linear'", "'cos'"),
    (lambda: optim.ReduceOnPlateau(0.1, factor=1.0), "0 <= factor < 1", "1.0"),
    (lambda: optim.ReduceOnPlateau(0.1, patience=-1), "int, 0 <= patience", "-1"),
    (lambda: optim.ReduceOnPlateau(0.1, mode="low"), "'min' | 'max'", "'low'"),
    (lambda: optim.ReduceOnPlateau(0.1, metric=3), "str | None", "metric = 3"),
]


@pytest.mark.parametrize(("make", "expected", "got"), BAD, ids=[f"{e} {g}" for _, e, g in BAD])
def test_bad_values_are_refused_with_the_range_and_the_value(make, expected, got):
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.code == "BL801"
    assert expected in caught.value.part("expected")
    assert got in caught.value.part("got")


@pytest.mark.parametrize(
    "options", [{"nesterov": True}, {"momentum": 0.9, "dampening": 0.1, "nesterov": True}], ids=str
)
def test_nesterov_needs_a_momentum_without_dampening(options):
    with pytest.raises(InputError, match="BL802"):
        optim.SGD(**options)


def test_bad_values_are_refused_on_replace_too():
    with pytest.raises(InputError, match="BL801"):
        replace(optim.Adam(), beta1=7)


def test_numbers_become_plain():
    optimizer = optim.Adam(np.float32(0.5), beta1=np.float64(0.25), l2=1)
    assert [type(v) for v in (optimizer.learning_rate, optimizer.beta1, optimizer.l2)] == [float] * 3
    assert type(optim.StepDecay(0.1, every=np.int64(3)).every) is int


def test_recipes_are_frozen():
    with pytest.raises(FrozenInstanceError):
        optim.Adam().beta1 = 0.5


def test_regularisation_is_by_keyword():
    with pytest.raises(TypeError):
        optim.SGD(0.1, 0.9, False, 0.0, 0.1)
    assert optim.Adam(0.1, 0.8, 0.9) == optim.Adam(learning_rate=0.1, beta1=0.8, beta2=0.9)


def test_messages_are_complete_in_both_languages():
    own = {key: entry for key, entry in catalogue().items() if key.startswith("optim_")}
    assert [entry["code"] for entry in own.values()] == [f"BL80{i}" for i in range(1, 9)]
    for entry in own.values():
        for field in ("problem", "fix"):
            assert set(entry[field]) == {"en", "zh"}
    with use_language("zh"), pytest.raises(InputError) as caught:
        optim.SGD(0.0)
    with use_language("zh"):
        assert "SGD：learning_rate 不能取这个值" in str(caught.value)
