"""Index formulas of windows: calculated indices, bounds, entries of attributes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backlit.glass.derive_simplify import Facts, simplified
from backlit.glass.terms import parts
from backlit.rules.formula import FormulaError, parse

X = np.array([1.0, 2.0, 4.0, 8.0])
W = np.array([10.0, 1.0])


def value(text, shape, attributes=None, **arrays):
    return parse(text).evaluate(arrays, attributes or {}, shape).tolist()


def test_an_index_may_be_calculated():
    assert value("z[i] = Sum(p, x[i*2 + p] * W[p])", (2,), x=X, W=W) == [12.0, 48.0]


def test_a_term_that_lies_beside_its_array_is_left_out():
    assert value("z[i] = Sum(p, x[i + p - 1] * W[p])", (5,), x=X, W=W) == [1.0, 12.0, 24.0, 48.0, 80.0]
    assert value("z[i] = Mean(p < 2, x[i + p - 1])", (5,), x=X) == [1.0, 1.5, 3.0, 6.0, 8.0]
    assert value("z[i] = Max(p < 2, -x[i + p - 1])", (5,), x=X) == [-1.0, -1.0, -2.0, -4.0, -8.0]
    assert value("z[i] = Min(p < 2, x[i + p - 1])", (5,), x=X) == [1.0, 1.0, 2.0, 4.0, 8.0]
    assert value("z[i] = Prod(p < 2, x[i + p - 1])", (5,), x=X) == [1.0, 2.0, 8.0, 32.0, 8.0]


def test_an_index_that_is_no_whole_number_is_beside_too():
    assert value("z[i] = Sum(p, x[(i - p) / 2] * W[p])", (5,), x=X, W=W) == [10.0, 1.0, 20.0, 2.0, 40.0]


def test_beside_an_array_outside_of_any_sum_is_an_error():
    with pytest.raises(FormulaError, match=r"i - 1 = -1.* of 4"):
        value("z[i] = x[i - 1]", (4,), x=X)


def test_only_the_innermost_sum_leaves_a_term_out():
    found = value("z[i] = Sum(q, W[q] * Sum(p < 2, x[i + p - 1]))", (5,), x=X, W=W)
    assert found == [11.0, 33.0, 66.0, 132.0, 88.0]


def test_an_index_may_have_a_bound():
    assert value("z[i] = Sum(p < 3, p * x[i])", (4,), x=X) == [3.0, 6.0, 12.0, 24.0]
    assert value("z = Sum(p < Count(i) / 2, q < 2, x[p*2 + q]) + 0 * Sum(i, x[i])", (), x=X) == 15.0
    assert value("z[i] = Sum(p < kernel[1], x[i])", (4,), {"kernel": (5, 2)}, x=X) == [2.0, 4.0, 8.0, 16.0]


def test_an_attribute_may_be_a_tuple_of_tuples():
    attributes = {"padding": ((1, 2), (3, 4)), "stride": (5, 6)}
    assert value("z = padding[0,1] + 10 * padding[1,0] + stride[1]", (), attributes, x=X) == 38.0


def test_terms_are_those_that_lie_on_the_array():
    found = parts(parse("z[i] = Sum(p, x[i + p - 1] * W[p])"), {"x": X, "W": W, "z": np.zeros(5)}, {}, (0,))
    assert [(dict(p.indices), p.value, p.reads) for p in found] == [
        ({"p": 1}, 1.0, (("x", (0,), 1.0), ("W", (1,), 1.0)))
    ]
    found = parts(parse("z[i] = Mean(p < 2, x[i + p - 1])"), {"x": X, "z": np.zeros(5)}, {}, (1,))
    assert [p.value for p in found] == [0.5, 1.0]


def test_the_largest_stands_for_a_maximum():
    (found,) = parts(parse("z[i] = Max(p < 2, x[i + p - 1])"), {"x": X, "z": np.zeros(5)}, {}, (2,))
    assert found.reads == (("x", (2,), 4.0),)


def test_how_windows_are_shown():
    formula = parse("z[i] = Sum(p < kernel[0], x[i*stride[0] + p*dilation[0] - padding[0,1]])")
    assert formula.text() == "z[i] = Σ_{p<kernel[0]} x[i·stride[0] + p·dilation[0] - padding[0,1]]"
    assert formula.latex() == (
        r"z_{i} = \sum_{p < \mathrm{kernel}_{0}} x_{i\,\mathrm{stride}_{0} + p\,\mathrm{dilation}_{0}"
        r" - \mathrm{padding}_{0,1}}"
    )
    assert parse("z[i] = Mean(p < 3, x[i + p])").text() == "z[i] = mean_{p<3}(x[i + p])"


def test_bounds_and_indices_are_worked_out():
    line = "z[i] = Sum(p < kernel[0], x[i*stride[0] + p - padding[0,1]])"
    numbers = {"kernel": (3, 2), "stride": (1, 1), "padding": ((1, 0), (0, 0))}
    found = simplified(parse(line), Facts(numbers, {}, {}))
    assert found.source == "z[i] = Sum(p < 3, x[i + p])"
    numbers["padding"], numbers["stride"] = ((0, 1), (0, 0)), (2, 1)
    assert simplified(parse(line), Facts(numbers, {}, {})).source == "z[i] = Sum(p < 3, x[i * 2 + p - 1])"


def test_the_group_of_a_channel_is_the_first_where_there_is_one():
    line = "z[c] = x[floor(c * groups / Count(c)) * 2 + c]"
    assert simplified(parse(line), Facts({"groups": 1}, {}, {})).source == "z[c] = x[c]"
    assert simplified(parse(line), Facts({"groups": 2}, {}, {})).source == "z[c] = x[floor(c * 2 / Count(c)) * 2 + c]"


def test_floor():
    assert value("z[i] = floor(x[i] / 3)", (4,), x=X) == [math.floor(v / 3) for v in X]
    assert parse("z[i] = x[floor(i / 2) + 1]").text() == "z[i] = x[⌊i / 2⌋ + 1]"
    assert parse("z[i] = floor(i / 2)").latex() == r"z_{i} = \left\lfloor \frac{i}{2} \right\rfloor"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("y = Sum(p <= 3, x[p])", "p <= 3 is not an index"),
        ("y = Sum(3 < p, x[p])", "3 < p is not an index"),
        ("y = Sum(p < q < 3, x[p])", "p < q < 3 is not an index"),
        ("y = Sum(p < k[q], x[p])", "index q is neither on the left nor summed over"),
    ],
)
def test_what_is_refused(text, says):
    with pytest.raises(FormulaError, match=says.replace("[", r"\[")):
        parse(text)
