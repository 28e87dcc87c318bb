"""backlit demo, and the gradient that it works out."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

import backlit as bl
from backlit.cli import worked
from backlit.cli.worked import ORDERS, Worked, work_out
from cli.running import finished

LAST = re.compile(r"demo: test accuracy (0\.\d{3}) · gradients ok \(worst \d\.\de-\d\d\) · run runs/demo")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_main_job(tmp_path, lang):
    done = finished("demo", "--lang", lang, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = LAST.fullmatch(done.stdout.splitlines()[-1])
    assert last
    assert float(last[1]) >= 0.97
    assert (tmp_path / "runs" / "demo" / "run.json").exists()
    weight = re.search(r"∂L/∂(dense2\.W\[\d+,\d+\]) = Σₙ δ\[n,j\]·a\[n,k\]", done.stdout)
    assert weight
    terms = re.findall(r"^ \d +(\S+e\S+) +(\S+e\S+) +(\S+e\S+) *$", done.stdout, re.MULTILINE)
    assert len(terms) == 8
    for delta, a, product in terms:
        assert float(delta) * float(a) == pytest.approx(float(product), rel=1e-6)
    stored = float(re.search(rf"{re.escape(weight[1])} (-?\d\S+)$", done.stdout, re.MULTILINE)[1])
    assert sum(float(product) for *_, product in terms) == pytest.approx(stored, rel=1e-4, abs=1e-9)


def test_the_demo_can_be_run_again(tmp_path):
    import json

    found = [json.loads(finished("demo", "--json", cwd=tmp_path).stdout) for _ in range(2)]
    assert found[0] == found[1]
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert found[0]["check"]["ok"]
    assert found[0]["worked"]["stored"] == pytest.approx(
        sum(d * a for d, a in zip(found[0]["worked"]["delta"], found[0]["worked"]["a"], strict=True)), rel=1e-5
    )


@pytest.fixture
def small():
    rng = np.random.default_rng(0)
    model = bl.Sequential(bl.Dense(5, "tanh"), bl.Dense(4, "relu"), bl.Dense(3)).build((6,), seed=1)
    return model, rng.normal(size=(8, 6)), rng.integers(0, 3, 8)


def loss_of(params, X, y):
    """Mean cross-entropy, written out."""
    a1 = np.tanh(X @ params["dense1.W"].T + params["dense1.b"])
    a2 = np.maximum(a1 @ params["dense2.W"].T + params["dense2.b"], 0)
    z = a2 @ params["dense3.W"].T + params["dense3.b"]
    return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])


def test_the_worked_gradient_is_the_derivative_of_the_loss(small):
    model, X, y = small
    found = work_out(model, X, y, loss="softmax_cross_entropy", layer="dense2", before="dense1")
    j, k = map(int, re.fullmatch(r"dense2\.W\[(\d+),(\d+)\]", found.weight).groups())
    params = {name: p.astype(np.float64) for name, p in model.params.items()}
    h, sides = 1e-5, []
    for sign in (1, -1):
        moved = params["dense2.W"].copy()
        moved[j, k] += sign * h
        sides.append(loss_of(params | {"dense2.W": moved}, X, y))
    assert found.stored == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-4)
    assert found.total == pytest.approx(found.stored, rel=1e-6)
    a1 = np.tanh(X @ params["dense1.W"].T + params["dense1.b"])
    np.testing.assert_allclose(found.a, a1[:, k], rtol=1e-5)


def test_a_term_for_each_sample_and_as_few_zeros_as_there_can_be(small):
    model, X, y = small
    found = work_out(model, X, y, loss="softmax_cross_entropy", layer="dense2", before="dense1")
    _, grads = bl.value_and_grad(model, X, y, loss="softmax_cross_entropy")
    assert len(found.delta) == len(found.a) == 8
    assert found.stored == grads["dense2.W"][tuple(map(int, re.findall(r"\d+", found.weight)[1:]))]
    p = model.params
    z2 = np.tanh(X @ p["dense1.W"].T + p["dense1.b"]) @ p["dense2.W"].T + p["dense2.b"]
    assert sum(d != 0 for d in found.delta) == (z2 > 0).sum(axis=0).max()


def rounded(exact):
    return np.float32(float(exact))


def test_the_orders_of_summation_are_what_they_say():
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(50):
        d, a = rng.normal(size=(2, 8)).astype(np.float32)
        products = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(d, a, strict=True)]
        fused = plain = np.float32(0)
        for p in products:
            fused = rounded(Fraction(float(fused)) + p)
            plain = rounded(Fraction(float(plain)) + Fraction(float(rounded(p))))
        exact = rounded(sum(products))
        assert (ORDERS["fused"](d, a), ORDERS["plain"](d, a), ORDERS["exact"](d, a)) == (fused, plain, exact)
        seen.add(len({fused, plain, exact}))
    assert max(seen) > 1


def test_where_no_order_gives_the_stored_number_the_text_says_so():
    terms = {"weight": "dense2.W[0,1]", "delta": (1.0, 2.0), "a": (3.0, 4.0)}
    one, other = (
        Worked(**terms, total=11.0, stored=11.0, order="plain"),
        Worked(**terms, total=11.0, stored=11.000001, order="exact"),
    )
    assert (one.equal, other.equal) == (True, False)
    assert "equal to the last bit" in one.text()[-1]
    assert "not equal" in other.text()[-1]
    assert "1.0e-06" in other.text()[-1]


def test_the_stored_number_decides_the_order():
    d, a = np.float32([1.0, 2.0]), np.float32([3.0, 4.0])
    assert worked._total(d, a, np.float32(11.0)) == (11.0, "fused")
    assert worked._total(d, a, np.float32(12.0)) == (11.0, "exact")
