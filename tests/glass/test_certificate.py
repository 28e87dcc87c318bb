"""The certificate: healthy models pass, a planted mistake is found in its place and called by its name."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest

import backlit as bl
from backlit import rules
from backlit.core import oracles
from backlit.core.errors import BacklitError
from backlit.core.i18n import use_language
from backlit.core.tables import width
from backlit.engines import reference
from backlit.glass.certificate import Certificate
from backlit.glass.certificate_call import NodeCall, _differentiable
from backlit.glass.certificate_mutations import mutations
from backlit.glass.certificate_nodes import judge
from backlit.glass.certificate_routes import EPS, Evidence, rounding_evidence
from backlit.graph.graph import Node
from backlit.rules import REGISTRY
from backlit.rules.formula import parse
from rules.calls import call, cases_of

RIGHT = {name: rule.backward for name, rule in REGISTRY.items()}


def net(x):
    """A branch, a residual, a product, and square matrices, in which a missing transpose shows in no shape."""
    h = bl.Dense(6, "silu")(bl.Dense(6, "tanh")(x))
    h = bl.BatchNorm()(bl.Dense(6, "sigmoid")(h))
    h = bl.Activation("softmax")(h) * bl.Dense(6, "gelu")(h)
    h = bl.Residual(bl.Dense(6, "relu"))(h) - bl.Dense(6)(-h)
    return bl.Dense(3)(h * np.arange(1.0, 7.0))


def certified(loss="softmax_cross_entropy", model=None, **options) -> Certificate:
    rng = np.random.default_rng(0)
    X, labels, values = rng.normal(size=(7, 4)), rng.integers(0, 3, 7), rng.normal(size=(7, 3))
    return bl.check(model or bl.Model(net), X, values if loss == "mse" else labels, loss=loss, **options)


# --- healthy models ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy():
    with np.errstate(all="raise", under="ignore"):
        return certified()


def test_a_healthy_model_is_certified(healthy):
    assert healthy.ok
    assert healthy.verdict == "ok"
    assert healthy.findings == ()
    assert {row.verdict for row in healthy.rules} == {"ok"}
    assert healthy.parameters.keys() == {row.parameter for row in healthy.rows}


def test_every_node_has_a_row_with_every_route(healthy):
    graph = bl.trace(bl.Model(net), np.zeros((7, 4)), np.zeros(7, int), loss="softmax_cross_entropy").graph
    assert [row.node for row in healthy.rules] == [n.name for n in graph.nodes if REGISTRY[n.rule].backward]
    for row in healthy.rules:
        routes = {e.route for e in row.evidence}
        assert routes >= {"complex step", "central differences", "same twice"}
        gradients = {e.of for e in row.evidence if e.route == "complex step"}
        assert gradients
        assert {e.of for e in row.evidence if e.route == "index formula"} >= gradients


def test_errors_are_a_few_eps_and_tolerances_say_why(healthy):
    exact = [e for row in healthy.rules for e in row.evidence if e.route in ("complex step", "index formula")]
    assert max(e.error for e in exact) < 50
    assert all(32 < e.tolerance < 1e6 for e in exact)
    assert all(e.tolerance == pytest.approx(32 * np.sqrt(e.terms) + e.conditioning, abs=1e-6) for e in exact)
    assert "√" in exact[0].reason


RULES = [(name, case) for name, rule in REGISTRY.items() if rule.backward for case in cases_of(rule)]


@pytest.mark.parametrize(("name", "case"), RULES, ids=lambda v: v if isinstance(v, str) else v.label)
def test_no_case_of_a_right_rule_is_wrong(name, case):
    """Cases on kinks too: what no route can say anything of is left out by name."""
    found = judged(name, case)
    assert found.row.verdict in ({"ok", "kink"} if case.on_kink or not found.call.outputs[0].size else {"ok"})


def judged(name, case, backward=None):
    rule = replace(REGISTRY[name], backward=backward) if backward else REGISTRY[name]
    c = call(rule, case)
    names = tuple(None if x is None else f"in{i}" for i, x in enumerate(c.inputs))
    node = Node(name, names, tuple(f"node.{o}" for o in rule.outputs), c.attributes)
    wrt = tuple(w for w in _differentiable(rule, node) if names[w.place] is not None)
    with np.errstate(all="ignore"):
        return judge(NodeCall(node, rule, c.inputs, wrt), c.dys, 3, {})


HIDDEN = ["relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "gelu", "gelu_tanh", "silu", "mish", None]
LOSSES = ["mse", "mae", "huber", "softmax_cross_entropy", "binary_cross_entropy", "kl_divergence"]


def random_model(seed, loss):
    """Up to four layers of every kind, with branches; the same for a seed however often it is staged."""

    def block(h, rng):
        dense = bl.Dense(int(rng.integers(1, 9)), HIDDEN[rng.integers(len(HIDDEN))], bias=bool(rng.integers(2)))
        kinds = [
            lambda: dense(h),
            lambda: bl.BatchNorm()(dense(h)),
            lambda: bl.LayerNorm()(dense(h)),
            lambda: bl.RMSNorm()(dense(h)),
            lambda: bl.Residual(bl.Dense(h.shape[-1], "gelu"))(h),
            lambda: bl.Concatenate()(h, bl.Dropout(0.4)(dense(h))),
            lambda: bl.Activation("softmax")(dense(h)) - dense(h) * 0.5,
            lambda: bl.Flatten()(bl.Reshape((dense.units, 1))(dense(h))),
        ]
        return kinds[rng.integers(len(kinds))]()

    def blocks(x):
        rng, h = np.random.default_rng(seed), x
        for _ in range(rng.integers(1, 5)):
            h = block(h, rng)
        out = bl.Dense(3)(h)
        return bl.Activation("log_softmax")(out) if loss == "kl_divergence" else out

    return bl.Model(blocks)


def random_check(seed):
    rng, loss = np.random.default_rng(seed), LOSSES[seed % len(LOSSES)]
    samples, scale = int(rng.integers(2, 12)), 10.0 ** rng.integers(-2, 3)
    y = {
        "softmax_cross_entropy": lambda: rng.integers(0, 3, samples),
        "binary_cross_entropy": lambda: rng.integers(0, 2, (samples, 3)),
        "kl_divergence": lambda: rng.dirichlet(np.ones(3), samples),
    }.get(loss, lambda: rng.normal(size=(samples, 3)))()
    weights = rng.uniform(0.1, 2.0, samples) if rng.integers(2) else None
    model = random_model(seed, loss).build((4,), seed=seed, dtype=["float32", "float64"][seed % 2])
    options = {"weights": weights, "training": bool(rng.integers(4)), "seed": seed, "directions": 1, "entries": 1}
    return bl.check(model, scale * rng.normal(size=(samples, 4)), y, loss=loss, **options)


@pytest.mark.parametrize("seed", range(12))
def test_random_models_give_no_false_alarm(seed):
    found = random_check(seed)
    assert found.verdict == "ok", found.full()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 200))
def test_two_hundred_random_models_give_no_false_alarm(seed):
    found = random_check(seed)
    assert found.verdict == "ok", found.full()


# --- planted mistakes -------------------------------------------------------------------------------------------------


def like(name):
    """A backward with the signature of the rule's own, which says what is kept from forward."""

    def same(function):
        function.__signature__ = inspect.signature(RIGHT[name])
        return function

    return same


def scaled(name, factor):
    @like(name)
    def backward(xp, dy, **saved):
        found = RIGHT[name](xp, dy, **saved)
        return tuple(factor * g for g in found) if isinstance(found, tuple) else factor * found

    return backward


def linear(dx=None, dW=None, db=None):
    """backward of linear, some of its lines replaced by functions of (dz, x, W)."""

    def backward(xp, dz, *, x, W):
        right = RIGHT["linear"](xp, dz, x=x, W=W)
        return tuple(f(dz, x, W) if f else g for f, g in zip((dx, dW, db), right, strict=True))

    return backward


def stale(name, *, first):
    """The saved values of the first call of each shape, or of the call before."""
    seen = {}

    @like(name)
    def backward(xp, dy, **saved):
        old = seen.setdefault(dy.shape, saved)
        seen[dy.shape] = old if first else saved
        return RIGHT[name](xp, dy, **old)

    return backward


@like("mse")
def mse_without_mass(xp, dloss, *, mass, **saved):
    return RIGHT["mse"](xp, dloss * mass, mass=mass, **saved)


@like("softmax_cross_entropy")
def cross_entropy_without_mass(xp, dloss, *, mass, **saved):
    return RIGHT["softmax_cross_entropy"](xp, dloss * mass, mass=mass, **saved)


@like("softmax_cross_entropy")
def p_minus_y(xp, dloss, *, p, labels, mass, **saved):
    return (p - (labels[..., None] == np.arange(p.shape[-1]))) / mass


@like("softmax")
def other_axis(xp, dy, *, y, axis):
    return y * (dy - xp.sum(dy * y, axis=0, keepdims=True))


@like("batchnorm")
def constant_statistics(xp, dy, *, gamma, var, eps, **saved):
    right = RIGHT["batchnorm"](xp, dy, gamma=gamma, var=var, eps=eps, **saved)
    return dy * gamma / np.sqrt(var + eps), *right[1:]


def silu_at_a(xp, dy, *, x):
    return RIGHT["silu"](xp, dy, x=rules.get("silu").forward(xp, x))


def same_sign(xp, dy, *, a_shape, b_shape):
    return RIGHT["add"](xp, dy, a_shape=a_shape, b_shape=b_shape)


PLANTED = {  # rule, backward, (gradient, mistake)
    "dW transposed": ("linear", linear(dW=lambda dz, x, W: x.T @ dz), ("dW", "transposed")),
    "dW read off transposed": ("linear", linear(dW=lambda dz, x, W: (x.T @ dz).reshape(W.shape)), ("dW", "transposed")),
    "W for its transpose in dx": (
        "linear",
        linear(dx=lambda dz, x, W: dz @ (W.T if len(W) == len(W.T) else W)),
        ("dx", "transposed"),
    ),
    "sign of tanh": ("tanh", scaled("tanh", -1.0), ("dx", "sign")),
    "sign of one gradient of sub": ("sub", same_sign, ("db", "sign")),
    "1/N missing in the loss": ("softmax_cross_entropy", cross_entropy_without_mass, ("dlogits", "mean")),
    "1/N missing in mse": ("mse", mse_without_mass, ("dpred", "mean")),
    "1/N twice": ("linear", linear(dW=lambda dz, x, W: dz.T @ x / len(dz)), ("dW", "mean_twice")),
    "db not summed": ("linear", linear(db=lambda dz, x, W: dz), ("db", "unsummed")),
    "db of the last sample": ("linear", linear(db=lambda dz, x, W: dz[-1]), ("db", "missing_sum")),
    "dW of the first sample": ("linear", linear(dW=lambda dz, x, W: np.outer(dz[0], x[0])), ("dW", "missing_sum")),
    "one term of dx": ("linear", linear(dx=lambda dz, x, W: dz[:, -1:] * W[-1]), ("dx", "assigned")),
    "f'(a) for f'(z)": ("silu", silu_at_a, ("dx", "slope_at")),
    "sum over the wrong axis": ("softmax", other_axis, ("dx", "axis")),
    "half": ("relu", scaled("relu", 0.5), ("dx", "factor")),
    "twice": ("linear", linear(db=lambda dz, x, W: 2 * dz.sum(axis=0)), ("db", "factor")),
    "0.05 % too large": ("sigmoid", scaled("sigmoid", 1.0005), ("dx", "factor")),
    "a billionth too large": ("tanh", scaled("tanh", 1 + 1e-9), ("dx", "factor")),
    "values of the first call": ("gelu", stale("gelu", first=True), ("dx", "stale")),
    "values of the call before": ("gelu", stale("gelu", first=False), ("dx", "impure")),
    "values of another sample": (
        "tanh",
        lambda xp, dy, *, y: RIGHT["tanh"](xp, dy, y=np.roll(y, 1, axis=0)),
        ("dx", "other_sample"),
    ),
    "gate upside down": ("relu", lambda xp, dy, *, y: np.where(y > 0, 0.0, dy), ("dx", "gate")),
    "no gate": ("relu", lambda xp, dy, *, y: dy * 1.0, ("dx", "gate")),
    "y for y > 0": ("relu", lambda xp, dy, *, y: dy * y, ("dx", "extra_factor")),
    "clipped": ("tanh", lambda xp, dy, *, y: np.clip(RIGHT["tanh"](xp, dy, y=y), -0.3, 0.3), ("dx", "clipped")),
    "p - y whatever comes in": ("softmax_cross_entropy", p_minus_y, ("dlogits", "ignores_delta")),
    "constant statistics": ("batchnorm", constant_statistics, ("dx", "missing_term")),
    "something added": ("neg", lambda xp, dy: -dy + 1e-6, ("dx", "not_linear")),
    "1 - y missing": ("sigmoid", lambda xp, dy, *, y: dy * y, ("dx", "missing_factor")),
    "no slope": ("sigmoid", lambda xp, dy, *, y: 1.0 * dy, ("dx", "no_slope")),
    "it breaks down": ("gelu", lambda xp, dy, *, x: dy @ dy, ("dx", "raises")),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_named(monkeypatch, mistake):
    name, backward, wanted = PLANTED[mistake]
    monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], backward=backward))
    found = certified("mse" if name == "mse" else "softmax_cross_entropy")
    assert found.verdict == "wrong"
    assert not found.ok
    assert {f.rule for f in found.findings} == {name}
    assert wanted in [(f.gradient, f.mistake) for f in found.findings], str(found)
    assert {row.rule for row in found.rules if row.verdict == "wrong"} == {name}


def test_the_finding_says_where_and_by_how_much(monkeypatch):
    monkeypatch.setitem(REGISTRY, "sigmoid", replace(REGISTRY["sigmoid"], backward=scaled("sigmoid", 1.5)))
    (finding,) = certified().findings
    assert (finding.where, finding.rule, finding.gradient) == ("dense3.a", "sigmoid", "dx")
    assert len(finding.entry) == 2
    assert finding.got == pytest.approx(1.5 * finding.expected)
    assert finding.detail == {"factor": "1.5"}
    for part in ("dense3.a", "sigmoid", "dx[", "1.5 times"):
        assert part in str(finding)
    with use_language("zh"):
        assert "常数因子" in str(finding)


def test_one_wrong_entry_is_named(monkeypatch):
    def backward(xp, dz, *, x, W):
        dx, dW, db = RIGHT["linear"](xp, dz, x=x, W=W)
        dW = dW.copy()
        dW[2, 1] += 0.01
        return dx, dW, db

    monkeypatch.setitem(REGISTRY, "linear", replace(REGISTRY["linear"], backward=backward))
    finding = certified().findings[0]
    assert (finding.gradient, finding.entry) == ("dW", (2, 1))
    assert finding.mistake == "not_linear"


def test_a_mistake_that_is_none_of_the_usual_ones_is_wrong_all_the_same(monkeypatch):
    odd = like("tanh")(lambda xp, dy, *, y: RIGHT["tanh"](xp, dy, y=y) + 0.01 * dy * np.sin(40 * y))
    monkeypatch.setitem(REGISTRY, "tanh", replace(REGISTRY["tanh"], backward=odd))
    (finding,) = certified().findings
    assert finding.mistake == "unknown"
    assert finding.got != finding.expected


def test_a_forward_that_does_not_fit_is_wrong(monkeypatch):
    """Nothing tells which of the two is meant; the formula of the output does not agree either."""
    forward = lambda xp, x: xp.tanh(x) * 1.001  # noqa: E731  as short as the rule's own
    monkeypatch.setitem(REGISTRY, "tanh", replace(REGISTRY["tanh"], forward=forward))
    row = next(row for row in certified().rules if row.rule == "tanh")
    assert {e.of for e in row.evidence if e.verdict == "wrong"} == {"dx", "y"}


# --- a wrong engine ---------------------------------------------------------------------------------------------------


def engine(mistake):
    """reference.backward with one mistake; the rules stay right."""
    kept = {}

    def backward(graph, values, wrt, output, xp=np, *, rows=False):
        del rows  # gradients of a table kept by rows: there are none here
        wrt, d = tuple(wrt), {output: xp.ones_like(values[output])}
        way = graph.depends_on(wrt)
        if mistake == "stale":
            values = values | {n: kept.setdefault(n, v) for n, v in values.items() if n.endswith(".a")}
        for node in reversed(graph.nodes):
            if not way.isdisjoint(node.outputs) and any(o in d for o in node.outputs):
                for name, gradient in reference.node_gradients(node, values, d, xp):
                    added = gradient if name not in d else {"=": gradient, "first": d[name]}.get(mistake)
                    d[name] = d[name] + gradient if added is None else added
        if mistake in ("sign", "factor"):
            d["dense2.W"] = d["dense2.W"] * {"sign": -1.0, "factor": 0.5}[mistake]
        if mistake == "absent":
            d["dense2.W"] = d["dense2.W"][:1]
        return {n: d.get(n, xp.zeros_like(values[n])) for n in wrt} | d

    return backward


@pytest.mark.parametrize(
    ("mistake", "name"),
    [
        ("=", "overwritten"),
        ("first", "overwritten"),
        ("stale", "stale"),
        ("sign", "sign"),
        ("factor", "factor"),
        ("absent", "absent"),
    ],
)
def test_a_wrong_engine_is_told_from_a_wrong_rule(monkeypatch, mistake, name):
    monkeypatch.setattr(reference, "backward", engine(mistake))
    found = certified()
    (finding,) = found.findings
    assert found.verdict == "wrong"
    assert {row.verdict for row in found.rules} == {"ok"}
    assert (finding.rule, finding.mistake) == ("engine", name)
    if name == "overwritten":
        assert finding.where == "mul1"  # what the residual, its block and the negated branch share
        assert {*finding.detail["kept"].split(", "), *finding.detail["lost"].split(", ")} == {
            "dense5.z",
            "residual1.a",
            "neg1",
        }


def test_the_engine_that_does_it_right_is_not_accused(monkeypatch):
    monkeypatch.setattr(reference, "backward", engine("none"))
    assert certified().ok


def test_a_wrong_start_is_found(monkeypatch):
    right = reference.backward
    monkeypatch.setattr(reference, "backward", lambda *a, **k: {n: 2 * g for n, g in right(*a, **k).items()})
    (finding,) = certified().findings
    assert (finding.where, finding.mistake, finding.detail) == ("loss", "factor", {"factor": "2"})


def test_a_wrong_forward_of_the_engine_is_found(monkeypatch):
    right = reference.forward

    def forward(graph, env, xp=np):
        values = right(graph, env, xp)
        known = xp is np and "dense1.a" in values
        return values | {"dense1.a": values["dense1.a"] * 1.001} if known else values

    monkeypatch.setattr(reference, "forward", forward)
    assert [(f.where, f.mistake) for f in certified().findings] == [("dense1.a", "forward")]


def test_what_is_nobodys_mistake_is_raised_again(monkeypatch):
    def backward(*_, **__):
        raise MemoryError("too large")

    monkeypatch.setattr(reference, "backward", backward)
    with pytest.raises(MemoryError):
        certified()


# --- kinks ------------------------------------------------------------------------------------------------------------


def test_entries_at_a_kink_are_left_out_by_name():
    model = bl.Sequential(bl.Dense(5, "relu"), bl.Dense(3)).build((4,), dtype="float64")
    model.params["dense1.W"][2] = 0.0
    found = certified(model=model)
    row = next(row for row in found.rules if row.rule == "relu")
    assert row.verdict == "ok"
    assert set(row.kinks["x"]) >= {(n, 2) for n in range(7)}
    assert "dense1.a.x" in found.kinks()[0]
    assert found.verdict == "ok"


def test_a_mistake_on_a_kink_is_seen_by_its_formula(monkeypatch):
    """relu'(0) = 0 is the documented convention; where all lies on the kink no other route can say anything."""
    monkeypatch.setitem(
        REGISTRY, "relu", replace(REGISTRY["relu"], backward=lambda xp, dy, *, y: np.where(y < 0, 0.0, dy))
    )
    model = bl.Sequential(bl.Dense(5, "relu", init="zeros"), bl.Dense(3)).build((4,))
    row = next(row for row in certified(model=model).rules if row.rule == "relu")
    assert row.verdict == "wrong"
    assert {e.route for e in row.evidence if e.verdict == "wrong"} == {"index formula"}


# --- other programs ---------------------------------------------------------------------------------------------------


@pytest.mark.jax
def test_jax_confirms_and_contradicts(monkeypatch):
    pytest.importorskip("jax")
    _ask("jax", monkeypatch)


@pytest.mark.torch
def test_pytorch_confirms_and_contradicts(monkeypatch):
    pytest.importorskip("torch")
    _ask("torch", monkeypatch)


def _ask(name, monkeypatch):
    model = bl.Sequential(bl.Dense(3, "tanh"), bl.LayerNorm(), bl.Dense(3))
    found = certified(model=model, oracles=(name,))
    assert found.ok
    assert found.oracles == (name,)
    assert all(name in {e.route for e in row.evidence} for row in found.rules)
    monkeypatch.setitem(REGISTRY, "tanh", replace(REGISTRY["tanh"], backward=scaled("tanh", 1.0005)))
    row = next(row for row in certified(model=model, oracles=(name,)).rules if row.rule == "tanh")
    assert name in {e.route for e in row.evidence if e.verdict == "wrong"}


@pytest.mark.jax
@pytest.mark.torch
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_the_oracles_agree_with_every_rule_they_know(name):
    pytest.importorskip(name)
    vjp, known = oracles.get(name), set()
    for rule in (r for r in REGISTRY.values() if r.backward):
        c = next(k for k in (call(rule, c) for c in cases_of(rule) if not c.on_kink) if k.outputs[0].size)
        for i, g in zip(c.wrt, vjp(rule, c.inputs, c.attributes, c.wrt, c.dys) or (), strict=False):
            np.testing.assert_allclose(c.gradients[f"d{c.names[i]}"], g, rtol=1e-9, atol=1e-12, err_msg=rule.name)
            known.add(rule.name)
    assert len(known) >= 40


def test_an_unknown_oracle_is_refused_with_the_nearest_name():
    with pytest.raises(BacklitError, match="torch"):
        certified(oracles=("torhc",))


def test_an_oracle_whose_package_is_missing_is_refused(monkeypatch):
    monkeypatch.setitem(oracles.PROVIDERS, "other", oracles.Provider("backlit.other", "no_such_package"))
    assert "other" not in oracles.installed()
    with pytest.raises(BacklitError, match="no_such_package"):
        certified(oracles=("other",))


def test_an_oracle_can_be_added(monkeypatch):
    monkeypatch.setattr(oracles, "PROVIDERS", dict(oracles.PROVIDERS))
    oracles.register("own", __name__, "numpy")
    monkeypatch.setattr(oracles, "import_module", lambda _: _Own)
    found = certified(oracles=("own",))
    asked = {row.rule for row in found.rules for e in row.evidence if e.route == "own"}
    assert asked == {"neg"}
    assert found.verdict == "wrong"


class _Own:
    @staticmethod
    def vjp(rule, inputs, attributes, places, dys):
        """Knows one rule, and that one wrongly."""
        return (dys[0],) if rule.name == "neg" else None


# --- what it rests on -------------------------------------------------------------------------------------------------


def test_a_blunt_route_decides_nothing():
    sharp, blunt = (rounding_evidence("r", "dx", 10 * EPS, 1.0, 1, noise) for noise in (0.0, 1e-3))
    assert (sharp.verdict, blunt.verdict) == ("ok", "undecided")
    assert rounding_evidence("r", "dx", 100 * EPS, 1.0, 1, 0.0).verdict == "wrong"
    assert rounding_evidence("r", "dx", 0.0, 0.0, 1, 0.0).verdict == "ok"
    assert rounding_evidence("r", "dx", float("nan"), 1.0, 1, 0.0).verdict == "wrong"
    assert rounding_evidence("r", "dx", float("nan"), float("inf"), 1, 0.0).verdict == "undecided"


@pytest.mark.parametrize(
    ("formula", "kind", "mutated"),
    [
        ("dx = dy * (1 - y)", "slope", "dx = dy"),
        ("dx = dy * (1 - y)", "sign", "dx = dy * (1 + y)"),
        ("dx = dy * (1 - y)", "term", "dx = dy * 1"),
        ("dx = dy * y", "swap", "dx = dy * x"),
        ("dx = -dy", "sign", "dx = dy"),
        ("dx = dy / Count(n)", "mean", "dx = dy"),
        ("dx[n] = Mean(k, dy[n,k])", "mean", "dx[n] = Sum(k, dy[n,k])"),
        ("dx[n] = Sum(k, dy[n,k])", "mean_twice", "dx[n] = Mean(k, dy[n,k])"),
        ("dx[n,k] = W[n,k]", "transpose", "dx[n,k] = W[k,n]"),
        ("dx = dy if x > 0 else 0", "gate", "dx = dy if x < 0 else 0"),
        ("dx = dy if x > 0 else 0", "gate", "dx = dy"),
    ],
)
def test_slips_in_a_formula(formula, kind, mutated):
    wanted = parse(mutated)
    slips = [m.formula.text() for m in mutations(parse(formula), ("x", "y")) if m.kind == kind]
    assert wanted.text() in slips


def test_a_formula_itself_is_no_slip_of_its_own():
    for name in ("tanh", "linear", "softmax", "batchnorm", "mse"):
        for line in REGISTRY[name].formulas:
            formula = parse(line)
            assert formula.text() not in [m.formula.text() for m in mutations(formula, REGISTRY[name].inputs)]


# --- the document -----------------------------------------------------------------------------------------------------


def test_it_is_saved_as_json_with_its_hashes(healthy, tmp_path):
    path = healthy.save(tmp_path / "certificate.json")
    back = json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)
    assert back["verdict"] == "ok"
    assert back["check"] == json.loads(json.dumps(healthy.as_dict()))
    assert {row["node"] for row in back["rules"]} == {row.node for row in healthy.rules}
    assert all(e["reason"] for row in back["rules"] for e in row["evidence"])
    assert {name: len(digest) for name, digest in back["sha256"].items()} == dict.fromkeys(
        ("parameters", "graph", "data"), 64
    )


def test_a_wrong_certificate_is_json_too(monkeypatch, tmp_path):
    monkeypatch.setitem(REGISTRY, "linear", replace(REGISTRY["linear"], backward=linear(db=lambda dz, x, W: dz)))
    back = json.loads(certified().save(tmp_path / "c.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert back["verdict"] == "wrong"
    assert back["findings"][0]["mistake"] == "unsummed"
    assert back["findings"][0]["got"] is None


def test_hashes_tell_what_it_is_about(healthy):
    model = bl.Model(net).build((4,))
    same, data = (
        certified(model=model),
        bl.check(model, np.ones((7, 4)), np.zeros(7, int), loss="softmax_cross_entropy"),
    )
    model.params["dense1.b"][0] += 1e-3
    moved = certified(model=model)
    assert same.hashes == healthy.hashes
    assert data.hashes["parameters"] == same.hashes["parameters"] != moved.hashes["parameters"]
    assert data.hashes["data"] != same.hashes["data"] == moved.hashes["data"]
    assert len({same.hashes["graph"], data.hashes["graph"], moved.hashes["graph"]}) == 1
    assert certified("mse").hashes["graph"] != same.hashes["graph"]


def test_the_same_check_gives_the_same_certificate(healthy):
    assert certified().document() == healthy.document()


def test_the_text_names_every_route(healthy):
    text = healthy.full()
    for part in ("complex step", "central differences", "index formula", "softmax_cross_entropy", "certified: "):
        assert part in text
    with use_language("zh"):
        for told in (healthy.full(), healthy._repr_html_()):
            assert all(part in told for part in ("通过：所有梯度正确", "复步长法", "中心差分", "下标公式"))
            assert not any(part in told for part in ("complex step", "central differences", "index formula"))
    assert "<table>" in healthy._repr_html_()


def test_the_file_calls_routes_the_same_in_both_languages(healthy):
    def routes():
        return [e["route"] for row in healthy.document()["rules"] for e in row["evidence"]]

    with use_language("zh"):
        chinese = routes()
    assert chinese == routes()
    assert set(chinese) >= {"complex step", "central differences", "index formula"}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_columns_stand_under_each_other_whatever_the_language(healthy, lang):
    with use_language(lang):
        lines = healthy.full().splitlines()
    ruled = next(i for i, line in enumerate(lines) if line.startswith("─"))
    starts = [k for k, c in enumerate(lines[ruled]) if c == "─" and (k == 0 or lines[ruled][k - 1] == " ")]
    rows = lines[ruled + 1 : ruled + 1 + len(healthy.table())]
    for line in rows:
        shown = "".join(c * width(c) for c in line).ljust(len(lines[ruled]))
        assert all(shown[k] != " " for k in (starts[0], starts[2], starts[3], starts[6]))
        assert all(shown[k - 1] == " " for k in starts[1:])


def test_another_program_goes_by_its_own_name():
    assert Evidence("jax", "dx", 0.0, 1.0, "ok").named == "jax"


def test_a_wrong_one_says_so_in_its_text(monkeypatch):
    monkeypatch.setitem(REGISTRY, "tanh", replace(REGISTRY["tanh"], backward=scaled("tanh", -1.0)))
    found = certified()
    assert "the sign of dx is wrong" in str(found)
    assert str(found).splitlines()[-1].startswith("gradients NOT confirmed")
    assert "NOT certified" in found.full()
    assert "the sign of dx" in found._repr_html_()
