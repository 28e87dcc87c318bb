"""Index formulas: what is read, what it evaluates to, how it is shown, and what is refused."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from backlit.core.i18n import use_language
from backlit.rules import Rule, get
from backlit.rules.formula import Arithmetic, FormulaError, bind, formulas_of, parse

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def value(text, shape=(), attributes=None, **arrays):
    return parse(text).evaluate(arrays, attributes or {}, shape)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_parts():
    formula = parse("z[*n,o] = Sum(i, x[*n,i] * W[o,i]) + b[o] * scale")
    assert (formula.target, formula.indices) == ("z", ("*n", "o"))
    assert formula.names == {"x", "W", "b", "scale"}
    assert not formula.elementwise


def test_elementwise_is_what_has_no_index():
    assert parse("y = max(x, 0)").elementwise
    assert not parse("loss = Sum(n, x[n])").elementwise
    assert not parse("y[*n] = x[*n]").elementwise


def test_indices_are_no_names_and_pi_is_known():
    assert parse("y[k] = k * pi + Sum(j, j * x[j])").names == {"x"}


def test_formulas_are_equal_by_their_text():
    assert parse("y = x") == parse(" y = x ")
    assert parse("y = x") != parse("y = x + 0")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("y = x +", "invalid syntax"),
        ("x + 1", "target = expression"),
        ("a = b = x", "target = expression"),
        ("y.z = x", "the target is a name"),
        ("y[i+1] = x", "i + 1 is not an index"),
        ("y[i] = Sum(j, x[i,k])", "index k is neither on the left nor summed over"),
        ("y[i] = x[*i,*i]", "at most one index can be starred"),
        ("y = foo(x)", "foo is not a function of formulas; known are Sum, Prod"),
        ("y = exp(x, 2)", "exp takes 1 argument(s), not 2"),
        ("y = max(x)", "max takes 2 argument(s), not 1"),
        ("y = exp(x, base=2)", "exp takes 1"),
        ("y = Sum(x[i])", "write Sum(index, expression)"),
        ("y = Count()", "write Count(index)"),
        ("y = Sum(3, x)", "3 is not an index"),
        ("y = x.T", "x.T cannot stand in a formula"),
        ("y = [x]", "[x] cannot stand in a formula"),
        ("y = x @ x", "cannot stand in a formula"),
        ("y = (x + 1)[0]", "only a name can be indexed"),
    ],
)
def test_what_is_refused_says_why(text, says):
    with pytest.raises(FormulaError) as refused:
        parse(text)
    assert repr(text) in str(refused.value)
    assert says in str(refused.value)


def test_names_that_a_rule_does_not_have_are_refused():
    odd = Rule("odd", lambda xp, x: x, None, shapes=None, formulas=("y = x * q",), cases=None, source="")
    with pytest.raises(FormulaError, match=r"odd: .*unknown \['q'\]; known are \['dx', 'dy', 'x', 'y'\]"):
        formulas_of(odd)


# --- evaluating -------------------------------------------------------------------------------------------------------


def test_a_layer_by_hand():
    W, b = np.array([[1.0, 0.0, -1.0], [2.0, 2.0, 2.0]]), np.array([10.0, 20.0])
    z = value("z[*n,o] = Sum(i, x[*n,i] * W[o,i]) + b[o]", (2, 2), x=X, W=W, b=b)
    assert z.tolist() == [[8.0, 32.0], [8.0, 50.0]]


@pytest.mark.parametrize("lead", [(), (1,), (2,), (2, 3)])
def test_a_starred_index_runs_over_any_number_of_axes(lead):
    x = np.arange(math.prod(lead) * 2.0).reshape(*lead, 2)
    assert np.array_equal(value("y[*n] = Sum(i, x[*n,i])", lead, x=x), x.sum(axis=-1))
    assert np.array_equal(value("y[*n] = x[*n,1]", lead, x=x), x[..., 1])
    assert value("s = Sum(n, i, x[*n,i])", x=x) == x.sum()


def test_a_starred_index_may_stand_last():
    assert value("y[n] = Mean(k, x[n,*k])", (2,), x=X.reshape(2, 3, 1)).tolist() == [2.0, 5.0]


def test_starred_axes_broadcast_and_their_gradients_are_summed():
    a, b = np.ones((2, 1, 1, 3)), np.arange(12.0).reshape(4, 3, 1)
    y = value("y[*n,i,j] = Sum(k, a[*n,i,k] * b[*n,k,j])", (2, 4, 1, 1), a=a, b=b)
    assert np.array_equal(y, a @ b)
    da = value("da[*n,i,k] = Sum(j, dy[*n,i,j] * b[*n,k,j])", a.shape, dy=np.ones_like(y), b=b)
    assert da[:, 0, 0].tolist() == [[18.0, 22.0, 26.0]] * 2


def test_elementwise_broadcasts_and_sums_the_gradient_back():
    a, b = X, np.array([1.0, 10.0, 100.0])
    assert np.array_equal(value("y = a * b", (2, 3), a=a, b=b), a * b)
    assert value("db = dy * a", (3,), dy=np.ones((2, 3)), a=a).tolist() == [5.0, 7.0, 9.0]
    assert value("db = dy", (), dy=np.ones((2, 3))) == 6.0
    assert value("db = dy", (2, 1), dy=np.ones((2, 3))).tolist() == [[3.0], [3.0]]


def test_an_output_is_never_summed():
    with pytest.raises(FormulaError, match="the right side has shape"):
        value("y = a", (), a=X)


def test_reductions_over_an_index():
    for name, want in (("Sum", 15.0), ("Prod", 120.0), ("Mean", 5.0), ("Max", 6.0), ("Min", 4.0)):
        assert value(f"y[n] = {name}(k, x[n,k])", (2,), x=X)[1] == want
    assert value("y[n] = Sum(k, x[n,k]) / Count(k)", (2,), x=X).tolist() == [2.0, 5.0]


def test_an_entry_may_be_left_out_of_a_product():
    assert value("y[k] = Prod(j, x[j] if j != k else 1)", (3,), x=np.array([2.0, 0.0, 5.0])).tolist() == [
        0.0,
        10.0,
        0.0,
    ]


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh"])
def test_functions_of_a_number(name):
    x = np.array([1e-12, 0.5, 2.0])
    with mpmath.workdps(40):
        want = [float(getattr(mpmath, name)(mpmath.mpf(v))) for v in x]
    np.testing.assert_allclose(value(f"y = {name}(x)", (3,), x=x), want, rtol=1e-15)


def test_an_index_may_be_the_entry_of_an_array():
    assert value("y[n] = x[n, labels[n]]", (2,), x=X, labels=np.array([2, 0])).tolist() == [3.0, 4.0]


def test_an_index_below_zero_does_not_wrap():
    with pytest.raises(FormulaError, match=r"x\[labels\[n\]\] at \[-1\]"):
        value("y[n] = x[labels[n]]", (1,), x=X[0], labels=np.array([-1]))


def test_conditions_are_one_or_zero_and_a_zero_decides():
    assert value("y = (x > 2) - (x == 5) / 2", (2, 3), x=X).tolist() == [[0, 0, 1], [1, 0.5, 1]]
    assert value("y = (x > 0) * log(x)", (2,), x=np.array([0.0, 1.0])).tolist() == [0.0, 0.0]
    assert value("y = 0 < x <= 1", (3,), x=np.array([0.0, 1.0, 2.0])).tolist() == [0, 1, 0]
    assert value("y = x > 1 and not x > 2 or x == 9", (3,), x=np.array([2.0, 3.0, 9.0])).tolist() == [1, 0, 1]


def test_only_the_branch_that_holds_is_evaluated():
    assert value("y = total / mass if mass != 0 else 0", total=np.array(3.0), mass=np.array(0.0)) == 0
    assert value("y[n] = x[labels[n]] if labels[n] >= 0 else 7", (1,), x=X[0], labels=np.array([-1]))[0] == 7


def test_functions():
    x = np.array([-1.5, 0.0, 0.5])
    for text, want in (
        ("exp(x)", np.exp(x)),
        ("sqrt(abs(x))", np.sqrt(np.abs(x))),
        ("log(2 + x)", np.log(2 + x)),
        ("tanh(x)", np.tanh(x)),
        ("sigmoid(x)", 1 / (1 + np.exp(-x))),
        ("erf(x)", [math.erf(v) for v in x]),
        ("sign(x)", np.sign(x)),
        ("max(x, 0) + min(x, 0)", x),
        ("-x ** 2 + +x", x - x**2),
        ("cos if pi > 3 else sin", [1.0, 1.0, 1.0]),
    ):
        found = value(f"y = {text}", (3,), x=x, attributes={"cos": 1.0, "sin": 0.0})
        assert np.allclose(found, want, rtol=1e-15, atol=0), text


def test_numbers_that_are_not_finite_raise_nothing():
    assert value("y = 1 / (1 + exp(-x))", (1,), x=np.array([-1000.0]))[0] == 0.0
    assert value("y = 1 / x", (1,), x=np.array([0.0]))[0] == math.inf


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (2, 0), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_the_attribute_axis_says_which_axes_go(axis, keepdims):
    x = np.arange(24.0).reshape(2, 3, 4)
    call = {"axis": axis, "keepdims": keepdims}
    y = x.sum(axis=axis, keepdims=keepdims)
    assert np.array_equal(value("y[*n] = Sum(k, x[*n,k])", y.shape, call, x=x), y)
    dy = np.arange(1.0, y.size + 1).reshape(y.shape)
    want = np.broadcast_to(dy if keepdims or axis is None else np.expand_dims(dy, axis), x.shape)
    assert np.array_equal(value("dx[*n,k] = dy[*n]", x.shape, call, dy=dy, x=x), want)


def test_the_range_of_an_index_may_come_from_another_formula():
    rule = get("mean")
    gradient = formulas_of(rule)["dx"]
    assert gradient.evaluate({"dy": np.array(6.0)}, {"axis": None}, (2, 3)).tolist() == [[1.0] * 3] * 2
    mass = formulas_of(get("mse"))["mass"]
    assert mass.evaluate({"weights": 1.0, "pred": X, "target": X, "loss": np.array(0.0)}, {}, ()) == 2.0
    with pytest.raises(FormulaError, match="no array tells how far index m runs"):
        value("y = Count(m)")


def test_sizes_that_clash_are_refused():
    with pytest.raises(FormulaError, match="index n runs over both"):
        value("y[n] = x[n] + b[n]", (2,), x=np.zeros(2), b=np.zeros(3))
    with pytest.raises(FormulaError, match="index n runs over both"):
        value("y[n] = x[n] + b[n]", (2,), x=np.zeros(2), b=np.zeros(1))
    with pytest.raises(FormulaError, match=r"plain indices \[n, k\] for an array of shape \(2,\)"):
        value("y[n] = Sum(k, x[n,k])", (2,), x=np.zeros(2))
    with pytest.raises(FormulaError, match=r"x has shape \(2, 3\), so it needs indices"):
        value("y[n] = x * b[n]", (2,), x=X, b=np.zeros(2))


def test_what_is_absent_takes_the_rules_number():
    rule = get("linear")
    x, W = X, np.ones((1, 3))
    z = x @ W.T
    found = formulas_of(rule)["z"].evaluate(bind(rule, (x, W, None), (z,), {}), {}, z.shape)
    assert np.array_equal(found, z)


def test_moved_entries_count_through_the_whole_array():
    source = np.array([[2, -1], [0, 2]])
    y = value("y[*p] = x[source(p)] if source(p) >= 0 else 9", (2, 2), x=X[:1].T, source=source)
    assert y.tolist() == [[3.0, 9.0], [1.0, 3.0]]
    dx = value(
        "dx[*q] = Sum(p, dy[*p] * (source(p) == q))", (3, 1), dy=np.array([[1.0, 2.0], [3.0, 4.0]]), source=source
    )
    assert dx.tolist() == [[3.0], [0.0], [5.0]]


def test_any_number_type():
    with mpmath.workdps(60):
        formula = parse("y = x * (1 + erf(x / sqrt(2))) / 2 + pi")
        y = formula.evaluate({"x": np.array([0.5])}, {}, (1,), arithmetic=Arithmetic(mpmath.mpf, mpmath))[0]
        want = mpmath.mpf("0.5") * mpmath.ncdf(mpmath.mpf("0.5")) + mpmath.pi
        assert abs(y - want) < mpmath.mpf(10) ** -58


# --- one entry, and its terms -----------------------------------------------------------------------------------------


def test_terms_of_a_gradient_are_the_samples():
    dz = np.array([[1.0, -1.0], [0.5, 2.0]])
    formula, arrays = parse("dW[o,i] = Sum(n, dz[*n,o] * x[*n,i])"), {"dz": dz, "x": X, "W": np.zeros((2, 3))}
    assert formula.terms(arrays, {}, (1, 2)) == [({"n": 0}, -3.0), ({"n": 1}, 12.0)]
    assert formula.at(arrays, {}, (1, 2)) == 9.0


def test_terms_beside_the_sum_and_signs():
    arrays = {"x": X, "b": np.array([1.0, 2.0]), "z": np.zeros(2)}
    formula = parse("z[n] = b[n] - Sum(k, x[n,k]) * 2")
    assert formula.terms(arrays, {}, (1,)) == [({}, 2.0), ({"k": 0}, -8.0), ({"k": 1}, -10.0), ({"k": 2}, -12.0)]
    assert formula.at(arrays, {}, (1,)) == -28.0


@pytest.mark.parametrize(
    "text",
    [
        "y[n] = Mean(k, x[n,k])",
        "y[n] = -Sum(k, x[n,k]) / mass",
        "y[n] = mass * (Sum(k, x[n,k]) + x[n,0])",
        "y[n] = Sum(k, x[n,k]) / mass if mass != 0 else 0",
        "y[n] = log(Sum(k, x[n,k]))",
        "y[n] = Max(k, x[n,k])",
    ],
)
def test_terms_add_up(text):
    arrays = {"x": X, "mass": np.array(4.0), "y": np.zeros(2)}
    terms = parse(text).terms(arrays, {}, (1,))
    assert sum(v for _, v in terms) == pytest.approx(parse(text).at(arrays, {}, (1,)), rel=1e-15)
    assert len(terms) == (1 if "log" in text or "Max" in text else 4 if "x[n,0]" in text else 3)


def test_a_starred_index_is_shown_by_its_axes():
    x = np.arange(4.0).reshape(2, 2, 1)
    terms = parse("db[o] = Sum(n, x[*n,o])").terms({"x": x, "b": np.zeros(1)}, {}, (0,))
    assert terms == [({"n": (0, 0)}, 0.0), ({"n": (0, 1)}, 1.0), ({"n": (1, 0)}, 2.0), ({"n": (1, 1)}, 3.0)]


def test_what_was_broadcast_has_a_term_for_each_place():
    formula, arrays = parse("db = dy * a"), {"dy": np.ones((2, 3)), "a": X, "b": np.zeros(3)}
    assert formula.terms(arrays, {}, (1,)) == [({"p": (0, 1)}, 2.0), ({"p": (1, 1)}, 5.0)]
    assert formula.at(arrays, {}, (1,)) == 7.0


def test_one_entry_under_an_axis_and_of_a_number():
    arrays = {"x": X, "y": np.zeros(3)}
    assert parse("y[*n] = Sum(k, x[*n,k])").at(arrays, {"axis": 0}, (2,)) == 9.0
    assert parse("s = Sum(n, k, x[n,k])").at({"x": X, "s": np.array(0.0)}, {}, ()) == 21.0


def test_one_entry_needs_the_shape():
    with pytest.raises(FormulaError, match="give dW, or what it is the gradient of"):
        parse("dW[o] = Sum(n, dz[n,o])").at({"dz": X}, {}, (0,))


# --- showing ----------------------------------------------------------------------------------------------------------

SHOWN = [
    (
        "z[*n,o] = Sum(i, x[*n,i] * W[o,i]) + b[o]",
        "z[n,o] = Σᵢ x[n,i]·W[o,i] + b[o]",
        r"z_{n,o} = \sum_{i} x_{n,i}\,W_{o,i} + b_{o}",
    ),
    (
        "dW[o,i] = Sum(n, dz[*n,o] * x[*n,i])",
        "∂L/∂W[o,i] = Σₙ ∂L/∂z[n,o]·x[n,i]",
        r"\frac{\partial L}{\partial W_{o,i}} = \sum_{n} \frac{\partial L}{\partial z_{n,o}}\,x_{n,i}",
    ),
    (
        "dx = dy if x > 0 else 0",
        "∂L/∂x = {∂L/∂y if x > 0; 0 otherwise}",
        (
            r"\frac{\partial L}{\partial x} = \begin{cases} \frac{\partial L}{\partial y} & \text{if } x > 0"
            r" \\ 0 & \text{otherwise} \end{cases}"
        ),
    ),
    (
        "loss = Sum(n, weights[n] * Mean(k, (pred[n,*k] - target[n,*k])**2)) / mass",
        "loss = (Σₙ weights[n]·meanₖ((pred[n,k] - target[n,k])²)) / mass",
        (
            r"\mathrm{loss} = \frac{\sum_{n} \mathrm{weights}_{n}\,\operatorname*{mean}_{k}"
            r"\left(\left(\mathrm{pred}_{n,k} - \mathrm{target}_{n,k}\right)^{2}\right)}{\mathrm{mass}}"
        ),
    ),
    ("y = 1 / (1 + exp(-x))", "y = 1 / (1 + exp(-x))", r"y = \frac{1}{1 + e^{-x}}"),
    ("m = beta1 * m - 1e-8 * delta", "m = β₁·m - 1e-8·δ", r"m = \beta_{1}\,m - 10^{-8}\,\delta"),
    ("y = x if x > 1 else -x if x < -1 else 0.5", "y = {x if x > 1; -x if x < -1; 0.5 otherwise}", None),
    ("y = a - (b - c) - d", "y = a - (b - c) - d", r"y = a - \left(b - c\right) - d"),
    ("y = a * (b * c) / (d * e)", "y = a·b·c / (d·e)", r"y = \frac{a\,b\,c}{d\,e}"),
    ("y = (a / b) ** 2 * -c", "y = (a / b)²·(-c)", r"y = \left(\frac{a}{b}\right)^{2}\,\left(-c\right)"),
    ("y = a - -b * c", "y = a - (-b·c)", None),
    ("y = -(a + b) ** p", "y = -(a + b)^p", r"y = -\left(a + b\right)^{p}"),
    ("y = a ** -2 + x * 3", "y = a^(-2) + x·3", r"y = a^{-2} + x \cdot 3"),
    ("y = sqrt(x) + sqrt(x + 1)", "y = √x + √(x + 1)", r"y = \sqrt{x} + \sqrt{x + 1}"),
    ("y = abs(x) * sigmoid(x)", "y = |x|·σ(x)", r"y = \left|x\right|\,\sigma\left(x\right)"),
    ("y = dy ** 2 / dy", "y = (∂L/∂y)² / (∂L/∂y)", None),
    ("y = (x > 0) - (x <= 0 and x != c)", "y = [x > 0] - [x ≤ 0 ∧ x ≠ c]", None),
    ("y = a if not (x > 0 or x == c) else b", "y = {a if ¬(x > 0 ∨ x = c); b otherwise}", None),
    ("y[n] = Max(k, x[n,k]) + Count(k)", "y[n] = maxₖ(x[n,k]) + Nₖ", r"y_{n} = \max_{k}\left(x_{n,k}\right) + N_{k}"),
    ("y = c * Sum(n, t, x[n,t])", "y = c·(Σₙₜ x[n,t])", None),
    ("y = Sum(c, x[c])", "y = Σ_c x[c]", r"y = \sum_{c} x_{c}"),
    ("y = Sum(n, x[n, labels[n]])", "y = Σₙ x[n,labels[n]]", r"y = \sum_{n} x_{n,\mathrm{labels}_{n}}"),
    ("y = max(running_mean, 0)", "y = max(running_mean, 0)", r"y = \max\left(\mathrm{running\_mean}, 0\right)"),
    ("y = tanh(erf(x))", None, r"y = \tanh\left(\operatorname{erf}\left(x\right)\right)"),
    ("y = 2 * expm1(x)", "y = 2·(exp(x) - 1)", r"y = 2\,\left(e^{x} - 1\right)"),
    ("y = log1p(a + b)", "y = log(1 + (a + b))", r"y = \log\left(1 + \left(a + b\right)\right)"),
    ("y = sin(x) ** 2 - cos(x)", "y = sin(x)² - cos(x)", r"y = \sin\left(x\right)^{2} - \cos\left(x\right)"),
    ("y = c * Prod(k, x[k])", "y = c·(Πₖ x[k])", r"y = c\,\left(\prod_{k} x_{k}\right)"),
    ("y = 1.0507009873554805 * x", "y = 1.0507009873554805·x", None),
]


@pytest.mark.parametrize(("source", "text", "latex"), SHOWN, ids=[source for source, _, _ in SHOWN])
def test_how_a_formula_is_shown(source, text, latex):
    formula = parse(source)
    assert text is None or formula.text() == text
    assert latex is None or formula.latex() == latex


def test_conditions_are_shown_in_chinese():
    with use_language("zh"):
        assert parse("y = x if x > 0 else 0").text() == "y = {x 若 x > 0; 0 其他}"
        assert r"\text{若 } x > 0" in parse("y = x if x > 0 else 0").latex()


def test_symbols_say_how_names_are_shown():
    formula = parse("dW[o,i] = Sum(n, dz[*n,o] * x[*n,i])")
    shown = formula.text({"W": "W(2)", "dz": "δ(2)", "x": "a(1)"})
    assert shown == "∂L/∂W(2)[o,i] = Σₙ δ(2)[n,o]·a(1)[n,i]"
    latex = formula.latex({"W": "W^{(2)}", "dz": r"\delta^{(2)}", "x": "a_1"})
    assert latex == r"\frac{\partial L}{\partial W^{(2)}_{o,i}} = \sum_{n} \delta^{(2)}_{n,o}\,{a_1}_{n,i}"
