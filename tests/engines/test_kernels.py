"""Every kernel against its definition in NumPy, as plain Python and compiled, in both precisions."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import rules
from backlit.engines.fast import kernels_dense, kernels_loss, kernels_optim
from backlit.engines.fast.jit import KERNELS

OWN = {
    name: function
    for module in (kernels_dense, kernels_loss, kernels_optim)
    for name, function in vars(module).items()
    if hasattr(function, "py_func")
}
SHAPES = [(1, 1), (1, 7), (5, 3), (9, 1), (0, 4)]
EDGES = [-inf, -1e30, -1.0, -0.0, 0.0, 1e-30, 1.0, 1e30, inf, nan]


@pytest.fixture(params=["python", "compiled"])
def run(request):
    """Calls a kernel by its name, as it is written or as it is compiled."""

    def call(name, *arguments):
        function = OWN[name].py_func if request.param == "python" else OWN[name]
        return function(*arguments)

    return call


@pytest.fixture(params=["float64", "float32"])
def draw(request):
    """Draws arrays of that dtype."""
    rng = np.random.default_rng(7)

    def array(*shape):
        return rng.normal(size=shape).astype(request.param)

    array.dtype = np.dtype(request.param)
    array.integers = rng.integers
    return array


def close(found, want, dtype, units=16):
    eps = float(np.finfo(dtype).eps)
    scale = float(np.abs(want[np.isfinite(want)]).max(initial=0.0)) if np.ndim(want) else abs(float(want))
    np.testing.assert_allclose(found, want, rtol=units * eps, atol=units * eps * scale)


def wide(*arrays):
    """The same in float64, what the definitions are calculated in."""
    return [a.astype(np.float64) for a in arrays]


def test_every_kernel_is_known_by_its_name():
    assert {name: KERNELS[name] for name in OWN} == OWN


# --- rows of samples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_bias(run, draw, shape):
    z, b = draw(*shape), draw(shape[1])
    want = np.add(*wide(z, b))
    run("bias", z, b)
    close(z, want, draw.dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_bias_and_relu(run, draw, shape):
    z, b = draw(*shape), draw(shape[1])
    want = np.maximum(z + b, 0)
    run("bias_relu", z, b)
    close(z, want, draw.dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_bias_and_relu(run, draw, shape):
    d, a = draw(*shape), np.maximum(draw(*shape), 0)
    db, want = draw(shape[1]), np.where(a > 0, d, 0)
    run("bias_relu_grad", d, a, db)
    assert np.array_equal(d, want)
    close(db, want.astype(np.float64).sum(axis=0), draw.dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_rows_take_the_place_of_what_was_there(run, draw, shape):
    d, db = draw(*shape), draw(shape[1])
    run("sum_rows", d, db)
    close(db, d.astype(np.float64).sum(axis=0), draw.dtype)


def test_gathering_rows_from_the_middle_of_an_order(run, draw):
    X, order = draw(6, 3), np.array([5, 0, 3, 3, 1, 4, 2])
    x = draw(3, 3)
    run("gather", X, order, 2, x)
    assert np.array_equal(x, X[[3, 3, 1]])


def test_gathering_labels(run, draw):
    labels, order, y = draw.integers(0, 9, 6), np.array([5, 0, 3, 1]), np.zeros(2, np.int64)
    run("gather", labels, order, 1, y)
    assert np.array_equal(y, labels[[0, 3]])


# --- products of small matrices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "i", "o"), [(1, 1, 1), (1, 5, 3), (4, 1, 3), (7, 5, 1), (6, 9, 4), (0, 3, 2)])
def test_products(run, draw, n, i, o):
    """z = x Wᵀ, dx = d W, dW = dᵀ x: none depends on what lay in the buffer before."""
    x, W, d = draw(n, i), draw(o, i), draw(n, o)
    z, dx, dW = draw(n, o), draw(n, i), draw(o, i)
    run("product_nt", x, W, z)
    run("product_nn", d, W, dx)
    run("product_tn", d, x, dW)
    wide_x, wide_W, wide_d = wide(x, W, d)
    close(z, wide_x @ wide_W.T, draw.dtype, units=64)
    close(dx, wide_d @ wide_W, draw.dtype, units=64)
    close(dW, wide_d.T @ wide_x, draw.dtype, units=64)


def test_a_product_keeps_infinities_and_nan_where_they_belong(run, draw):
    x = np.array([[1.0, 2.0], [inf, 1.0], [nan, 1.0]], draw.dtype)
    W, z = np.array([[1.0, 1.0], [-1.0, 3.0]], draw.dtype), draw(3, 2)
    run("product_nt", x, W, z)
    assert np.array_equal(z, [[3.0, 5.0], [inf, -inf], [nan, nan]], equal_nan=True)


# --- entry by entry ---------------------------------------------------------------------------------------------------

ELEMENTWISE = {
    "relu": lambda x: np.where(x <= 0, 0, x),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "copy": lambda x: x,
}
SLOPES = {
    "relu_grad": lambda y: (y > 0).astype(float),
    "tanh_grad": lambda y: 1 - y * y,
    "sigmoid_grad": lambda y: y * (1 - y),
}
PAIRS = {"add": np.add, "multiply": np.multiply}


@pytest.mark.parametrize("size", [0, 1, 17])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations(run, draw, name, size):
    x, y = draw(size) * 4, draw(size)
    before = x.copy()
    run(name, x, y)
    close(y, ELEMENTWISE[name](x.astype(np.float64)), draw.dtype)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("size", [0, 1, 17])
@pytest.mark.parametrize("name", SLOPES)
def test_gradients_of_activations_take_the_place_of_dy(run, draw, name, size):
    d, y = draw(size), np.tanh(draw(size))
    want = d.astype(np.float64) * SLOPES[name](y.astype(np.float64))
    run(name, d, y)
    close(d, want, draw.dtype)


@pytest.mark.parametrize("size", [0, 1, 17])
@pytest.mark.parametrize("name", PAIRS)
def test_two_arrays(run, draw, name, size):
    a, b, y = draw(size), draw(size), draw(size)
    run(name, a, b, y)
    assert np.array_equal(y, PAIRS[name](a, b))


def test_a_product_may_take_the_place_of_a_factor(run, draw):
    """As dropout's gradient does."""
    d, mask = draw(9), draw(9)
    want = d * mask
    run("multiply", d, mask, d)
    assert np.array_equal(d, want)


@pytest.mark.parametrize("size", [0, 1, 17])
def test_adding_to_and_setting_to_zero(run, draw, size):
    y, x = draw(size), draw(size)
    want = y + x
    run("add_to", y, x)
    assert np.array_equal(y, want)
    run("zero", y)
    assert not y.any()


# --- numbers that are not finite: as the rules have it ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_infinities_and_nan_go_through_an_activation_as_through_its_rule(run, draw, name):
    x = np.array(EDGES, draw.dtype)
    y, d = np.zeros_like(x), np.ones_like(x)
    rule = rules.get(name)
    with np.errstate(all="ignore"):
        run(name, x, y)
        (want,) = rule.call(np, x)
        run(f"{name}_grad", d, y)
        (slopes,) = rule.gradients(np, [np.ones_like(x)], {"y": want})
    np.testing.assert_allclose(y, want, rtol=4 * float(np.finfo(draw.dtype).eps))
    np.testing.assert_allclose(d, slopes, atol=4 * float(np.finfo(draw.dtype).eps))


def test_nan_and_infinity_stay_visible_behind_bias_and_relu(run, draw):
    z, b = np.array([EDGES], draw.dtype), np.zeros(len(EDGES), draw.dtype)
    (want,) = rules.get("relu").call(np, z)
    with np.errstate(all="ignore"):
        run("bias_relu", z, b)
    assert np.array_equal(z, want, equal_nan=True)
    d, db = np.full_like(z, 3.0), np.zeros_like(b)
    run("bias_relu_grad", d, z, db)
    (slopes,) = rules.get("relu").gradients(np, [np.full_like(z, 3.0)], {"y": z})
    assert np.array_equal(d, slopes, equal_nan=True)
    assert np.array_equal(db, slopes[0], equal_nan=True)


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (7, 11)])
def test_softmax_cross_entropy(run, draw, shape):
    z, y = draw(*shape) * 5, draw.integers(0, shape[1], shape[0])
    d, stats = draw(*shape), np.full(2, nan)
    run("softmax_cross_entropy", z, y, d, stats)
    exact = z.astype(np.float64)
    p = np.exp(exact - exact.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    close(stats[0], -np.log(p[np.arange(len(y)), y]).mean(), draw.dtype, units=32)
    close(d, (p - np.eye(shape[1])[y]) / len(y), draw.dtype, units=32)
    assert stats[1] == shape[0]


@pytest.mark.parametrize(
    "row", [[1000.0, 0.0, -1000.0], [-1000.0, -1000.0, -1000.0], [0.0, -inf, 0.0], [88.0, 89.0, 0]]
)
def test_softmax_cross_entropy_of_extreme_logits_as_in_its_rule(run, draw, row):
    z, y = np.array([row, row], draw.dtype), np.array([0, 2])
    d, stats, rule = draw(2, 3), np.zeros(2), rules.get("softmax_cross_entropy")
    with np.errstate(all="ignore"):
        run("softmax_cross_entropy", z, y, d, stats)
        outputs = rule.call(np, z, y, None, None, **rule.defaults)
    saved = rule.saved_from((z, y, None, None), outputs, rule.defaults)
    (want,) = rule.gradients(np, [np.ones((), draw.dtype)], saved)
    close(stats[0], outputs[0].astype(float), draw.dtype)
    close(d, want, draw.dtype)


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_loss_shows_what_is_not_finite(run, draw, bad):
    z, d, stats = draw(3, 4), draw(3, 4), np.zeros(2)
    z[1, 2] = bad
    with np.errstate(all="ignore"):
        run("softmax_cross_entropy", z, np.array([0, 1, 2]), d, stats)
        assert not np.isfinite(stats[0])
        run("mse", z.reshape(-1), np.zeros(12, draw.dtype), d.reshape(-1), 3, stats)
    assert not np.isfinite(stats[0])


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (13, 1)])
def test_mse_and_its_mass(run, draw, shape):
    pred, target, d, stats = draw(*shape), draw(*shape), draw(*shape), np.full(2, nan)
    run("mse", pred.reshape(-1), target.reshape(-1), d.reshape(-1), shape[0], stats)
    error = np.subtract(*wide(pred, target))
    close(stats[0], (error * error).mean(), draw.dtype)
    close(d, 2 * error / error.size, draw.dtype)
    assert stats[1] == shape[0]


# --- what is noted of a step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "worst", "fine"),
    [(2.5, 1.0, True), (nan, 1.0, False), (inf, 1.0, False), (2.5, nan, False), (1, inf, False)],
)
def test_a_step_is_noted_whether_it_is_finite_or_not(run, draw, loss, worst, fine):
    g = np.array([3.0, 4.0, 0.0, worst], draw.dtype)
    losses, masses, norms = np.zeros((3, 4))
    assert run("note", np.array([loss, 7.0]), g, losses, masses, norms, 2) == fine
    assert np.array_equal([losses[2], masses[2], norms[2]], [loss, 7.0, np.sqrt(25.0 + worst * worst)], equal_nan=True)
    assert not losses[[0, 1, 3]].any()


def test_the_norm_of_many_small_gradients_is_summed_in_float64(run, draw):
    g, (losses, masses, norms) = np.full(4099, 1e-23, draw.dtype), np.zeros((3, 1))
    assert run("note", np.zeros(2), g, losses, masses, norms, 0)
    assert norms[0] == pytest.approx(1e-23 * np.sqrt(4099), rel=1e-6)


def test_outputs_are_kept_row_by_row(run, draw):
    outputs, output = np.zeros((3, 4), draw.dtype), draw(4)
    run("keep", output, outputs, 1)
    assert np.array_equal(outputs, [np.zeros(4), output, np.zeros(4)])


# --- optimizers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 2, 1000])
@pytest.mark.parametrize(("l2", "decay"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.2), (0.1, 0.2)])
def test_adam(run, draw, t, l2, decay):
    p, g, m, v = draw(17), draw(17), draw(17), draw(17) ** 2
    wide_p, slope, wide_m, wide_v = wide(p, g, m, v)
    slope = slope + l2 * wide_p
    wide_m, wide_v = 0.9 * wide_m + 0.1 * slope, 0.99 * wide_v + 0.01 * slope**2
    step = 0.05 * (wide_m / (1 - 0.9**t)) / (np.sqrt(wide_v / (1 - 0.99**t)) + 1e-6)
    run("adam", p, g, m, v, 0.05, t, 0.9, 0.99, 1e-6, l2, decay)
    close(m, wide_m, draw.dtype)
    close(v, wide_v, draw.dtype)
    close(p, (1 - 0.05 * decay) * wide_p - step, draw.dtype, units=64)


@pytest.mark.parametrize(("l2", "decay"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.2), (0.1, 0.2)])
def test_sgd(run, draw, l2, decay):
    p, g = draw(17), draw(17)
    wide_p, wide_g = wide(p, g)
    run("sgd", p, g, 0.05, l2, decay)
    close(p, (1 - 0.05 * decay) * wide_p - 0.05 * (wide_g + l2 * wide_p), draw.dtype)


def test_optimizers_take_no_parameters(run, draw):
    nothing = [draw(0) for _ in range(4)]
    run("adam", *nothing, 0.1, 1, 0.9, 0.99, 1e-8, 0.0, 0.0)
    run("sgd", *nothing[:2], 0.1, 0.0, 0.0)


# --- all of them ------------------------------------------------------------------------------------------------------


def test_every_kernel_is_tested_here():
    text = Path(__file__).read_text("utf-8")
    by_table = ELEMENTWISE.keys() | SLOPES.keys() | PAIRS.keys()
    assert {name for name in OWN if f'run("{name}"' not in text} <= by_table


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_kernel_allocates_no_array(name):
    """It writes in place: neither does it return one, nor call what makes one."""
    names = set(OWN[name].py_func.__code__.co_names)
    assert not names & {"zeros", "empty", "ones", "copy", "array", "reshape", "astype"}
