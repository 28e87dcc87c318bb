"""What each sample contributes to a gradient, against steps on that sample alone."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError, UnknownNameError
from glass.graphs import batch, mlp, of_mlp


def alone(model, X, y, loss, n, **options):
    """The gradients of a step on sample n by itself."""
    given = {k: v[n : n + 1] for k, v in options.items()}
    return bl.value_and_grad(model, X[n : n + 1], y[n : n + 1], loss=loss, **given)[1]


def agree(model, X, y, loss):
    trace = bl.trace(model, X, y, loss=loss)
    for name in trace.graph.trainable:
        found = trace.per_sample(name)
        want = np.stack([alone(model, X, y, loss, n)[name] for n in range(len(X))]) / len(X)
        np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-14, err_msg=name)


def shared_network():
    layer = bl.Dense(4, "tanh")
    return bl.Model(lambda x: bl.Dense(3)(layer(layer(x)) + layer(x * 0.5)))


def normalised_network():
    return bl.Sequential(bl.Dense(4, "gelu"), bl.LayerNorm(), bl.Residual(bl.Dense(4, "sigmoid")), bl.Dense(3))


@pytest.mark.parametrize("make", [shared_network, normalised_network])
def test_each_sample_gives_what_it_gives_alone(make):
    agree(make().build((4,), seed=1, dtype="float64"), *batch(), "softmax_cross_entropy")


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "binary_cross_entropy"])
def test_for_every_loss_over_samples(loss):
    X, _ = batch()
    y = np.random.default_rng(3).integers(0, 2, (6, 3)).astype(np.float64)
    agree(mlp(), X, y, loss)


def test_a_sequence_is_one_sample():
    model = bl.Sequential(bl.Dense(3, "tanh"), bl.Dense(2)).build((5, 4), seed=0, dtype="float64")
    rng = np.random.default_rng(0)
    agree(model, rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5, 2)), "mse")


def test_weights_of_samples_are_in_their_shares():
    X, y = batch()
    weights = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0])
    trace = bl.trace(mlp(), X, y, loss="softmax_cross_entropy", weights=weights)
    found = trace.per_sample("dense1.W")
    for n in range(6):
        want = alone(mlp(), X, y, "softmax_cross_entropy", n)["dense1.W"] * weights[n] / weights.sum()
        np.testing.assert_allclose(found[n], want, rtol=1e-11, atol=1e-15)
    assert not found[1].any()


def test_it_has_the_gradients_shape_and_precision():
    trace = of_mlp("float32")
    for name in trace.graph.trainable:
        found = trace.per_sample(name)
        assert found.dtype == np.float32
        assert found.shape == (6, *trace.grad(name).shape)


def test_one_sample_contributes_everything():
    X, y = batch(samples=1)
    trace = bl.trace(mlp(), X, y, loss="softmax_cross_entropy")
    np.testing.assert_array_equal(trace.per_sample("dense2.W")[0], trace.grad("dense2.W"))


def test_behind_batch_normalisation_the_shares_still_add_up():
    model = bl.Sequential(bl.Dense(4), bl.BatchNorm(), bl.Activation("relu"), bl.Dense(3)).build(
        (4,), seed=0, dtype="float64"
    )
    trace = bl.trace(model, *batch(), loss="softmax_cross_entropy")
    for name in trace.graph.trainable:
        scale = np.abs(trace.per_sample(name)).max()
        np.testing.assert_allclose(trace.per_sample(name).sum(axis=0), trace.grad(name), atol=1e-12 * max(scale, 1.0))


def test_a_share_is_delta_times_what_went_in():
    trace = of_mlp()
    found = trace.per_sample("dense1.W")
    want = trace.delta("dense1")[:, :, None] * trace["x"][:, None, :]
    np.testing.assert_allclose(found, want, rtol=1e-13)
    np.testing.assert_array_equal(trace.per_sample("dense1.b"), trace.delta("dense1"))


def test_asking_changes_nothing():
    trace = of_mlp()
    before = {n: a.copy() for n, a in (*trace.values.items(), *(("∂" + n, g) for n, g in trace.grads.items()))}
    trace.per_sample("dense1.W")
    for name, array in before.items():
        now = trace.grads[name[1:]] if name.startswith("∂") else trace.values[name]
        np.testing.assert_array_equal(now, array, err_msg=name)


def test_a_name_that_is_none_and_a_frozen_parameter_are_refused():
    with pytest.raises(UnknownNameError, match=r"dense1\.W"):
        of_mlp().per_sample("dense1.V")
    model = bl.Sequential(bl.Dense(3), bl.Dense(3)).build((4,), dtype="float64")
    model.freeze("dense1")
    trace = bl.trace(model, *batch(), loss="softmax_cross_entropy")
    with pytest.raises(InputError, match="no gradient"):
        trace.per_sample("dense1.W")


class Doubled(bl.Layer):
    """x (W + W)ᵀ: the parameter passes two nodes of its own before it meets a sample."""

    def stage(self, scope, x):
        W = scope.parameter("W", (3, x.shape[-1]), lambda rng, shape: rng.normal(size=shape))
        return x @ (W + W).T


def test_what_a_parameter_passes_first_passes_each_share_on():
    agree(bl.Sequential(Doubled()).build((4,), seed=0, dtype="float64"), *batch(), "softmax_cross_entropy")
