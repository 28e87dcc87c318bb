"""What normalisation must do: statistics, invariances, running averages, digits far from zero, PyTorch's results."""

from __future__ import annotations

from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from backlit.core.errors import InputError
from backlit.rules import get

EPS = 1e-12  # small enough to be no part of what a property says
SHAPES = [(7, 3), (2, 4, 3), (2, 3, 2, 3)]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def run(name, *inputs, dy=None, **attributes):
    """(outputs, gradients) of a rule; dy is 1 unless given."""
    rule = get(name)
    attributes = rule.defaults | attributes
    outputs = rule.call(np, *inputs, **attributes)
    dy = np.ones_like(outputs[0]) if dy is None else dy
    return outputs, rule.gradients(np, [dy], rule.saved_from(inputs, outputs, attributes))


def plain(channels):
    """gamma and beta that change nothing."""
    return np.ones(channels), np.zeros(channels)


# --- batchnorm --------------------------------------------------------------------------------------------------------


def test_batchnorm_by_hand():
    """Two channels of three samples: 1, 2, 6 and 0, 0, 3, in exact fractions; eps makes the roots rational."""
    x = np.array([[1.0, 0.0], [2.0, 0.0], [6.0, 3.0]])
    gamma, beta = np.array([2.0, 6.0]), np.array([1.0, -1.0])
    eps = float(Fraction(25) - Fraction(14, 3))  # 14/3 + eps = 25
    (y, mean, var), _ = run("batchnorm", x[:, :1], gamma[:1], beta[:1], eps=eps)
    assert mean.tolist() == [3.0]
    np.testing.assert_allclose(var, [14 / 3], rtol=1e-15)
    np.testing.assert_allclose(y[:, 0], [1 - 4 / 5, 1 - 2 / 5, 1 + 6 / 5], rtol=1e-15)
    (y, mean, var), _ = run("batchnorm", x[:, 1:], gamma[1:], beta[1:], eps=2.0)
    assert (mean.tolist(), var.tolist()) == ([1.0], [2.0])
    np.testing.assert_allclose(y[:, 0], [-1 - 3, -1 - 3, -1 + 6], rtol=1e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_channel_gets_mean_beta_and_deviation_gamma(shape, rng):
    x, gamma, beta = 3.0 + 2.0 * rng.normal(size=shape), rng.uniform(0.5, 2.0, size=3), rng.normal(size=3)
    (y, mean, var), _ = run("batchnorm", x, gamma, beta, eps=EPS)
    rows = x.reshape(-1, 3)
    for c in range(3):
        np.testing.assert_allclose(mean[c], sum(rows[:, c]) / len(rows), rtol=1e-14)
        np.testing.assert_allclose(var[c], sum((v - mean[c]) ** 2 for v in rows[:, c]) / len(rows), rtol=1e-13)
        np.testing.assert_allclose(y[..., c].mean(), beta[c], rtol=1e-12)
        np.testing.assert_allclose(y[..., c].std(), gamma[c], rtol=1e-10)


def test_a_channel_does_not_see_the_others(rng):
    x, (gamma, beta), dy = rng.normal(size=(6, 3)), plain(3), rng.normal(size=(6, 3))
    (y, *_), (dx, dgamma, dbeta) = run("batchnorm", x, gamma, beta, dy=dy)
    for c in range(3):
        one = slice(c, c + 1)
        (y_c, *_), (dx_c, dgamma_c, dbeta_c) = run("batchnorm", x[:, one], gamma[one], beta[one], dy=dy[:, one])
        for all_, alone in ((y, y_c), (dx, dx_c), (dgamma, dgamma_c), (dbeta, dbeta_c)):
            np.testing.assert_allclose(all_[..., one], alone, rtol=1e-13)


def test_all_leading_axes_are_samples(rng):
    x, dy = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 5))
    gamma, beta = rng.normal(size=5), rng.normal(size=5)
    (y, mean, var), (dx, dgamma, dbeta) = run("batchnorm", x, gamma, beta, dy=dy)
    rows = run("batchnorm", x.reshape(24, 5), gamma, beta, dy=dy.reshape(24, 5))
    for a, b in zip((y, mean, var, dx, dgamma, dbeta), (*rows[0], *rows[1]), strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-11, atol=1e-14)


def test_shift_and_scale_of_the_input_do_not_matter(rng):
    x, gamma, beta = rng.normal(size=(8, 3)), rng.normal(size=3), rng.normal(size=3)
    (y, *_), _ = run("batchnorm", x, gamma, beta, eps=EPS)
    (moved, *_), _ = run("batchnorm", 5.0 * x - 7.0, gamma, beta, eps=EPS)
    np.testing.assert_allclose(moved, y, rtol=1e-9)


@pytest.mark.parametrize(("name", "axis"), [("batchnorm", 0), ("layernorm", 1)])
def test_so_the_gradient_has_no_part_along_shift_or_scale(name, axis, rng):
    x, dy, (gamma, beta) = rng.normal(size=(6, 5)), rng.normal(size=(6, 5)), plain(5)
    _, (dx, *_) = run(name, x, gamma, beta, dy=dy, eps=EPS)
    np.testing.assert_allclose(dx.sum(axis=axis), 0.0, atol=1e-13)
    np.testing.assert_allclose((dx * x).sum(axis=axis), 0.0, atol=1e-10)


def test_a_constant_channel_becomes_beta_and_passes_no_gradient_of_a_shift():
    x = np.full((4, 2), 1e6)
    (y, _, var), (dx, dgamma, dbeta) = run("batchnorm", x, np.array([3.0, 4.0]), np.array([0.5, -0.5]))
    assert y.tolist() == [[0.5, -0.5]] * 4
    assert (var.tolist(), dx.tolist()) == ([0.0, 0.0], [[0.0, 0.0]] * 4)
    assert (dgamma.tolist(), dbeta.tolist()) == ([0.0, 0.0], [4.0, 4.0])


@pytest.mark.parametrize("name", ["batchnorm", "layernorm", "rmsnorm", "batchnorm_inference"])
def test_only_one_array_of_the_size_of_the_batch_is_kept(name):
    per_channel_or_sample = {"gamma", "mean", "var", "mean_square", "eps"}
    assert set(get(name).saved) - per_channel_or_sample == {"x"}


# --- far from zero ----------------------------------------------------------------------------------------------------


def exact_normalised(values, eps):
    with mp.workdps(40):
        numbers = [mp.mpf(float(v)) for v in values]
        mean = mp.fsum(numbers) / len(numbers)
        var = mp.fsum((v - mean) ** 2 for v in numbers) / len(numbers)
        return np.array([float((v - mean) / mp.sqrt(var + eps)) for v in numbers])


@pytest.mark.parametrize(("dtype", "offset"), [(np.float64, 1e8), (np.float32, 1e4)])
@pytest.mark.parametrize("name", ["batchnorm", "layernorm"])
def test_an_offset_costs_only_the_digits_that_it_takes_from_the_mean(name, dtype, offset, rng):
    """The formula mean(x²) - mean(x)² would have lost every digit: offset² · eps is more than 1."""
    assert offset**2 * np.finfo(dtype).eps > 1
    values = (offset + rng.normal(size=64)).astype(dtype)
    x = values[:, None] if name == "batchnorm" else values[None, :]
    gamma, beta = (p.astype(dtype) for p in plain(x.shape[-1]))
    (y, *_), _ = run(name, x, gamma, beta)
    error = np.abs(np.ravel(y) - exact_normalised(values, 1e-5))
    assert y.dtype == dtype
    assert error.max() <= 4 * offset * np.finfo(dtype).eps


# --- inference and running averages -----------------------------------------------------------------------------------


def test_inference_with_the_statistics_of_the_batch_is_training_but_for_their_gradient(rng):
    x, gamma, beta, dy = rng.normal(size=(5, 3)), rng.normal(size=3), rng.normal(size=3), rng.normal(size=(5, 3))
    (y, mean, var), (dx, dgamma, dbeta) = run("batchnorm", x, gamma, beta, dy=dy)
    (y_i,), (dx_i, dgamma_i, dbeta_i) = run("batchnorm_inference", x, gamma, beta, mean, var, dy=dy)
    for trained, inferred in ((y, y_i), (dgamma, dgamma_i), (dbeta, dbeta_i)):
        np.testing.assert_allclose(inferred, trained, rtol=1e-13)
    np.testing.assert_allclose(dx_i, dy * gamma / np.sqrt(var + 1e-5), rtol=1e-13)
    assert np.abs(dx - dx_i).max() > 0.1


def test_inference_treats_every_sample_alone(rng):
    x, statistics = rng.normal(size=(5, 3)), (rng.normal(size=3), rng.uniform(0.5, 2.0, size=3))
    (batch,), _ = run("batchnorm_inference", x, *plain(3), *statistics)
    for n in range(5):
        (alone,), _ = run("batchnorm_inference", x[n], *plain(3), *statistics)
        assert np.array_equal(alone, batch[n])


def test_running_average_by_hand():
    average = get("running_average").call
    (mean,) = average(np, np.array([4.0]), np.array([8.0]), momentum=0.25)
    (var,) = average(np, np.array([1.0]), np.array([3.0]), momentum=0.5, scale=4 / 3)
    assert (mean.tolist(), var.tolist()) == ([5.0], [2.5])
    assert get("running_average").differentiable == ()


@pytest.mark.torch
def test_running_statistics_as_in_pytorch(rng):
    torch = pytest.importorskip("torch")
    layer = torch.nn.BatchNorm1d(3, momentum=0.3, eps=1e-3, dtype=torch.float64)
    average, mean, var = get("running_average").call, np.zeros(3), np.ones(3)
    for n in (8, 5, 2):
        x = 2.0 + rng.normal(size=(n, 3))
        layer(torch.tensor(x))
        (_, new_mean, new_var), _ = run("batchnorm", x, *plain(3), eps=1e-3)
        (mean,) = average(np, mean, new_mean, momentum=0.3)
        (var,) = average(np, var, new_var, momentum=0.3, scale=n / (n - 1))
    np.testing.assert_allclose(mean, layer.running_mean.numpy(), rtol=1e-13)
    np.testing.assert_allclose(var, layer.running_var.numpy(), rtol=1e-13)
    layer.eval()
    (y,), _ = run("batchnorm_inference", x, *plain(3), mean, var, eps=1e-3)
    np.testing.assert_allclose(y, layer(torch.tensor(x)).detach().numpy(), rtol=1e-12)


# --- layernorm and rmsnorm --------------------------------------------------------------------------------------------


def test_layernorm_by_hand():
    (y, mean, var), _ = run("layernorm", np.array([[0.0, 0.0, 3.0]]), np.full(3, 6.0), np.full(3, -1.0), eps=2.0)
    assert (mean.tolist(), var.tolist()) == ([1.0], [2.0])
    np.testing.assert_allclose(y, [[-4.0, -4.0, 5.0]], rtol=1e-15)


def test_rmsnorm_by_hand():
    (y, mean_square), _ = run("rmsnorm", np.array([3.0, 4.0, 0.0, 0.0]), np.array([1.0, 2.0, 3.0, 4.0]), eps=2.75)
    assert float(mean_square) == 6.25
    np.testing.assert_allclose(y, [1.0, 8 / 3, 0.0, 0.0], rtol=1e-15)


@pytest.mark.parametrize(("name", "parameters"), [("layernorm", 2), ("rmsnorm", 1)])
def test_a_sample_does_not_see_the_others(name, parameters, rng):
    x, dy = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    affine = tuple(rng.normal(size=4) for _ in range(parameters))
    (y, *_), (dx, *shared) = run(name, x, *affine, dy=dy)
    total = [np.zeros(4) for _ in shared]
    for place in np.ndindex(2, 3):
        (alone, *_), (dx_alone, *parts) = run(name, x[place], *affine, dy=dy[place])
        np.testing.assert_allclose(y[place], alone, rtol=1e-13)
        np.testing.assert_allclose(dx[place], dx_alone, rtol=1e-12)
        total = [t + p for t, p in zip(total, parts, strict=True)]
    for found, summed in zip(shared, total, strict=True):
        np.testing.assert_allclose(found, summed, rtol=1e-12)


def test_rmsnorm_ignores_scale_but_not_shift(rng):
    x, gamma = rng.normal(size=(4, 5)), rng.normal(size=5)
    (y, _), (dx, _) = run("rmsnorm", x, gamma, dy=rng.normal(size=(4, 5)), eps=EPS)
    (scaled, _), _ = run("rmsnorm", 3.0 * x, gamma, eps=EPS)
    (shifted, _), _ = run("rmsnorm", x + 1.0, gamma, eps=EPS)
    np.testing.assert_allclose(scaled, y, rtol=1e-9)
    np.testing.assert_allclose((dx * x).sum(axis=1), 0.0, atol=1e-9)
    assert np.abs(shifted - y).max() > 0.1


# --- PyTorch's definitions --------------------------------------------------------------------------------------------


def assert_as_theirs(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_batchnorm_as_in_pytorch(shape, training, rng):
    torch = pytest.importorskip("torch")
    x, dy, gamma, beta = (rng.normal(size=s) for s in (shape, shape, 3, 3))
    mean, var = rng.normal(size=3), rng.uniform(0.5, 2.0, size=3)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    running = (torch.tensor(mean), torch.tensor(var))
    rows = leaves[0].reshape(-1, 3)
    y = torch.nn.functional.batch_norm(rows, *running, *leaves[1:], training=training, eps=1e-3).reshape(shape)
    y.backward(torch.tensor(dy))
    rule, statistics = ("batchnorm", ()) if training else ("batchnorm_inference", (mean, var))
    outputs, gradients = run(rule, x, gamma, beta, *statistics, dy=dy, eps=1e-3)
    assert_as_theirs((outputs[0], *gradients), (y, *(leaf.grad for leaf in leaves)))


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES)
def test_layernorm_and_rmsnorm_as_in_pytorch(shape, rng):
    torch = pytest.importorskip("torch")
    x, dy, gamma, beta = (rng.normal(size=s) for s in (shape, shape, 3, 3))
    theirs = {"layernorm": torch.nn.functional.layer_norm, "rmsnorm": torch.nn.functional.rms_norm}
    for name, inputs in (("layernorm", (x, gamma, beta)), ("rmsnorm", (x, gamma))):
        leaves = [torch.tensor(a, requires_grad=True) for a in inputs]
        y = theirs[name](leaves[0], (3,), *leaves[1:], eps=1e-3)
        y.backward(torch.tensor(dy))
        outputs, gradients = run(name, *inputs, dy=dy, eps=1e-3)
        assert_as_theirs((outputs[0], *gradients), (y, *(leaf.grad for leaf in leaves)))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shapes", "options", "key", "expected"),
    [
        ("batchnorm", [(5, 3), (3,), (4,)], {}, "shape_clash", "gamma[3], beta[3]"),
        ("batchnorm", [(5, 3), (3, 1), (3,)], {}, "shape_clash", "gamma[3], beta[3]"),
        ("batchnorm", [(3,), (3,), (3,)], {}, "shape_clash", "x[N ≥ 1, …, C]"),
        ("batchnorm", [(0, 3), (3,), (3,)], {}, "shape_clash", "x[N ≥ 1, …, C]"),
        ("batchnorm", [(5, 3), (3,), (3,)], {"eps": 0.0}, "rule_option", "0 < eps < ∞"),
        ("batchnorm_inference", [(5, 3), (3,), (3,), (3,), (1,)], {}, "shape_clash", "var[3]"),
        ("batchnorm_inference", [(), (3,), (3,), (3,), (3,)], {}, "shape_clash", "x[…, C]"),
        ("layernorm", [(5, 3), (5,), (5,)], {}, "shape_clash", "gamma[3], beta[3]"),
        ("layernorm", [(5, 0), (0,), (0,)], {}, "shape_clash", "x[…, C ≥ 1]"),
        ("layernorm", [(5, 3), (3,), (3,)], {"eps": float("nan")}, "rule_option", "0 < eps < ∞"),
        ("rmsnorm", [(), ()], {}, "shape_clash", "x[…, C ≥ 1]"),
        ("rmsnorm", [(5, 3), (4,)], {}, "shape_clash", "gamma[3]"),
        ("rmsnorm", [(5, 3), (3,)], {"eps": -1e-6}, "rule_option", "0 < eps < ∞"),
        ("running_average", [(3,), (4,)], {}, "shape_clash", "new[3]"),
        ("running_average", [(3,), (3,)], {"momentum": 1.5}, "rule_option", "0 ≤ momentum ≤ 1"),
        ("running_average", [(3,), (3,)], {"scale": 0.0}, "rule_option", "0 < scale < ∞"),
    ],
)
def test_refused_with_what_was_expected_and_what_came(name, shapes, options, key, expected):
    with pytest.raises(InputError) as caught:
        get(name).shapes(*shapes, **options)
    error = caught.value
    assert error.key == key
    assert name in error.part("problem")
    assert expected in error.part("expected")
    assert error.part("got")
