"""The document of a derivation: its blocks as Markdown and HTML, symbols, the longer way, the update."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import backlit as bl
from backlit import optim
from backlit.core.i18n import LANGUAGES, catalogue
from backlit.glass import derive_html
from backlit.glass.derive import derive
from backlit.glass.derive_blocks import Code, Formulas, Heading, Table, Text, formulas, markdown
from backlit.glass.derive_equations import Equations, Source
from backlit.glass.derive_expand import longer_way
from backlit.glass.derive_symbols import Mark, Symbols, layer_of
from backlit.glass.derive_update import first_rate, mark, update_equations
from glass.graphs import of_everything, of_mlp

SOURCE = Source("rules/linear.py:17", "def forward(xp, x):\n    return x < 1 & x")
BLOCKS = (
    Heading(1, "Title <b>"),
    Text("This & that, where `a < b` and $x < y$ hold & more"),
    Formulas((("z", "=", r"\sum_{i} W_{i}"), ("", r"\leftarrow", r"\left(a\right)"))),
    Table(("name & more", "$x$"), (("`W`", "<i>"), ("1", "2"))),
    Code("Code <of> it", SOURCE, "see above"),
)
CJK = re.compile(r"[\u3000-\u303f\u4e00-\u9fff]")


# --- blocks as Markdown ---------------------------------------------------------------------------------------------


def test_a_chain_is_broken_before_every_equals_sign():
    assert formulas(("a", "b", "c"), ("d", "e")).lines == (("a", "=", "b"), ("", "=", "c"), ("d", "=", "e"))


@pytest.mark.parametrize(
    ("block", "want"),
    [
        (Heading(3, "Loss"), "### Loss"),
        (Text("One $x$."), "One $x$."),
        (Table(("a", "b"), (("1", "2"),)), "| a | b |\n| --- | --- |\n| 1 | 2 |"),
        (formulas(("a", "b", "c")), "$$\n\\begin{aligned}\na &= b \\\\\n &= c\n\\end{aligned}\n$$"),
        (
            Code("Code", SOURCE, "above"),
            f"<details><summary>Code</summary>\n\n```python\n{SOURCE.code}\n```\n\n</details>",
        ),
    ],
)
def test_markdown_of_a_block(block, want):
    assert markdown((block,)) == want + "\n"


def test_the_same_lines_are_shown_once():
    code = Code("Code", SOURCE, "the same as above")
    other = Code("Code", Source("rules/linear.py:40", "x = 1"), "the same as above")
    text = markdown((code, other, code))
    assert text.count("```python") == 2
    assert text.rstrip().endswith("<sub>the same as above</sub>")
    assert markdown((code,)).count("```python") == 1


def test_blocks_stand_apart_and_empty_ones_leave_no_gap():
    assert markdown((Text("a"), Text(""), Text("b"))) == "a\n\nb\n"


# --- blocks as HTML -------------------------------------------------------------------------------------------------


def element(text):
    return ET.fromstring(f"<root>{text}</root>")


def parsed(page):
    """The page without script and style, which are no XML."""
    return ET.fromstring(re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL).split("\n", 1)[1])


def page_of(*blocks, title="A title", lang="en"):
    return parsed(derive_html.page(blocks, title=title, lang=lang))


def test_html_keeps_texts_and_escapes_them():
    root = page_of(*BLOCKS)
    assert root.find(".//h1").text == "Title <b>"
    assert [c.text for c in root.iter("code")] == ["a < b", "W", SOURCE.code]
    assert root.find(".//summary").text == "Code <of> it"
    assert [[("".join(c.itertext())) for c in r] for r in root.find(".//tbody")] == [["W", "<i>"], ["1", "2"]]
    assert "".join(root.find(".//article/p").itertext()) == "This & that, where a < b and x < y hold & more"


def test_a_page_escapes_its_title_and_names_its_language():
    root = page_of(*BLOCKS, title='A <b> & "c"', lang="zh-CN")
    assert root.attrib["lang"] == "zh-CN"
    assert root.find("head/title").text == 'A <b> & "c"'
    assert root.find("head/meta").attrib["charset"] == "utf-8"


def test_formulas_stand_in_the_page_as_latex():
    root = page_of(*BLOCKS)
    assert [e.text for e in root.iter("span") if e.attrib["class"] == "tex"] == [
        "x < y",
        *(rf"\displaystyle {part}" for part in ("z", "=", r"\sum_{i} W_{i}")),
        *(rf"\displaystyle {part}" for part in (r"\leftarrow", "(a)")),
        "x",
    ]


def test_source_lines_are_printed_where_they_stand_first():
    code, other = Code("Code", SOURCE, "above"), Code("Code", Source("rules/linear.py:40", "x = 1"), "above")
    assert [d.get("class") for d in page_of(code, other, code).iter("details")] == ["first", "first", None]


def test_a_shape_in_a_table_is_not_broken():
    cell = page_of(Table(("a",), (("$a$ [$N$ × 4], $b$ [4]",),))).find(".//td")
    assert "".join(cell.itertext()) == "a\u00a0[N\u00a0×\u00a04], b\u00a0[4]"


# --- both languages -------------------------------------------------------------------------------------------------


def documents(lang):
    model = bl.Sequential(bl.Dense(3, "relu"), bl.BatchNorm(), bl.Dense(2)).build((4,), seed=0, dtype="float64")
    rng = np.random.default_rng(0)
    return derive(model, rng.normal(size=(3, 4)), np.array([0, 1, 1]), lang=lang, optimizer="adam")


def test_whatever_is_said_in_one_language_is_said_in_the_other():
    en, zh = (documents(lang).blocks for lang in LANGUAGES)
    assert [type(b) for b in en] == [type(b) for b in zh]
    for a, b in zip(en, zh, strict=True):
        if isinstance(a, Heading):
            assert a.level == b.level
            assert CJK.search(b.text)
            assert not CJK.search(a.text)
        if isinstance(a, Table):
            assert [len(r) for r in (a.head, *a.rows)] == [len(r) for r in (b.head, *b.rows)]
        if isinstance(a, Text):
            assert CJK.search(b.text), b.text
            assert sorted(re.findall(r"`[^`]+`", a.text)) == sorted(re.findall(r"`[^`]+`", b.text))


def test_every_sentence_of_a_derivation_fills_in_the_same():
    """A name in braces that one language lacks would drop a figure there."""
    checked = 0
    for key, entry in catalogue().items():
        if key.startswith(("derive_", "paths_", "walk_", "receipt_", "flow_")) and isinstance(entry.get("text"), dict):
            names = [set(re.findall(r"\{(\w+)\}", entry["text"][lang])) for lang in LANGUAGES]
            checked += 1
            assert names[0] == names[1], key
    assert checked > 60


# --- symbols --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "indices", "bold", "want"),
    [
        (Mark("a"), (), False, "a"),
        (Mark("a", "(0)"), ("n", "k"), False, "a_{n,k}^{(0)}"),
        (Mark("W", "(2)"), (), True, r"\mathbf{W}^{(2)}"),
        (Mark(r"\delta", "(1)"), ("n",), True, r"\boldsymbol{\delta}_{n}^{(1)}"),
    ],
)
def test_marks(mark, indices, bold, want):
    assert mark.latex(indices, bold=bold) == want


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("x", "a^{(0)}"),
        ("y", "y"),
        ("loss", "L"),
        ("loss.mass", "N"),
        ("dense1.z", "z^{(1)}"),
        ("dense1.a", "a^{(1)}"),
        ("dense2.W", "W^{(2)}"),
        ("dense2.b", "b^{(2)}"),
        ("dense2.z", "z^{(2)}"),
    ],
)
def test_symbols_of_a_net(name, want):
    assert Symbols(of_mlp().graph).mark(name).latex() == want


def test_layers_are_counted_and_what_serves_the_loss_is_none():
    symbols = Symbols(of_mlp().graph)
    assert (symbols.layers, symbols.last) == ({"dense1": 1, "dense2": 2}, 2)
    assert symbols.gradient("dense2.z").latex() == r"\delta^{(2)}"
    assert symbols.gradient("dense1.a") is None


def test_names_of_normalisation_are_greek():
    symbols = Symbols(of_everything().graph)
    above = f"({symbols.layers['batchnorm1']})"
    found = {k: symbols.mark(f"batchnorm1.{k}") for k in ("gamma", "beta", "mean", "var", "running_mean.next")}
    assert found == {
        "gamma": Mark(r"\gamma", above),
        "beta": Mark(r"\beta", above),
        "mean": Mark(r"\mu", above),
        "var": Mark(r"{\sigma^{2}}", above),
        "running_mean.next": Mark(r"\bar{\mu}", above + r"\prime"),
    }


def test_no_two_values_of_a_net_have_one_symbol():
    graph = of_everything().graph
    symbols = Symbols(graph)
    made = [o for node in graph.nodes for o in node.outputs]
    marks = [symbols.mark(name) for name in made]
    doubled = {m for m in marks if marks.count(m) > 1}
    assert not doubled


def test_the_layer_of_a_name():
    assert [layer_of(n) for n in ("batchnorm1.running_mean.next", "add1", "dense1.z")] == [
        "batchnorm1", "add1", "dense1",
    ]  # fmt: skip


# --- the longer way -------------------------------------------------------------------------------------------------


def test_the_steps_of_a_fused_loss_give_its_numbers():
    trace = of_mlp()
    equations = Equations(trace, Symbols(trace.graph))
    longer = longer_way(equations, trace.graph.producer["loss"])
    assert longer.gap < 1e-15
    z, y = trace["dense2.z"], trace["y"]
    logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    by_shape = [e.evaluate() for e in longer.forward if e.shape == (6, 3)]
    assert any(np.allclose(found, logs, rtol=1e-12) for found in by_shape)
    assert float(longer.forward[-1].evaluate()) == pytest.approx(-logs[np.arange(6), y].mean(), rel=1e-12)
    last = longer.backward[-1]
    assert last.name == "dense2.z"
    np.testing.assert_allclose(last.evaluate(), (np.exp(logs) - np.eye(3)[y]) / 6, rtol=1e-10, atol=1e-14)


def test_steps_are_numbered_in_order_and_what_comes_from_outside_keeps_its_symbol():
    trace = of_mlp()
    longer = longer_way(Equations(trace, Symbols(trace.graph)), trace.graph.producer["loss"])
    lefts = [e.left for e in longer.forward]
    steps = [int(m[1]) for left in lefts if (m := re.search(r"u.*\^\{\[(\d+)\]\}", left))]
    assert steps == list(range(1, len(longer.forward)))
    assert lefts[-1] == "L"
    assert any("z_{n,j}^{(2)}" in e.right for e in longer.forward)


def test_a_rule_without_smaller_ones_has_no_longer_way():
    trace = of_everything()
    equations = Equations(trace, Symbols(trace.graph))
    assert longer_way(equations, trace.graph.producer["concatenate1"]) is None


# --- the update -----------------------------------------------------------------------------------------------------


def test_adam_by_hand_line_by_line():
    adam = bl.Adam(0.1)
    known = {"p": 0.5, "g": -2.0, "lr": 0.1, "t": 1, "m": 0.0, "v": 0.0}
    found = [(e.name, value) for e, value in update_equations(adam, known)]
    assert dict(found)["m"] == pytest.approx(-0.2)
    assert dict(found)["v"] == pytest.approx(0.004)
    assert found[-1] == ("p", pytest.approx(0.5 + 0.1, rel=1e-6))


def test_momentum_reads_the_old_velocity():
    sgd = bl.SGD(0.1, momentum=0.9)
    slot = next(iter(sgd.init(np, np.zeros(1))))
    known = {"p": 1.0, "g": 2.0, "lr": 0.1, "t": 5, slot: 3.0}
    assert [value for e, value in update_equations(sgd, known) if e.name == "p"] == [pytest.approx(1 - 0.1 * 4.7)]


@pytest.mark.parametrize(
    ("name", "want"),
    [("p", r"\theta"), ("lr", r"\alpha"), ("beta1", r"\beta_{1}"), ("m", "m"), ("v_hat", r"\hat{v}")],
)
def test_marks_of_an_update(name, want):
    assert mark(name).latex() == want


def test_a_name_without_a_letter_is_set_upright():
    assert mark("square_avg").latex() == r"\mathrm{square\_avg}"


def test_the_first_rate_is_the_schedules():
    assert first_rate(bl.SGD(0.25)) == 0.25
    assert first_rate(optim.get("adam")) == 1e-3
