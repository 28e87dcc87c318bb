"""The complex step: exact derivatives of every rule's forward by the piece that the real part lies on, or a refusal."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from backlit.engines import complex_step
from backlit.engines.complex_step import XP, Stepped, along, real, slope, step
from backlit.rules import REGISTRY
from rules.calls import call, cases_of

RULES = [name for name, rule in REGISTRY.items() if rule.backward]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_an_exact_derivative(name):
    """Against its backward, which tests of conformance have judged: to 1e-12 where differences reach 1e-8."""
    rule, rng = REGISTRY[name], np.random.default_rng(0)
    for case in [c for c in cases_of(rule) if not c.on_kink]:
        c = call(rule, case)
        for i in c.wrt:
            v = rng.normal(size=c.inputs[i].shape)
            found = along(lambda xp, *a, c=c: c.rule.call(xp, *a, **c.attributes), c.inputs, {i: v})
            outputs = c.of_differentiated(found)
            terms = [dy * slope(y) for dy, y in zip(c.dys, outputs, strict=True)]
            size = sum(np.sum(np.abs(t)) for t in terms) + np.finfo(float).tiny
            claimed = np.sum(c.gradients[f"d{c.names[i]}"] * v)
            assert abs(sum(np.sum(t) for t in terms) - claimed) <= 1e-12 * size, (case.label, c.names[i])
            for y, plain in zip(outputs, c.differentiated, strict=True):
                np.testing.assert_allclose(real(y), plain, rtol=1e-12, atol=1e-14)


def at(f, x, v=1.0):
    with np.errstate(all="ignore"):
        return slope(f(step(np.array(x), np.full(np.shape(x), v))))


@pytest.mark.parametrize(
    ("f", "x", "derivative"),
    [
        (lambda x: x * x * x, [2.0, -3.0], [12.0, 27.0]),
        (lambda x: 1.0 / x, [2.0, -4.0], [-0.25, -1 / 16]),
        (lambda x: x**3.0, [2.0, -2.0], [12.0, 12.0]),
        (lambda x: 2.0**x, [3.0], [8 * np.log(2)]),
        (lambda x: 5.0 - (-x), [1.0], [1.0]),
        (XP.exp, [0.0, 1.0], [1.0, np.e]),
        (XP.expm1, [1e-12], [1.0 + 1e-12]),
        (XP.log1p, [1e-12], [1.0 - 1e-12]),
        (abs, [-2.0, 3.0], [-1.0, 1.0]),
        (lambda x: XP.maximum(x, 1.0), [0.5, 2.0], [0.0, 1.0]),
        (lambda x: XP.minimum(1.0, x), [0.5, 2.0], [1.0, 0.0]),
        (lambda x: XP.clip(x, -1.0, 1.0), [-2.0, 0.3, 2.0], [0.0, 1.0, 0.0]),
        (lambda x: XP.clip(x, None, 0.0), [-2.0, 2.0], [1.0, 0.0]),
        (lambda x: XP.where(x > 0, 3.0 * x, x), [-2.0, 2.0], [1.0, 3.0]),
        (lambda x: XP.sign(x) * x, [-2.0, 2.0], [-1.0, 1.0]),
        (lambda x: XP.floor(x) * x, [2.5], [2.0]),
        (lambda x: XP.max(x, axis=0), [1.0, 5.0, 3.0], 1.0),
        (lambda x: XP.min(2.0 * x, axis=0), [1.0, 5.0, 3.0], 2.0),
        (lambda x: XP.concat([x, 2.0 * x]), [1.0], [1.0, 2.0]),
        (lambda x: XP.stack([x, x * x]), [3.0], [[1.0], [6.0]]),
        (lambda x: XP.unstack(x * x)[1], [1.0, 4.0], 8.0),
        (lambda x: x @ np.array([1.0, 10.0]), [1.0, 1.0], 11.0),
        (lambda x: np.array([1.0, 10.0]) * x, [1.0, 1.0], [1.0, 10.0]),
    ],
)
def test_derivatives_by_hand(f, x, derivative):
    np.testing.assert_allclose(at(f, x), derivative, rtol=1e-14)


def test_no_digit_is_lost_where_differences_lose_all():
    x = np.array([1e8])
    assert at(lambda x: x * x - 1e16, x) == 2e8
    assert at(XP.exp, [-600.0]) == pytest.approx(np.exp(-600.0), rel=1e-13)


def test_what_does_not_depend_on_the_step_has_slope_zero():
    x = step(np.ones((2, 3)), np.ones((2, 3)))
    assert isinstance(XP.ones_like(x), np.ndarray)
    assert not slope(XP.zeros_like(x)).any()
    assert not slope(np.ones(3)).any()
    assert XP.exp(np.zeros(2)).dtype == np.float64


def test_it_looks_real():
    x = step(np.arange(6.0).reshape(2, 3), np.ones((2, 3)))
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3), 2, 6, np.float64)
    assert (x > 2.5).dtype == bool
    assert real(x[1]).tolist() == [3.0, 4.0, 5.0]
    assert x.T.shape == (3, 2)


@pytest.mark.parametrize(
    "f",
    [
        lambda xp, x: np.exp(x),  # NumPy's own functions would go by the modulus
        lambda xp, x: np.abs(x),
        lambda xp, x: np.where(x > 0, x, 0.0) * np.asarray(x),
        lambda xp, x: xp.astype(x, np.int64),
        lambda xp, x: xp.conj(x),
        lambda xp, x: xp.where(x, 1.0, x),
        lambda xp, x: x if x > 0 else -x,
        lambda xp, x: -x if x else 2 * x,
        lambda xp, x: float(x),
    ],
)
def test_what_would_be_silently_wrong_is_refused(f):
    with pytest.raises((AttributeError, TypeError, ValueError)):
        along(lambda xp, x: (slope(f(xp, x)) + 0.0,), [np.ones(2)], {0: np.ones(2)})


def test_every_function_that_rules_use_is_known():
    """A rule that needs another one is not refused unnoticed."""
    source = "".join(inspect.getsource(inspect.getmodule(rule.forward)) for rule in REGISTRY.values())
    assert "xp.where" in source
    for name in ("where", "abs", "max", "sum", "matmul", "take", "moveaxis"):
        assert callable(getattr(XP, name))
    assert isinstance(XP.abs(step(np.ones(1), np.ones(1))), Stepped)
    assert np.finfo(float).tiny < complex_step.STEP**2 < np.finfo(float).eps ** 4
