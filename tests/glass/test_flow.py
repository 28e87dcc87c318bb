"""The δ-flow ledger: gains against plain NumPy, products against measured norms, verdicts on nets made to be sick."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import UnknownNameError
from backlit.core.i18n import use_language
from backlit.engines import reference
from backlit.glass.flow import flow, norm, quotient
from backlit.glass.trace import Trace, of_graph, trace
from backlit.graph import Builder

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(64, 32)), RNG.integers(0, 10, 64)


def ledger(*layers, shift=None, X=X, loss="softmax_cross_entropy", y=Y, seed=0):
    """The ledger of a Sequential in float64; ``shift`` is added to parameters by name."""
    return flow(traced(*layers, shift=shift, X=X, loss=loss, y=y, seed=seed))


def traced(*layers, shift=None, X=X, loss="softmax_cross_entropy", y=Y, seed=0):
    model = bl.Sequential(*layers).build(X.shape[1:], seed=seed, dtype="float64")
    for name, by in (shift or {}).items():
        model.params[name] = model.params[name] + by
    return trace(model, X, y, loss=loss)


def stack(depth, activation, width=32, **options):
    return [*(bl.Dense(width, activation, **options) for _ in range(depth)), bl.Dense(10)]


# --- gains ------------------------------------------------------------------------------------------------------------


def test_gains_by_plain_numpy():
    model = bl.Sequential(bl.Dense(16, "tanh"), bl.Dense(10)).build((32,), dtype="float64")
    W1, b1, W2, b2 = (model.params[n] for n in ("dense1.W", "dense1.b", "dense2.W", "dense2.b"))
    a = np.tanh(X @ W1.T + b1)
    logits = a @ W2.T + b2
    p = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
    d2 = (p - np.eye(10)[Y]) / 64
    back = d2 @ W2
    d1 = back * (1 - a * a)
    found = flow(trace(model, X, Y, loss="softmax_cross_entropy"))
    top, low = found["dense2"], found["dense1"]
    assert top.norm == pytest.approx(np.linalg.norm(d2), rel=1e-12)
    assert (top.above, low.above) == ("loss", "dense2.z")
    assert top.factor("scale") == pytest.approx(1 / 64, rel=1e-15)
    assert top.factor("error") == pytest.approx(np.linalg.norm(64 * d2), rel=1e-12)
    assert low.factor("weights") == pytest.approx(np.linalg.norm(back) / np.linalg.norm(d2), rel=1e-12)
    assert low.factor("slope") == pytest.approx(np.linalg.norm(d1) / np.linalg.norm(back), rel=1e-12)
    assert [(g.cause, g.where) for g in low.gains] == [("weights", "dense2.z"), ("slope", "dense1.a")]


def test_branches_of_a_residual():
    """∂L/∂x of x + F(x) is the sum of what comes straight and what comes through F; the larger one is followed."""
    t = traced(bl.Dense(16), bl.Residual(bl.Dense(16, "tanh")), bl.Dense(10))
    straight, through = t.grad("residual1.a"), t.grad("dense2.z") @ t["dense2.W"]
    row = flow(t)["dense1"]
    met = next(g for g in row.gains if g.cause == "branches")
    main = max(np.linalg.norm(straight), np.linalg.norm(through))
    assert (met.where, row.above) == ("dense1.z", "dense3.z")
    assert met.gain == pytest.approx(np.linalg.norm(straight + through) / main, rel=1e-12)
    total = straight + through
    expected = {"residual1.a": np.vdot(straight, total), "dense2.z": np.vdot(through, total)}
    assert met.parts == pytest.approx({n: v / np.vdot(total, total) for n, v in expected.items()}, rel=1e-10)
    assert sum(met.parts.values()) == pytest.approx(1.0, rel=1e-12)


def test_normalisation_and_dropout_have_their_own_gains():
    t = traced(bl.Dense(16), bl.BatchNorm(), bl.ReLU(), bl.Dropout(0.5), bl.Dense(10))
    row = flow(t)["dense1"]
    order = ["weights", "dropout", "slope", "normalisation"]
    assert [g.cause for g in row.gains] == order
    grads = [t.delta("dense2"), t.grad("dropout1.a"), t.grad("relu1.a"), t.grad("batchnorm1.a"), t.delta("dense1")]
    sizes = [np.linalg.norm(g) for g in grads]
    for gain, above, here in zip(row.gains, sizes, sizes[1:], strict=False):
        assert gain.gain == pytest.approx(here / above, rel=1e-12)


def random_network(seed):
    """Depth 2–6 with random activations, norms, dropout, residual and parallel branches, and a shared layer."""

    def network(x):
        rng, shared = np.random.default_rng(seed), bl.Dense(8, "tanh")
        h = bl.Dense(8, "tanh")(x)
        for kind in rng.integers(7, size=rng.integers(1, 6)):
            h = random_step(kind, bl.Dense(8, ACTIVATIONS[rng.integers(len(ACTIVATIONS))]), shared, h)
        return bl.Dense(4)(h) + bl.Dense(4)(h)

    return network


ACTIVATIONS = ["relu", "sigmoid", "tanh", "gelu", "leaky_relu", "softplus", None]


def random_step(kind, dense, shared, h):
    steps = {
        0: lambda: dense(h),
        1: lambda: bl.BatchNorm()(dense(h)),
        2: lambda: bl.LayerNorm()(h + dense(h)),
        3: lambda: bl.RMSNorm()(dense(bl.Dropout(0.25)(h))),
        4: lambda: dense(h) * bl.Dense(8, "sigmoid")(h) + h * h,
        5: lambda: shared(h) + shared(h * 0.5),
        6: lambda: bl.Dense(8)(bl.Concatenate()(dense(h), h, bl.Dense(3, "silu")(h))),
    }
    return steps[int(kind)]()


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mse"])
@pytest.mark.parametrize("seed", range(25))
def test_the_product_of_the_gains_is_the_measured_ratio(seed, loss):
    rng = np.random.default_rng(seed)
    model = bl.Model(random_network(seed)).build((5,), seed=seed, dtype="float64")
    y = rng.integers(0, 4, 12) if loss == "softmax_cross_entropy" else rng.normal(size=(12, 4))
    t = trace(model, rng.normal(size=(12, 5)), y, loss=loss, seed=seed)
    rows = flow(t).rows
    assert {r.value for r in rows} == {n.name for n in t.graph.nodes if n.rule == "linear"}
    for row in rows:
        here, above = np.linalg.norm(t.delta(row.layer)), np.linalg.norm(t.grad(row.above))
        assert row.norm == pytest.approx(here, rel=1e-12)
        assert math.prod(g.gain for g in row.gains) == pytest.approx(here / above, rel=1e-12)
        assert math.prod(map(row.factor, flow(t).causes)) == pytest.approx(row.ratio, rel=1e-12)
        assert all(sum(g.parts.values()) == pytest.approx(1.0) for g in row.gains if g.cause == "branches")


def test_a_trace_from_a_file_will_do(tmp_path):
    t = traced(bl.Dense(16, "relu"), bl.Dropout(0.5), bl.Dense(10))
    assert Trace.load(t.save(tmp_path / "t.safetensors")).flow() == t.flow() == flow(t)


def test_weights_may_be_made_of_parameters():
    """z = x Wᵀ with the transposition a node of its own: that is no way of δ, and z is a layer."""
    b = Builder(dtype="float64")
    x, y = b.input("x", (64, 32)), b.input("y", (64, 3))
    W, V = (b.parameter(n, s, lambda _, shape: np.zeros(shape)) for n, s in (("W", (6, 32)), ("V", (3, 6))))
    (z,) = b.add("matmul", x, *b.add("transpose", W, axes=(1, 0), name="turned"), name="first")
    (out,) = b.add("linear", *b.add("tanh", z, name="a"), V, None, name="second")
    graph = b.graph(b.add("mse", out, y, None, name="loss")[:1])
    given = {"x": X, "y": RNG.normal(size=(64, 3)), "W": RNG.normal(size=(6, 32)), "V": RNG.normal(size=(3, 6))}
    t = of_graph(graph, reference.leaves(graph, given))
    second, first = flow(t).rows
    assert [(r.layer, r.above, [g.cause for g in r.gains]) for r in (second, first)] == [
        ("second", "loss", ["scale", "error"]),
        ("first", "second", ["weights", "slope"]),
    ]
    assert all(g.usual is None for g in first.gains if g.cause == "weights")


# --- what is usual ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.5**0.5), ("sigmoid", 0.25), ("tanh", 1.0), ("gelu", 0.5)])
def test_the_usual_slope(activation, slope):
    gains = {g.cause: g for g in ledger(*stack(2, activation))["dense1"].gains}
    assert gains["slope"].usual == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "basis"), [("relu", "he_normal"), ("tanh", "xavier_uniform"), ("selu", "lecun_normal")]
)
def test_the_usual_gain_of_weights_is_what_the_initialiser_gives_on_average(activation, basis):
    """Against 200 draws of the initialiser itself."""
    layers = (bl.Dense(24, "tanh"), bl.Dense(40, activation), bl.Dense(10))
    gain = next(g for g in ledger(*layers)["dense1"].gains if g.cause == "weights")
    rng = np.random.default_rng(0)
    delta = rng.normal(size=40)
    draws = [np.sum((delta @ bl.init.NAMED[basis](rng, (40, 24))) ** 2) / np.sum(delta**2) for _ in range(200)]
    assert gain.basis == basis
    assert gain.usual == pytest.approx(np.sqrt(np.mean(draws)), rel=0.05)


def test_the_usual_gain_of_dropout():
    row = ledger(bl.Dense(512), bl.Dropout(0.75), bl.Dense(10))["dense1"]
    gain = next(g for g in row.gains if g.cause == "dropout")
    assert gain.usual == pytest.approx(2.0)
    assert gain.gain == pytest.approx(2.0, rel=0.1)


def test_nothing_is_usual_for_what_is_no_dense_layer():
    row = ledger(bl.Dense(16), bl.LayerNorm(), bl.Softmax(), bl.Dense(10))["dense1"]
    assert {g.cause: (g.usual, g.dead) for g in row.gains if g.cause != "weights"} == {
        "slope": (None, None),
        "normalisation": (None, None),
    }


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_deep_sigmoids_vanish_by_their_slope():
    found = ledger(*stack(8, "sigmoid")).verdict()
    assert (found.kind, found.layer, found.top, found.cause, found.count) == (
        "vanishes",
        "dense1",
        "dense9",
        "slope",
        8,
    )
    assert found.mean < 0.25
    assert found.gain.usual == pytest.approx(0.25, rel=1e-6)
    text = str(found)
    assert all(part in text for part in ("dense1", "dense9", "slope", "sigmoid gives 0.25"))


def test_weights_too_small_vanish_by_the_weights():
    found = ledger(*stack(4, "relu", init=bl.init.Normal(0.01))).verdict()
    assert (found.kind, found.layer, found.cause) == ("vanishes", "dense1", "weights")
    assert found.gain.gain == pytest.approx(0.01 * 32**0.5, rel=0.2)
    assert "he_normal would give about 1.4" in str(found)


def test_weights_too_large_explode_by_the_weights():
    found = ledger(*stack(4, "relu", init=bl.init.Normal(1.5))).verdict()
    assert (found.kind, found.layer, found.cause, found.count) == ("explodes", "dense1", "weights", 4)
    assert found.ratio > 100


def test_units_all_dead_stop_delta():
    found = ledger(*stack(4, "relu"), shift={"dense2.b": -100.0})
    verdict = found.verdict()
    assert (verdict.kind, verdict.cause, verdict.ratio, verdict.factor) == ("vanishes", "slope", 0.0, 0.0)
    assert next(iter(verdict.dead.items())) == ("dense2.a", 1.0)
    assert "dense2.a 100%" in str(verdict)
    assert "The first of them is dense2.a" in str(verdict)
    assert found["dense4"].factor("slope") == 0
    assert found["dense1"].ratio == 1.0  # nothing arrives: what stopped it is named once


def test_most_units_dead_is_said_though_some_of_delta_passes():
    shift = np.where(np.arange(32) < 29, -100.0, 0.5)
    t = traced(*stack(3, "relu"), shift={"dense2.b": shift})
    share = float(np.mean((t["dense2.z"] <= 0).all(axis=0)))
    verdict = flow(t).verdict()
    assert (verdict.kind, verdict.gain.where, verdict.gain.dead) == ("dead", "dense2.a", share)
    assert share >= 29 / 32
    assert f"{share:.0%}" in str(verdict)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("depth", [1, 3, 8])
def test_healthy_nets_are_left_alone(activation, depth, seed):
    verdict = ledger(*stack(depth, activation, width=64), seed=seed).verdict()
    assert (verdict.kind, verdict.cause) == ("usual", "")
    assert str(verdict).startswith("nothing unusual")


def test_residuals_keep_deep_sigmoids_from_vanishing():
    layers = [bl.Residual(bl.Dense(32, "sigmoid")) for _ in range(8)]
    found = ledger(bl.Dense(32), *layers, bl.Dense(10))
    assert found.verdict().kind == "usual"
    assert "branches" in found.causes


def test_a_loss_that_is_met_has_nothing_to_pass_down():
    model = bl.Sequential(bl.Dense(8, "tanh"), bl.Dense(2)).build((32,), dtype="float64")
    t = trace(model, X, model.predict(X), loss="mse")
    assert flow(t).verdict().kind == "settled"
    assert flow(trace(model, X, model.predict(X) + 0.01, loss="mse")).verdict().kind == "usual"


def test_what_is_not_finite_explodes():
    model = bl.Sequential(*stack(4, "relu", init=bl.init.Normal(1e12))).build((32,))
    with np.errstate(all="ignore"):
        t = trace(model, X, RNG.normal(size=(64, 10)), loss="mse")
    found = flow(t)
    assert not np.isfinite(found["dense1"].norm)
    assert found.verdict().kind == "explodes"
    json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert "explodes" in str(found)


def test_a_model_without_weights_has_an_empty_ledger():
    t = trace(bl.Model(lambda x: x * 2.0).build((3,)), np.ones((4, 3)), np.ones((4, 3)), loss="mse")
    assert flow(t).rows == ()
    assert flow(t).verdict().kind == "usual"
    assert "nothing unusual" in str(flow(t))


# --- printed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lang", "words"),
    [("en", ["weights", "slope", "vanishes", "sigmoid gives"]), ("zh", ["权重", "激活斜率", "消失", "附近"])],
)
def test_it_prints_itself(lang, words):
    with use_language(lang):
        found = ledger(*stack(8, "sigmoid"))
        text, page = str(found), found._repr_html_()
    for word in (*words, "dense9.z", "█"):
        assert word in text
        assert word in page


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    "layers",
    [
        stack(8, "sigmoid"),
        stack(4, "relu", init=bl.init.Normal(0.01)),
        stack(2, "relu"),
        [bl.Dense(32), bl.Dropout(0.9999), bl.Dense(10)],
        [bl.Dense(32), bl.Activation("relu"), bl.BatchNorm(), bl.Dense(10)],
    ],
)
def test_every_verdict_can_be_said(lang, layers):
    with use_language(lang):
        text = str(ledger(*layers).verdict())
    assert text
    assert "{" not in text


def test_bars_are_longest_where_delta_is_largest():
    found = ledger(*stack(8, "sigmoid"))
    shares = [found._share(r.norm) for r in found.rows]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert all(s > 0 for s in shares)
    assert found._share(0.0) == 0.0


def test_as_dict_is_json():
    found = ledger(*stack(2, "relu"))
    data = json.loads(json.dumps(found.as_dict()))
    assert data["samples"] == 64
    assert [r["layer"] for r in data["layers"]] == ["dense3", "dense2", "dense1"]
    assert data["layers"][1]["factors"]["weights"] == found["dense2"].factor("weights")
    assert data["verdict"]["kind"] == "usual"
    assert data["verdict"]["text"].startswith("nothing unusual")


def test_an_unknown_layer_is_refused():
    with pytest.raises(UnknownNameError, match="dense1"):
        ledger(*stack(1, "relu"))["dens1"]


# --- norms ------------------------------------------------------------------------------------------------------------


def test_norms_do_not_overflow():
    assert norm(np.full(4, 1e200)) == pytest.approx(2e200)
    assert norm(np.full(4, 1e-200)) == pytest.approx(2e-200)
    assert norm(np.zeros(3)) == norm(np.zeros(0)) == 0.0
    assert norm(np.asarray([1.0, np.inf])) == math.inf


def test_a_quotient_of_nothing_is_1():
    assert (quotient(0.0, 0.0), quotient(3.0, 2.0), quotient(0.0, 2.0)) == (1.0, 1.5, 0.0)
