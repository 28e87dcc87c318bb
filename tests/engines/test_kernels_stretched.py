"""Kernels of several arrays with broadcasting, and of one, against NumPy and the rules."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import rules
from backlit.engines.fast import kernels_stretched
from engines.kernel_calls import close, untested, wide

SHAPES = [((1, 1, 40), (1, 1, 40)), ((3, 1, 5), (1, 4, 5)), ((2, 3, 4), (2, 1, 1)), ((1, 1, 1), (2, 1, 7))]
OF_TWO = {
    "add": "add_stretched", "sub": "sub_stretched", "mul": "mul_stretched", "div": "div_stretched",
    "power": "power_stretched", "maximum": "maximum_stretched", "minimum": "minimum_stretched",
    "greater": "greater_stretched", "greater_equal": "greater_equal_stretched", "equal": "equal_stretched",
    "not_equal": "not_equal_stretched",
}  # fmt: skip
OF_ONE = {"abs": "absolute", "clip": "cut_to", "sin": "sine", "cos": "cosine"}
GRADIENTS = "absolute_grad", "cut_to_grad", "sine_grad", "cosine_grad"


def test_every_kernel_is_tested_here():
    assert not untested(kernels_stretched, __file__)


@pytest.fixture(params=SHAPES, ids=str)
def pair(request, draw):
    """Two arrays of few values, positive, and room for what they give."""
    a, b = (draw.dtype.type(0.5) + np.round(abs(draw(*shape))) for shape in request.param)
    return a, b, np.full(np.broadcast_shapes(a.shape, b.shape), nan, draw.dtype)


@pytest.mark.parametrize("rule", OF_TWO)
def test_two_arrays(run, draw, pair, rule):
    a, b, y = pair
    run(OF_TWO[rule], y.size, a, b, y)
    close(y, rules.get(rule).call(np, *wide(a, b))[0].astype(float), draw.dtype)


@pytest.mark.parametrize(
    ("rule", "kernels"), [("power", ("power_grad_a", "power_grad_b")), ("div", ("", "div_grad_b"))]
)
def test_gradients_of_two(run, draw, pair, rule, kernels):
    a, b, y = pair
    d = draw(*y.shape)
    whole = [np.broadcast_to(v, y.shape) for v in wide(a, b)]
    found = rules.get(rule).gradients(np, wide(d), {"a": whole[0], "b": whole[1]})
    for kernel, want in zip(kernels, found, strict=True):
        if kernel:
            given = (a, b) if rule == "power" else (b, (a / b).astype(draw.dtype))
            run(kernel, y.size, d, *given, y)
            close(y, want, draw.dtype, 64)


def test_powers_of_zero(run, draw):
    d, a, b, y = (np.array([[v]], draw.dtype) for v in ([1, 1], [0, 0], [0, 2], [nan, nan]))
    run("power_grad_a", 2, d, a, b, y)
    assert y.tolist() == [[[0, 0]]]
    run("power_grad_b", 2, d, a, b, y)
    assert y.tolist() == [[[0, 0]]]


def test_the_larger_one_takes_the_gradient_and_a_tie_shares_it(run, draw, pair):
    a, b, y = pair
    d = draw(*y.shape)
    run("share_above", y.size, d, a, b, y)
    assert np.array_equal(y, np.where(a > b, d, np.where(a == b, d / 2, 0)))


def test_choices(run, draw, pair):
    a, b, y = pair
    condition = (draw(*y.shape[:2], 1) > 0) * np.ones(1)
    run("where_stretched", y.size, condition, a, b, y)
    assert np.array_equal(y, np.where(condition, a, b))
    d, kept = draw(*y.shape), np.full_like(y, nan)
    run("keep_if", y.size, condition, d, kept)
    assert np.array_equal(kept, np.where(condition, d, 0))
    run("keep_unless", y.size, condition, d, kept)
    assert np.array_equal(kept, np.where(condition, 0, d))


@pytest.mark.parametrize("rule", OF_ONE)
def test_one_array(run, draw, rule):
    x, d, y = np.array([-2.5, -1.0, 0.0, 0.5, 1.0, 3.0], draw.dtype), draw(6), np.full(6, nan, draw.dtype)
    bounds = (-1.0, inf) if rule == "clip" else ()
    options = {"low": -1.0, "high": None} if rule == "clip" else {}
    run(OF_ONE[rule], 6, x, y, *bounds)
    close(y, rules.get(rule).call(np, *wide(x), **options)[0], draw.dtype)
    (want,) = rules.get(rule).gradients(np, wide(d), {"x": x.astype(float)} | options)
    run(f"{OF_ONE[rule]}_grad", 6, d, x, *bounds)
    close(d, want, draw.dtype)
