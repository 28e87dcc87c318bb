"""What is drawn is well-formed XML whatever the numbers and names; axes tell the truth; languages are built alike."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import backlit as bl
from backlit.core.i18n import catalogue
from backlit.report import heat, words
from backlit.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    Scale,
    bars,
    histogram,
    line_chart,
    span,
)
from backlit.report.drawing import drawing
from backlit.report.page import SECTIONS, page
from report.runs import HOSTILE, branched, plain, run

SERIES = {
    "none": [],
    "one point": [2.0],
    "one zero": [0.0],
    "two points": [1.0, 2.0],
    "equal": [3.0] * 4,
    "falling": [4.0, 2.0, 1.0],
    "with gaps": [1.0, np.nan, 2.0, np.inf, 3.0],
    "no number": [np.nan] * 3,
    "infinite": [np.inf, -np.inf],
    "negative": [-3.0, -1.0],
    "tiny": [1e-300, 2e-300],
    "huge": [1e300, -1e300],
    "wide": [1e-12, 1e12],
    "point between gaps": [np.nan, 1.0, np.nan],
}


def xml(text):
    """The tree of a fragment of HTML that is XML too; a parse error where it is not."""
    return ET.fromstring(f"<div>{text}</div>")


def chart(values, **options):
    values = np.array(values, float)
    return xml(line_chart([Line("a", np.arange(float(len(values))), values)], x_label="step", **options))


def of_class(tree, name):
    return [e for e in tree.iter() if name in (e.get("class") or "").split()]


def coordinates(path):
    return [float(v) for v in re.findall(r"-?\d+(?:\.\d+)?", path.get("d"))]


def value_of(text):
    return float("".join(text.itertext()).replace("−", "-").replace(",", ""))


# --- curves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("name", SERIES)
def test_any_series_is_well_formed_and_stays_inside(name, log):
    tree = chart(SERIES[name], log=log)
    (svg,) = tree.findall("svg")
    assert svg.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    for path in of_class(svg, "curve"):
        points = np.array(coordinates(path))[: 2 * path.get("d").count(" ")]
        assert np.all((points >= 0) & (points <= WIDTH))
    assert "nan" not in ET.tostring(tree, "unicode")
    assert "inf" not in ET.tostring(tree, "unicode")


@pytest.mark.parametrize(
    ("name", "log", "pieces"),
    [
        ("none", False, 0), ("one point", False, 1), ("one zero", False, 1), ("one zero", True, 0),
        ("with gaps", False, 3), ("with gaps", True, 3), ("no number", False, 0), ("negative", True, 0),
        ("negative", False, 1), ("point between gaps", False, 1), ("falling", True, 1),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_shown_are_gaps(name, log, pieces):
    (curve,) = of_class(chart(SERIES[name], log=log), "curve")
    assert curve.get("d").count("M") == pieces
    alone = {"one point": 1, "with gaps": 3, "point between gaps": 1, "one zero": 1}.get(name, 0)
    assert curve.get("d").count("h.1") == (alone if pieces else 0), "a point alone is a dot"


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.0, 0.3, 0.9], [-5.0, 5.0], [1200.0, 98000.0], [0.001, 0.0042]])
def test_ticks_stand_where_the_curve_has_their_value(values):
    """The scale read off the ticks puts the curve where it is drawn."""
    tree = chart(values)
    ticks = [t for t in of_class(tree, "end") if t.get("dy")]
    at, told = [float(t.get("y")) for t in ticks], [value_of(t) for t in ticks]
    slope, start = np.polyfit(told, at, 1)
    drawn = np.array(coordinates(of_class(tree, "curve")[0])).reshape(-1, 2)[:, 1]
    np.testing.assert_allclose(drawn, start + slope * np.array(values), atol=0.6)
    assert slope < 0, "larger is higher"
    assert len(of_class(tree, "grid")) == len(ticks)


@pytest.mark.parametrize("exponents", [(-6, 0), (-3, 3), (0, 1), (-12, 12)])
def test_ticks_of_a_logarithmic_axis_are_powers_of_ten(exponents):
    low, high = (10.0**e for e in exponents)
    tree = chart([low, high], log=True)
    ticks = [t for t in of_class(tree, "end") if t.get("dy")]
    told = [int(t.find("tspan").text.replace("−", "-")) for t in ticks]
    assert all(t.text == "10" for t in ticks)
    assert 2 <= len(told) <= 7
    assert len(set(np.diff(told))) == 1
    slope, start = np.polyfit(told, [float(t.get("y")) for t in ticks], 1)
    drawn = np.array(coordinates(of_class(tree, "curve")[0])).reshape(-1, 2)[:, 1]
    np.testing.assert_allclose(drawn, start + slope * np.array(exponents), atol=0.6)


@pytest.mark.parametrize("count", [2, 5, 40, 3000])
def test_ticks_of_the_x_axis(count):
    tree = xml(line_chart([Line("a", np.arange(1.0, count + 1), np.ones(count))], x_label="epoch"))
    ticks = of_class(tree, "mid")
    wanted = LEFT + (np.array([value_of(t) for t in ticks]) - 1) / (count - 1) * (WIDTH - RIGHT - LEFT)
    np.testing.assert_allclose([float(t.get("x")) for t in ticks], wanted, atol=0.06)
    assert 2 <= len(ticks) <= 7
    assert [t.text for t in of_class(tree, "end") if not t.get("dy")] == ["epoch"]


def test_curves_share_their_axes():
    one, other = Line("a", np.array([0.0, 10.0]), np.array([0.0, 1.0])), Line("b", np.array([5.0]), np.array([0.5]))
    found = of_class(xml(line_chart([one, other], x_label="")), "curve")
    (x1, y1, x2, y2), (x, y, *_) = coordinates(found[0]), coordinates(found[1])
    assert (x, y) == pytest.approx(((x1 + x2) / 2, (y1 + y2) / 2), abs=0.11)


def test_a_legend_where_there_is_a_choice():
    line = Line("<b>a</b>", np.arange(2.0), np.arange(2.0))
    assert xml(line_chart([line], x_label="")).find("ul") is None
    items = xml(line_chart([line] * 10, x_label="")).findall("ul/li")
    assert [item.find("b").text for item in items] == ["a"] * 10
    colours = [item.find("i").get("style") for item in items]
    assert len(set(colours)) == 8
    assert colours[0] == colours[8]


@pytest.mark.parametrize(("guide", "log"), [(0.5, False), (1e-3, True), (100.0, False)])
def test_a_guide_is_inside_and_on_its_level(guide, log):
    tree = chart([0.01, 1.0], log=log, guide=guide)
    (path,) = of_class(tree, "guide")
    assert TOP <= coordinates(path)[1] <= HEIGHT - BOTTOM
    same = of_class(chart([guide, 0.01, 1.0], log=log, guide=guide), "curve")[0]
    assert coordinates(path)[1] == pytest.approx(coordinates(same)[1], abs=0.11)


@pytest.mark.parametrize("count", [MOST_POINTS, MOST_POINTS + 1, 10 * MOST_POINTS])
def test_a_thinned_curve_begins_with_the_first_point(count):
    (curve,) = of_class(chart(np.arange(float(count))), "curve")
    assert coordinates(curve)[0] == LEFT
    assert curve.get("d").count(" ") <= MOST_POINTS


@pytest.mark.parametrize(("name", "en", "zh"), [("epoch", "epoch", "轮次"), ("step", "step", "步")])
def test_axes_are_named_in_both_languages(name, en, zh):
    tree = xml(line_chart([Line("a", np.arange(2.0), np.arange(2.0))], x_label=words.axis(name)))
    assert [(e.get("class"), e.text) for e in tree.iter("tspan")] == [("en", en), ("zh", zh)]


@pytest.mark.parametrize("values", [[0.0, 1.0], [5.0, 5.0], [-2.0, -1.0], [0.0, 0.0], [np.nan], []])
@pytest.mark.parametrize("log", [False, True])
def test_a_span_holds_its_values_and_has_a_width(values, log):
    low, high = span(np.array(values, float), log=log)
    assert low < high
    shown = [v for v in values if np.isfinite(v) and (v > 0 or not log)]
    assert all(low <= v <= high for v in shown)
    assert low > 0 or not log


def test_a_scale_maps_its_ends_to_its_ends():
    for scale in (Scale(2.0, 8.0, 10.0, 100.0), Scale(0.01, 100.0, 200.0, 0.0, log=True)):
        assert scale(np.array([scale.low, scale.high])) == pytest.approx([scale.start, scale.end])
    assert Scale(0.01, 100.0, 200.0, 0.0, log=True)(np.array(1.0)) == pytest.approx(100.0)


# --- histograms, bars, heat maps, graphs ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERIES)
def test_any_histogram_is_well_formed(name):
    tree = xml(histogram(np.array(SERIES[name]), 0))
    finite = {v for v in SERIES[name] if np.isfinite(v)}
    assert (tree.find("svg") is not None) == (len(finite) > 1)
    assert bool(tree.findall("p")) == (len(finite) < 2)


def test_a_histogram_tells_its_ends_and_where_zero_is():
    tree = xml(histogram(np.array([-1.5, 0.5, 2.5]), 3))
    assert [value_of(t) for t in tree.iter("text")] == [-1.5, 2.5]
    x = coordinates(of_class(tree, "guide")[0])[0]
    left, _, right, *_ = coordinates(of_class(tree, "axis")[0])
    assert (x - left) / (right - left) == pytest.approx(1.5 / 4, abs=0.01)
    assert of_class(xml(histogram(np.array([1.0, 2.0]), 0)), "guide") == []


class Items(HTMLParser):
    """Texts by class of the element they stand in."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.texts, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs).get("class"), dict(attrs).get("lang")))
        self.stack.append(dict(attrs).get("class"))

    def handle_endtag(self, tag):
        self.stack.pop()

    def handle_data(self, data):
        self.texts.append((self.stack[-1] if self.stack else None, data))


@pytest.mark.parametrize(
    ("values", "log", "wanted"),
    [
        ([], False, []),
        ([0.0], False, [0.0]),
        ([np.nan, 1.0], True, [0.0, 100.0]),
        ([0.0, 0.0], True, [0.0, 0.0]),
        ([3.0], True, [100.0]),
        ([1.0, 2.0, 4.0], False, [25.0, 50.0, 100.0]),
    ],
)
def test_bars_of_any_numbers(values, log, wanted):
    text = bars([(f"n{i}", v, f"t{i}") for i, v in enumerate(values)], log=log)
    assert [float(w) for w in re.findall(r"width:([\d.]+)%", text)] == wanted
    found = Items(text)
    assert [t for kind, t in found.texts if kind == "name"] == [f"n{i}" for i in range(len(values))]
    assert [t for kind, t in found.texts if kind == "what"] == [f"t{i}" for i in range(len(values))]
    assert found.stack == []


@pytest.mark.parametrize("name", [HOSTILE, "a<b&c", "很长的一个层的名字，超过十二个字", "dense1"])
@pytest.mark.parametrize("values", [[1.0], [np.nan], [0.0, 1.0], [1e-30, 1e30, np.inf]])
def test_any_heat_map_is_well_formed(name, values):
    tree = xml(heat.heat_map([(name, np.array(values)), ("b", np.array(values))], np.arange(1, len(values) + 1)))
    (svg, legend) = tree
    assert [t.find("title").text for t in svg.iter("text") if t.find("title") is not None] == [name, "b"]
    assert len(list(svg.iter("image"))) == 1
    assert legend.get("class") == "ramp"
    assert "nan" not in "".join(tree.itertext())


@pytest.mark.parametrize("last", [1, 2, 10, 999, 123_456])
def test_steps_below_a_heat_map_are_whole_and_there(last):
    steps = np.linspace(1, last, min(last, 50)).astype(int)
    tree = xml(heat.heat_map([("a", np.ones(len(steps)))], steps))
    told = [t for t in tree.iter("text") if t.find("title") is None]
    assert [e.text for e in told.pop()] == ["step", "步"]
    values = [value_of(t) for t in told]
    assert values == sorted(values)
    assert all(1 <= v <= last for v in values)
    assert [float(t.get("x")) for t in told] == sorted(float(t.get("x")) for t in told)


@pytest.mark.parametrize("name", ["a<b", 'x"y', "p&q", "很长很长很长很长很长很长很长很长很长很长的名字"])
def test_graphs_with_any_names_are_well_formed(name):
    model = bl.Sequential(bl.Dense(3, name=name), bl.Dense(2))
    model.build((4,), seed=0)
    graph = model.graph([((5, 4), "float32")], training=True, loss=bl.MSE(), target=((5, 2), "float32"))
    tree = xml(drawing(graph))
    titles = [t.text for t in tree.iter("title")]
    assert any(t.startswith(f"{name}.z") for t in titles)
    assert all(g.find("rect") is not None and len(g.findall("text")) == 2 for g in tree.iter("g"))


@pytest.mark.parametrize("model", [branched, plain])
def test_a_graph_has_a_head_for_every_arrow_and_one_loss(model):
    built = model().build((6,), seed=0)
    graph = built.graph([((5, 6), "float32")], training=True, loss=bl.SoftmaxCrossEntropy(), target=((5,), "int64"))
    tree = xml(drawing(graph))
    assert len(of_class(tree, "arrow")) == len(of_class(tree, "head")) > 3
    assert len(of_class(tree, "loss")) == 1
    assert [e.find("title").text.split()[0] for e in of_class(tree, "data")] == ["x", "y"]


# --- the page in either language ------------------------------------------------------------------------------------


class OneLanguage(Items):
    """The elements that are seen in one language."""

    def __init__(self, text, lang):
        self.other = {"en": "zh", "zh": "en"}[lang]
        self.seen = []
        super().__init__(text)

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        if tag in ("meta", "link", "br", "img", "input"):
            self.stack.pop()
        if self.other not in self.stack:
            self.seen.append(
                (tag, "said" if dict(attrs).get("lang") in words.TAGS.values() else dict(attrs).get("class"))
            )


@pytest.fixture(scope="module")
def text():
    body = page(run(), run().at, lang="en")
    return re.sub(r"<(style|script)>.*?</\1>", "", body[body.index("<body") : body.index("</html>")], flags=re.DOTALL)


def test_both_languages_see_the_same_page(text):
    english, chinese = (OneLanguage(text, lang).seen for lang in ("en", "zh"))
    assert len(english) > 500
    assert english == chinese


@pytest.mark.parametrize("section", SECTIONS)
def test_every_drawing_of_the_page_is_well_formed(text, section):
    part = text[text.index(f'<section id="{section}">') :].split("</section>")[0]
    for svg in re.findall(r"<svg.*?</svg>", part, re.DOTALL):
        tree = ET.fromstring(svg)
        assert len(tree.get("viewBox").split()) == 4
        assert tree.get("role") == "img"


def test_every_text_of_the_report_takes_the_same_values_in_both_languages():
    """{name} in one and not in the other would be a figure that only one reader sees."""
    fields = re.compile(r"\{(\w+)")
    for key, entry in catalogue().items():
        if key.startswith("report_") and isinstance(entry.get("text"), dict):
            en, zh = (sorted(fields.findall(entry["text"][lang])) for lang in ("en", "zh"))
            assert set(en) == set(zh), key
            assert entry["text"]["en"].count("|") == entry["text"]["zh"].count("|"), key


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.123456, 4, "0.1235"),
        (-2.5, 4, "−2.5"),
        (1e-7, 3, "1e−07"),
        (float("nan"), 4, "–"),
        (float("-inf"), 4, "–"),
        (None, 4, "–"),
        (3, 4, "3"),
        (np.float32(0.5), 2, "0.5"),
    ],
)
def test_numbers_have_a_true_minus_and_no_nan(value, digits, shown):
    assert words.number(value, digits) == shown


@pytest.mark.parametrize("cell", [HOSTILE, "a<b", "x & y"])
def test_code_is_text(cell):
    assert xml(words.code(cell)).find("code").text == cell
