"""What a rule leaves unchanged: adjoints of linear maps, homogeneous functions, shifts of softmax, norms and losses."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from rules.applied import Applied, dot, drawn, matrices, real, shapes, whole

# --- linear maps: back is the adjoint, <dy, f(x)> = <back(dy), x>, without any rounding -------------------------------


def _axes(draw, shape):
    return draw(st.sampled_from([None, *range(-len(shape), len(shape)), tuple(range(len(shape)))]))


def _widths(draw, shape):
    return tuple(draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape)


def _index(draw, shape):
    index = draw(basic_indices(shape, allow_newaxis=True))
    return index if isinstance(index, tuple) else (index,)


def _taken(draw, shape):
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return draw(st.lists(st.integers(0, shape[axis] - 1), max_size=5)), axis


LINEAR = {
    "neg": lambda draw, x: Applied("neg", x),
    "sum": lambda draw, x: Applied("sum", x, axis=_axes(draw, x.shape), keepdims=draw(st.booleans())),
    "reshape": lambda draw, x: Applied("reshape", x, shape=draw(st.sampled_from([(-1,), (x.size, 1), x.shape[::-1]]))),
    "transpose": lambda draw, x: Applied("transpose", x, axes=tuple(draw(st.permutations(range(x.ndim))))),
    "broadcast_to": lambda draw, x: Applied("broadcast_to", x, shape=(draw(st.integers(1, 3)), *x.shape)),
    "slice": lambda draw, x: Applied("slice", x, index=_index(draw, x.shape)),
    "pad": lambda draw, x: Applied("pad", x, widths=_widths(draw, x.shape)),
    "dropout": lambda draw, x: Applied("dropout", x, draw(whole(x.shape[-1:]))),
}


def _take(draw, x):
    indices, axis = _taken(draw, x.shape)
    return Applied("take", x, np.asarray(indices, np.int64), axis=axis)


LINEAR["take"] = _take


@pytest.mark.parametrize("name", LINEAR)
@given(st.data())
@drawn
def test_back_is_the_adjoint_of_a_linear_map(name, data):
    x = data.draw(shapes.flatmap(whole))
    f = LINEAR[name](data.draw, x)
    dy = data.draw(whole(f.y.shape))
    assert dot(dy, f.y) == dot(f.back(dy)[0], x)


@given(st.data())
@drawn
def test_back_of_a_linear_map_does_not_depend_on_where_it_is_taken(data):
    shape = data.draw(shapes)
    x, dy = data.draw(whole(shape)), data.draw(whole(shape[1:]))
    here, there = Applied("sum", x, axis=0).back(dy)[0], Applied("sum", 3.0 * x + 1.0, axis=0).back(dy)[0]
    assert np.array_equal(here, there)


@pytest.mark.parametrize(("name", "axis"), [("concatenate", 0), ("concatenate", -1), ("stack", 0), ("stack", 2)])
@given(st.data())
@drawn
def test_back_is_the_adjoint_of_joining(name, axis, data):
    shape, count = data.draw(matrices), data.draw(st.integers(1, 4))
    xs = [data.draw(whole(shape)) for _ in range(count)]
    f = Applied(name, *xs, axis=axis)
    dy = data.draw(whole(f.y.shape))
    assert dot(dy, f.y) == sum(dot(d, x) for d, x in zip(f.back(dy), xs, strict=True))


@pytest.mark.parametrize("name", ["add", "sub"])
@given(st.data())
@drawn
def test_back_is_the_adjoint_of_sums_of_stretched_arrays(name, data):
    shape = data.draw(matrices)
    a, b = data.draw(whole(shape)), data.draw(whole(data.draw(st.sampled_from([shape[1:], (shape[0], 1), ()]))))
    f = Applied(name, a, b)
    dy = data.draw(whole(shape))
    assert dot(dy, f.y) == dot(f.back(dy)[0], a) + dot(f.back(dy)[1], b)


@given(st.data())
@drawn
def test_back_is_the_adjoint_of_a_choice(data):
    shape = data.draw(matrices)
    a, b, c = data.draw(whole(shape)), data.draw(whole(shape[1:])), data.draw(whole(shape)) > 0
    f = Applied("where", c, a, b)
    dy = data.draw(whole(shape))
    assert dot(dy, f.y) == dot(f.back(dy)[0], a) + dot(f.back(dy)[1], b)


@pytest.mark.parametrize("name", ["sum", "mean"])
@given(st.data())
@drawn
def test_sums_and_means_are_linear(name, data):
    shape = data.draw(shapes)
    x, z, c, axis = (
        data.draw(whole(shape)),
        data.draw(whole(shape)),
        data.draw(st.integers(-5, 5)),
        _axes(data.draw, shape),
    )
    fx, fz, both = (Applied(name, v, axis=axis).y for v in (x, z, x + c * z))
    np.testing.assert_allclose(both, fx + c * fz, rtol=1e-14, atol=1e-13)


# --- products: linear in each factor ----------------------------------------------------------------------------------


@given(st.data())
@drawn
def test_each_factor_of_a_product_has_the_whole_product_in_its_gradient(data):
    """<dy, f(a, b)> = <da, a> = <db, b>, since f is linear in a and in b."""
    i, k, j = (data.draw(st.integers(1, 4)) for _ in range(3))
    for name, b_shape in (("matmul", (k, j)), ("linear", (j, k)), ("mul", (1, k))):
        f = Applied(name, data.draw(whole((i, k))), data.draw(whole(b_shape)))
        dy = data.draw(whole(f.y.shape))
        da, db, *_ = f.back(dy)
        assert dot(dy, f.y) == dot(da, f.inputs[0]) == dot(db, f.inputs[1]), name


@given(st.data())
@drawn
def test_gradients_do_not_depend_on_where_the_brackets_of_a_product_stand(data):
    n, m, k, j = (data.draw(st.integers(1, 4)) for _ in range(4))
    a, b, c = data.draw(whole((n, m))), data.draw(whole((m, k))), data.draw(whole((k, j)))
    dy = data.draw(whole((n, j)))
    ab = Applied("matmul", a, b)
    left = Applied("matmul", ab.y, c)
    d_ab, dc = left.back(dy)
    bc = Applied("matmul", b, c)
    right = Applied("matmul", a, bc.y)
    da, d_bc = right.back(dy)
    assert np.array_equal(left.y, right.y)
    for one, other in zip((*ab.back(d_ab), dc), (da, *bc.back(d_bc)), strict=True):
        assert np.array_equal(one, other)


@given(st.data())
@drawn
def test_the_transposed_product_is_the_product_of_the_transposed_the_other_way_round(data):
    n, m, k = (data.draw(st.integers(1, 4)) for _ in range(3))
    a, b, dy = data.draw(whole((n, m))), data.draw(whole((m, k))), data.draw(whole((n, k)))
    f, turned = Applied("matmul", a, b), Applied("matmul", b.T, a.T)
    assert np.array_equal(f.y.T, turned.y)
    (da, db), (db_t, da_t) = f.back(dy), turned.back(dy.T)
    assert np.array_equal(da, da_t.T)
    assert np.array_equal(db, db_t.T)


# --- homogeneous functions: Euler's theorem, <dx, x> = k <dy, y> where f(c x) = c^k f(x) for c > 0 --------------------

EULER = [
    ("relu", {}, 1), ("leaky_relu", {"slope": 0.25}, 1), ("abs", {}, 1), ("neg", {}, 1), ("clip", {"low": 0.0}, 1),
    ("sum", {"axis": 1}, 1), ("mean", {"axis": 0}, 1), ("max", {"axis": 1}, 1), ("min", {}, 1),
    ("std", {"axis": 1}, 1), ("std", {"correction": 0.5}, 1), ("var", {"axis": 0}, 2), ("var", {"correction": 0.5}, 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "attributes", "degree"), EULER, ids=str)
@given(st.data())
@drawn
def test_euler(name, attributes, degree, data):
    x = data.draw(matrices.flatmap(real))
    f = Applied(name, x, **attributes)
    dy = data.draw(whole(f.y.shape))
    scale = np.sum(np.abs(f.back(dy)[0] * x)) + 1e-300
    assert abs(dot(f.back(dy)[0], x) - degree * dot(dy, f.y)) <= 1e-9 * scale + 1e-12 * np.sum(np.abs(dy * f.y))


@given(matrices.flatmap(lambda s: real(s, 0.25, 4.0)), st.data())
@drawn
def test_euler_of_powers_roots_quotients_and_products(x, data):
    b, dy = data.draw(st.integers(-3, 3)), data.draw(whole(x.shape))
    close = pytest.approx
    power = Applied("power", x, float(b))
    assert dot(power.back(dy)[0], x) == close(b * dot(dy, power.y), rel=1e-11, abs=1e-9)
    root = Applied("sqrt", x)
    assert dot(root.back(dy)[0], x) == close(dot(dy, root.y) / 2, rel=1e-11, abs=1e-11)
    quotient = Applied("div", x, x[:1])
    da, db = quotient.back(dy)
    assert dot(da, x) + dot(db, x[:1]) == close(0.0, abs=1e-10)
    product = Applied("prod", x, axis=1)
    assert dot(product.back(dy[:, 0])[0], x) == close(x.shape[1] * dot(dy[:, 0], product.y), rel=1e-11, abs=1e-8)


# --- shifts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(matrices.flatmap(real), st.integers(-64, 64))
@drawn
def test_softmax_does_not_feel_a_shift_so_the_rows_of_its_jacobian_sum_to_0(name, x, c):
    f = Applied(name, x)
    np.testing.assert_allclose(Applied(name, x + float(c)).y, f.y, rtol=1e-12, atol=1e-12)
    for i in range(x.shape[1]):
        (row,) = f.back(np.eye(x.shape[1])[i])
        np.testing.assert_allclose(row.sum(axis=1), 0.0, atol=1e-14)


@given(matrices.flatmap(real))
@drawn
def test_the_jacobian_of_softmax_is_symmetric_and_has_no_negative_direction(x):
    f = Applied("softmax", x[0])
    jacobian = np.stack([f.back(e)[0] for e in np.eye(x.shape[1])])
    np.testing.assert_allclose(jacobian, jacobian.T, rtol=1e-12, atol=1e-16)
    assert np.linalg.eigvalsh(jacobian).min() >= -1e-15


@pytest.mark.parametrize("name", ["logsumexp", "max", "min", "mean"])
@given(matrices.flatmap(real), st.integers(-64, 64))
@drawn
def test_what_shifts_with_its_input_shares_all_of_dy_out(name, x, c):
    f = Applied(name, x, axis=1)
    np.testing.assert_allclose(Applied(name, x + float(c), axis=1).y, f.y + c, rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(f.back()[0].sum(axis=1), 1.0, rtol=1e-13)


@pytest.mark.parametrize("name", ["var", "std"])
@given(matrices.flatmap(whole), st.integers(-64, 64))
@drawn
def test_spreads_do_not_feel_a_shift(name, x, c):
    f = Applied(name, x, axis=1)
    np.testing.assert_allclose(Applied(name, x + float(c), axis=1).y, f.y, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(f.back()[0].sum(axis=1), 0.0, atol=1e-13)


@given(matrices.flatmap(lambda s: real(s, -300.0, 300.0)))
@drawn
def test_logsumexp_lies_between_the_largest_entry_and_ln_n_more(x):
    y, top = Applied("logsumexp", x, axis=1).y, x.max(axis=1)
    assert np.all(y >= top)
    assert np.all(y <= top + log(x.shape[1]) + 1e-12)


@given(st.data())
@drawn
def test_logsumexp_is_convex(data):
    """f(z) ≥ f(x) + <∇f(x), z - x>: the tangent lies below, wherever it touches."""
    shape = data.draw(shapes)
    x, z = data.draw(real(shape)), data.draw(real(shape))
    f = Applied("logsumexp", x)
    assert Applied("logsumexp", z).y >= f.y + dot(f.back()[0], z - x) - 1e-12


# --- normalisation ----------------------------------------------------------------------------------------------------


def _norm(name, x, eps, gamma):
    return Applied(name, x, gamma, *([] if name == "rmsnorm" else [np.zeros_like(gamma)]), eps=eps)


NORMS = [("layernorm", 1), ("batchnorm", 0), ("rmsnorm", 1)]
samples = st.tuples(st.integers(2, 5), st.integers(2, 5))


@pytest.mark.parametrize(("name", "axis"), NORMS)
@given(st.data())
@drawn
def test_scaling_the_input_and_the_root_of_eps_changes_nothing(name, axis, data):
    """So the gradient shrinks by what the input was stretched with. All but rmsnorm take a shift as well."""
    shape = data.draw(samples)
    x, gamma, dy = data.draw(whole(shape)), data.draw(whole(shape[1:])), data.draw(whole(shape))
    shift = 0.0 if name == "rmsnorm" else 3.0
    plain, moved = _norm(name, x, 0.5, gamma), _norm(name, 4.0 * x + shift, 8.0, gamma)
    np.testing.assert_allclose(moved.y, plain.y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(4.0 * moved.back(dy)[0], plain.back(dy)[0], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(moved.back(dy)[1], plain.back(dy)[1], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("name", "axis"), NORMS)
@given(st.data())
@drawn
def test_the_gradient_is_orthogonal_to_1_and_to_xhat_but_for_eps(name, axis, data):
    """Σ dx = 0, and Σ dx x̂ = Σ g x̂ · eps/(var + eps)^(3/2), for any eps."""
    shape, eps = data.draw(samples), 0.25
    x, dy = data.draw(whole(shape)), data.draw(whole(shape))
    f = _norm(name, x, eps, np.ones(shape[1]))
    dx, spread = f.back(dy)[0], np.expand_dims(f.outputs[-1], axis)
    xhat = f.y
    left = np.sum(dx * xhat, axis=axis, keepdims=True)
    right = np.sum(dy * xhat, axis=axis, keepdims=True) * eps / (spread + eps) ** 1.5
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-11)
    if name != "rmsnorm":
        np.testing.assert_allclose(dx.sum(axis=axis), 0.0, atol=1e-12)


@pytest.mark.parametrize(("name", "axis"), NORMS)
@given(st.data())
@drawn
def test_a_normalised_array_has_mean_square_below_1(name, axis, data):
    """It is var/(var + eps), and var/(var + eps) ≤ 1."""
    x = data.draw(samples.flatmap(whole))
    f = _norm(name, x, 0.25, np.ones(x.shape[1]))
    np.testing.assert_allclose(np.mean(f.y * f.y, axis=axis), f.outputs[-1] / (f.outputs[-1] + 0.25), rtol=1e-12)


@given(st.data())
@drawn
def test_a_running_average_lies_between_the_old_and_the_new(data):
    shape = data.draw(shapes)
    old, new, momentum = data.draw(real(shape)), data.draw(real(shape)), data.draw(st.floats(0.0, 1.0))
    y = Applied("running_average", old, new, momentum=momentum).y
    assert np.all(y >= np.minimum(old, new) - 1e-12)
    assert np.all(y <= np.maximum(old, new) + 1e-12)


# --- losses -----------------------------------------------------------------------------------------------------------


@st.composite
def classified(draw):
    """(logits, labels, weights, class weights) of a batch."""
    n, c = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    labels = np.asarray(draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n)), np.int64)
    return draw(real((n, c))), labels, draw(real(n, 0.25, 4.0)), draw(real(c, 0.25, 4.0))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@given(classified())
@drawn
def test_every_row_of_delta_of_cross_entropy_sums_to_0(smoothing, batch):
    logits, labels, weights, of_classes = batch
    one_hot = np.eye(logits.shape[1])[labels]
    for name, target in (("softmax_cross_entropy", labels), ("softmax_cross_entropy_soft", one_hot)):
        f = Applied(name, logits, target, weights, of_classes, label_smoothing=smoothing)
        np.testing.assert_allclose(f.back(3.0)[0].sum(axis=1), 0.0, atol=1e-14)
        shifted = Applied(name, logits + 32.0, target, weights, of_classes, label_smoothing=smoothing)
        assert shifted.y == pytest.approx(float(f.y), rel=1e-11, abs=1e-13)


@given(classified(), st.randoms(use_true_random=False))
@drawn
def test_classes_in_another_order_give_the_same_loss_and_delta_in_that_order(batch, random):
    logits, labels, weights, of_classes = batch
    order = random.sample(range(logits.shape[1]), logits.shape[1])
    f = Applied("softmax_cross_entropy", logits, labels, weights, of_classes)
    places = np.argsort(order)[labels]
    moved = Applied("softmax_cross_entropy", logits[:, order], places, weights, of_classes[order])
    assert moved.y == pytest.approx(float(f.y), rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(moved.back()[0], f.back()[0][:, order], rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "binary_cross_entropy", "kl_divergence"])
@given(st.data())
@drawn
def test_all_weights_times_a_number_change_the_mass_only(name, data):
    shape = data.draw(samples)
    pred, target = data.draw(real(shape)), data.draw(real(shape, 0.0, 1.0))
    weights = data.draw(real(shape[0], 0.25, 4.0))
    f, scaled = Applied(name, pred, target, weights), Applied(name, pred, target, 8.0 * weights)
    assert scaled.outputs[1] == 8.0 * f.outputs[1]
    assert scaled.y == f.y
    assert np.array_equal(scaled.back(2.0)[0], f.back(2.0)[0])


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "binary_cross_entropy"])
@given(st.data())
@drawn
def test_losses_are_convex_and_not_negative(name, data):
    """L(z) ≥ L(x) + <δ(x), z - x>, at kinks too: what is given there is a subgradient."""
    shape = data.draw(samples)
    x, z, target = data.draw(whole(shape)), data.draw(whole(shape)), data.draw(whole(shape)) > 0
    f = Applied(name, x, target.astype(float))
    assert f.y >= 0.0
    assert Applied(name, z, target.astype(float)).y >= f.y + dot(f.back()[0], z - x) - 1e-11


@given(st.data())
@drawn
def test_huber_is_below_half_of_mse_and_delta_times_mae_and_meets_them(data):
    shape, delta = data.draw(samples), data.draw(st.sampled_from([0.5, 1.0, 4.0]))
    pred, target = data.draw(whole(shape)), data.draw(whole(shape))
    huber, mse, mae = (Applied(n, pred, target) for n in ("huber", "mse", "mae"))
    cut = Applied("huber", pred, target, delta=delta)
    assert cut.y <= mse.y / 2
    assert cut.y <= delta * mae.y
    wide = Applied("huber", pred, target, delta=64.0)
    np.testing.assert_allclose(wide.back()[0], mse.back()[0] / 2, rtol=1e-15)
    assert np.all(np.abs(huber.back()[0]) <= np.abs(mae.back()[0]))


@given(classified())
@drawn
def test_divergence_is_never_negative_and_0_only_for_the_distribution_itself(batch):
    logits = batch[0]
    log_q = Applied("log_softmax", logits).y
    p = np.full(logits.shape, 1.0 / logits.shape[1])
    assert Applied("kl_divergence", log_q, p).y >= -1e-15
    assert Applied("kl_divergence", log_q, np.exp(log_q)).y == pytest.approx(0.0, abs=1e-14)
    assert Applied("kl_divergence", log_q, p).y >= np.abs(np.exp(log_q) - p).sum(axis=1).max() ** 2 / 2 / len(p) - 1e-12
