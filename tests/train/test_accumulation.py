"""Parts of a batch give the gradient of the whole batch, and weights mean what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import backlit as bl
from backlit.nn import losses
from backlit.train.inputs import samples_of, with_class_weights
from backlit.train.step import evaluate, gradients
from train.problems import labelled, linear, mlp, valued, without_seconds

SPLITS = [[14], [7, 7], [4, 4, 4, 2], [1] * 14, [13, 1], [3, 8, 3]]
LOSSES = {
    "mse": bl.MSE(),
    "mae": bl.MAE(),
    "huber": bl.Huber(0.5),
    "classes": bl.SoftmaxCrossEntropy(),
    "smoothed": bl.SoftmaxCrossEntropy(label_smoothing=0.1),
    "class weights": bl.SoftmaxCrossEntropy(class_weights=(0.2, 1.0, 3.0)),
    "ignored": bl.SoftmaxCrossEntropy(ignore=1),
    "ignored, weighted, smoothed": bl.SoftmaxCrossEntropy(0.1, 2, (0.2, 1.0, 3.0)),
    "binary": bl.BinaryCrossEntropy(),
    "pos_weight": bl.BinaryCrossEntropy(pos_weight=(0.5, 2.0, 1.0)),
    "kl": bl.KLDivergence(),
}


def problem(loss, *, weighted):
    rng = np.random.default_rng(5)
    X, labels = labelled()
    if isinstance(loss, bl.SoftmaxCrossEntropy):
        y = labels
    elif isinstance(loss, bl.BinaryCrossEntropy):
        y = (rng.random((14, 3)) < 0.5).astype(float)
    elif isinstance(loss, bl.KLDivergence):
        y = rng.dirichlet(np.ones(3), 14)
    else:
        y = valued(outputs=3)[1]
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], 14) if weighted else None
    head = (bl.Activation("log_softmax"),) if isinstance(loss, bl.KLDivergence) else ()
    model = bl.Sequential(bl.Dense(5, "tanh"), bl.Dense(3), *head).build((4,), dtype="float64")
    return model, samples_of(model, (X, y), loss, "train", weights=weights)


def parts_of(samples, split):
    edges = np.cumsum([0, *split])
    return [samples.rows(slice(a, b)) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "sample weights"])
@pytest.mark.parametrize("split", SPLITS[1:], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_parts_give_the_gradient_of_the_whole(name, split, weighted):
    model, samples = problem(LOSSES[name], weighted=weighted)
    whole = gradients(model, LOSSES[name], [samples], {}, seed=0, step=1)
    found = gradients(model, LOSSES[name], parts_of(samples, split), {}, seed=0, step=1)
    assert found.loss == pytest.approx(whole.loss, rel=1e-12)
    assert found.mass == pytest.approx(whole.mass, rel=1e-12)
    for parameter, g in whole.grads.items():
        assert np.abs(found.grads[parameter] - g).max() <= 1e-12 * max(1.0, np.abs(g).max()), parameter


def test_a_part_in_which_nothing_counts_changes_nothing():
    loss = bl.SoftmaxCrossEntropy(ignore=0)
    X, y = labelled()
    model = linear()
    rows = samples_of(model, (X[np.argsort(y != 0, kind="stable")], np.sort(y)), loss, "train")
    ignored = int(np.sum(y == 0))
    both = gradients(model, loss, parts_of(rows, [ignored, 14 - ignored]), {}, seed=0, step=1)
    only = gradients(model, loss, [rows.rows(slice(ignored, None))], {}, seed=0, step=1)
    assert ignored
    assert both.loss == only.loss
    for name, g in only.grads.items():
        assert np.array_equal(both.grads[name], g)


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_the_weighted_gradient_of_a_linear_classifier(split):
    """δ = w (p - y) / Σ w by hand, dW = δᵀ x, db = Σ δ."""
    X, y = labelled()
    w = np.random.default_rng(2).uniform(0, 2, 14)
    model, loss = linear(), losses.get("softmax_cross_entropy")
    samples = samples_of(model, (X, y), loss, "train", weights=w)
    found = gradients(model, loss, parts_of(samples, split), {}, seed=0, step=1)
    z = X @ model.params["dense1.W"].T + model.params["dense1.b"]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    delta = w[:, None] * (p - np.eye(3)[y]) / w.sum()
    assert found.loss == pytest.approx(-np.sum(w * np.log(p[np.arange(14), y])) / w.sum(), rel=1e-12)
    np.testing.assert_allclose(found.grads["dense1.W"], delta.T @ X, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found.grads["dense1.b"], delta.sum(axis=0), rtol=1e-11, atol=1e-13)


def test_float32_gradients_stay_float32():
    model = mlp(dtype="float32")
    X, y = labelled()
    samples = samples_of(model, (X, y), LOSSES["classes"], "train", weights=np.ones(14))
    found = gradients(model, LOSSES["classes"], parts_of(samples, [5, 5, 4]), {}, seed=0, step=1)
    assert {g.dtype.name for g in found.grads.values()} == {"float32"}


def test_running_statistics_pass_from_part_to_part():
    model = bl.Sequential(bl.Dense(3), bl.BatchNorm(momentum=0.5), bl.Dense(2)).build((4,), dtype="float64")
    X, _ = labelled()
    samples = samples_of(model, (X, np.zeros(14, int)), LOSSES["classes"], "train")
    found = gradients(model, LOSSES["classes"], parts_of(samples, [8, 6]), model.state, seed=0, step=1)
    z = X @ model.params["dense1.W"].T + model.params["dense1.b"]
    expected = 0.5 * (0.5 * 0.0 + 0.5 * z[:8].mean(axis=0)) + 0.5 * z[8:].mean(axis=0)
    np.testing.assert_allclose(found.state["batchnorm1.running_mean"], expected, rtol=1e-12)
    assert np.array_equal(model.state["batchnorm1.running_mean"], np.zeros(3))


def test_each_part_draws_a_mask_of_its_own():
    """The same samples in both halves: with one mask for both, each half would have the same loss."""
    model = bl.Sequential(bl.Dense(40, "tanh"), bl.Dropout(0.5), bl.Dense(3)).build((4,), dtype="float64")
    X, y = labelled()
    samples = samples_of(model, (np.tile(X, (2, 1)), np.tile(y, 2)), LOSSES["classes"], "train")
    found = gradients(model, LOSSES["classes"], parts_of(samples, [14, 14]), {}, seed=0, step=1)
    assert found.seen[0][2] != found.seen[1][2]


# --- through fit ----------------------------------------------------------------------------------------------------


def trained(**changes):
    X, y = labelled()
    settings = {"loss": "softmax_cross_entropy", "optimizer": bl.SGD(0.3, momentum=0.9), "epochs": 4, "batch_size": 14}
    settings |= {"seed": 1, "progress": False} | changes
    model, data = settings.pop("model", None) or mlp(), settings.pop("data", (X, y))
    return bl.fit(model, data, **settings)


def assert_same(a, b, tolerance=1e-12):
    for name, p in a.model.params.items():
        np.testing.assert_allclose(p, b.model.params[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("size", "accumulate"), [(4, 2), (2, 4), (1, 8)])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"sample_weight": np.linspace(0, 2, 14)},
        {"class_weight": [1.0, 2.0, 5.0]},
        {"loss": bl.SoftmaxCrossEntropy(ignore=2)},
        {"class_weight": "balanced", "sample_weight": np.linspace(0, 2, 14)},
    ],
    ids=["plain", "sample weights", "class weights", "ignored", "both weights"],
)
def test_accumulating_is_training_on_larger_batches(size, accumulate, more):
    parts, whole = trained(batch_size=size, accumulate=accumulate, **more), trained(batch_size=8, **more)
    assert parts.step == whole.step == 8  # 14 samples: a step of 8 and one of 6
    assert_same(parts, whole)
    np.testing.assert_allclose(parts.history["loss"], whole.history["loss"], rtol=1e-12)


def test_a_weight_of_three_is_a_sample_three_times():
    X, y = labelled()
    times = np.random.default_rng(4).integers(0, 4, 14)
    weighted = trained(sample_weight=times)
    repeated = trained(data=(np.repeat(X, times, axis=0), np.repeat(y, times)), batch_size=100)
    assert_same(weighted, repeated)
    for name, values in without_seconds(repeated.history).items():
        assert weighted.history[name] == pytest.approx(values, rel=1e-11), name


@pytest.mark.parametrize("loss", ["mse", "mae", bl.Huber(0.3)])
def test_weights_of_regression_samples_repeat_them(loss):
    X, y = valued(outputs=2)
    times = np.random.default_rng(4).integers(0, 4, 14)
    weighted = trained(model=mlp(outputs=2), data=(X, y), sample_weight=times, loss=loss)
    again = (np.repeat(X, times, axis=0), np.repeat(y, times, axis=0))
    repeated = trained(model=mlp(outputs=2), data=again, batch_size=100, loss=loss)
    assert_same(weighted, repeated)
    for name in ("loss", "r2", "mae"):
        assert weighted.history[name] == pytest.approx(repeated.history[name], rel=1e-11), name


def test_equal_weights_are_no_weights():
    assert_same(trained(sample_weight=np.full(14, 0.25)), trained())


def test_a_weight_of_zero_leaves_a_sample_out():
    X, y = labelled()
    w = (np.arange(14) % 3 > 0).astype(float)
    assert_same(trained(sample_weight=w), trained(data=(X[w > 0], y[w > 0])))


def test_class_weights_are_weights_of_samples():
    y = labelled()[1]
    table = np.array([0.5, 2.0, 7.0])
    for choice in (table, table.tolist(), tuple(table), dict(enumerate(table))):
        assert_same(trained(class_weight=choice), trained(sample_weight=table[y]), 0)


def test_balanced_weighs_classes_by_their_rarity():
    y = labelled()[1]
    by_hand = {label: 14 / (3 * np.sum(y == label)) for label in range(3)}
    assert_same(trained(class_weight="balanced"), trained(class_weight=by_hand), 0)
    totals = [by_hand[label] * np.sum(y == label) for label in range(3)]
    assert totals == pytest.approx([14 / 3] * 3)


def test_balanced_of_a_binary_target():
    X, _ = labelled()
    y = np.array([1.0] * 3 + [0.0] * 11)
    weights = np.where(y == 1, 14 / (2 * 3), 14 / (2 * 11))
    kwargs = {"data": (X, y), "loss": "binary_cross_entropy"}
    assert_same(
        trained(model=mlp(outputs=1), class_weight="balanced", **kwargs),
        trained(model=mlp(outputs=1), sample_weight=weights, **kwargs),
        0,
    )


def test_ignored_labels_have_no_class_weight():
    X, y = labelled()
    y = np.where(np.arange(14) < 4, -1, y)
    loss = bl.SoftmaxCrossEntropy(ignore=-1)
    found = trained(data=(X, y), loss=loss, class_weight="balanced")
    assert_same(found, trained(data=(X[4:], y[4:]), class_weight="balanced"))


def test_class_weights_multiply_sample_weights():
    model, (X, y) = linear(), labelled()
    samples = samples_of(model, (X, y), losses.get("softmax_cross_entropy"), "train", weights=np.arange(14.0))
    found = with_class_weights(samples, [1, 10, 100], losses.get("softmax_cross_entropy"), 3, "train")
    assert found.weights.tolist() == [n * 10.0**label for n, label in enumerate(y.tolist())]


@pytest.mark.parametrize("batch_size", [1, 3, 14, 1000])
def test_evaluation_does_not_depend_on_its_batches(batch_size):
    model, samples = problem(LOSSES["ignored, weighted, smoothed"], weighted=True)
    whole = evaluate(model, LOSSES["ignored, weighted, smoothed"], samples)
    found = evaluate(model, LOSSES["ignored, weighted, smoothed"], samples, batch_size=batch_size)
    assert found.loss == pytest.approx(whole.loss, rel=1e-12)
    assert np.concatenate([out for out, *_ in found.seen]).shape == (14, 3)
