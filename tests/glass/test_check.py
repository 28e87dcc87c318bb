"""The gradient check: silent on healthy models, and it finds what is planted."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import replace

import numpy as np
import pytest

import backlit as bl
from backlit import rules
from backlit.core.i18n import use_language
from backlit.glass.check import TOLERANCE, Report, Row
from backlit.rules import REGISTRY

ACTIVATIONS = [
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    None,
]
LOSSES = ["mse", "mae", "huber", "softmax_cross_entropy", "binary_cross_entropy", "kl_divergence"]


def target_of(loss, rng, samples, outputs):
    if loss == "softmax_cross_entropy":
        return rng.integers(0, outputs, samples)
    if loss == "binary_cross_entropy":
        return rng.integers(0, 2, (samples, outputs))
    return rng.dirichlet(np.ones(outputs), samples) if loss == "kl_divergence" else rng.normal(size=(samples, outputs))


def random_model(seed, loss):
    """Up to three blocks of every kind of layer; the same for a seed however often it is staged."""

    def blocks(x):
        rng, h = np.random.default_rng(seed), x
        for kind in rng.permutation(8)[: rng.integers(1, 4)]:
            width, f = int(rng.integers(2, 7)), ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
            dense = bl.Dense(width, f, bias=bool(rng.integers(2)))
            h = [
                lambda h, d=dense: d(h),
                lambda h, d=dense: bl.BatchNorm()(d(h)),
                lambda h, d=dense: bl.LayerNorm()(d(h)),
                lambda h, d=dense: bl.RMSNorm()(d(h)),
                lambda h, f=f: bl.Residual(bl.Dense(h.shape[-1], f))(h),
                lambda h, d=dense: bl.Dropout(0.3)(bl.Concatenate()(h, d(h))),
                lambda h, d=dense: bl.Add()(d(h), bl.Softmax()(d(h)) * 2.0),
                lambda h, d=dense: bl.Flatten()(bl.Reshape((d.units, 1))(d(h))),
            ][kind](h)
        out = bl.Dense(3)(h)
        return bl.Activation("log_softmax")(out) if loss == "kl_divergence" else out

    return bl.Model(blocks)


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(s, marks=pytest.mark.slow) for s in range(8, 60))])
def test_healthy_models_are_ok(seed):
    rng, loss = np.random.default_rng(seed), LOSSES[seed % len(LOSSES)]
    y = target_of(loss, rng, 6, 3)
    weights = rng.uniform(0, 2, 6) if seed % 2 else None
    found = bl.check(random_model(seed, loss), rng.normal(size=(6, 4)), y, loss=loss, weights=weights, seed=seed)
    assert found.ok, str(found)
    assert found.worst < 0.1 * TOLERANCE


@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a])
@pytest.mark.parametrize("training", [True, False])
def test_every_activation(activation, training):
    rng = np.random.default_rng(1)
    model = bl.Sequential(bl.Dense(5, activation), bl.BatchNorm(), bl.Dropout(0.2), bl.Dense(2))
    found = bl.check(model, rng.normal(size=(7, 3)), rng.normal(size=(7, 2)), loss="mse", training=training)
    assert found.ok, str(found)
    assert [row.parameter for row in found.rows] == list(model.params)


# --- what is planted ------------------------------------------------------------------------------------------------


def like(name):
    """A backward of the same signature, which says what is kept from forward, as the rule's own."""

    def same(function):
        function.__signature__ = inspect.signature(rules.get(name).backward)
        return function

    return same


def plant(monkeypatch, name, backward):
    monkeypatch.setitem(REGISTRY, name, replace(rules.get(name), backward=backward))


def mlp(activation="tanh"):
    return bl.Sequential(bl.Dense(6, activation), bl.LayerNorm(), bl.Dense(3)).build((4,), seed=1)


def checked(model=None, loss="softmax_cross_entropy", **options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(9, 4)).astype("float32")
    return bl.check(model or mlp(), X, target_of(loss, rng, 9, 3), loss=loss, **options)


def verdicts(report):
    return {row.parameter: row.verdict for row in report.rows}


LINEAR, TANH, NORM = (rules.get(name).backward for name in ("linear", "tanh", "layernorm"))
CROSS = rules.get("softmax_cross_entropy").backward


def scaled(part, factor):
    """linear's backward with one of (dx, dW, db) scaled."""

    def backward(xp, dz, *, x, W):
        return tuple(g * factor if i == part else g for i, g in enumerate(LINEAR(xp, dz, x=x, W=W)))

    return backward


def stale_tanh(xp, dy, *, y):
    """The value of another sample: what a buffer used twice would hold."""
    return TANH(xp, dy, y=xp.concat([y[1:], y[:1]]))


def cross_without(part):
    @like("softmax_cross_entropy")
    def backward(xp, dloss, *, p, labels, **rest):
        if part == "1/N":
            return CROSS(xp, dloss, p=p, labels=labels, **rest) * labels.shape[0]
        one_hot = labels[:, None] == xp.arange(p.shape[-1])
        return CROSS(xp, dloss, p=p, labels=labels, **rest) + (one_hot * 0.01 if part == "y" else 0.0)

    return backward


@like("layernorm")
def norm_without_mean(xp, dy, **saved):
    """The term that the mean contributes is missing: dx is not centred."""
    dx, dgamma, dbeta = NORM(xp, dy, **saved)
    return dx + xp.mean(dy, axis=-1, keepdims=True), dgamma, dbeta


BEFORE = {"dense1.W", "dense1.b"}  # what lies before the mistake in the network is wrong, what lies behind it is not
ALL = BEFORE | {"layernorm1.gamma", "layernorm1.beta", "dense2.W", "dense2.b"}
PLANTED = {
    "wrong sign of tanh": ("tanh", lambda xp, dy, *, y: -TANH(xp, dy, y=y), BEFORE),
    "wrong sign of dW": ("linear", scaled(1, -1.0), {"dense1.W", "dense2.W"}),
    "0.05 % on dx": ("linear", scaled(0, 1.0005), BEFORE | {"layernorm1.gamma", "layernorm1.beta"}),
    "0.05 % on dW": ("linear", scaled(1, 0.9995), {"dense1.W", "dense2.W"}),
    "0.05 % on db": ("linear", scaled(2, 1.0005), {"dense1.b", "dense2.b"}),
    "0.05 % on tanh": ("tanh", lambda xp, dy, *, y: TANH(xp, dy, y=y) * 1.0005, BEFORE),
    "missing 1 in 1 - y²": ("tanh", lambda xp, dy, *, y: -dy * y * y, BEFORE),
    "missing square in 1 - y²": ("tanh", lambda xp, dy, *, y: dy * (1 - y), BEFORE),
    "missing 1/N in the loss": ("softmax_cross_entropy", cross_without("1/N"), ALL),
    "missing part of y in p - y": ("softmax_cross_entropy", cross_without("y"), ALL),
    "missing mean in layernorm": ("layernorm", norm_without_mean, BEFORE),
    "stale value in tanh": ("tanh", stale_tanh, BEFORE),
    "missing transpose in dW": ("linear", lambda xp, dz, *, x, W: (
        LINEAR(xp, dz, x=x, W=W)[0], xp.reshape(x.T @ dz, W.shape), LINEAR(xp, dz, x=x, W=W)[2]
    ), {"dense1.W", "dense2.W"}),
}  # fmt: skip


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found_where_it_is(monkeypatch, mistake):
    name, backward, wrong = PLANTED[mistake]
    plant(monkeypatch, name, backward)
    found = checked()
    assert not found.ok
    assert {p for p, verdict in verdicts(found).items() if verdict == "wrong"} == wrong
    assert {p for p, verdict in verdicts(found).items() if verdict == "ok"} == set(verdicts(found)) - wrong
    assert found.worst > 10 * TOLERANCE


@pytest.mark.parametrize("scale", [1.0005, 0.9995])
def test_the_size_of_a_slip_is_reported(monkeypatch, scale):
    plant(monkeypatch, "tanh", lambda xp, dy, *, y: TANH(xp, dy, y=y) * scale)
    rows = {row.parameter: row for row in checked().rows}
    assert rows["dense1.W"].error == pytest.approx(abs(scale - 1), rel=0.01)


@pytest.mark.parametrize("index", [(0, 0), (2, 3), (5, 1)])
def test_a_single_wrong_entry_is_found(monkeypatch, index):
    def backward(xp, dz, *, x, W):
        dx, dW, db = LINEAR(xp, dz, x=x, W=W)
        if W.shape == (6, 4):
            dW = dW.copy()
            dW[index] += 0.01
        return dx, dW, db

    plant(monkeypatch, "linear", backward)
    assert verdicts(checked())["dense1.W"] == "wrong"


def test_a_variance_taken_for_a_constant_is_found(monkeypatch):
    """backward of batchnorm without the term that the variance contributes."""
    right = rules.get("batchnorm").backward

    @like("batchnorm")
    def backward(xp, dy, *, gamma, var, eps, **saved):
        _, dgamma, dbeta = right(xp, dy, gamma=gamma, var=var, eps=eps, **saved)
        scale = gamma / xp.sqrt(var + eps)
        return scale * (dy - xp.mean(dy, axis=0, keepdims=True)), dgamma, dbeta

    plant(monkeypatch, "batchnorm", backward)
    found = verdicts(checked(bl.Sequential(bl.Dense(5), bl.BatchNorm(), bl.Activation("tanh"), bl.Dense(3))))
    assert found.pop("dense1.W") == "wrong"
    assert set(found.values()) == {"ok"}  # b has no effect before batchnorm, wrong term or not


# --- kinks and what cannot be decided -------------------------------------------------------------------------------


def test_kinks_are_listed_not_failed():
    """All weights 0: every z lies on the kink of relu, and any step along W or b of the first layer leaves it."""
    model = bl.Sequential(bl.Dense(5, "relu", init="zeros"), bl.Dense(3)).build((4,))
    found = checked(model)
    rows = {row.parameter: row for row in found.rows}
    assert rows["dense1.W"].verdict == rows["dense1.b"].verdict == "kink"
    assert rows["dense1.W"].directions == 0
    assert math.isnan(rows["dense1.W"].error)
    assert 0 < rows["dense1.W"].kinks["dense1.a"] <= 45
    assert rows["dense2.b"].verdict == "ok"
    assert rows["dense2.b"].kinks == {}
    assert found.ok
    assert not math.isnan(found.worst)


def test_a_kink_in_some_directions_leaves_the_others():
    """One neuron of five lies on the kink; single entries of the others can be compared."""
    model = bl.Sequential(bl.Dense(5, "relu"), bl.Dense(3)).build((4,), dtype="float64")
    model.params["dense1.W"][2] = 0.0
    model.params["dense2.W"][:, 2] = 1.0
    found = checked(model, entries=8)
    row = next(r for r in found.rows if r.parameter == "dense1.W")
    assert row.verdict == "ok"
    assert row.kinks
    assert row.directions > 0


def test_kinks_alone_are_no_proof():
    model = bl.Sequential(bl.Dense(3, "relu", init="zeros", bias=False)).build((4,))
    found = checked(model, loss="mse")
    assert verdicts(found) == {"dense1.W": "kink"}
    assert not found.ok
    assert math.isnan(found.worst)


def test_noise_that_hides_the_answer_is_said():
    """A loss of 1e16 changes in steps of 2: no difference can tell a slope of 1."""

    def f(x):
        return bl.Dense(1)(x) * 1e-7 + 1e8

    rng = np.random.default_rng(0)
    found = bl.check(bl.Model(f), rng.normal(size=(5, 3)), np.zeros(5), loss="mse")
    assert "undecided" in verdicts(found).values()
    assert "wrong" not in verdicts(found).values()
    assert not found.ok


def test_a_gradient_that_is_zero_up_to_rounding_is_no_failure():
    """A bias before batch normalisation has no effect: backpropagation gives 1e-17, the differences 1e-14."""
    model = bl.Sequential(bl.Dense(5), bl.BatchNorm(), bl.Dense(3))
    found = checked(model)
    assert found.ok
    assert next(r for r in found.rows if r.parameter == "dense1.b").error < 1e-9


def test_a_small_gradient_is_still_looked_at(monkeypatch):
    """A branch that counts a millionth: a slip of 0.05 % in it is found."""

    def f(x):
        return bl.Dense(3)(x) + 1e-6 * bl.Dense(3)(bl.Activation("tanh")(x * bl.Dense(4)(x)))

    assert checked(bl.Model(f)).ok
    plant(monkeypatch, "tanh", lambda xp, dy, *, y: TANH(xp, dy, y=y) * 1.0005)
    found = checked(bl.Model(f))
    assert not found.ok
    assert "wrong" in verdicts(found).values()


def test_a_parameter_without_effect_is_ok():
    def f(x):
        return bl.Dense(3)(x) + 0.0 * bl.Dense(3)(x)

    found = checked(bl.Model(f))
    assert found.ok
    assert [row.error for row in found.rows[2:]] == [0.0, 0.0]


# --- the report -----------------------------------------------------------------------------------------------------


def row(verdict, error=1e-9, name="dense1.W"):
    return Row(name, (2, 2), error, 1e-12, 0 if math.isnan(error) else 7, "central differences", verdict, {})


@pytest.mark.parametrize(
    ("rows", "ok"),
    [
        ([], False),
        (["ok"], True),
        (["ok", "kink"], True),
        (["kink", "kink"], False),
        (["ok", "undecided"], False),
        (["ok", "wrong"], False),
        (["wrong"], False),
    ],
)
def test_when_a_report_is_ok(rows, ok):
    made = [row(v, math.nan if v == "kink" else 1e-9) for v in rows]
    assert Report(tuple(made), 1.0, 4, 1e-6).ok is ok


def test_the_worst_is_the_largest_error():
    made = row("ok", 1e-9), row("kink", math.nan), row("wrong", 0.5), row("ok", 1e-12)
    assert Report(made, 1.0, 4, 1e-6).worst == 0.5


def test_the_report_says_what_was_compared():
    found = checked(directions=4, entries=2)
    assert [r.parameter for r in found.rows] == sorted(verdicts(found), key=list(verdicts(found)).index)
    assert {r.directions for r in found.rows} <= {1 + 4 + 1, 1 + 4 + 2}  # a random entry may be the largest one
    assert all(r.route == "central differences" for r in found.rows)
    assert found.samples == 9
    assert found.tolerance == TOLERANCE
    z = mlp().predict(np.random.default_rng(0).normal(size=(9, 4))).astype(float)
    assert np.isfinite(z).all()
    assert all(r.error <= TOLERANCE and r.noise >= 0 for r in found.rows)


def test_json_holds_no_nan(monkeypatch):
    model = bl.Sequential(bl.Dense(5, "relu", init="zeros"), bl.Dense(3)).build((4,))
    for report in (checked(model), checked(bl.Sequential(bl.Dense(3, "relu", init="zeros", bias=False)).build((4,)))):
        text = json.dumps(report.as_dict(), allow_nan=False)
        back = json.loads(text)
        assert list(back) == ["ok", "worst", "tolerance", "loss", "samples", "rows"]
        kink = next(r for r in back["rows"] if r["verdict"] == "kink")
        assert kink["error"] is None
        assert kink["noise"] is None
        assert kink["shape"] == list(report.rows[0].shape)
        assert back["ok"] is report.ok


def test_the_text_in_both_languages():
    model = bl.Sequential(bl.Dense(5, "relu", init="zeros"), bl.Dense(3)).build((4,))
    found = checked(model)
    lines = str(found).splitlines()
    assert lines[0].startswith("gradient check on 9 samples, float64, central differences")
    assert len(lines) == 2 + len(found.rows)
    assert "dense1.W" in lines[1]
    assert "kink" in lines[1]
    assert "left out at kinks of dense1.a (" in lines[1]
    assert lines[-1] == f"gradients ok (worst {found.worst:.1e})"
    with use_language("zh"):
        text = str(found)
    assert text.startswith("梯度检验：9 个样本")
    assert "不可导点" in text
    assert text.endswith(f"梯度正确（最大相对误差 {found.worst:.1e}）")


def test_the_text_of_a_wrong_gradient(monkeypatch):
    plant(monkeypatch, "tanh", PLANTED["wrong sign of tanh"][1])
    found = checked()
    assert "WRONG" in str(found)
    assert str(found).splitlines()[-1].startswith("gradients NOT confirmed (worst ")
    with use_language("zh"):
        assert "梯度未通过检验" in str(found)


# --- what it leaves alone -------------------------------------------------------------------------------------------


def test_the_model_is_not_changed():
    model = bl.Sequential(bl.Dense(5, "tanh"), bl.BatchNorm(), bl.Dense(3)).build((4,))
    before = {name: a.tobytes() for name, a in (model.params | model.state).items()}
    dtypes = {a.dtype.name for a in model.params.values()}
    checked(model)
    assert {name: a.tobytes() for name, a in (model.params | model.state).items()} == before
    assert dtypes == {"float32"}
    assert model.dtype == "float32"


def test_a_float32_model_is_checked_in_float64():
    """In float32 differences keep three digits; a check of a float32 model is as good as one of a float64 model."""
    single = mlp()
    double = mlp().build((4,), seed=1, dtype="float64")
    double.params |= {name: p.astype("float64") for name, p in single.params.items()}
    a, b = checked(single), checked(double)
    assert [r.error for r in a.rows] == [r.error for r in b.rows]
    assert a.worst < 1e-8
    assert a.loss == b.loss


def test_it_is_reproducible_and_the_seed_moves_directions_and_masks():
    model = bl.Sequential(bl.Dense(8, "tanh"), bl.Dropout(0.5), bl.Dense(3)).build((4,))
    a, b, c, d = (checked(model, seed=s, step=t) for s, t in ((0, 1), (0, 1), (1, 1), (0, 2)))
    assert a.as_dict() == b.as_dict()
    assert len({a.loss, c.loss, d.loss}) == 3
    assert a.ok
    assert c.ok
    assert d.ok


def test_the_loss_reported_is_that_of_the_batch():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    model = bl.Sequential(bl.Dense(2)).build((4,), dtype="float64")
    w = rng.uniform(0, 3, 6)
    found = bl.check(model, X, y, loss="mse", weights=w)
    by_hand = np.sum(w * np.mean((model.predict(X) - y) ** 2, axis=1)) / w.sum()
    assert found.loss == pytest.approx(by_hand, rel=1e-12)
    assert found.ok


def test_inference_uses_the_running_statistics():
    model = bl.Sequential(bl.Dense(5), bl.BatchNorm(), bl.Dropout(0.9), bl.Dense(3)).build((4,))
    found = checked(model, training=False)
    assert found.ok
    assert found.loss != checked(model).loss
    assert (
        next(r for r in found.rows if r.parameter == "dense1.b").error > 0
    )  # with running statistics it has an effect


def test_frozen_parameters_are_left_out():
    model = bl.Sequential(bl.Dense(5, "tanh", trainable=False), bl.Dense(3))
    assert list(verdicts(checked(model))) == ["dense2.W", "dense2.b"]


def test_a_trained_model_is_checked_too():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    found = bl.fit(mlp("relu"), (X, y), loss="softmax_cross_entropy", epochs=5, progress=False)
    assert bl.check(found.model, X[:8], y[:8], loss="softmax_cross_entropy").ok
