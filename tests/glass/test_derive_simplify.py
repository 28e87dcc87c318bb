"""School algebra on formulas: each step by itself, and no step changes a value."""

from __future__ import annotations

import ast

import numpy as np
import pytest

import backlit as bl
from backlit.glass.derive_simplify import Facts, facts, simplified, slope, whole
from backlit.rules import get
from backlit.rules.formula import FormulaError, formulas_of, parse

X = np.array([[0.5, -2.0, 3.0], [4.0, 1.5, -0.25]])
ARRAYS = {
    "x": X,
    "v": np.array([2.0, -3.0]),
    "u": np.array([0.5, 8.0]),
    "k": np.array([2, 0]),
    "one": 1.0,
    "nil": 0.0,
    "mass": np.asarray(5.0),
    "none": None,
}
FACTS = Facts({"one": 1, "nil": 0, "none": None}, {"mass": 5.0}, {})


def values(line):
    """The formula before and after, by plain loops."""
    formula = parse(line)
    rank = len(formula.indices or ())
    shape = {0: (), 1: (2,), 2: (2, 3)}[rank]
    return formula.evaluate(ARRAYS, {}, shape), simplified(formula, FACTS).evaluate(ARRAYS, {}, shape)


STEPS = [
    ("y[n] = one * v[n]", "y[n] = v[n]"),
    ("y[n] = v[n] * one", "y[n] = v[n]"),
    ("y[n] = v[n] / one", "y[n] = v[n]"),
    ("y[n] = v[n] ** one", "y[n] = v[n]"),
    ("y[n] = v[n] + nil", "y[n] = v[n]"),
    ("y[n] = nil + v[n]", "y[n] = v[n]"),
    ("y[n] = v[n] - nil", "y[n] = v[n]"),
    ("y[n] = nil - v[n]", "y[n] = -v[n]"),
    ("y[n] = nil * v[n]", "y[n] = 0"),
    ("y[n] = v[n] * nil", "y[n] = 0"),
    ("y[n] = nil / v[n]", "y[n] = 0"),
    ("y[n] = -nil + v[n]", "y[n] = v[n]"),
    ("y[n] = (v[n] + nil) * (one - nil)", "y[n] = v[n]"),
    ("y[n] = exp(v[n] * one)", "y[n] = exp(v[n])"),
    ("y[n] = max(v[n], nil)", "y[n] = max(v[n], 0)"),
    ("y[n] = one[n] * v[n]", "y[n] = v[n]"),
    ("y[n] = Sum(i, x[n,i] * one)", "y[n] = Sum(i, x[n, i])"),
    ("y[n] = Sum(i, one) * Sum(i, x[n,i])", "y[n] = Count(i) * Sum(i, x[n, i])"),
    ("y[n] = v[n] if none == None else u[n]", "y[n] = v[n]"),
    ("y[n] = v[n] if none != None else u[n]", "y[n] = u[n]"),
    ("y[n] = v[n] * (u[n] != none)", "y[n] = v[n]"),
    ("y[n] = v[n] if one > nil else u[n]", "y[n] = v[n]"),
    ("y[n] = v[n] if mass > 0 else u[n]", "y[n] = v[n]"),
    ("y[n] = v[n] if mass < 5 else u[n]", "y[n] = u[n]"),
    ("y[n] = v[n] if v[n] > nil else u[n] + nil", "y[n] = v[n] if v[n] > 0 else u[n]"),
    ("y[n] = v[n] / mass * u[n] / 2", "y[n] = v[n] * u[n] / (mass * 2)"),
    ("y[n] = one / mass * u[n] / 2", "y[n] = u[n] / (mass * 2)"),
    ("y[n] = Sum(c, (k[n] == c) * x[n,c])", "y[n] = x[n, k[n]]"),
    ("y[n] = Sum(c, x[n,c] * (k[n] == c))", "y[n] = x[n, k[n]]"),
    ("y[n] = Sum(c, exp(x[n,c]) * (k[n] == c))", "y[n] = exp(x[n, k[n]])"),
    ("y[n] = Sum(c, (k[n] == c) * (x[n,c] + nil))", "y[n] = x[n, k[n]]"),
    ("y[n] = Sum(c, (k[n] == c) * Mean(c, x[n,c]))", "y[n] = Mean(c, x[n, c])"),
    ("y[n] = v[n] + Sum(c, x[n,c] * nil)", "y[n] = v[n]"),
    ("y[n] = v[n] + Mean(c, nil * x[n,c])", "y[n] = v[n]"),
]


@pytest.mark.parametrize(("line", "want"), STEPS)
def test_a_step_of_algebra(line, want):
    assert simplified(parse(line), FACTS).source == want
    before, after = values(line)
    np.testing.assert_allclose(after, before, rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    "line",
    [
        "y[n] = 1 - v[n]",
        "y[n] = 1 / v[n]",
        "y[n] = 2 ** v[n]",
        "y[n] = v[n] ** 2",
        "y[n] = v[n] - u[n]",
        "y[n] = -v[n]",
        "y[n] = v[n] * 2",
        "y[n] = v[n] / mass",
        "y[n] = v[n] / mass * u[n]",
        "y[n] = v[n] * u[n] / mass",
        "y[n] = Sum(i, x[n, i])",
        "y[n] = Max(i, x[n, i]) - Min(i, x[n, i])",
        "y[n] = v[n] if v[n] > u[n] else mass",
        "y[n] = Sum(c, (k[n] == c) * x[n, c] * v[n])",
        "y[n] = Sum(c, (v[n] > c) * x[n, c])",
        "y[n] = Sum(c, (c == c) * x[n, c])",
        "y[n, i] = x[n, i] / Sum(j, x[n, j])",
    ],
)
def test_what_must_stay_stays(line):
    assert simplified(parse(line), FACTS).source == line
    before, after = values(line)
    np.testing.assert_array_equal(after, before)


def test_a_mass_decides_a_condition_and_keeps_its_name_elsewhere():
    line = "y[n] = v[n] / mass if mass != 0 else 0"
    assert simplified(parse(line), FACTS).source == "y[n] = v[n] / mass"
    empty = Facts({}, {"mass": 0.0}, {})
    assert simplified(parse(line), empty).source == "y[n] = 0"


def test_a_scalar_may_decide_under_an_index_over_no_axes():
    """Where everything is reduced, y[*n] > 0 asks of one number."""
    found = simplified(parse("dx[*n,k] = x[*n,k] / y[*n] if y[*n] > 0 else 0"), Facts({}, {"y": 2.0}, {"n": ()}))
    assert found.source == "dx[k] = x[k] / y"


def test_an_index_over_no_axes_is_left_out_on_both_sides():
    found = simplified(parse("y[*n,c] = Sum(n, x[*n,c]) + Mean(n, b[*n])"), Facts({}, {}, {"n": ()}))
    assert (found.source, found.indices) == ("y[c] = x[c] + b", ("c",))
    assert simplified(parse("y[*n] = x[*n]"), Facts({}, {}, {"n": ()})).source == "y = x"
    assert simplified(parse("y = Count(n) * x"), Facts({}, {}, {"n": ()})).source == "y = x"


def test_an_index_over_some_axes_stays():
    line = "y[*n, c] = x[*n, c]"
    assert simplified(parse(line), Facts({}, {}, {"n": (2, 3)})).source == line


def test_the_formula_that_is_given_is_not_changed():
    formula = parse("y[n] = one * v[n] + Sum(c, (k[n] == c) * x[n, c])")
    before = ast.dump(formula.expression)
    simplified(formula, FACTS)
    assert ast.dump(formula.expression) == before


def test_the_other_formulas_of_the_rule_stay_with_it():
    formula = formulas_of(get("linear"))["z"]
    assert simplified(formula, FACTS).others == formula.others


# --- any expression ---------------------------------------------------------------------------------------------------


def expression(rng, depth):
    """A random expression whose value is finite: divisors are away from 0, powers small."""
    if depth == 0:
        return str(rng.choice(["v[n]", "u[n]", "one", "nil", "mass", "2", "x[n,k[n]]"]))
    a, b = (expression(rng, depth - 1) for _ in range(2))
    forms = [
        f"({a} + {b})", f"({a} - {b})", f"({a} * {b})", f"(-{a})", f"({a} / (1 + abs({b})))", f"({a}) ** one",
        f"({a} / mass * {b} / 2)", f"({a} if {b} > nil else {b})", f"({a} if mass > 2 else {b})",
        f"Sum(c, (k[n] == c) * ({a} + x[n,c]))", f"Mean(c, x[n,c] * {a})", f"({a} * (one == 1))", f"max({a}, {b})",
    ]  # fmt: skip
    return str(rng.choice(forms))


@pytest.mark.parametrize("seed", range(150))
def test_no_step_changes_a_value(seed):
    rng = np.random.default_rng(seed)
    before, after = values(f"y[n] = {expression(rng, 1 + seed % 3)}")
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)


# --- slopes and facts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("dx = dy * (1 - y ** 2)", "dx = 1 - y ** 2"),
        ("dx = dy if x > 0 else 0", "dx = 1 if x > 0 else 0"),
        ("dx = dy / x", "dx = 1 / x"),
        ("dx = y * (1 - y) * dy", "dx = y * (1 - y)"),
        ("dx = -dy", "dx = -1"),
    ],
)
def test_the_slope_puts_one_for_the_gradient(line, want):
    assert slope(parse(line), "dy").source == want


@pytest.mark.parametrize(("value", "text"), [(2.0, "2"), (0.5, "0.5"), (-1.0, "-1"), (float("inf"), "inf")])
def test_whole_numbers_have_no_decimal_point(value, text):
    assert str(whole(value)) == text


def test_what_a_call_gives_is_not_absent():
    """clip knows both bounds by the numbers it is given; without one, that bound is infinite."""
    rule = get("clip")
    both = facts(rule, {"x": X, "y": X, "low": -0.5, "high": 0.6}, {})
    assert {"low", "high"}.isdisjoint(both.numbers)
    assert both.decides == {"low": -0.5, "high": 0.6}
    one = facts(rule, {"x": X, "y": X, "low": float("-inf"), "high": 0.6}, {})
    assert one.numbers == {"low": float("-inf")}


def test_arrays_are_neither_numbers_nor_absent():
    rule = get("mse")
    given = facts(rule, {"weights": np.ones(3), "mass": np.asarray(3.0)}, {})
    assert "weights" not in given.numbers
    assert given.decides["mass"] == 3.0
    assert facts(rule, {"weights": 1.0, "mass": np.asarray(3.0)}, {}).numbers["weights"] == 1


def test_a_clipped_value_is_derived_with_its_own_bounds():
    model = bl.Model(lambda x: np.clip(bl.Dense(3)(x), -0.5, 0.6)).build((4,), seed=0, dtype="float64")
    rng = np.random.default_rng(0)
    derivation = bl.derive(model, 3 * rng.normal(size=(4, 4)), rng.normal(size=(4, 3)), loss="mse", lang="en")
    for equation in derivation.equations:
        if equation.stored is not None:
            np.testing.assert_allclose(equation.evaluate(), equation.stored, rtol=1e-12, atol=1e-15)


def test_what_is_no_formula_is_not_made_into_one():
    with pytest.raises(FormulaError):
        parse("y[n] = sorted(x[n])")
