"""What the array rules promise one by one: results by hand, conventions on ties, what is kept, errors."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices, mutually_broadcastable_shapes

from backlit.core.errors import InputError
from backlit.core.i18n import use_language
from backlit.rules import get
from backlit.rules._arrays import broadcast, normal_axes, order, reduced, unbroadcast

INF = math.inf


def run(name, *inputs, dy=1.0, **attributes):
    """(output, gradients) of a rule on plain numbers, as ∂L/∂y = dy for every entry unless dy is an array."""
    rule = get(name)
    attributes = rule.defaults | attributes
    arrays = tuple(np.asarray(i) if np.asarray(i).dtype.kind == "b" else np.asarray(i, float) for i in inputs)
    (y,) = outputs = rule.call(np, *arrays, **attributes)
    if rule.backward is None:
        return y, ()
    dys = [np.broadcast_to(np.asarray(dy, float), y.shape)]
    return y, rule.gradients(np, dys, rule.saved_from(arrays, outputs, attributes))


def take(x, indices, dy, axis=0):
    rule = get("take")
    inputs = (np.asarray(x, float), np.asarray(indices))
    outputs = rule.call(np, *inputs, axis=axis)
    saved = rule.saved_from(inputs, outputs, {"axis": axis})
    return outputs[0], rule.gradients(np, [np.asarray(dy, float)], saved)[0]


# --- results by hand --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "inputs", "y", "gradients"),
    [
        ("add", (3.0, 4.0), 7.0, (1.0, 1.0)),
        ("sub", (3.0, 4.0), -1.0, (1.0, -1.0)),
        ("mul", (3.0, 4.0), 12.0, (4.0, 3.0)),
        ("div", (3.0, 4.0), 0.75, (0.25, -0.1875)),
        ("neg", (3.0,), -3.0, (-1.0,)),
        ("power", (2.0, 3.0), 8.0, (12.0, 8.0 * math.log(2.0))),
        ("power", (4.0, -0.5), 0.5, (-0.0625, 0.5 * math.log(4.0))),
        ("exp", (0.0,), 1.0, (1.0,)),
        ("log", (4.0,), math.log(4.0), (0.25,)),
        ("sqrt", (9.0,), 3.0, (1 / 6,)),
        ("abs", (-3.0,), 3.0, (-1.0,)),
        ("maximum", (3.0, 4.0), 4.0, (0.0, 1.0)),
        ("minimum", (3.0, 4.0), 3.0, (1.0, 0.0)),
    ],
)
def test_numbers_by_hand(name, inputs, y, gradients):
    found, grads = run(name, *inputs)
    np.testing.assert_allclose(found, y, rtol=1e-15)
    np.testing.assert_allclose(grads, gradients, rtol=1e-15)


MATRIX = [[1.0, 2.0, 6.0], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    ("name", "attributes", "y", "dx"),
    [
        ("sum", {"axis": 0}, [5.0, 7.0, 12.0], [[1.0] * 3] * 2),
        ("sum", {}, 24.0, [[1.0] * 3] * 2),
        ("mean", {"axis": 1}, [3.0, 5.0], [[1 / 3] * 3] * 2),
        ("mean", {"axis": (0, 1), "keepdims": True}, [[4.0]], [[1 / 6] * 3] * 2),
        ("var", {"axis": 1}, [14 / 3, 2 / 3], [[-4 / 3, -2 / 3, 2.0], [-2 / 3, 0.0, 2 / 3]]),
        ("var", {"axis": 1, "correction": 1}, [7.0, 1.0], [[-2.0, -1.0, 3.0], [-1.0, 0.0, 1.0]]),
        ("max", {"axis": 0}, [4.0, 5.0, 6.0], [[0.0, 0.0, 0.5], [1.0, 1.0, 0.5]]),
        ("max", {"axis": -1}, [6.0, 6.0], [[0.0, 0.0, 1.0]] * 2),
        ("max", {}, 6.0, [[0.0, 0.0, 0.5]] * 2),
        ("min", {"axis": 1, "keepdims": True}, [[1.0], [4.0]], [[1.0, 0.0, 0.0]] * 2),
    ],
)
def test_reductions_by_hand(name, attributes, y, dx):
    found, (gradient,) = run(name, MATRIX, **attributes)
    assert found.shape == np.shape(y)
    np.testing.assert_allclose(found, y, rtol=1e-14)
    np.testing.assert_allclose(gradient, dx, rtol=1e-14, atol=1e-15)


def test_reductions_carry_dy_to_the_entries_it_came_from():
    _, (dx,) = run("sum", MATRIX, axis=0, dy=[1.0, 2.0, 3.0])
    assert dx.tolist() == [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    _, (dx,) = run("mean", MATRIX, axis=1, keepdims=True, dy=[[3.0], [6.0]])
    assert dx.tolist() == [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]


def test_variance_of_large_numbers_close_together_keeps_its_digits():
    y, (dx,) = run("var", 1e8 + np.array([0.0, 1.0, 2.0]))
    assert y == pytest.approx(2 / 3, rel=1e-15)
    np.testing.assert_allclose(dx, [-2 / 3, 0.0, 2 / 3], rtol=1e-15)


def test_gradient_of_a_stretched_input_is_summed_over_its_copies():
    _, (da, db) = run("mul", np.ones((2, 1)), [1.0, 2.0, 3.0], dy=[[1.0, 1.0, 1.0], [10.0, 10.0, 10.0]])
    assert da.tolist() == [[6.0], [60.0]]
    assert db.tolist() == [11.0, 11.0, 11.0]


def test_matmul_of_stretched_batches_is_the_sum_over_indices():
    rng = np.random.default_rng(3)
    a, b, dy = rng.normal(size=(2, 1, 2, 3)), rng.normal(size=(4, 3, 2)), rng.normal(size=(2, 4, 2, 2))
    y, (da, db) = run("matmul", a, b, dy=dy)
    want, want_da, want_db = np.zeros((2, 4, 2, 2)), np.zeros_like(a), np.zeros_like(b)
    for n, m, i, j, k in product(range(2), range(4), range(2), range(2), range(3)):
        want[n, m, i, j] += a[n, 0, i, k] * b[m, k, j]
        want_da[n, 0, i, k] += dy[n, m, i, j] * b[m, k, j]
        want_db[m, k, j] += dy[n, m, i, j] * a[n, 0, i, k]
    for found, wanted in ((y, want), (da, want_da), (db, want_db)):
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


# --- conventions on ties and kinks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("tie", [0.0, -2.5, INF])
def test_a_tie_gives_each_side_half(name, tie):
    y, (da, db) = run(name, [tie, 1.0], [tie, 1.0], dy=[3.0, 4.0])
    assert y.tolist() == [tie, 1.0]
    assert da.tolist() == db.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(("name", "best"), [("max", 7.0), ("max", INF), ("min", -7.0), ("min", -INF)])
def test_entries_that_tie_over_an_axis_share_evenly(name, best):
    _, (dx,) = run(name, [[best, 0.0, best, best], [0.0, 0.0, best, 0.0]], axis=1, dy=[3.0, 5.0])
    assert dx.tolist() == [[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 5.0, 0.0]]


def test_a_tie_over_all_axes_is_counted_over_all_of_them():
    _, (dx,) = run("max", [[2.0, 2.0], [1.0, 2.0]], dy=6.0)
    assert dx.tolist() == [[2.0, 2.0], [0.0, 2.0]]


def test_clip_passes_the_gradient_on_at_its_bounds_and_not_outside():
    y, (dx,) = run("clip", [-2.0, -1.0, 0.0, 1.0, 2.0], low=-1.0, high=1.0)
    assert y.tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    assert dx.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_abs_has_no_slope_at_zero():
    _, (dx,) = run("abs", [-2.0, 0.0, 0.5])
    assert dx.tolist() == [-1.0, 0.0, 1.0]


def test_powers_where_the_base_is_not_positive():
    a, b = [-2.0, -2.0, 0.0, 0.0, 0.0, 0.0], [3.0, -1.0, 0.0, 1.0, 2.0, 1.5]
    y, (da, db) = run("power", a, b)
    assert y.tolist() == [-8.0, -0.5, 1.0, 0.0, 0.0, 0.0]
    assert da.tolist() == [12.0, -0.25, 0.0, 1.0, 0.0, 0.0]
    assert not db.any()


def test_where_leaves_out_the_side_that_was_not_chosen():
    y, (da, db) = run("where", [True, False], [1.0, INF], [INF, 2.0], dy=[3.0, 4.0])
    assert y.tolist() == [1.0, 2.0]
    assert da.tolist() == [3.0, 0.0]
    assert db.tolist() == [0.0, 4.0]


def test_where_sums_over_a_stretched_condition_and_its_sides():
    _, (da, db) = run("where", [True, False, True], 5.0, [[1.0], [2.0]], dy=[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert da == 14.0
    assert db.tolist() == [[2.0], [5.0]]


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("greater", (False, False, True)),
        ("greater_equal", (False, True, True)),
        ("less", (True, False, False)),
        ("less_equal", (True, True, False)),
        ("equal", (False, True, False)),
        ("not_equal", (True, False, True)),
    ],
)
def test_comparisons_below_on_and_above(name, sides):
    y, gradients = run(name, [1.0, 2.0, 3.0], 2.0)
    assert (tuple(y), gradients) == (sides, ())
    assert get(name).differentiable == ()


@pytest.mark.parametrize(
    ("name", "before", "after", "attributes"),
    [
        ("abs", (0.1,), (-0.1,), {}),
        ("maximum", (1.0, 1.1), (1.0, 0.9), {}),
        ("minimum", (1.0, 1.1), (1.0, 0.9), {}),
        ("greater", (1.0, 1.1), (1.0, 0.9), {}),
        ("equal", (1.0, 1.1), (1.0, 0.9), {}),
        ("clip", ([0.9],), ([1.1],), {"high": 1.0}),
        ("clip", ([0.9],), ([1.1],), {"low": 1.0, "high": 2.0}),
        ("max", ([1.0, 1.1],), ([1.0, 0.9],), {"axis": 0}),
        ("min", ([1.0, 1.1],), ([1.0, 0.9],), {}),
        ("power", (0.1, 0.5), (-0.1, 0.5), {}),
    ],
)
def test_a_step_over_a_kink_changes_the_piece_and_no_other_step_does(name, before, after, attributes):
    def pieces(inputs):
        return np.asarray(get(name).kinks(np, *(np.asarray(i) for i in inputs), **attributes)).tolist()

    nearly = tuple(np.asarray(i) + 0.01 for i in before)
    assert pieces(before) == pieces(nearly)
    assert pieces(before) != pieces(after)


def test_whole_powers_have_no_kink_at_zero():
    def pieces(a, b):
        return float(get("power").kinks(np, np.asarray(a), np.asarray(b)))

    assert pieces(-1e-6, 2.0) == pieces(0.0, 2.0) == pieces(1e-6, 2.0) == pieces(1e-6, 2.1)
    assert pieces(-1e-6, -1.0) != pieces(1e-6, -1.0)


def test_infinities_are_tied_with_themselves():
    assert order(np, np.array([INF, -INF, 1.0]), np.array([INF, INF, 0.0])).tolist() == [0, -1, 1]


# --- movement ---------------------------------------------------------------------------------------------------------


def test_what_is_taken_twice_gets_both_gradients():
    y, dx = take([10.0, 20.0, 30.0], [2, 0, 2, -1], [1.0, 2.0, 4.0, 8.0])
    assert y.tolist() == [30.0, 10.0, 30.0, 30.0]
    assert dx.tolist() == [2.0, 0.0, 13.0]


def test_take_along_the_last_axis_from_a_table_of_indices():
    y, dx = take([[1.0, 2.0, 3.0]], [[0, 0], [2, 0]], [[[1.0, 2.0], [4.0, 8.0]]], axis=-1)
    assert y.tolist() == [[[1.0, 1.0], [3.0, 1.0]]]
    assert dx.tolist() == [[11.0, 0.0, 4.0]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint64"])
def test_indices_may_be_of_any_integer_dtype(dtype):
    x = np.arange(300.0)
    y, dx = take(x, np.array([255, 0, 255], dtype), [1.0, 2.0, 3.0])
    assert y.tolist() == [255.0, 0.0, 255.0]
    assert (dx[0], dx[255], dx.sum()) == (2.0, 4.0, 6.0)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_slices_are_those_of_numpy_and_scatter_back(data):
    shape = data.draw(array_shapes(min_dims=1, max_dims=3, max_side=4))
    index = data.draw(basic_indices(shape, allow_newaxis=True, max_dims=5))
    index = index if isinstance(index, tuple) else (index,)
    x = np.arange(1.0, math.prod(shape) + 1).reshape(shape)
    want = x[index]
    dy = 10.0 + np.arange(want.size).reshape(want.shape)
    y, (dx,) = run("slice", x, index=index, dy=dy)
    scattered = np.zeros(shape)
    scattered[index] = dy
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(dx, scattered)
    assert get("slice").shapes(shape, index=index) == want.shape


def test_slices_past_the_end_stop_there():
    y, (dx,) = run("slice", [1.0, 2.0, 3.0], index=(slice(1, 9),), dy=[5.0, 7.0])
    assert y.tolist() == [2.0, 3.0]
    assert dx.tolist() == [0.0, 5.0, 7.0]


def test_concatenate_and_stack_give_every_part_its_own():
    y, (da, db) = run("concatenate", [[1.0], [2.0]], [[3.0, 4.0], [5.0, 6.0]], axis=1, dy=[[1, 2, 3], [4, 5, 6]])
    assert y.tolist() == [[1.0, 3.0, 4.0], [2.0, 5.0, 6.0]]
    assert (da.tolist(), db.tolist()) == ([[1.0], [4.0]], [[2.0, 3.0], [5.0, 6.0]])
    y, (da, db) = run("stack", [1.0, 2.0], [3.0, 4.0], axis=-1, dy=[[1, 2], [3, 4]])
    assert y.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert (da.tolist(), db.tolist()) == ([1.0, 3.0], [2.0, 4.0])


def test_pad_surrounds_with_its_value_which_has_no_gradient():
    y, (dx,) = run("pad", [[1.0, 2.0]], widths=((1, 0), (0, 2)), value=9.0, dy=[[1, 2, 3, 4], [5, 6, 7, 8]])
    assert y.tolist() == [[9.0, 9.0, 9.0, 9.0], [1.0, 2.0, 9.0, 9.0]]
    assert dx.tolist() == [[5.0, 6.0]]


def test_transpose_goes_back_by_the_inverse_order():
    x = np.arange(24.0).reshape(2, 3, 4)
    y, (dx,) = run("transpose", x, axes=(2, 0, -2), dy=x.transpose(2, 0, 1))
    np.testing.assert_array_equal(y, x.transpose(2, 0, 1))
    np.testing.assert_array_equal(dx, x)


@pytest.mark.parametrize(
    ("shape", "to", "found"),
    [
        ((2, 6), (3, -1), (3, 4)),
        ((0, 3), (-1, 3), (0, 3)),
        ((), (-1,), (1,)),
        ((4,), (2, 2), (2, 2)),
        ((2, 2), (-1,), (4,)),
    ],
)
def test_reshape_finds_the_size_left_open(shape, to, found):
    assert get("reshape").shapes(shape, shape=to) == found == np.zeros(shape).reshape(to).shape


def test_rules_that_only_copy_say_so():
    movers = {"reshape", "transpose", "broadcast_to", "concatenate", "stack", "pad", "slice", "take"}
    assert all(get(name).moves for name in movers)
    assert not any(get(name).moves for name in ("add", "where", "sum", "max", "matmul"))


# --- what must be kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("add", "a_shape b_shape"),
        ("sub", "a_shape b_shape"),
        ("neg", ""),
        ("mul", "a b"),
        ("exp", "y"),
        ("log", "x"),
        ("sqrt", "y"),
        ("where", "condition a_shape b_shape"),
        ("matmul", "a b"),
        ("sum", "x_shape axis"),
        ("mean", "x_shape axis"),
        ("reshape", "x_shape"),
        ("transpose", "axes"),
        ("broadcast_to", "x_shape"),
        ("concatenate", "xs_shape axis"),
        ("stack", "axis"),
        ("pad", "widths"),
        ("slice", "x_shape index"),
        ("take", "x_shape indices axis"),
    ],
)
def test_backward_keeps_no_array_that_it_can_do_without(name, kept):
    assert get(name).saved == tuple(kept.split())


# --- shared helpers ---------------------------------------------------------------------------------------------------


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
@settings(max_examples=60, deadline=None)
def test_broadcasting_and_its_gradient(shapes):
    a, b = shapes.input_shapes
    assert broadcast("add", a=a, b=b) == shapes.result_shape
    g = np.arange(1.0, math.prod(shapes.result_shape) + 1).reshape(shapes.result_shape)
    want, places = np.zeros(a), np.broadcast_to(np.arange(math.prod(a)).reshape(a), shapes.result_shape)
    np.add.at(want.reshape(-1), places, g)
    np.testing.assert_array_equal(unbroadcast(np, g, a), want)


@pytest.mark.parametrize(
    ("axis", "rank", "axes"),
    [
        (None, 3, (0, 1, 2)),
        (None, 0, ()),
        (1, 3, (1,)),
        (-1, 3, (2,)),
        ((-1, 0), 3, (2, 0)),
        ((), 2, ()),
        ([0], 1, (0,)),
    ],
)
def test_axes_are_counted_from_zero(axis, rank, axes):
    assert normal_axes(axis, rank) == axes


def test_a_reduced_shape_keeps_or_drops_the_axes():
    assert reduced((2, 3, 4), (0, -1), keepdims=False) == (3,)
    assert reduced((2, 3, 4), (0, -1), keepdims=True) == (1, 3, 1)


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS = [
    ("add", [(2, 3), (2,)], {}, "shape_clash", ("b[…, 1|2, 1|3]", "a[2, 3], b[2]")),
    ("mul", [(2, 1), (3, 4)], {}, "shape_clash", ("b[…, 1|2, *]", "a[2, 1], b[3, 4]")),
    ("greater", [(2,), (3,)], {}, "shape_clash", ("b[…, 1|2]", "a[2], b[3]")),
    ("where", [(2,), (2,), (3,)], {}, "shape_clash", ("b[…, 1|2]", "condition[2], a[2], b[3]")),
    ("matmul", [(2, 3), (2, 3)], {}, "shape_clash", ("a[…, I, K], b[…, K, J]", "a[2, 3], b[2, 3]")),
    ("matmul", [(3,), (3, 2)], {}, "shape_clash", ("a[…, I, K]", "a[3]")),
    ("matmul", [(2, 2, 3), (3, 3, 2)], {}, "shape_clash", ("b[…, 1|2]", "a[2], b[3]")),
    ("sum", [(2, 3)], {"axis": 2}, "axis_range", ("-2 ≤ axis < 2", "axis = 2")),
    ("mean", [(2, 3)], {"axis": (0, -3)}, "axis_range", ("-2 ≤ axis < 2", "(0, -3)")),
    ("max", [(2, 3)], {"axis": (1, -1)}, "axis_repeated", ("distinct", "(1, -1)")),
    ("sum", [(2, 3)], {"axis": 0.5}, "rule_option", ("int", "0.5")),
    ("min", [(0, 3)], {"axis": 0}, "nothing_to_reduce", ("at least 1", "x[0, 3]")),
    ("mean", [(0,)], {}, "nothing_to_reduce", ("at least 1", "x[0]")),
    ("var", [(4, 2)], {"axis": 1, "correction": 2}, "nothing_to_reduce", ("at least 3", "x[4, 2], axis = 1")),
    ("clip", [(2,)], {"low": 1.0, "high": 0.0}, "rule_option", ("low ≤ high", "(1.0, 0.0)")),
    ("clip", [(2,)], {"low": math.nan}, "rule_option", ("low ≤ high", "nan")),
    ("reshape", [(2, 3)], {"shape": (4, 2)}, "reshape_size", ("6", "x[2, 3], shape = (4, 2)")),
    ("reshape", [(2, 3)], {"shape": (4, -1)}, "reshape_size", ("6", "(4, -1)")),
    ("reshape", [(2, 3)], {"shape": (-1, -1)}, "reshape_size", ("6", "(-1, -1)")),
    ("reshape", [(2, 3)], {"shape": (-2, -3)}, "reshape_size", ("6", "(-2, -3)")),
    ("reshape", [(0, 3)], {"shape": (0, -1)}, "reshape_size", ("0", "(0, -1)")),
    ("transpose", [(2, 3)], {"axes": (0,)}, "rule_option", ("2 × int", "(0,)")),
    ("transpose", [(2, 3)], {"axes": (0, 2)}, "axis_range", ("-2 ≤ axis < 2", "(0, 2)")),
    ("broadcast_to", [(2, 3)], {"shape": (2, 4)}, "shape_clash", ("x[…, 1|2, 1|4]", "x[2, 3]")),
    ("broadcast_to", [(2, 3)], {"shape": (1, 3)}, "shape_clash", ("[1, 3]", "x[2, 3]")),
    ("concatenate", [(2, 3), (2, 4)], {}, "shape_clash", ("xs[i][*, 3]", "xs[0][2, 3], xs[1][2, 4]")),
    ("concatenate", [(2, 3), (2,)], {"axis": 1}, "shape_clash", ("xs[i][2, *]", "xs[1][2]")),
    ("concatenate", [(2, 3)], {"axis": -3}, "axis_range", ("-2 ≤ axis < 2", "-3")),
    ("concatenate", [], {}, "rule_option", ("xs[0], …", "()")),
    ("stack", [(2,), (3,)], {}, "shape_clash", ("xs[i][2]", "xs[0][2], xs[1][3]")),
    ("stack", [(2,), (2,)], {"axis": 2}, "axis_range", ("-2 ≤ axis < 2", "2")),
    ("pad", [(2, 3)], {"widths": ((1, 1),)}, "rule_option", ("2 × (before ≥ 0, after ≥ 0)", "((1, 1),)")),
    ("pad", [(2,)], {"widths": ((0, -1),)}, "rule_option", ("1 × (before ≥ 0, after ≥ 0)", "((0, -1),)")),
    ("slice", [(2, 3)], {"index": (2,)}, "index_range", ("-2 ≤ i0 < 2, -3 ≤ i1 < 3", "x[2]")),
    ("slice", [(2, 3)], {"index": (..., 0, ...)}, "index_range", ("x[2, 3]", "x[..., 0, ...]")),
    ("slice", [(2, 3)], {"index": (0, 0, 0)}, "index_range", ("x[2, 3]", "x[0, 0, 0]")),
    ("slice", [(2,)], {"index": (True,)}, "index_range", ("x[2]", "x[True]")),
    ("slice", [(2,)], {"index": (slice(0, 2, 0),)}, "index_range", ("x[2]", "slice(0, 2, 0)")),
    ("slice", [(2,)], {"index": (0.5,)}, "index_range", ("x[2]", "x[0.5]")),
    ("take", [(2, 3), (4,)], {"axis": 2}, "axis_range", ("-2 ≤ axis < 2", "2")),
]


@pytest.mark.parametrize(("name", "shapes", "attributes", "key", "says"), ERRORS)
def test_an_error_says_what_was_expected_and_what_came(name, shapes, attributes, key, says):
    with pytest.raises(InputError) as caught:
        get(name).shapes(*shapes, **attributes)
    error = caught.value
    assert error.key == key
    for part, text in zip(("expected", "got"), says, strict=True):
        assert text in error.part(part)
    for lang in ("en", "zh"):
        with use_language(lang):
            assert "{" not in str(error.at("node1"))
            assert "node1" in error.part("problem")
            assert error.part("fix")


# --- PyTorch's conventions on ties ------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("abs", ([-1.0, 0.0, 2.0],), {}),
        ("maximum", ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), {}),
        ("minimum", ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), {}),
        ("clip", ([-2.0, -1.0, 0.5, 1.0, 3.0],), {"low": -1.0, "high": 1.0}),
        ("max", ([[2.0, 2.0, 1.0], [0.0, 4.0, 1.0]],), {"axis": 1}),
        ("min", ([[2.0, 1.0, 1.0], [0.0, 4.0, 0.0]],), {"axis": 1}),
        ("power", ([0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 2.0, 0.0]), {}),
    ],
)
def test_ties_are_decided_as_in_pytorch(name, inputs, attributes):
    torch = pytest.importorskip("torch")
    named = {"clip": "clamp", "max": "amax", "min": "amin", "power": "pow"}
    options = {{"low": "min", "high": "max", "axis": "dim"}[k]: v for k, v in attributes.items()}
    tensors = [torch.tensor(i, dtype=torch.float64, requires_grad=True) for i in inputs]
    output = getattr(torch, named.get(name, name))(*tensors, **options)
    output.sum().backward()
    y, gradients = run(name, *inputs, **attributes)
    np.testing.assert_allclose(y, output.detach().numpy(), rtol=1e-15)
    for found, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-15)
