"""First values: their variance by formula and in numbers, bounds, orthogonality, the choice by activation."""

from __future__ import annotations

import math

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError, UnknownNameError
from backlit.core.rng import generator
from backlit.nn import initializers

SHAPE = (300, 200)  # W[O, I]: fan_in 200, fan_out 300
STD = {
    "xavier": math.sqrt(2 / 500),
    "glorot": math.sqrt(2 / 500),
    "he": math.sqrt(2 / 200),
    "kaiming": math.sqrt(2 / 200),
    "lecun": math.sqrt(1 / 200),
}


def draw(choice, shape=SHAPE, seed=0):
    return initializers.get(choice)(generator(seed, 0, "W"), shape)


@pytest.mark.parametrize("family", STD)
@pytest.mark.parametrize("form", ["normal", "uniform"])
def test_mean_and_standard_deviation(family, form):
    W, std = draw(f"{family}_{form}"), STD[family]
    assert W.shape == SHAPE
    assert abs(W.mean()) < 4 * std / math.sqrt(W.size)
    assert W.std() == pytest.approx(std, rel=0.01)
    if form == "uniform":
        assert 0.99 * math.sqrt(3) * std < np.abs(W).max() <= math.sqrt(3) * std
    else:
        assert np.mean(np.abs(W) < std) == pytest.approx(0.6827, abs=0.01)


def test_plain_ones():
    assert (draw("zeros") == 0).all()
    assert (draw("ones") == 1).all()
    assert (draw(0.25) == 0.25).all()
    assert (draw(2) == 2).all()
    assert (draw(bl.init.Constant(-3)) == -3).all()
    assert draw("normal").std() == pytest.approx(0.01, rel=0.01)
    assert draw(bl.init.Normal(0.5)).std() == pytest.approx(0.5, rel=0.01)
    limits = draw(bl.init.Uniform(0.2))
    assert 0.199 < limits.max() <= 0.2
    assert -0.2 <= limits.min() < -0.199


@pytest.mark.parametrize("shape", [(4, 4), (7, 3), (3, 7), (6, 2, 2, 3)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal(shape, gain):
    W = bl.init.Orthogonal(gain)(generator(0, 0, "W"), shape)
    flat = W.reshape(shape[0], -1)
    small = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    assert W.shape == shape
    np.testing.assert_allclose(small, gain**2 * np.eye(len(small)), atol=1e-13)


def test_fans_count_the_field_of_a_convolution():
    assert initializers.fans((16, 3, 3, 8)) == (72, 144)
    assert initializers.fans((5, 7)) == (7, 5)


@pytest.mark.parametrize("name", ["xavier_normal", "he_uniform", "orthogonal"])
def test_weights_with_one_axis_are_refused(name):
    with pytest.raises(InputError, match=r"BL301[\s\S]*W\[3\]"):
        draw(name, (3,))


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownNameError, match="xavier_uniform"):
        initializers.get("xavier_unifrom")


@pytest.mark.parametrize(
    ("activation", "std"),
    [("relu", STD["he"]), ("gelu", STD["he"]), ("selu", STD["lecun"]), ("tanh", STD["xavier"]), (None, STD["xavier"])],
)
def test_the_choice_by_activation(activation, std):
    W = bl.Sequential(bl.Dense(300, activation)).build((200,)).params["dense1.W"]
    assert W.std() == pytest.approx(std, rel=0.01)


def test_a_choice_of_ones_own():
    model = bl.Sequential(bl.Dense(2, init=0.5), bl.Dense(2, init=lambda _rng, shape: np.eye(*shape))).build((3,))
    assert (model.params["dense1.W"] == 0.5).all()
    np.testing.assert_array_equal(model.params["dense2.W"], np.eye(2))


@pytest.mark.torch
@pytest.mark.parametrize("form", ["normal", "uniform"])
@pytest.mark.parametrize(("ours", "theirs"), [("xavier", "xavier"), ("he", "kaiming")])
def test_bounds_and_variance_are_pytorch_s(ours, theirs, form):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    options = {"nonlinearity": "relu"} if theirs == "kaiming" else {}
    wanted = getattr(torch.nn.init, f"{theirs}_{form}_")(torch.empty(*SHAPE, dtype=torch.float64), **options).numpy()
    W = draw(f"{ours}_{form}")
    assert W.std() == pytest.approx(wanted.std(), rel=0.015)
    if form == "uniform":
        assert np.abs(W).max() == pytest.approx(np.abs(wanted).max(), rel=1e-3)


@pytest.mark.torch
def test_fans_are_pytorch_s():
    torch = pytest.importorskip("torch")
    for o, i, *field in ((5, 7), (16, 8, 3, 3), (4, 2, 5)):
        theirs = torch.nn.init._calculate_fan_in_and_fan_out(
            torch.empty(o, i, *field)
        )  # PyTorch has the channels second
        assert initializers.fans((o, *field, i)) == theirs
