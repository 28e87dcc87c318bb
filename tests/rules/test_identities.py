"""Identities between rules, in values and in gradients: bounds, symmetries, inverses, one rule written as others."""

from __future__ import annotations

from math import inf, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlit.rules._special import erf, normal_cdf
from rules.applied import Applied, drawn, matrices, real, shapes, whole

vectors = real(6)
far = real(6, -1000.0, 1000.0)

# --- activations: bounds of value and slope ---------------------------------------------------------------------------

# Name, attributes, (least, largest) value, (least, largest) slope; the dips of the gates by mpmath.findroot of their
# first and second derivatives.
BOUNDS = [
    ("relu", {}, (0.0, inf), (0.0, 1.0)),
    ("leaky_relu", {"slope": 0.25}, (-inf, inf), (0.25, 1.0)),
    ("elu", {"alpha": 0.5}, (-0.5, inf), (0.0, 1.0)),
    ("selu", {}, (-1.7580993408473768, inf), (0.0, 1.7580993408473768)),
    ("sigmoid", {}, (0.0, 1.0), (0.0, 0.25)),
    ("tanh", {}, (-1.0, 1.0), (0.0, 1.0)),
    ("softplus", {}, (0.0, inf), (0.0, 1.0)),
    ("gelu", {}, (-0.16997121, inf), (-0.12890484, 1.12890484)),
    ("gelu_tanh", {}, (-0.17004075, inf), (-0.12899307, 1.12899307)),
    ("silu", {}, (-0.27846455, inf), (-0.09983932, 1.09983932)),
    ("mish", {}, (-0.30884341, inf), (-0.11252612, 1.08849816)),
]
MONOTONE = [row[:2] for row in BOUNDS[:7]]


@pytest.mark.parametrize(("name", "attributes", "values", "slopes"), BOUNDS, ids=lambda v: str(v)[:12])
@given(st.one_of(vectors, far))
@drawn
def test_bounds_of_values_and_slopes(name, attributes, values, slopes, x):
    f = Applied(name, x, **attributes)
    for found, (low, high), digits in ((f.y, values, 1e-8), (f.back()[0], slopes, 1e-8)):
        assert np.all(found >= low - digits)
        assert np.all(found <= high + digits)


@pytest.mark.parametrize(("name", "attributes", "values", "slopes"), BOUNDS, ids=lambda v: str(v)[:12])
def test_the_bounds_are_reached(name, attributes, values, slopes):
    f = Applied(name, np.linspace(-40.0, 40.0, 80_001), **attributes)
    for found, bounds in ((f.y, values), (f.back()[0], slopes)):
        for extreme, bound in zip((found.min(), found.max()), bounds, strict=True):
            assert extreme == pytest.approx(bound, abs=1e-5) or abs(bound) == inf


@pytest.mark.parametrize(("name", "attributes"), MONOTONE, ids=str)
@given(st.one_of(vectors, far))
@drawn
def test_monotone_activations_keep_the_order(name, attributes, x):
    y = Applied(name, np.sort(x), **attributes).y
    assert np.all(np.diff(y) >= 0.0)


@pytest.mark.parametrize("name", ["relu", "softplus", "gelu", "gelu_tanh", "silu", "mish", "elu", "selu"])
@given(far)
@drawn
def test_far_to_the_left_nothing_goes_on_growing_and_far_to_the_right_all_are_lines(name, x):
    ends = np.where(x < 0, -600.0, 600.0) + x / 10.0
    f = Applied(name, ends)
    scale = 1.0507009873554805 if name == "selu" else 1.0
    np.testing.assert_allclose(f.y[ends > 0], scale * ends[ends > 0], rtol=1e-15)
    np.testing.assert_allclose(f.back()[0], np.where(ends > 0, scale, 0.0), atol=1e-15)


# --- activations: symmetries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "softplus", "gelu", "gelu_tanh", "silu"])
@given(st.one_of(vectors, far))
@drawn
def test_both_sides_differ_by_x_and_their_slopes_add_up_to_1(name, x):
    """f(x) - f(-x) = x for every x · gate(x) with gate(x) + gate(-x) = 1, and for softplus."""
    right, left = Applied(name, x), Applied(name, -x)
    np.testing.assert_allclose(right.y - left.y, x, rtol=1e-14, atol=1e-15)
    both = right.back()[0] + left.back()[0]
    np.testing.assert_allclose(both[x != 0], 1.0, rtol=1e-14)


@pytest.mark.parametrize("name", ["tanh", "sin", "neg"])
@given(vectors)
@drawn
def test_odd_functions_have_even_slopes(name, x):
    right, left = Applied(name, x), Applied(name, -x)
    assert np.array_equal(left.y, -right.y)
    assert np.array_equal(left.back()[0], right.back()[0])


@pytest.mark.parametrize("name", ["cos", "abs"])
@given(vectors)
@drawn
def test_even_functions_have_odd_slopes(name, x):
    right, left = Applied(name, x), Applied(name, -x)
    assert np.array_equal(left.y, right.y)
    assert np.array_equal(left.back()[0], -right.back()[0])


@given(st.one_of(vectors, far))
@drawn
def test_the_error_function_is_odd_between_its_bounds_and_the_normal_distribution_adds_up_to_1(x):
    assert np.array_equal(erf(np, -x), -erf(np, x))
    assert np.all(np.abs(erf(np, x)) <= 1.0)
    np.testing.assert_allclose(normal_cdf(np, x) + normal_cdf(np, -x), 1.0, rtol=1e-15)
    np.testing.assert_allclose(normal_cdf(np, x), (1.0 + erf(np, x / sqrt(2.0))) / 2.0, atol=1e-15)


@given(st.one_of(vectors, far))
@drawn
def test_the_sigmoid_of_both_sides_adds_up_to_1(x):
    right, left = Applied("sigmoid", x), Applied("sigmoid", -x)
    np.testing.assert_allclose(right.y + left.y, 1.0, rtol=1e-15)
    np.testing.assert_allclose(right.back()[0], left.back()[0], rtol=1e-12, atol=1e-16)


@given(real(6, -100.0, 100.0))
@drawn
def test_sine_and_cosine_lie_on_a_circle_and_are_each_others_slopes(x):
    sin, cos = Applied("sin", x), Applied("cos", x)
    np.testing.assert_allclose(sin.y**2 + cos.y**2, 1.0, rtol=1e-15)
    assert np.array_equal(sin.back()[0], cos.y)
    assert np.array_equal(cos.back()[0], -sin.y)
    np.testing.assert_allclose(Applied("sin", pi / 2 - x).y, cos.y, atol=1e-13)


# --- activations: one as others ---------------------------------------------------------------------------------------


@given(vectors)
@drawn
def test_the_slope_of_softplus_is_the_sigmoid_and_it_lies_above_relu_by_at_most_ln_2(x):
    f = Applied("softplus", x)
    np.testing.assert_allclose(f.back()[0], Applied("sigmoid", x).y, rtol=1e-13)
    above = f.y - Applied("relu", x).y
    assert np.all((above >= 0.0) & (above <= log(2.0) + 1e-15))


@given(vectors)
@drawn
def test_tanh_is_a_sigmoid_and_its_gradient_is_that_of_the_two_steps(x):
    tanh, sigmoid = Applied("tanh", x), Applied("sigmoid", 2.0 * x)
    np.testing.assert_allclose(tanh.y, 2.0 * sigmoid.y - 1.0, atol=1e-15)
    np.testing.assert_allclose(tanh.back()[0], 4.0 * sigmoid.back()[0], rtol=1e-9, atol=1e-15)


@given(whole(6))
@drawn
def test_rectifiers_agree_where_their_options_make_them_alike(x):
    relu, zero = Applied("relu", x), Applied("leaky_relu", x, slope=0.0)
    assert np.array_equal(relu.y, zero.y)
    assert np.array_equal(relu.back()[0], zero.back()[0])
    line = Applied("leaky_relu", x, slope=1.0)
    assert np.array_equal(line.y, x)
    assert np.array_equal(line.back()[0], np.ones(6))
    assert np.array_equal(Applied("elu", x, alpha=0.0).y, relu.y)


@given(vectors)
@drawn
def test_gelu_and_its_approximation_are_never_further_apart_than_published(x):
    """0.0005 (Hendrycks, Gimpel): the curves lie on one another for the eye."""
    assert np.abs(Applied("gelu", x).y - Applied("gelu_tanh", x).y).max() < 5e-4


# --- the larger and the smaller ---------------------------------------------------------------------------------------


@given(st.data())
@drawn
def test_the_larger_and_the_smaller_add_up_to_both_and_share_dy_out(data):
    shape = data.draw(matrices)
    a, b, dy = (data.draw(whole(shape)) for _ in range(3))
    larger, smaller = Applied("maximum", a, b), Applied("minimum", a, b)
    assert np.array_equal(larger.y + smaller.y, a + b)
    assert np.array_equal(larger.y - smaller.y, np.abs(a - b))
    for f in (larger, smaller):
        assert np.array_equal(sum(f.back(dy)), dy)
    for over, under in zip(larger.back(dy), smaller.back(dy), strict=True):
        assert np.array_equal(over + under, dy)


@given(st.data())
@drawn
def test_a_choice_by_comparison_is_the_larger_off_the_ties(data):
    shape = data.draw(matrices)
    a, b, dy = (data.draw(whole(shape)) for _ in range(3))
    chosen, larger = Applied("where", a > b, a, b), Applied("maximum", a, b)
    assert np.array_equal(chosen.y, larger.y)
    for one, other in zip(chosen.back(dy), larger.back(dy), strict=True):
        assert np.array_equal(one[a != b], other[a != b])


@given(st.data())
@drawn
def test_the_two_sides_of_a_choice_share_dy_out(data):
    shape = data.draw(matrices)
    x, dy, c = data.draw(whole(shape)), data.draw(whole(shape)), data.draw(whole(shape)) > 0
    f = Applied("where", c, x, x)
    assert np.array_equal(f.y, x)
    da, db = f.back(dy)
    assert np.array_equal(da + db, dy)
    assert not np.any(da * db)


@given(st.data())
@drawn
def test_clipping_is_the_smaller_of_the_larger_and_doing_it_twice_is_doing_it_once(data):
    x, low, width = data.draw(whole(6)), data.draw(st.integers(-6, 6)), data.draw(st.integers(0, 6))
    once = Applied("clip", x, low=float(low), high=float(low + width))
    larger = Applied("maximum", x, np.full(6, float(low)))
    assert np.array_equal(once.y, Applied("minimum", larger.y, np.full(6, float(low + width))).y)
    twice = Applied("clip", once.y, low=float(low), high=float(low + width))
    assert np.array_equal(twice.y, once.y)
    assert np.array_equal(twice.back()[0], np.ones(6))
    inside = (x >= low) & (x <= low + width)
    assert np.array_equal(once.back()[0], inside.astype(float))


@given(whole(6))
@drawn
def test_the_size_of_a_number_is_relu_from_both_sides(x):
    size, right, left = Applied("abs", x), Applied("relu", x), Applied("relu", -x)
    assert np.array_equal(size.y, right.y + left.y)
    assert np.array_equal(size.back()[0], right.back()[0] - left.back()[0])


@given(matrices.flatmap(whole))
@drawn
def test_the_smallest_is_minus_the_largest_of_minus_and_ties_share_dy_out(x):
    largest, smallest = Applied("max", -x, axis=1), Applied("min", x, axis=1)
    assert np.array_equal(smallest.y, -largest.y)
    assert np.array_equal(smallest.back()[0], largest.back()[0])
    np.testing.assert_allclose(smallest.back()[0].sum(axis=1), 1.0, rtol=1e-15)


@given(st.data())
@drawn
def test_of_two_numbers_exactly_one_comparison_holds(data):
    a, b = data.draw(whole(6)), data.draw(whole(6))
    y = {n: Applied(n, a, b).y for n in ("less", "equal", "greater", "less_equal", "not_equal", "greater_equal")}
    assert np.array_equal(sum(y[n].astype(int) for n in ("less", "equal", "greater")), np.ones(6))
    assert np.array_equal(y["less_equal"], ~y["greater"])
    assert np.array_equal(y["greater_equal"], ~y["less"])
    assert np.array_equal(y["not_equal"], ~y["equal"])
    assert np.array_equal(y["less"], Applied("greater", b, a).y)


# --- inverses: the slopes of a function and of its inverse multiply to 1 ----------------------------------------------


@pytest.mark.parametrize(("name", "inverse", "low"), [("log", "exp", 0.0625), ("log1p", "expm1", -0.9375)])
@given(st.data())
@drawn
def test_logarithms_undo_exponentials(name, inverse, low, data):
    x = data.draw(real(6, low, 16.0))
    f = Applied(name, x)
    back = Applied(inverse, f.y)
    np.testing.assert_allclose(back.y, x, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(f.back()[0] * back.back()[0], 1.0, rtol=1e-13)


@given(real(6, 0.0625, 16.0))
@drawn
def test_roots_undo_squares(x):
    root, square = Applied("sqrt", x), Applied("power", np.sqrt(x), 2.0)
    np.testing.assert_allclose(square.y, x, rtol=1e-15)
    np.testing.assert_allclose(root.back()[0] * square.back()[0], 1.0, rtol=1e-15)


@given(real(6, 0.0625, 16.0), real(6, 0.0625, 16.0))
@drawn
def test_logarithms_make_sums_of_products(a, b):
    np.testing.assert_allclose(Applied("log", a * b).y, Applied("log", a).y + Applied("log", b).y, atol=1e-14)
    np.testing.assert_allclose(Applied("exp", a).y * Applied("exp", -a).y, 1.0, rtol=1e-14)
    product = Applied("prod", a)
    np.testing.assert_allclose(np.log(product.y), Applied("log", a).y.sum(), atol=1e-13)
    np.testing.assert_allclose(product.back()[0], product.y / a, rtol=1e-13)


@given(real(6, 0.0625, 16.0), real(6, 0.0625, 16.0))
@drawn
def test_dividing_is_multiplying_with_the_power_of_minus_1(a, b):
    quotient, inverse = Applied("div", a, b), Applied("power", b, -1.0)
    product = Applied("mul", a, inverse.y)
    np.testing.assert_allclose(quotient.y, product.y, rtol=1e-14)
    da, d_inverse = product.back()
    np.testing.assert_allclose(quotient.back()[0], da, rtol=1e-14)
    np.testing.assert_allclose(quotient.back()[1], inverse.back(d_inverse)[0], rtol=1e-13)


# --- softmax and its logarithm ----------------------------------------------------------------------------------------


@given(st.data())
@drawn
def test_softmax_is_the_exponential_of_log_softmax_and_the_slope_of_logsumexp(data):
    shape = data.draw(matrices)
    x, dy = data.draw(real(shape)), data.draw(whole(shape))
    p, log_p, total = Applied("softmax", x), Applied("log_softmax", x), Applied("logsumexp", x, axis=-1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_p.y), p.y, rtol=1e-12)
    np.testing.assert_allclose(log_p.y, x - total.y, atol=1e-13)
    np.testing.assert_allclose(total.back()[0], p.y, rtol=1e-13)
    np.testing.assert_allclose(log_p.back(dy * p.y)[0], p.back(dy)[0], atol=1e-12)


@given(vectors)
@drawn
def test_softmax_of_x_and_0_is_the_sigmoid(x):
    pair = Applied("softmax", np.stack([x, np.zeros(6)], axis=1))
    sigmoid = Applied("sigmoid", x)
    np.testing.assert_allclose(pair.y[:, 0], sigmoid.y, rtol=1e-14)
    np.testing.assert_allclose(pair.back([1.0, 0.0])[0][:, 0], sigmoid.back()[0], rtol=1e-12)


# --- movement: there and back, several at once ------------------------------------------------------------------------


@given(st.data())
@drawn
def test_two_transpositions_are_one(data):
    x = data.draw(shapes.flatmap(whole))
    p, q = (tuple(data.draw(st.permutations(range(x.ndim)))) for _ in range(2))
    twice = Applied("transpose", Applied("transpose", x, axes=p).y, axes=q)
    assert np.array_equal(twice.y, Applied("transpose", x, axes=tuple(p[k] for k in q)).y)
    there = Applied("transpose", x, axes=p)
    assert np.array_equal(there.back(there.y)[0], x)


@given(st.data())
@drawn
def test_cutting_off_what_was_put_around_gives_it_back(data):
    x, k = data.draw(matrices.flatmap(whole)), data.draw(st.integers(1, 3))
    wide = Applied("pad", x, widths=((k, 0), (1, k)), value=7.0)
    cut = Applied("slice", wide.y, index=(slice(k, None), slice(1, -k)))
    assert np.array_equal(cut.y, x)
    assert np.array_equal(wide.back(cut.back(x)[0])[0], x)
    assert Applied("sum", wide.y).y == x.sum() + 7.0 * (wide.y.size - x.size)


@given(st.data())
@drawn
def test_parts_put_together_again(data):
    x = data.draw(matrices.flatmap(whole))
    at = data.draw(st.integers(0, x.shape[1]))
    parts = [Applied("slice", x, index=(..., s)) for s in (slice(None, at), slice(at, None))]
    whole_again = Applied("concatenate", *(p.y for p in parts), axis=1)
    assert np.array_equal(whole_again.y, x)
    d = whole_again.back(x)
    assert np.array_equal(sum(p.back(g)[0] for p, g in zip(parts, d, strict=True)), x)


@given(st.data())
@drawn
def test_rows_in_another_order_and_back(data):
    x = data.draw(matrices.flatmap(whole))
    order = np.asarray(data.draw(st.permutations(range(len(x)))))
    moved = Applied("take", x, order)
    assert np.array_equal(Applied("take", moved.y, np.argsort(order)).y, x)
    assert np.array_equal(moved.back(moved.y)[0], x)


@given(st.data())
@drawn
def test_taking_every_row_several_times_multiplies_its_gradient(data):
    x, times = data.draw(matrices.flatmap(whole)), data.draw(st.integers(1, 4))
    f = Applied("take", x, np.repeat(np.arange(len(x)), times))
    stretched = Applied("broadcast_to", x, shape=(times, *x.shape))
    assert np.array_equal(f.back()[0], np.full(x.shape, float(times)))
    assert np.array_equal(stretched.back()[0], np.full(x.shape, float(times)))
    assert Applied("sum", f.y).y == Applied("sum", stretched.y).y == times * x.sum()


@given(st.data())
@drawn
def test_sums_over_axes_one_after_another_are_the_sum_over_all(data):
    x = data.draw(shapes.flatmap(whole))
    total = x
    for _ in range(x.ndim):
        total = Applied("sum", total, axis=0).y
    assert total == Applied("sum", x).y
    mean = Applied("mean", x)
    np.testing.assert_allclose(mean.y * x.size, total, rtol=1e-15)
    np.testing.assert_allclose(mean.back(float(x.size))[0], np.ones(x.shape), rtol=1e-15)


@given(matrices.flatmap(whole))
@drawn
def test_variance_is_the_mean_square_less_the_square_of_the_mean_and_std_its_root(x):
    var, std = Applied("var", x, axis=1), Applied("std", x, axis=1)
    np.testing.assert_allclose(var.y, (x * x).mean(axis=1) - x.mean(axis=1) ** 2, atol=1e-12)
    np.testing.assert_allclose(std.y**2, var.y, atol=1e-13)
    np.testing.assert_allclose(2.0 * std.y[:, None] * std.back()[0], var.back()[0], atol=1e-12)
