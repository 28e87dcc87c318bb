"""Formulas with numbers filled in: what is shown, and that what is shown is the value."""

from __future__ import annotations

import re

import numpy as np
import pytest

from backlit.glass.derive_equations import Equation
from backlit.glass.derive_numbers import filled, number, size_at, value_at
from backlit.rules import get
from backlit.rules.formula import parse

X = np.array([[1.0, -2.0, 4.0], [0.5, 3.0, -1.0]])
V = np.array([2.0, -0.25])


def equation(line, shape, **arrays):
    return Equation("y", parse(line), arrays, shape, {}, 2, get("add"))


@pytest.mark.parametrize(
    ("value", "digits", "want"),
    [
        (1.0, 4, "1"),
        (1234.5678, 4, "1235"),
        (12345.678, 4, r"1.235 \cdot 10^{4}"),
        (0.00012345, 3, "0.000123"),
        (1e-7, 4, "10^{-7}"),
        (-1e6, 4, "{-10^{6}}"),
        (-0.5, 4, "{-0.5}"),
        (2 / 3, 6, "0.666667"),
        (float("inf"), 4, "inf"),
    ],
)
def test_number(value, digits, want):
    assert number(value, digits) == want


@pytest.mark.parametrize("seed", range(20))
def test_a_number_read_back_is_the_number_to_its_digits(seed):
    rng = np.random.default_rng(seed)
    value = float(rng.normal() * 10.0 ** rng.integers(-12, 12))
    text = number(value, 5).strip("{}") if value >= 0 else number(value, 5)[1:-1]
    read = re.sub(r"( \\cdot )?10\^\{(-?\d+)\}?", lambda m: f"{'' if m[1] else 1}e{m[2]}", text)
    assert float(read) == pytest.approx(value, rel=1e-4)


def test_a_sum_is_written_out():
    found = equation("y[n] = Sum(i, x[n,i] * w[i])", (2,), x=X, w=np.array([2.0, 1.0, 0.5]))
    assert filled(found, (0,)) == r"1 \cdot 2 + \left({-2}\right) \cdot 1 + 4 \cdot 0.5"
    assert value_at(found, (0,)) == 2.0
    assert size_at(found, (0,)) == 6.0


def test_a_long_sum_has_dots_before_its_last_term():
    x = np.arange(1.0, 8.0)
    found = equation("y = Sum(i, x[i])", (), x=x)
    assert filled(found, ()) == r"1 + 2 + 3 + \cdots + 7"
    assert filled(equation("y = Sum(i, x[i])", (), x=x[:5]), ()) == r"1 + 2 + 3 + \cdots + 5"
    assert filled(equation("y = Sum(i, x[i])", (), x=x[:4]), ()) == "1 + 2 + 3 + 4"
    assert value_at(found, ()) == 28.0


def test_a_sum_of_one_term_is_that_term():
    found = equation("y[n] = Sum(i, x[n,i]) * v[n]", (2,), x=X[:, :1], v=V)
    assert filled(found, (0,)) == r"1 \cdot 2"
    assert filled(found, (1,)) == r"0.5 \cdot \left({-0.25}\right)"


def test_a_mean_is_a_fraction_before_its_sum():
    found = equation("y[n] = Mean(i, x[n,i])", (2,), x=X)
    assert filled(found, (1,)) == r"\frac{1}{3}\left(0.5 + 3 + ({-1})\right)"
    assert filled(equation("y[n] = Mean(i, x[n,i])", (2,), x=X[:, 1:2]), (1,)) == "3"


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("y[n] = Max(i, x[n,i])", "4"),
        ("y[n] = Min(i, x[n,i])", "{-2}"),
        ("y[n] = Sum(i, x[n,i]) / Count(i)", r"\frac{1 + ({-2}) + 4}{3}"),
        ("y[n] = v[n] if v[n] > 0 else 0", "2"),
        ("y[n] = v[n] * (v[n] > 5)", r"2 \cdot 0"),
        ("y[n] = Sum(i, x[n,i] * Sum(j, x[n,j]))", "3 + ({-6}) + 12"),
    ],
)
def test_conditions_extremes_and_inner_sums_are_their_values(line, want):
    found = equation(line, (2,), x=X, v=V)
    assert filled(found, (0,)) == want


def test_the_branch_that_does_not_hold_is_not_shown():
    found = equation("y[n] = v[n] * 3 if v[n] > 0 else 7", (2,), v=V)
    assert [filled(found, (n,)) for n in range(2)] == [r"2 \cdot 3", "7"]
    assert [value_at(found, (n,)) for n in range(2)] == [6.0, 7.0]


def test_powers_of_negative_numbers_keep_their_parentheses():
    assert filled(equation("y[n] = v[n] ** 2", (2,), v=V), (1,)) == r"\left({-0.25}\right)^{2}"


def test_a_gradient_of_something_broadcast_adds_all_its_places():
    dy = np.array([[1.0, 2.0], [10.0, 20.0]])
    found = Equation("∂x", parse("dx = dy * 3"), {"x": np.zeros(2), "dy": dy}, (2,), {}, 2, get("mul"))
    assert filled(found, (1,)) == r"2 \cdot 3 + 20 \cdot 3"
    assert value_at(found, (1,)) == 66.0
    assert size_at(found, (0,)) == 33.0


def test_a_part_of_a_joined_array_is_found_at_its_place():
    """Of three inputs in a row, the second, of shape (2, 2), starts at entry 3."""
    joined = np.arange(9.0)
    found = Equation(
        "∂b", parse("dxs[p] = 10 * xs[p]"), {"xs": joined}, (2, 2), {}, 2, get("add"), part=slice(3, 7)
    )  # fmt: skip
    assert [value_at(found, at) for at in np.ndindex(2, 2)] == [30.0, 40.0, 50.0, 60.0]
    np.testing.assert_array_equal(found.evaluate(), [[30.0, 40.0], [50.0, 60.0]])
    assert filled(found, (1, 0)) == r"10 \cdot 5"


@pytest.mark.parametrize("index", [(n, i) for n in range(2) for i in range(3)])
def test_the_value_is_numpys(index):
    found = equation("y[n,i] = exp(x[n,i]) / Sum(j, exp(x[n,j])) - v[n]", (2, 3), x=X, v=V)
    want = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True) - V[:, None]
    assert value_at(found, index) == pytest.approx(want[index], rel=1e-14)
    assert size_at(found, index) == pytest.approx(abs(want[index]), rel=1e-14)


def test_the_size_of_terms_that_cancel_is_that_of_the_terms():
    found = equation("y[n] = Sum(i, x[n,i])", (2,), x=np.array([[1e8, -1e8, 1.0], [1.0, 1.0, 1.0]]))
    assert value_at(found, (0,)) == 1.0
    assert size_at(found, (0,)) == 2e8 + 1
