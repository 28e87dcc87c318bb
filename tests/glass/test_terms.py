"""The terms of an entry and the entries each of them reads, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backlit.glass.terms import parts
from backlit.rules.formula import parse

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])
W = np.array([[2.0, 1.0, -1.0], [0.25, -3.0, 1.0], [1.0, 1.0, 1.0], [0.0, 2.0, 5.0]])


def of(line, index, attributes=None, **arrays):
    return parts(parse(line), arrays, attributes or {}, index)


def reads(part):
    """What is read, each once, as (name, index)."""
    return list(dict.fromkeys((name, at) for name, at, _ in part.reads))


def test_a_weighted_sum_is_taken_apart_and_the_bias_is_a_term():
    b = np.array([7.0, 8.0, 9.0, 10.0])
    found = of("z[n,o] = Sum(i, x[n,i] * W[o,i]) + b[o]", (1, 3), x=X, W=W, b=b, z=X @ W.T + b)
    assert [(dict(p.indices), p.value) for p in found] == [
        ({"i": 0}, 0.0),
        ({"i": 1}, 8.0),
        ({"i": 2}, -5.0),
        ({}, 10.0),
    ]
    assert [reads(p) for p in found[:3]] == [[("x", (1, i)), ("W", (3, i))] for i in range(3)]
    assert reads(found[3]) == [("b", (3,))]
    assert found[1].reads == (("x", (1, 1), 4.0), ("W", (3, 1), 2.0))


def test_the_shape_of_a_gradient_is_that_of_what_it_is_by():
    found = of("dW[o,i] = Sum(n, dz[n,o] * x[n,i])", (2, 1), x=X, W=W, dz=np.arange(8.0).reshape(2, 4))
    assert [(p.indices["n"], p.value) for p in found] == [(0, 2.0 * -2.0), (1, 6.0 * 4.0)]
    assert reads(found[1]) == [("dz", (1, 2)), ("x", (1, 1))]


def test_a_starred_index_is_named_with_all_its_axes():
    x = np.arange(12.0).reshape(2, 3, 2)
    found = of("db[c] = Sum(n, dz[*n,c])", (1,), dz=x, b=np.zeros(2))
    assert [p.indices["n"] for p in found] == [(i, j) for i in range(2) for j in range(3)]
    assert [p.value for p in found] == [x[i, j, 1] for i in range(2) for j in range(3)]
    assert reads(found[4]) == [("dz", (1, 1, 1))]


def test_a_mean_divides_each_of_its_terms():
    found = of("y[n] = Mean(k, x[n,k])", (0,), x=X, y=np.zeros(2))
    assert [p.value for p in found] == [1 / 3, -2 / 3, 1.0]


def test_a_difference_of_sums_has_negative_terms():
    found = of("y[n] = Sum(k, x[n,k]) - Sum(j, W[n,j])", (0,), x=X, W=W[:2], y=np.zeros(2))
    assert [p.value for p in found] == [1.0, -2.0, 3.0, -2.0, -1.0, 1.0]
    assert [name for p in found for name, _ in reads(p)] == ["x"] * 3 + ["W"] * 3


def test_what_a_sum_is_divided_by_is_read_by_each_term():
    found = of("loss = Sum(n, p[n] * p[n]) / mass", (), p=np.array([2.0, 3.0]), mass=np.asarray(4.0), loss=np.zeros(()))
    assert [p.value for p in found] == [1.0, 2.25]
    assert [reads(p) for p in found] == [[("p", (n,)), ("mass", ())] for n in range(2)]


def test_a_factor_before_a_sum_is_read_by_each_term_too():
    found = of("y[n] = s[n] * -Sum(k, x[n,k])", (1,), x=X, s=np.array([9.0, 2.0]), y=np.zeros(2))
    assert [p.value for p in found] == [-1.0, -8.0, 2.0]
    assert all(("s", (1,)) in reads(p) for p in found)


@pytest.mark.parametrize(("function", "where"), [("Max", (0, 2)), ("Min", (0, 1))])
def test_an_extreme_reads_the_entry_it_takes(function, where):
    (found,) = of(f"y[n] = {function}(k, x[n,k])", (0,), x=X, y=np.zeros(2))
    assert found.value == X[where]
    assert reads(found) == [("x", where)]


def test_of_a_sum_inside_a_term_the_largest_part_is_read():
    x = np.array([0.0, 3.0, 1.0])
    (found,) = of("y[c] = exp(x[c]) / Sum(k, exp(x[k]))", (2,), x=x, y=np.zeros(3))
    assert found.value == pytest.approx(math.e / (1 + math.e**3 + math.e), rel=1e-14)
    assert reads(found) == [("x", (2,)), ("x", (1,))]


def test_the_largest_part_is_largest_by_its_size():
    (found,) = of("y[n] = exp(Sum(k, x[n,k]))", (1,), x=-X, y=np.zeros(2))
    assert reads(found) == [("x", (1, 1))]


@pytest.mark.parametrize(("i", "value", "want"), [(0, 5.0, {"dy", "x"}), (1, 0.0, {"x"}), (2, 7.0, {"dy", "x"})])
def test_a_branch_rests_on_its_condition(i, value, want):
    dy = np.array([5.0, 6.0, 7.0])
    (found,) = of("dx = dy if x > 0 else 0", (i,), x=X[0], dy=dy)
    assert found.value == value
    assert {name for name, _ in reads(found)} == want
    assert {at for _, at in reads(found)} == {(i,)}


def test_sums_in_the_branch_that_holds_rest_on_the_condition_each():
    found = of("y[n] = Sum(k, x[n,k]) if s[n] > 0 else 0", (0,), x=X, s=np.array([1.0, -1.0]), y=np.zeros(2))
    assert [p.value for p in found] == [1.0, -2.0, 3.0]
    assert [reads(p)[1] for p in found] == [("s", (0,))] * 3
    (none,) = of("y[n] = Sum(k, x[n,k]) if s[n] > 0 else 0", (1,), x=X, s=np.array([1.0, -1.0]), y=np.zeros(2))
    assert (none.value, reads(none)) == (0.0, [("s", (1,))])


def test_a_gradient_of_something_broadcast_has_a_term_for_each_place():
    dy = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    found = of("dx = dy * 2", (1,), x=np.zeros(3), dy=dy)
    assert sorted(p.value for p in found) == [4.0, 40.0]
    assert sorted(reads(p)[0] for p in found) == [("dy", (0, 1)), ("dy", (1, 1))]


def test_an_input_that_is_broadcast_is_read_where_it_stands():
    (found,) = of("y = a * b", (1, 2), a=X, b=np.array([[10.0], [100.0]]), y=np.zeros((2, 3)))
    assert found.value == -100.0
    assert reads(found) == [("a", (1, 2)), ("b", (1, 0))]


def test_along_an_axis_the_place_in_the_array_is_named():
    found = of("y[*n] = Sum(k, x[*n,k])", (2,), {"axis": 0}, x=X, y=np.zeros(3))
    assert [p.value for p in found] == [3.0, -1.0]
    assert [reads(p) for p in found] == [[("x", (0, 2))], [("x", (1, 2))]]


def test_a_label_says_which_entry_is_read():
    (found,) = of("y[n] = -x[n, k[n]]", (1,), x=X, k=np.array([0, 2]), y=np.zeros(2))
    assert found.value == 1.0
    assert set(reads(found)) == {("k", (1,)), ("x", (1, 2))}


@pytest.mark.parametrize("index", [(n, o) for n in range(2) for o in range(4)])
def test_the_terms_add_up_to_the_entry(index):
    """Against NumPy: (x Wᵀ) / (1 + s²) less its mean over the units."""
    s = np.array([0.5, -2.0])
    z = X @ W.T
    line = "y[n,o] = Sum(i, x[n,i] * W[o,i]) / (1 + s[n] ** 2) - Mean(j, z[n,j])"
    found = of(line, index, x=X, W=W, s=s, z=z, y=np.zeros_like(z))
    want = z / (1 + s[:, None] ** 2) - z.mean(axis=1, keepdims=True)
    assert len(found) == 3 + 4
    assert math.fsum(p.value for p in found) == pytest.approx(want[index], rel=1e-13)
