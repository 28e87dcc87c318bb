"""Every kernel of one entry against its rule in float64, as plain Python and compiled, in place or not."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import rules
from backlit.engines.fast import kernels_elementwise, lower_dense
from backlit.engines.fast.jit import KERNELS

OWN = {n: k for n, k in vars(kernels_elementwise).items() if KERNELS.get(n) is k}
NAMES = sorted(n for n in OWN if not n.endswith(("_grad", "_with_slope")))
BOTH = sorted(n.removesuffix("_with_slope") for n in OWN if n.endswith("_with_slope"))
POSITIVE = {"log", "log1p", "sqrt"}
UNITS = {"float32": 8, "float64": 400}
"""Tolerance in eps: 1e-6 in float32; 1e-13 in float64, where gelu's Φ costs some x² eps far out."""


def draw(name, size, dtype):
    """Entries on both sides of 0 and far out, where the rule has them."""
    x = np.random.default_rng(3).normal(size=size) * np.resize([1e-6, 0.3, 1.0, 3.0, 20.0], size)
    return (np.abs(x) + 1e-3 if name in POSITIVE else x).astype(dtype)


def options(name):
    return {"leaky_relu": (0.3,), "elu": (0.7,)}.get(name, ())


def attributes(name):
    return {"leaky_relu": {"slope": 0.3}, "elu": {"alpha": 0.7}}.get(name, {})


def gradient_by_rule(rule, d, x, y):
    """∂L/∂x by the rule in float64, from what it keeps."""
    saved = rule.saved_from((x,), (y,), attributes(rule.name))
    return rule.gradients(np, (d,), saved)[0]


@pytest.fixture(params=["python", "compiled"])
def run(request):
    def call(name, *arguments):
        function = OWN[name]
        with np.errstate(all="ignore"):
            (getattr(function, "py_func", function) if request.param == "python" else function)(*arguments)

    return call


def close(got, want, dtype, absolute=1e-3):
    """Within some eps of each value; of ``absolute`` where the value is smaller."""
    tolerance = UNITS[dtype] * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * absolute)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_forward(run, name, dtype):
    x = draw(name, 203, dtype)
    want = rules.get(name).forward(np, x.astype(np.float64), **attributes(name))
    y = np.full_like(x, 7.0)
    run(name, 3, 200, x, y, *options(name))
    close(y[3:200], want[3:200], dtype)
    assert set(y[[0, 1, 2, 200, 201, 202]]) == {7.0}
    run(name, 0, 203, x, x, *options(name))
    close(x, want, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient(run, name, dtype):
    rule, x = rules.get(name), draw(name, 203, dtype)
    x = np.clip(x, -10.0, 10.0)
    y = rule.forward(np, x.astype(np.float64), **attributes(name)).astype(dtype)
    d = np.random.default_rng(4).normal(size=203).astype(dtype)
    want = gradient_by_rule(rule, d.astype(np.float64), x.astype(np.float64), y.astype(np.float64))
    got, kept = d.copy(), x if "x" in rule.saved else y
    run(f"{name}_grad", 3, 200, got, kept, *options(name))
    close(got[3:200], want[3:200], dtype, absolute=1.0)  # a slope such as y (1 - y) is as exact as 1 - y
    np.testing.assert_array_equal(got[[0, 1, 2, 200, 201, 202]], d[[0, 1, 2, 200, 201, 202]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BOTH)
def test_the_slope_that_is_left_in_place_of_x(run, name, dtype):
    """Both as the two kernels that do one thing have them."""
    x, y, want, slope = draw(name, 203, dtype), *np.full((3, 203), 7.0, dtype)
    slope[:], given = 1.0, x.copy()
    run(name, 3, 200, given, want)
    run(f"{name}_grad", 3, 200, slope, given)
    run(f"{name}_with_slope", 3, 200, x, y)
    np.testing.assert_array_equal(x[[0, 1, 2, 200, 201, 202]], given[[0, 1, 2, 200, 201, 202]])
    close(y, want, dtype)
    close(x[3:200], slope[3:200], dtype, absolute=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_far_out(run, name):
    """Where the function is flat or straight, its slope is neither NaN nor anything but 0, 1, or the rule's own."""
    rule, x = rules.get(name), np.array([-1e30, -300.0, -60.0, 60.0, 300.0, 1e30], np.float32)
    x = x[3:] if name in POSITIVE else x
    with np.errstate(all="ignore"):
        wide = rule.forward(np, x.astype(np.float64), **attributes(name))
        want, y = gradient_by_rule(rule, np.ones(x.size), x.astype(np.float64), wide), wide.astype(np.float32)
    got = np.ones_like(x)
    run(f"{name}_grad", 0, x.size, got, x if "x" in rule.saved else y, *options(name))
    exact = np.abs(want) < np.finfo(np.float32).max
    np.testing.assert_allclose(got[exact], want[exact], rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_visible(run, name):
    x = np.array([math.nan, 0.5], np.float32)
    y = np.zeros_like(x)
    run(name, 0, 2, x, y, *options(name))
    assert np.isnan(y[0])
    assert np.isfinite(y[1])
    d = np.ones_like(x)
    run(f"{name}_grad", 0, 2, d, x if "x" in rules.get(name).saved else y, *options(name))
    assert np.isnan(d[0]) or name == "leaky_relu"  # whose slope is a constant on each side


def test_every_kernel_has_its_gradient():
    assert {f"{n}_grad" for n in NAMES} == {n for n in OWN if n.endswith("_grad")}
    assert len(NAMES) == 15
    assert sorted(lower_dense.WITH_SLOPE) == BOTH


def test_the_kernels_read_what_the_rules_keep():
    for name in NAMES:
        kernel = OWN[f"{name}_grad"]
        code = kernel.__code__
        assert code.co_varnames[3] in rules.get(name).saved, name
