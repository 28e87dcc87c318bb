"""Normalised weights and stochastic depth: beside PyTorch, through training, files and freezing."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError
from backlit.core.i18n import use_language
from train.problems import labelled


def net(*layers, shape=(4,)):
    return bl.Sequential(*layers).build(shape, seed=2, dtype="float64")


def arrays(samples=5, features=4, outputs=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, features)), rng.normal(size=(samples, outputs))


# --- weight norm ----------------------------------------------------------------------------------------------------


def test_weight_norm_starts_from_the_weights_of_the_layer():
    plain, normed = net(bl.Dense(3)), net(bl.WeightNorm(bl.Dense(3)))
    assert list(normed.params) == ["dense1.v", "dense1.g", "dense1.b"]
    v, g = normed.params["dense1.v"], normed.params["dense1.g"]
    np.testing.assert_allclose(g, np.sqrt((v**2).sum(axis=1)), rtol=1e-14)
    X, _ = arrays()
    np.testing.assert_allclose(normed.predict(X), X @ v.T + normed.params["dense1.b"], rtol=1e-12)
    assert normed.predict(X).shape == plain.predict(X).shape


@pytest.mark.torch
def test_weight_norm_is_pytorchs():
    torch = pytest.importorskip("torch")
    model, (X, y) = net(bl.WeightNorm(bl.Dense(3))), arrays()
    model.params["dense1.g"] = np.array([0.5, 2.0, -1.0])
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 3).double())
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    with torch.no_grad():
        g.copy_(torch.tensor(model.params["dense1.g"])[:, None])
        v.copy_(torch.tensor(model.params["dense1.v"]))
        layer.bias.zero_()
    torch.nn.functional.mse_loss(layer(torch.tensor(X)), torch.tensor(y)).backward()
    _, grads = bl.value_and_grad(model, X, y, loss="mse")
    np.testing.assert_allclose(grads["dense1.g"], g.grad.numpy()[:, 0], rtol=1e-10)
    np.testing.assert_allclose(grads["dense1.v"], v.grad.numpy(), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(grads["dense1.b"], layer.bias.grad.numpy(), rtol=1e-10)


# --- spectral norm --------------------------------------------------------------------------------------------------


def iterated(W, v, times=1):
    """(u, v) after power iterations, by their definition."""
    for _ in range(times):
        u = W @ v / np.linalg.norm(W @ v)
        v = W.T @ u / np.linalg.norm(W.T @ u)
    return u, v


@pytest.mark.torch
def test_spectral_norm_of_given_vectors_is_pytorchs():
    torch = pytest.importorskip("torch")
    model, (X, y) = net(bl.SpectralNorm(bl.Dense(3))), arrays()
    layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 3).double()).eval()
    part, W = layer.parametrizations.weight[0], layer.parametrizations.weight.original
    model.state["dense1.v"] = np.array([0.5, 0.5, -0.5, 0.5])
    with torch.no_grad():
        W.copy_(torch.tensor(model.params["dense1.W"]))
        layer.bias.zero_()
        part._u.copy_(torch.tensor(model.state["dense1.u"]))
        part._v.copy_(torch.tensor(model.state["dense1.v"]))
    torch.nn.functional.mse_loss(layer(torch.tensor(X)), torch.tensor(y)).backward()
    _, grads = bl.value_and_grad(model, X, y, loss="mse")
    np.testing.assert_allclose(grads["dense1.W"], W.grad.numpy(), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(model.predict(X), layer(torch.tensor(X)).detach().numpy(), rtol=1e-10)
    layer.train()(torch.tensor(X))  # one iteration
    bl.fit(model, (X, y), loss="mse", optimizer=bl.SGD(0.05), epochs=1, batch_size=5, progress=False)
    np.testing.assert_allclose(model.state["dense1.u"], part._u.numpy(), rtol=1e-9)
    np.testing.assert_allclose(model.state["dense1.v"], part._v.numpy(), rtol=1e-9)


def test_the_vectors_start_close_to_the_singular_ones():
    model = net(bl.SpectralNorm(bl.Dense(3)))
    W = model.params["dense1.W"]
    sigma = model.state["dense1.u"] @ W @ model.state["dense1.v"]
    assert sigma == pytest.approx(np.linalg.svd(W, compute_uv=False)[0], rel=1e-3)
    np.testing.assert_allclose([np.linalg.norm(a) for a in model.state.values()], 1.0, rtol=1e-12)


def test_spectral_norm_comes_to_the_largest_singular_value():
    model, (X, _) = net(bl.SpectralNorm(bl.Dense(3, bias=False))), arrays()
    W = model.params["dense1.W"].copy()
    bl.fit(model, (X, X[:, :3]), loss="mse", optimizer=bl.SGD(1e-12), epochs=100, batch_size=5, progress=False)
    sigma = np.linalg.svd(W, compute_uv=False)[0]
    np.testing.assert_allclose(model.predict(X), X @ (W / sigma).T, rtol=1e-6)
    before = {n: a.copy() for n, a in model.state.items()}
    model.predict(X)
    assert all(np.array_equal(model.state[n], before[n]) for n in before), "prediction leaves u and v"


def test_a_shared_layer_moves_its_vectors_at_every_call():
    layer = bl.SpectralNorm(bl.Dense(4, bias=False))
    model = bl.Model(lambda x: layer(layer(x))).build((4,), seed=2, dtype="float64")
    model.state["dense1.v"] = np.array([1.0, 0, 0, 0])
    W, v = model.params["dense1.W"], model.state["dense1.v"]
    bl.fit(model, (np.eye(4), np.eye(4)), loss="mse", optimizer=bl.SGD(1e-15), epochs=1, progress=False)
    np.testing.assert_allclose(model.state["dense1.v"], iterated(W, v, 2)[1], rtol=1e-9)


@pytest.mark.parametrize("wrap", [bl.WeightNorm, bl.SpectralNorm])
def test_kernels_are_normalised_by_channel_and_as_a_matrix(wrap):
    model = net(wrap(bl.Conv2D(3, 3)), bl.Flatten(), bl.Dense(2), shape=(5, 5, 2))
    X = np.random.default_rng(1).normal(size=(2, 5, 5, 2))
    found = bl.check(model, X, np.array([0, 1]), loss="softmax_cross_entropy")
    assert found.ok, str(found)


# --- as layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [bl.WeightNorm, bl.SpectralNorm])
def test_a_wrapped_layer_is_saved_frozen_and_shown_as_its_own(tmp_path, wrap):
    model = net(wrap(bl.Dense(5, "tanh")), bl.Dropout(0.2), bl.Dense(3))
    X, y = labelled()
    bl.fit(model, (X, y), loss="softmax_cross_entropy", epochs=2, progress=False)
    again = bl.load(bl.save(model, tmp_path / "m.safetensors"))
    assert again.predict(X).tobytes() == model.predict(X).tobytes()
    assert repr(model.layers[0]) == f"{wrap.__name__}(Dense(5, 'tanh'))"
    model.freeze("dense1")
    before = {n: a.copy() for n, a in model.params.items()}
    bl.fit(model, (X, y), loss="softmax_cross_entropy", epochs=1, progress=False)
    moved = {n for n in before if not np.array_equal(before[n], model.params[n])}
    assert moved == {"dense2.W", "dense2.b"}
    assert net(wrap(bl.Dense(5, trainable=False))).frozen == tuple(n for n in net(wrap(bl.Dense(5))).params)
    assert "first.b" in net(wrap(bl.Dense(5, name="first"))).params


@pytest.mark.parametrize("wrap", [bl.WeightNorm, bl.SpectralNorm])
def test_gradients_through_normalised_weights_are_right(wrap):
    X, y = labelled(6)
    model = net(wrap(bl.Dense(5, "tanh")), bl.Dense(3))
    found = bl.check(model, X, y, loss="softmax_cross_entropy")
    assert found.ok, str(found)


@pytest.mark.parametrize("layer", [bl.ReLU(), bl.Residual(bl.Dense(4)), bl.Dropout(0.5)])
def test_layers_without_weights_are_refused(layer):
    with pytest.raises(InputError) as caught:
        net(bl.SpectralNorm(layer))
    assert caught.value.key == "norm_weights"
    for lang in ("en", "zh"):
        with use_language(lang):
            assert "SpectralNorm" in str(caught.value)
    with pytest.raises(InputError):
        bl.WeightNorm("dense")


# --- stochastic depth -----------------------------------------------------------------------------------------------


def test_stochastic_depth_leaves_out_whole_samples():
    model = net(bl.Residual(bl.Dense(4), bl.StochasticDepth(0.25)))
    X = np.random.default_rng(0).normal(size=(2000, 4))
    t = bl.trace(model, X, X, loss="mse")
    part = t["residual1.a"] - X
    dropped = np.all(part == 0, axis=1)
    inside = X @ model.params["dense1.W"].T
    np.testing.assert_allclose(part[~dropped], inside[~dropped] / 0.75, rtol=1e-10, atol=1e-12)
    assert abs(dropped.mean() - 0.25) < 0.04
    np.testing.assert_allclose(model.predict(X), X + inside, rtol=1e-10, atol=1e-12)


def test_stochastic_depth_of_images_and_its_range():
    model = net(bl.StochasticDepth(0.5), bl.Flatten(), bl.Dense(2), shape=(3, 3, 2))
    X = np.ones((40, 3, 3, 2))
    a = bl.trace(model, X, np.zeros((40, 2)), loss="mse")["stochasticdepth1.a"]
    assert {tuple(np.unique(sample)) for sample in a} == {(0.0,), (2.0,)}
    for wrong in (1.0, -0.1, "often"):
        with pytest.raises(InputError, match="rate"):
            bl.StochasticDepth(wrong)
    x = np.ones((2, 3))
    assert np.array_equal(net(bl.StochasticDepth(0.0), bl.ReLU(), shape=(3,)).predict(x), x)
