"""The derivation: every formula in it is evaluated and compared with the engine, and the documents are whole."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import backlit as bl
from backlit import optim, rules
from backlit.core.errors import InputError
from backlit.core.i18n import LANGUAGES, say
from backlit.glass.derive import derive
from backlit.glass.derive_blocks import Code, Formulas, Text
from backlit.glass.derive_equations import Gradient
from backlit.glass.derive_matrix import Outer, Product, Total, matrix_form
from backlit.glass.derive_numbers import filled, number, value_at
from backlit.glass.derive_simplify import Facts, simplified, slope
from backlit.glass.derive_update import update_equations
from backlit.rules.base import REGISTRY
from backlit.rules.formula import bind, formulas_of, parse
from layout.sources import SRC
from rules.calls import call, cases_of

RNG = np.random.default_rng(11)
X = RNG.normal(size=(4, 5))
LABELS = np.asarray([0, 2, 1, 2])
VALUES = RNG.normal(size=(4, 3))


def normalised():
    return bl.Sequential(bl.Dense(4, "relu"), bl.BatchNorm(), bl.Dense(4, "tanh"), bl.Dense(3))


def residual():
    def function(x):
        h = bl.Dense(4, "relu")(x)
        return bl.Dense(3)(h + bl.Dense(4, "tanh")(h))

    return bl.Model(function)


def classifier():
    return bl.Sequential(bl.Dense(3))


def many_layers():
    inner = bl.Residual(bl.Dense(4, "sigmoid"), bl.Dropout(0.5))
    return bl.Sequential(bl.Dense(4, "gelu"), inner, bl.LayerNorm(), bl.Dense(3, "softplus"))


def shared():
    layer = bl.Dense(5, "elu")

    def function(x):
        h = layer(x)
        return bl.Dense(3)(bl.Concatenate()(layer(h * 2.0), h))

    return bl.Model(function)


MODELS = {
    "batch normalisation": (normalised, LABELS, "softmax_cross_entropy"),
    "residual": (residual, LABELS, "softmax_cross_entropy"),
    "softmax classifier": (classifier, LABELS, "softmax_cross_entropy"),
    "layer normalisation, dropout": (many_layers, VALUES, "mse"),
    "shared layer": (shared, VALUES, "huber"),
    "probabilities": (classifier, np.full((4, 3), 1 / 3), "softmax_cross_entropy"),
    "smoothing and class weights": (
        classifier,
        LABELS,
        bl.SoftmaxCrossEntropy(label_smoothing=0.2, class_weights=(1.0, 2.0, 0.5)),
    ),
    "ignored label": (residual, LABELS, bl.SoftmaxCrossEntropy(ignore=0)),
    "binary": (classifier, (VALUES > 0).astype(float), "binary_cross_entropy"),
    "absolute error": (classifier, VALUES, "mae"),
}


def derived(name, *, lang="en", dtype="float64", optimizer="sgd"):
    make, y, loss = MODELS[name]
    return derive(make().build((5,), seed=3, dtype=dtype), X, y, loss=loss, lang=lang, optimizer=optimizer)


def deviations(derivation):
    """Name -> how far the formula, evaluated by loops, is from the stored array, in units of the largest entry."""
    with np.errstate(all="ignore"):
        found = {}
        for equation in derivation.equations:
            gap = float(np.max(np.abs(equation.evaluate() - equation.stored)))
            found[equation.name] = max(
                gap / (float(np.max(np.abs(equation.stored))) or 1.0), found.get(equation.name, 0.0)
            )
        return found


# --- the formulas ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_formula_of_the_document_gives_the_engines_numbers(name):
    found = deviations(derived(name))
    assert max(found.values()) < 1e-13, found


@pytest.mark.parametrize("name", MODELS)
def test_every_gradient_of_the_step_is_derived(name):
    derivation = derived(name)
    written = {e.name for e in derivation.equations if isinstance(e, Gradient)}
    assert written >= set(derivation.trace.grads) - {"loss", "y"}


WRONG = [
    ("linear", "dz[*n,o] * W[o,i]", "dz[*n,o] * -W[o,i]"),
    ("linear", "dW[o,i] = Sum(n, dz[*n,o] * x[*n,i])", "dW[o,i] = Mean(n, dz[*n,o] * x[*n,i])"),
    ("linear", "+ b[o]", "- b[o] + 1"),
    ("relu", "x > 0", "x < 0"),
    ("tanh", "1 - y**2", "1 - y"),
    ("batchnorm", "Mean(m, dy[*m,c])", "Sum(m, dy[*m,c])"),
    ("batchnorm", "dbeta[c] = Sum", "dbeta[c] = Mean"),
    (
        "softmax_cross_entropy",
        "dloss * weights[n,*t] * (labels[n,*t] != ignore) / mass",
        "dloss * weights[n,*t] * (labels[n,*t] != ignore)",
    ),
]


@pytest.mark.parametrize(("name", "right", "wrong"), WRONG)
def test_a_formula_that_is_changed_is_found(name, right, wrong, monkeypatch):
    rule = rules.get(name)
    lines = tuple(line.replace(right, wrong) for line in rule.formulas)
    assert lines != rule.formulas
    monkeypatch.setitem(REGISTRY, name, replace(rule, formulas=lines))
    assert max(deviations(derived("batch normalisation")).values()) > 1e-3


def test_a_share_of_a_branch_that_is_left_out_is_found():
    derivation = derived("residual")
    both = next(e for e in derivation.equations if e.name == "dense1.a" and isinstance(e, Gradient))
    assert len(both.shares) == 2
    half = replace(both, shares=both.shares[:1])
    assert np.max(np.abs(half.evaluate() - half.stored)) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_worked_entries_are_the_stored_ones(name):
    derivation = derived(name)
    assert len(derivation.entries) >= 2 * len(derivation.trace.graph.trainable)
    for entry in derivation.entries:
        arrays = derivation.trace.grads if entry.name.startswith("∂") else derivation.trace.values
        assert entry.stored == arrays[entry.name.removeprefix("∂")][entry.index]
        assert entry.deviation < 1e-13, entry


@pytest.mark.parametrize("name", MODELS)
def test_the_terms_of_a_sum_speak_of_the_same_entry(name):
    for gradient in (e for e in derived(name).equations if isinstance(e, Gradient)):
        shown = {s.printer.shown() for s in gradient.shares if not s.formula.moves}
        assert len(shown) <= 1, gradient.name


def test_a_residual_adds_both_ways_for_the_same_unit():
    first, second = next(
        e for e in derived("residual").equations if e.name == "dense1.a" and isinstance(e, Gradient)
    ).shares
    assert first.right == r"\sum_{j} \delta_{n,j}^{(2)}\,W_{j,k}^{(2)}"
    assert second.right == r"\frac{\partial L}{\partial a_{n,k}^{(3)}}"
    assert second.chain().endswith(r"\frac{\partial a_{n,k}^{(3)}}{\partial a_{n,k}^{(1)}}")


def test_where_an_index_is_taken_the_sum_runs_over_another():
    model = bl.Model(_before_and_after).build((5,), seed=0, dtype="float64")
    gradient = next(
        e for e in derive(model, X, VALUES, lang="en").equations if e.name == "dense1.z" and isinstance(e, Gradient)
    )
    assert [s.right for s in gradient.shares] == [
        r"\frac{\partial L}{\partial a_{n,j}^{(2)}} \cdot 2",
        r"\sum_{k} \delta_{n,k}^{(3)}\,W_{k,j}^{(3)}",
    ]


def _before_and_after(x):
    h = bl.Dense(3)(x)
    return h * 2.0 + bl.Dense(3)(h)


def test_the_two_ways_through_a_fused_loss_agree():
    derivation = derived("residual")
    assert derivation.longer
    last = derivation.longer[-1]
    assert last.name == "dense3.z"
    np.testing.assert_allclose(last.evaluate(), derivation.trace.grads["dense3.z"], rtol=1e-12, atol=1e-16)


def test_one_over_n_stands_in_the_loss_alone():
    derivation = derived("softmax classifier")
    step = derivation.equations[: -len(derivation.longer)]
    loss = next(e for e in step if e.name == "loss")
    assert loss.right.endswith("{N}")
    gradients = {e.name: e.shares[0].right for e in step if isinstance(e, Gradient)}
    assert gradients["dense1.z"] == r"\frac{1}{N}\,\left(p_{n,j} - \left[y_{n} = j\right]\right)"
    assert gradients["dense1.W"] == r"\sum_{n} \delta_{n,j}^{(1)}\,a_{n,k}^{(0)}"


def test_the_textbooks_recursion():
    text = derived("batch normalisation").markdown()
    assert r"\boldsymbol{\delta}^{(3)} &= \frac{\partial L}{\partial \mathbf{a}^{(3)}} \odot f'^{(3)}" in text
    back = r"\left(\left(\mathbf{W}^{(4)}\right)^{T}\,\boldsymbol{\delta}^{(4)}\right)"
    assert rf"{back} \odot f'^{{(3)}}\left(\mathbf{{z}}^{{(3)}}\right)" in text


# --- parts -----------------------------------------------------------------------------------------------------------


def test_matrix_notation_says_what_the_index_formula_says():
    shown = 0
    for rule in REGISTRY.values():
        for formula in formulas_of(rule).values():
            form = matrix_form(formula)
            for case in cases_of(rule) if form else ():
                shown += _compare_matrix(rule, case, formula, form)
    assert shown >= 20


def _compare_matrix(rule, case, formula, form):
    c = call(rule, case)
    arrays = bind(rule, c.inputs, c.outputs, c.attributes) | dict(
        zip((f"d{o}" for o in rule.outputs), c.dys, strict=False)
    )
    like = arrays[formula.target if formula.target in rule.outputs else formula.target.removeprefix("d")]
    named = [arrays[n] for n in vars(form).values() if isinstance(n, str)]
    if not all(hasattr(a, "shape") and a.shape for a in (like, *named)):
        return 0
    np.testing.assert_allclose(form.evaluate(arrays), formula.evaluate(arrays, {}, like.shape), rtol=1e-12, atol=1e-14)
    return 1


def test_the_matrix_forms_of_a_dense_layer():
    lines = formulas_of(rules.get("linear"))
    assert matrix_form(lines["z"]) == Product("W", transposed=False, vector="x", plus="b")
    assert matrix_form(lines["dx"]) == Product("W", transposed=True, vector="dz", plus=None)
    assert matrix_form(lines["dW"]) == Outer("dz", "x")
    assert matrix_form(lines["db"]) == Total("dz")


@pytest.mark.parametrize(
    "line", ["y = a + b", "y[n] = Sum(k, x[n,k])", "y[*n] = Max(k, x[*n,k])", "y[o,i] = Sum(n, m, x[*n,o] * z[*m,i])"]
)
def test_what_is_no_product_has_no_matrix_form(line):
    assert matrix_form(parse(line)) is None


ELEMENTWISE = [
    n for n, r in REGISTRY.items() if len(r.inputs) == 1 and "dx" in formulas_of(r) and formulas_of(r)["dx"].elementwise
]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_slope_times_the_derivative_is_the_gradient(name):
    rule = rules.get(name)
    for case in cases_of(rule):
        c = call(rule, case)
        arrays = bind(rule, c.inputs, c.outputs, c.attributes)
        with np.errstate(all="ignore"):
            found = slope(formulas_of(rule)["dx"], "dy").evaluate(arrays, {}, c.inputs[0].shape) * c.dys[0]
        np.testing.assert_allclose(found, c.gradients["dx"], rtol=1e-9, atol=1e-12)


FACTS = Facts({"w": 1, "s": 0, "skip": None, "dloss": 1}, {"mass": 4.0}, {"t": ()})


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("y = w * x + s", "y = x"),
        ("y = s - x", "y = -x"),
        ("y = (x / w) ** w - s", "y = x"),
        ("y[n,*t] = x[n,*t] * s", "y[n] = 0"),
        ("mass = Sum(n, t, w)", "mass = Count(n)"),
        ("y = a / mass if mass != 0 else 0", "y = a / mass"),
        ("y[n] = Sum(c, (k[n] == c) * x[n,c])", "y[n] = x[n, k[n]]"),
        ("y[n] = Sum(c, w * (k[n] == c))", "y[n] = 1"),
        ("y[n] = x[n] * (k[n] != skip)", "y[n] = x[n]"),
        ("y = dloss / mass * (2 * x) / 3", "y = 2 * x / (mass * 3)"),
        ("y[n] = Mean(t, x[n,*t])", "y[n] = x[n]"),
        ("y = x if x > s else s * x", "y = x if x > 0 else 0"),
    ],
)
def test_what_a_call_fixes_is_worked_out(line, want):
    assert simplified(parse(line), FACTS).source == want


def test_what_a_call_leaves_open_stays():
    line = "y[n, c] = Sum(k, x[n, k] * v[k, c]) / (1 + exp(-a[n]))"
    assert simplified(parse(line), FACTS).source == line
    assert ast.unparse(parse(line).expression) in line


def test_simplifying_leaves_the_rule_as_it_is():
    before = [f.source for f in formulas_of(rules.get("softmax_cross_entropy")).values()]
    derived("softmax classifier")
    assert [ast.unparse(f.expression) for f in formulas_of(rules.get("relu")).values()] == [
        "max(x, 0)",
        "dy if x > 0 else 0",
    ]
    assert [f.source for f in formulas_of(rules.get("softmax_cross_entropy")).values()] == before


# --- numbers in formulas ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "want"), [(0.5, "0.5"), (-2.0, "{-2}"), (1e-5, "10^{-5}"), (-3.25e8, r"{-3.25 \cdot 10^{8}}"), (0.0, "0")]
)
def test_numbers(value, want):
    assert number(value) == want


def as_python(latex):
    """Sums and products of numbers in LaTeX as Python; None for anything with more in it."""
    text = re.sub(r"10\^\{(-?\d+)\}", r"10**(\1)", latex)
    text = text.replace(r"\cdots", "?").replace(r"\cdot", "*").replace(r"\left(", "(").replace(r"\right)", ")")
    text = text.replace("{", "(").replace("}", ")")
    return None if re.search(r"[\\?^a-z]", text) else text


def test_the_numbers_filled_in_make_up_the_value():
    """Whoever takes a calculator to a line gets the number at its end, but for the digits not shown."""
    checked = 0
    for equation in derived("batch normalisation").equations:
        for share in equation.shares if isinstance(equation, Gradient) else (equation,):
            index = (0,) * len(share.shape)
            if text := as_python(filled(share, index)):
                checked += 1
                assert eval(text) == pytest.approx(float(value_at(share, index)), rel=2e-2, abs=2e-3)
    assert checked >= 15


def test_an_entry_of_a_concatenation_is_that_of_its_input():
    derivation = derived("shared layer")
    gradient = next(e for e in derivation.equations if isinstance(e, Gradient) and e.name == "dense1@2.a")
    (share,) = gradient.shares
    for index in [(0, 0), (2, 3), (3, 4)]:
        assert value_at(share, index) == pytest.approx(gradient.stored[index], rel=1e-14)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta", "lion"])
def test_the_update_with_numbers_is_the_optimizers(name):
    optimizer = optim.get(name)
    p, g = np.asarray([0.3]), np.asarray([-0.7])
    state = optimizer.init(np, p)
    new, _ = optimizer.update(np, p, g, state, lr=0.1, t=1)
    known = {"p": 0.3, "g": -0.7, "lr": 0.1, "t": 1} | {slot: float(np.ravel(a)[0]) for slot, a in state.items()}
    found = {e.name: value for e, value in update_equations(optimizer, known)}
    assert found["p"] == pytest.approx(float(new[0]), rel=1e-14)


# --- the document ----------------------------------------------------------------------------------------------------

ROUND = [(name, lang) for name in ("batch normalisation", "residual", "shared layer") for lang in LANGUAGES]


@pytest.mark.parametrize(("name", "lang"), ROUND)
def test_markdown_is_whole(name, lang):
    text = derived(name, lang=lang, dtype="float32", optimizer="adam").markdown()
    latex = re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    assert len(latex) > 30
    for formula in latex:
        assert formula.count("{") == formula.count("}")
        assert len(re.findall(r"\\left\b", formula)) == len(re.findall(r"\\right\b", formula))
        assert formula.count(r"\begin") == formula.count(r"\end")
        assert not re.search(r"\^\{[^{}]*\}\^|_\{[^{}]*\}_", formula), formula
    assert text.count("<details>") == text.count("</details>")


def test_both_languages_have_the_same_formulas():
    en, zh = (derived("residual", lang=lang).blocks for lang in LANGUAGES)
    assert [type(b) for b in en] == [type(b) for b in zh]
    strip = lambda blocks: [re.sub(r"\\text\{[^}]*\}", "", str(b)) for b in blocks if isinstance(b, Formulas)]  # noqa: E731
    assert strip(en) == strip(zh)


def test_each_language_is_itself():
    en, zh = (derived("layer normalisation, dropout", lang=lang).markdown() for lang in LANGUAGES)
    assert not re.search(r"[\u3000-\u9fff]", en)
    for word in (
        "误差项",
        "反向传播",
        "链式法则",
        "学习率",
        "加权输入",
        "激活值",
        "小批量",
        "逐元素相乘",
        "前向计算",
        "梯度",
    ):
        assert word in zh, word


@pytest.mark.parametrize(("name", "lang"), ROUND)
def test_html_is_well_formed_and_holds_every_formula(name, lang):
    derivation = derived(name, lang=lang, dtype="float32")
    page = re.sub(r"<(style|script)>.*?</\1>", "", derivation.html(), flags=re.DOTALL)
    root = ET.fromstring(page.split("\n", 1)[1])
    assert "://" not in page
    lines = [line for b in derivation.blocks if isinstance(b, Formulas) for line in b.lines]
    assert len(list(root.iterfind(".//div[@class='equations']/p"))) == len(lines) > 20
    inline = "".join(derivation.markdown().split("$$")[::2]).count("$") / 2
    shown = [e for e in root.iter("span") if e.attrib["class"] == "tex"]
    assert len(shown) == inline + sum(bool(part) for line in lines for part in line)


@pytest.mark.parametrize("name", MODELS)
def test_source_lines_are_those_of_the_file(name):
    found = {b.source.place: b.source.code for b in derived(name).blocks if isinstance(b, Code)}
    assert len(found) >= 4
    for place, code in found.items():
        path, line = place.removeprefix("backlit/").split(":")
        lines = (SRC / path).read_text("utf-8").splitlines()[int(line) - 1 :]
        assert lines[: len(code.splitlines())] == code.splitlines()


def test_files(tmp_path):
    derivation = derived("softmax classifier", lang="zh")
    assert derivation.save(tmp_path / "a.md").read_text("utf-8") == derivation.markdown() == str(derivation)
    assert derivation.save(tmp_path / "a.html").read_text("utf-8") == derivation.html()
    assert derivation._repr_markdown_() == derivation.markdown()


def test_the_document_is_the_same_twice():
    assert derived("residual").markdown() == derived("residual").markdown()


# --- what is taken where nothing is given ----------------------------------------------------------------------------


def test_without_data_a_batch_is_drawn_from_the_seed():
    model = normalised().build((5,), seed=0)
    one, same, other = (derive(model, seed=s, lang="en") for s in (0, 0, 1))
    assert one.markdown() == same.markdown() != other.markdown()
    assert "drawn from a standard normal distribution with seed 1" in other.markdown()
    assert "`softmax_cross_entropy` is taken here" in one.markdown()


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "softmax_cross_entropy", "binary_cross_entropy"])
def test_every_loss_has_a_batch_of_its_kind(loss):
    model = classifier().build((5,), seed=0, dtype="float64")
    assert max(deviations(derive(model, loss=loss, lang="en")).values()) < 1e-13


def test_kl_divergence():
    model = bl.Sequential(bl.Dense(3, "log_softmax")).build((5,), seed=0, dtype="float64")
    assert max(deviations(derive(model, loss="kl_divergence", lang="en")).values()) < 1e-13


def test_images_and_sequences():
    model = bl.Sequential(bl.Dense(2, "relu"), bl.Flatten(), bl.Dense(2)).build((3, 4), seed=0, dtype="float64")
    derivation = derive(model, lang="en")
    assert max(deviations(derivation).values()) < 1e-13
    assert "`source(p)` is the position" in derivation.markdown()


def test_values_mean_squares_and_labels_mean_classes():
    model = classifier().build((5,), seed=0)
    assert "`mse` is taken here" in derive(model, X, VALUES, lang="en").markdown()
    assert "`softmax_cross_entropy` is taken here" in derive(model, X, LABELS, lang="en").markdown()


def test_a_frozen_layer_is_named_and_has_no_gradient():
    model = bl.Sequential(bl.Dense(4, "relu", trainable=False), bl.Dense(3)).build((5,), seed=0)
    derivation = derive(model, X, LABELS, lang="en")
    assert "(frozen)" in derivation.markdown()
    assert not [e for e in derivation.entries if e.name == "∂dense1.W"]


def test_the_model_is_left_as_it_is():
    model = normalised().build((5,), seed=0)
    before = {n: a.copy() for n, a in (model.params | model.state).items()}
    derive(model, X, LABELS, optimizer=bl.Adam(), lang="en")
    assert all(np.array_equal(before[n], a) for n, a in (model.params | model.state).items())


def test_an_unbuilt_model_is_built_from_the_data_or_refused():
    assert derive(classifier(), X, LABELS, lang="en").trace.values["dense1.W"].shape == (3, 5)
    with pytest.raises(InputError, match="BL931"):
        derive(classifier())


def test_x_without_y_is_refused():
    with pytest.raises(InputError, match="BL932"):
        derive(classifier().build((5,)), X)
    with pytest.raises(InputError, match="BL932"):
        derive(classifier().build((5,)), y=LABELS)


def test_the_evidence_is_said():
    derivation = derived("residual")
    last = derivation.blocks[-1]
    assert isinstance(last, Text)
    assert last.text.startswith(f"{len(derivation.entries)} entries are worked out above")


def test_a_single_layer_has_nothing_to_recur_to():
    texts = [b.text for b in derived("softmax classifier").blocks if isinstance(b, Text)]
    assert say("derive_recursion_none") in texts
    assert say("derive_recursion_intro") not in texts
    texts = [b.text for b in derived("residual").blocks if isinstance(b, Text)]
    assert say("derive_recursion_intro") in texts
    assert say("derive_recursion_none") not in texts
