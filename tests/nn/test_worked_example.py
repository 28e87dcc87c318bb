"""The example every textbook does by hand: two inputs, two hidden sigmoid units, two outputs, one sample.

All numbers of the network are worked out below with scalar formulas, one per quantity, and compared to 12 digits.
"""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

import backlit as bl
from backlit.engines.reference import value_and_grad
from backlit.nn.grad import loss_graph

x1, x2, y1, y2 = 0.05, 0.10, 0.01, 0.99
w11, w12, w21, w22, c1, c2 = 0.15, 0.20, 0.25, 0.30, 0.35, 0.36
v11, v12, v21, v22, d1, d2 = 0.40, 0.45, 0.50, 0.55, 0.60, 0.61
RATE = 0.5


def sigmoid(z):
    return 1 / (1 + exp(-z))


def by_hand(last):
    """Every z, a, δ and gradient of the loss L = ((o1 - y1)² + (o2 - y2)²) / 2, the mean over the two outputs."""
    z1 = w11 * x1 + w12 * x2 + c1
    z2 = w21 * x1 + w22 * x2 + c2
    a1 = sigmoid(z1)
    a2 = sigmoid(z2)
    s1 = v11 * a1 + v12 * a2 + d1
    s2 = v21 * a1 + v22 * a2 + d2
    o1 = sigmoid(s1) if last == "sigmoid" else s1
    o2 = sigmoid(s2) if last == "sigmoid" else s2
    loss = ((o1 - y1) ** 2 + (o2 - y2) ** 2) / 2
    slope1 = o1 * (1 - o1) if last == "sigmoid" else 1.0
    slope2 = o2 * (1 - o2) if last == "sigmoid" else 1.0
    e1 = (o1 - y1) * slope1
    e2 = (o2 - y2) * slope2
    b1 = (v11 * e1 + v21 * e2) * a1 * (1 - a1)
    b2 = (v12 * e1 + v22 * e2) * a2 * (1 - a2)
    values = {
        "dense1.z": [[z1, z2]],
        "dense1.a": [[a1, a2]],
        "dense2.z": [[s1, s2]],
        "loss": loss,
    }
    gradients = {
        "dense2.z": [[e1, e2]],
        "dense2.W": [[e1 * a1, e1 * a2], [e2 * a1, e2 * a2]],
        "dense2.b": [e1, e2],
        "dense1.a": [[v11 * e1 + v21 * e2, v12 * e1 + v22 * e2]],
        "dense1.z": [[b1, b2]],
        "dense1.W": [[b1 * x1, b1 * x2], [b2 * x1, b2 * x2]],
        "dense1.b": [b1, b2],
    }
    if last == "sigmoid":
        values["dense2.a"] = [[o1, o2]]
        gradients["dense2.a"] = [[o1 - y1, o2 - y2]]
    return values, gradients


def network(last):
    model = bl.Sequential(bl.Dense(2, "sigmoid"), bl.Dense(2, last)).build((2,), dtype="float64")
    model.params |= {
        "dense1.W": np.array([[w11, w12], [w21, w22]]),
        "dense1.b": np.array([c1, c2]),
        "dense2.W": np.array([[v11, v12], [v21, v22]]),
        "dense2.b": np.array([d1, d2]),
    }
    return model


X, Y = np.array([[x1, x2]]), np.array([[y1, y2]])


def same_to_twelve_digits(found, wanted):
    np.testing.assert_allclose(found, np.asarray(wanted), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("last", ["sigmoid", "linear"])
def test_every_value_and_every_gradient(last):
    values, gradients = by_hand(last)
    graph, env = loss_graph(network(last), X, Y, loss="mse")
    found, d = value_and_grad(graph, env, graph.trainable)
    for name, wanted in values.items():
        same_to_twelve_digits(found[name], wanted)
    for name, wanted in gradients.items():
        same_to_twelve_digits(d[name], wanted)
    assert {n for n in d if n.startswith("dense")} == set(gradients)


@pytest.mark.parametrize("last", ["sigmoid", "linear"])
def test_loss_and_gradients_of_the_facade(last):
    values, gradients = by_hand(last)
    loss, grads = bl.value_and_grad(network(last), X, Y, loss="mse")
    same_to_twelve_digits(loss, values["loss"])
    assert set(grads) == {"dense1.W", "dense1.b", "dense2.W", "dense2.b"}
    for name, gradient in grads.items():
        same_to_twelve_digits(gradient, gradients[name])


@pytest.mark.parametrize("last", ["sigmoid", "linear"])
def test_one_update_of_gradient_descent(last):
    model = network(last)
    _, gradients = by_hand(last)
    wanted = {name: p - RATE * np.asarray(gradients[name]) for name, p in model.params.items()}
    run = bl.fit(model, (X, Y), loss="mse", optimizer=bl.SGD(RATE), epochs=1, batch_size=1, progress=False)
    assert run.step == 1
    for name, p in run.model.params.items():
        same_to_twelve_digits(p, wanted[name])


def test_the_hand_formulas_are_the_derivatives_of_the_loss():
    mp = pytest.importorskip("mpmath")

    def loss(*weights):
        w11, w12, w21, w22, c1, c2, v11, v12, v21, v22, d1, d2 = weights
        a1, a2 = (1 / (1 + mp.exp(-z)) for z in (w11 * x1 + w12 * x2 + c1, w21 * x1 + w22 * x2 + c2))
        o1, o2 = (1 / (1 + mp.exp(-s)) for s in (v11 * a1 + v12 * a2 + d1, v21 * a1 + v22 * a2 + d2))
        return ((o1 - y1) ** 2 + (o2 - y2) ** 2) / 2

    at = (w11, w12, w21, w22, c1, c2, v11, v12, v21, v22, d1, d2)
    with mp.workdps(40):
        slopes = [float(mp.diff(loss, at, tuple(int(i == k) for i in range(12)))) for k in range(12)]
    _, g = by_hand("sigmoid")
    same_to_twelve_digits(
        np.concatenate([np.ravel(g[n]) for n in ("dense1.W", "dense1.b", "dense2.W", "dense2.b")]), slopes
    )
