"""How many of the last digits are right: activations and their slopes against 60 digits of mpmath, extremes too."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from backlit.rules import get
from backlit.rules.rectifiers import SELU_ALPHA, SELU_SCALE

FLOATS = (np.float64, np.float32)
ORDINARY = np.concatenate([np.linspace(-40.0, 40.0, 129), np.linspace(-1.5, 1.5, 40)])
EXTREME = np.array([-1000.0, -700.0, -100.0, -1e-8, -1e-30, -1e-310, 0.0, 5e-324, 1e-30, 1e-8, 100.0, 700.0, 1000.0])


@pytest.fixture(autouse=True)
def _sixty_digits():
    with mp.workdps(60):
        yield


def elu(x, alpha=1):
    return x if x > 0 else alpha * mp.expm1(x)


DEFINITIONS = {
    "relu": lambda x: max(x, mp.mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else mp.mpf(0.01) * x,
    "elu": elu,
    "selu": lambda x: mp.mpf(SELU_SCALE) * elu(x, mp.mpf(SELU_ALPHA)),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "tanh": mp.tanh,
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / (1 + mp.exp(-cubic(x))),
    "silu": lambda x: x / (1 + mp.exp(-x)),
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
}
FROM_OUTPUT = ("elu", "selu", "sigmoid", "tanh")  # slopes that are made from y: right to the last digits of the largest
GATES = ("gelu", "gelu_tanh", "silu", "mish")


def cubic(x):
    """gelu_tanh's gate is sigmoid(cubic(x)): (1 + tanh(v/2)) / 2."""
    return 2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf(0.044715) * x**3)


def computed(name, x):
    """(y, dy/dx) by the rule, in the dtype of x."""
    rule = get(name)
    (y,) = rule.call(np, x)
    (slope,) = rule.gradients(np, [np.ones_like(y)], rule.saved_from((x,), (y,), rule.defaults))
    assert y.dtype == slope.dtype == x.dtype
    return y, slope


def units(found, exact, scale, dtype, x=1):
    """|found - exact| in units of eps · ``scale``, and of the smallest normal number times x where that is more.

    Numbers smaller than that have fewer digits, and a gate multiplies such a number by x.
    """
    least = float(np.finfo(dtype).tiny) * max(1, abs(x))
    return float(abs(mp.mpf(float(found)) - exact) / (float(np.finfo(dtype).eps) * max(abs(scale), least)))


def points(dtype):
    with np.errstate(under="ignore"):
        return np.concatenate([ORDINARY, EXTREME]).astype(dtype)


def in_the_exponent(name, x):
    """Extra units where the definition itself exponentiates a rounded number: gelu_tanh's cube."""
    return 3 * abs(cubic(x)) if name == "gelu_tanh" and x < 0 else 0


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_values(name, dtype):
    x = points(dtype)
    y, _ = computed(name, x)
    for point, value in zip(x.tolist(), y.tolist(), strict=True):
        exact = DEFINITIONS[name](mp.mpf(point))
        assert units(value, exact, exact, dtype, point) <= 6 + in_the_exponent(name, mp.mpf(point)), point


def exact_slope(name, x):
    """The derivative, differenced with 60 digits on the side of the kink that the point lies on."""
    side = 0 if name not in ("relu", "leaky_relu", "elu", "selu") else -1 if x <= 0 else 1
    return mp.diff(DEFINITIONS[name], x, direction=side)


def slope_scale(name, x, slope):
    """What a slope's error is measured by: itself, the largest slope, or the two terms that a gate's slope adds."""
    if name in FROM_OUTPUT:
        return mp.mpf(2)
    if name in GATES and x != 0:
        gate = DEFINITIONS[name](x) / x
        return abs(gate) + abs(slope - gate)
    return slope


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_slopes(name, dtype):
    x = points(dtype)
    _, slopes = computed(name, x)
    for point, found in zip(x.tolist(), slopes.tolist(), strict=True):
        at = mp.mpf(point)
        exact = exact_slope(name, at)
        allowed = 8 + in_the_exponent(name, at)
        assert units(found, exact, slope_scale(name, at, exact), dtype, point) <= allowed, point


ASYMPTOTES = {  # (value, slope) far to the left and far to the right; x stands for the input itself
    "relu": ((0, 0), ("x", 1)),
    "elu": ((-1, 0), ("x", 1)),
    "sigmoid": ((0, 0), (1, 0)),
    "tanh": ((-1, 0), (1, 0)),
    "softplus": ((0, 0), ("x", 1)),
    "gelu": ((0, 0), ("x", 1)),
    "gelu_tanh": ((0, 0), ("x", 1)),
    "silu": ((0, 0), ("x", 1)),
    "mish": ((0, 0), ("x", 1)),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ASYMPTOTES)
def test_far_out_nothing_overflows(name, dtype):
    far = np.array([1e30, float(np.finfo(dtype).max)], dtype)
    for sign, (value, slope) in zip((-1, 1), ASYMPTOTES[name], strict=True):
        y, found = computed(name, sign * far)
        assert np.array_equal(y, sign * far if value == "x" else np.full(2, value, dtype))
        assert np.array_equal(found, np.full(2, slope, dtype))


def test_selu_keeps_mean_0_and_variance_1_of_a_normal_variable():
    def moment(power):
        return mp.quad(lambda x: DEFINITIONS["selu"](x) ** power * mp.npdf(x), [-40, -8, 0, 8, 40])

    assert abs(moment(1)) < 2e-16
    assert abs(moment(2) - 1) < 4e-16


# --- along an axis ----------------------------------------------------------------------------------------------------

VECTORS = [
    [1000.0, -1000.0, 0.0],
    [-1000.0, -1001.0, -1002.0],
    [1000.0, 1000.0, 999.0],
    [0.0, -40.0],
    [30.0, -30.0, -30.0, 29.0],
    [0.0, -745.0, -700.0],
    [3.5] * 5,
    [2.0],
    [0.125, -0.5, 0.25, 3.0, -2.75],
]


def exact_softmax(vector):
    total = mp.fsum(mp.exp(mp.mpf(v)) for v in vector)
    return [mp.exp(mp.mpf(v)) / total for v in vector]


def exact_logsumexp(vector):
    return mp.log(mp.fsum(mp.exp(mp.mpf(v)) for v in vector))


def differences_are_exact(vector, dtype):
    """x - max(x) must not round, for the test to see only what the rule adds."""
    x = np.array(vector, dtype)
    return all(float(d) == a - max(vector) for d, a in zip(x - x.max(), vector, strict=True))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_softmax_and_its_jacobian(vector, dtype):
    assert differences_are_exact(vector, dtype)
    rule, exact = get("softmax"), exact_softmax(vector)
    (y,) = rule.call(np, np.array(vector, dtype))
    assert max(units(a, b, b, dtype) for a, b in zip(y, exact, strict=True)) <= 4
    for j, dy in enumerate(np.eye(len(vector), dtype=dtype)):
        (row,) = rule.gradients(np, [dy], {"y": y, "axis": -1})
        for i, found in enumerate(row):
            want = exact[i] * ((i == j) - exact[j])
            assert units(found, want, exact[i] * (i == j) + exact[i] * exact[j], dtype) <= 8


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_log_softmax_is_right_also_next_to_certainty(vector, dtype):
    (y,) = get("log_softmax").call(np, np.array(vector, dtype))
    with mp.workdps(1000):  # 1 - exp(-2000) has 868 nines
        total = exact_logsumexp(vector)
        assert max(units(a, b - total, b - total, dtype) for a, b in zip(y, vector, strict=True)) <= 4


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_log_softmax_gradient(vector, dtype):
    rule, exact = get("log_softmax"), exact_softmax(vector)
    (y,) = rule.call(np, np.array(vector, dtype))
    for j, dy in enumerate(np.eye(len(vector), dtype=dtype)):
        (row,) = rule.gradients(np, [dy], {"y": y, "axis": -1})
        assert max(units(row[i], (i == j) - p, 1, dtype) for i, p in enumerate(exact)) <= 4


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_logsumexp_and_its_gradient(vector, dtype):
    rule, x = get("logsumexp"), np.array(vector, dtype)
    (y,) = rule.call(np, x)
    with mp.workdps(1000):
        exact = exact_logsumexp(vector)
        assert units(y, exact, max(abs(mp.mpf(max(vector))), abs(exact)), dtype) <= 3
    (dx,) = rule.gradients(np, [np.ones_like(y)], rule.saved_from((x,), (y,), rule.defaults))
    assert max(units(a, b, b, dtype) for a, b in zip(dx, exact_softmax(vector), strict=True)) <= 4


def test_an_entry_of_minus_infinity_has_no_part_in_the_sum():
    x = np.array([1.0, -np.inf, 1.0])
    assert get("softmax").call(np, x)[0].tolist() == [0.5, 0.0, 0.5]
    assert get("log_softmax").call(np, x)[0].tolist() == [-np.log(2.0), -np.inf, -np.log(2.0)]
    assert get("logsumexp").call(np, x)[0] == 1.0 + np.log(2.0)
