"""Kernels of losses against the rules in float64, and losses that are not the end of their graph."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import optim, rules
from backlit.engines import reference
from backlit.engines.fast import kernels_losses
from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors
from backlit.graph import Builder
from engines.kernel_calls import close, untested, wide

N, K, UNITS = 4, 7, 64
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.25])
ERRORS = {
    "squared_errors": ("mse", {}, ()),
    "absolute_errors": ("mae", {}, ()),
    "huber_errors": ("huber", {"delta": 0.75}, (0.75, 1.0)),
    "focal_errors": ("focal", {"gamma": 1.5, "alpha": 0.25}, (1.5, 0.25)),
}


def test_every_kernel_is_tested_here():
    assert not untested(kernels_losses, __file__)


def weighted(draw, count=N):
    """(weights, shares, room for the losses of rows, for the loss)."""
    weights = WEIGHTS[:count].astype(draw.dtype)
    return weights, (weights / weights.sum()).astype(draw.dtype), np.full(count, nan, draw.dtype), draw(1)


def by_rule(name, inputs, options):
    """(loss, mass, other outputs, gradient) of a rule."""
    rule = rules.get(name)
    inputs = (*inputs, *[None] * (len(rule.inputs) - len(inputs)))
    made = rule.call(np, *inputs, **options)
    saved = rule.saved_from(inputs, made, rule.defaults | options)
    return *made, rule.gradients(np, (np.ones(()),), saved)[0]


def check(run, draw, losses, shares, d, wanted):
    loss = draw(1)
    run("weighted_loss", 1, losses, shares, loss)
    close(loss, np.full(1, wanted[0]), draw.dtype, UNITS)
    close(d, wanted[-1].reshape(d.shape), draw.dtype, UNITS)


@pytest.mark.parametrize("kernel", ERRORS)
def test_errors(run, draw, kernel):
    name, options, numbers = ERRORS[kernel]
    z, t, d = draw(N, K), abs(draw(N, K)) % 1, draw(N, K)
    weights, shares, losses, _ = weighted(draw)
    run(kernel, N, z, t, shares, d, losses, *numbers)
    check(run, draw, losses, shares, d, by_rule(name, wide(z, t, weights), options))


@pytest.mark.parametrize("positive", [1, K])
def test_yes_or_no(run, draw, positive):
    z, t, d, q = draw(N, K) * 5, abs(draw(N, K)) % 1, draw(N, K), abs(draw(positive))
    weights, shares, losses, _ = weighted(draw)
    run("yes_or_no", N, z, t, q, shares, d, losses)
    check(run, draw, losses, shares, d, by_rule("binary_cross_entropy", wide(z, t, weights, q), {}))


def test_dice(run, draw):
    z, t, d, dice, whole = draw(N, K), abs(draw(N, K)) % 1, draw(N, K), draw(N), draw(N)
    weights, shares, losses, _ = weighted(draw)
    run("dice_errors", N, z, t, shares, d, losses, dice, whole, 0.5)
    wanted = by_rule("dice", wide(z, t, weights), {"smooth": 0.5})
    check(run, draw, losses, shares, d, wanted)
    close(dice, wanted[2], draw.dtype, UNITS)
    close(whole, wanted[3], draw.dtype, UNITS)


def test_distances(run, draw):
    log_q, p, d = draw(N, K), abs(draw(N, K)), draw(N, K)
    p[:, 2] = 0
    weights, shares, losses, _ = weighted(draw)
    run("distances", N, log_q, p, shares, d, losses, 1.0)
    check(run, draw, losses, shares, d, by_rule("kl_divergence", wide(log_q, p, weights), {}))


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_classes(run, draw, smoothing):
    z, labels, w, d, p = draw(N, K), np.array([0, 3, 6, -1]), abs(draw(K)), draw(N, K), draw(N, K)
    weights, shares, losses, _ = weighted(draw)
    mass, options = draw(1), {"label_smoothing": smoothing, "ignore": -1}
    run("shares_of_labels", 1, labels, weights, w, -1, 1, shares, mass)
    run("weighted_softmax", N, z, labels, w, shares, d, losses, p, smoothing)
    exact = wide(z, weights, w)
    wanted = by_rule("softmax_cross_entropy", (exact[0], labels, *exact[1:]), options)
    check(run, draw, losses, shares, d, wanted)
    close(mass, np.full(1, wanted[1]), draw.dtype)
    close(p, wanted[2], draw.dtype, UNITS)


def test_probabilities(run, draw):
    z, t, w, d, p = draw(N, K), abs(draw(N, K)), abs(draw(K)), draw(N, K), draw(N, K)
    weights, shares, losses, _ = weighted(draw)
    run("weighted_softmax_soft", N, z, t, w, shares, d, losses, p, 0.25)
    options = {"label_smoothing": 0.25}
    check(run, draw, losses, shares, d, by_rule("softmax_cross_entropy_soft", wide(z, t, weights, w), options))


@pytest.mark.parametrize("times", [1, 3])
def test_shares(run, draw, times):
    weights, mass, shares = abs(draw(N)), draw(1), draw(N * times)
    run("shares_of", 1, weights, shares, mass)
    want = np.repeat(weights.astype(float), times)
    close(mass, np.full(1, want.sum()), draw.dtype)
    close(shares, want / want.sum(), draw.dtype)
    run("shares_of", 1, weights * 0, shares, mass)
    assert not mass.any()
    assert not shares.any()


def test_times_number(run, draw):
    x, y = draw(5), draw(5)
    run("times_number", 5, x, draw.dtype.type([3]), y)
    assert np.array_equal(y, 3 * x)


# --- in a graph -------------------------------------------------------------------------------------------------------


def behind(b, loss, _):
    """Something is done with the loss."""
    return b.add("mul", loss, 3.0)[0]


def beside(b, loss, z):
    """What was predicted is read again."""
    return b.add("add", loss, b.add("sum", b.add("mul", z, z)[0])[0])[0]


@pytest.mark.parametrize("stage", [behind, beside])
@pytest.mark.parametrize("rule", ["mse", "huber", "binary_cross_entropy", "softmax_cross_entropy"])
def test_a_loss_that_is_not_the_end(stage, rule):
    rng, b = np.random.default_rng(0), Builder(dtype="float64", uniform=True)
    batch, z = b.input("batch", (1,)), b.parameter("z", (N, K), None)
    target = rng.integers(0, K, N) if rule.startswith("softmax") else rng.random((N, K))
    loss, mass = b.add(rule, z, target, WEIGHTS, name="loss")[:2]
    graph = b.graph((stage(b, loss, z), batch, mass))
    arrays = {"z": rng.normal(size=(N, K)), "batch": np.zeros(1)}
    vectors = Vectors.of(graph, optim.SGD(1.0), "float64")
    vectors.load({"z": arrays["z"]}, {}, {"z": {}})
    program = Program(graph, optim.SGD(1.0), None, vectors)
    made = program.run({"batch": arrays["batch"]}, np.zeros(1, np.int64), np.zeros(1), 1)
    values, d = reference.value_and_grad(graph, reference.leaves(graph, arrays), ("z",))
    assert not program.low.closures
    assert made.losses[0] == pytest.approx(float(values[graph.outputs[0]]), rel=1e-13)
    assert made.masses[0] == pytest.approx(float(values[graph.outputs[2]]), rel=1e-13)
    np.testing.assert_allclose(vectors.views["d z"], d["z"], rtol=1e-11, atol=1e-15)
