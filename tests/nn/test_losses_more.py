"""Losses of masks, vectors and pairs by name: what fit and value_and_grad make of them, beside PyTorch and by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError
from backlit.nn import losses

NAMES = (
    "smooth_l1", "focal", "softmax_focal", "dice", "cosine_similarity", "cosine_embedding", "contrastive", "info_nce",
    "negative_sampling",
)  # fmt: skip


def twins(width=3, features=4):
    encoder = bl.Sequential(bl.Dense(5, "tanh"), bl.Dense(width))
    model = bl.Model(lambda a, b: bl.ops.stack(encoder(a), encoder(b), axis=1))
    return model.build(((features,), (features,)), seed=1, dtype="float64")


def problem(name, samples=12):
    """(model, X, y) for a loss."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(samples, 4))
    if name in ("cosine_embedding", "contrastive", "info_nce"):
        y = {"cosine_embedding": np.where(X[:, 0] > 0, 1, -1), "contrastive": (X[:, 0] > 0).astype(int)}
        return twins(), (X, X + 0.3 * rng.normal(size=X.shape)), y.get(name, np.zeros(samples))
    model = bl.Sequential(bl.Dense(6, "tanh"), bl.Dense(3)).build((4,), seed=1, dtype="float64")
    if name in ("focal", "dice"):
        return model, X, (X[:, :3] > 0).astype(int)
    if name == "softmax_focal":
        return model, X, X[:, :3].argmax(axis=1)
    return model, X, np.zeros(samples) if name == "negative_sampling" else X[:, :3]


@pytest.mark.parametrize("name", NAMES)
def test_training_brings_each_loss_down(name):
    model, X, y = problem(name)
    run = bl.fit(
        model, (X, y), loss=name, optimizer=bl.Adam(0.02), epochs=40, batch_size=6, validation=(X, y), progress=False
    )
    history = run.history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert all(np.isfinite(v).all() for v in history.values())
    assert run.at(run.step)["loss"].shape == ()


@pytest.mark.parametrize("name", NAMES)
def test_derivations_find_samples_of_their_own(name):
    model, *_ = problem(name)
    assert "dense1" in str(bl.derive(model, loss=name))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_right_and_recipes_come_back(name):
    model, X, y = problem(name, 6)
    found = bl.check(model, X, y, loss=name)
    assert found.ok, str(found)
    run = bl.fit(model, (X, y), loss=name, epochs=1, progress=False)
    told = run.settings.as_dict()
    assert type(run.settings).from_dict(told).loss == losses.get(name)


def unit(x):
    return x / np.linalg.norm(x)


def test_info_nce_by_loops():
    model, X, y = problem("info_nce", 5)
    found, _ = bl.value_and_grad(model, X, y, loss=bl.InfoNCE(temperature=0.5))
    pairs = model.predict(X)
    total = 0.0
    for n in range(5):
        scores = [float(unit(pairs[n, 0]) @ unit(pairs[m, 1])) / 0.5 for m in range(5)]
        total += math.log(sum(map(math.exp, scores))) - scores[n]
    assert found == pytest.approx(total / 5, rel=1e-10)


def test_info_nce_of_one_sample_is_nothing():
    model, (a, b), y = problem("info_nce", 1)
    loss, grads = bl.value_and_grad(model, (a, b), y, loss="info_nce")
    assert loss == 0
    assert not any(g.any() for g in grads.values())


def test_negative_sampling_by_loops():
    model, X, y = problem("negative_sampling", 5)
    found, _ = bl.value_and_grad(model, X, y, loss="negative_sampling")
    total = 0.0
    for true, *drawn in model.predict(X):
        total += math.log(1 + math.exp(-true)) + sum(math.log(1 + math.exp(s)) for s in drawn)
    assert found == pytest.approx(total / 5, rel=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_cosine_embedding_is_pytorchs(margin):
    torch = pytest.importorskip("torch")
    model, X, y = problem("cosine_embedding")
    found, _ = bl.value_and_grad(model, X, y, loss=bl.CosineEmbedding(margin=margin))
    x1, x2 = (torch.tensor(v) for v in np.moveaxis(model.predict(X), 1, 0))
    want = torch.nn.functional.cosine_embedding_loss(x1, x2, torch.tensor(y), margin=margin)
    assert found == pytest.approx(float(want), rel=1e-9)


@pytest.mark.torch
def test_cosine_similarity_is_pytorchs():
    torch = pytest.importorskip("torch")
    model, X, y = problem("cosine_similarity")
    found, _ = bl.value_and_grad(model, X, y, loss="cosine_similarity")
    want = 1 - torch.nn.functional.cosine_similarity(torch.tensor(model.predict(X)), torch.tensor(y)).mean()
    assert found == pytest.approx(float(want), rel=1e-12)


def test_contrastive_by_loops():
    model, X, y = problem("contrastive")
    found, _ = bl.value_and_grad(model, X, y, loss=bl.Contrastive(margin=2.0))
    total = 0.0
    for (a, b), t in zip(model.predict(X), y, strict=True):
        d = math.dist(a, b)
        total += d**2 / 2 if t else max(2.0 - d, 0) ** 2 / 2
    assert found == pytest.approx(total / len(y), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "options", "of_rule"),
    [(bl.SmoothL1, {"beta": 0.3}, "smooth_l1"), (bl.Focal, {"gamma": 1.0, "alpha": 0.6}, "focal"),
     (bl.SoftmaxFocal, {"gamma": 1.0, "alpha": (1.0, 2.0, 0.5), "ignore": 0}, "softmax_focal"),
     (bl.Dice, {"smooth": 0.5}, "dice")],
)  # fmt: skip
def test_options_reach_the_rule(loss, options, of_rule):
    model, X, y = problem(of_rule, 6)
    one, other = (bl.value_and_grad(model, X, y, loss=given)[0] for given in (loss(), loss(**options)))
    assert one != other
    trace = bl.trace(model, X, y, loss=loss(**options))
    assert trace["loss"] == pytest.approx(other, rel=1e-12)


def test_masks_of_images():
    model = bl.Sequential(bl.Dense(4, "relu"), bl.Dense(1)).build((3, 3, 1), seed=0)
    X = np.random.default_rng(0).normal(size=(8, 3, 3, 1))
    run = bl.fit(model, (X, (X > 0).astype(int)), loss="dice", epochs=30, optimizer=bl.Adam(0.02), progress=False)
    assert run.history["accuracy"][-1] > 0.9


@pytest.mark.parametrize("name", ["focal", "dice", "contrastive"])
def test_targets_out_of_range_are_refused(name):
    model, X, y = problem(name)
    with pytest.raises(InputError) as caught:
        bl.fit(model, (X, y + 1), loss=name, progress=False)
    assert caught.value.key == "target_range"


@pytest.mark.parametrize("name", ["focal", "softmax_focal", "dice", "negative_sampling"])
def test_a_last_sigmoid_is_refused(name):
    model = bl.Sequential(bl.Dense(3, "sigmoid")).build((4,))
    with pytest.raises(InputError) as caught:
        bl.fit(model, (np.ones((2, 4)), np.ones((2, 3))), loss=name, progress=False)
    assert caught.value.key == "double_activation"


@pytest.mark.parametrize("name", ["cosine_embedding", "contrastive", "info_nce", "negative_sampling"])
def test_other_shapes_of_output_are_refused(name):
    model = bl.Sequential(bl.Dense(1)).build((4,))
    with pytest.raises(InputError) as caught:
        bl.fit(model, (np.ones((2, 4)), np.ones(2)), loss=name, progress=False)
    assert caught.value.key == "loss_output"
    assert "dense1.z" in str(caught.value)


def test_the_temperature_of_info_nce():
    with pytest.raises(InputError, match="temperature"):
        bl.InfoNCE(temperature=0.0)
