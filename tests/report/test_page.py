"""The page as text: all of it there, in both languages, in one file, safe from what names contain."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import BacklitError, InputError
from backlit.core.i18n import say
from backlit.report import words
from backlit.report.page import LIMIT, SECTIONS, page
from report.runs import HOSTILE, hostile, plain, run, samples, train

VOID = {"meta", "link", "br", "wbr", "img", "input"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


class Reader(HTMLParser):
    """Elements with their attributes and texts; complains where tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.faults = [], [], [], []
        self.feed(text)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()[0] != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        self.texts.append((data, list(self.open)))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def html_of(found):
    return (found.dir / "report.html").read_text("utf-8")


def section(text, name):
    return text[text.index(f'<section id="{name}">') : text.index("</main>")].split('<section id="', 2)[1]


@pytest.fixture(scope="module")
def text():
    return html_of(run())


# --- the file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [run, hostile])
def test_every_tag_is_closed(which):
    assert Reader(html_of(which())).faults == []


@pytest.mark.parametrize("which", [run, hostile])
def test_nothing_leads_out_of_the_page(which):
    """Addresses are those of namespaces, parts of the page, or data in it."""
    found = html_of(which())
    addresses = [
        value
        for _, attributes in Reader(found).elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data") and value
    ]
    assert addresses
    assert [a for a in addresses if not a.startswith(("#", "data:"))] == []
    style = "".join(re.findall(r"<style>(.*?)</style>", found, re.DOTALL))
    assert set(re.findall(r"url\((?!data:)[^)]*\)|@import", style)) == set()
    namespaces = {"http://www.w3.org/1998/Math/MathML", "http://www.w3.org/2000/svg"}
    assert set(re.findall(r"https?://[^\"'<> ]+", found)) <= namespaces


def test_it_is_small(text):
    assert len(text.encode()) < LIMIT / 4


def test_a_deep_network_keeps_the_limit():
    model = bl.Sequential(*(bl.Dense(20, "tanh") for _ in range(70)), bl.Dense(3))
    found = bl.fit(model, samples(), loss="softmax_cross_entropy", epochs=2, batch_size=16, progress=False)
    assert len(page(found, found.at).encode()) < LIMIT


def test_every_section_is_there_and_says_something(text):
    for name in SECTIONS:
        assert len(section(text, name)) > 400, name
    assert 'class="error"' not in text


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("learning", ["<svg", 'class="legend"']),
        ("layers", ["data:image/png;base64,", "batchnorm1", "tanh1"]),
        ("distributions", ["∂L/∂W", "∂L/∂gamma", "δ", "class=layer"]),
        ("flow", ["‖δ‖", 'class="bars"', "class=verdict"]),
        ("check", ["dense4.W", "verdict ok", "<details>"]),
        ("weight", ["Δdense1.W", "<code>x<wbr>[", "<ol class=walk>", 'class="equations"']),
        ("cost", ["µs", "GFLOP/s", "linear.backward(x)"]),
        ("graph", ["box weights", "box slope", "box norm", "box loss", "box data"]),
        ("settings", ["batch_size", "numpy", "train"]),
    ],
)
def test_a_section_shows_what_it_should(text, name, parts):
    found = section(text, name)
    assert [part for part in parts if part not in found] == []


# --- languages ------------------------------------------------------------------------------------------------------


def test_every_chinese_text_is_marked_so_and_has_its_english(text):
    body = Reader(re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL))
    spoken = dict.fromkeys(words.TAGS, 0)
    for data, inside in body.texts:
        marks = {mark for _, names in inside for mark in names.split() if mark in words.TAGS}
        if data.strip() and marks:
            spoken[marks.pop()] += 1
        elif CHINESE.search(data):
            assert data == "中文"
    assert spoken["en"] == spoken["zh"] > 100


@pytest.mark.parametrize(("lang", "tag"), [("en", "en"), ("zh", "zh-CN")])
def test_it_opens_in_the_language_asked_for(lang, tag):
    assert f'<html lang="{tag}" data-lang="{lang}">' in page(run(), run().at, lang=lang)


def test_without_a_wish_it_opens_in_the_language_in_force(monkeypatch):
    monkeypatch.setenv("BACKLIT_LANG", "zh")
    assert 'data-lang="zh"' in page(run(), run().at)


def test_texts_equal_in_both_languages_stand_once():
    assert words.both_of(lambda: "R²") == "R²"
    assert words.both("report_loss").count("<span") == 2


# --- names that try to get out --------------------------------------------------------------------------------------


def test_free_texts_stay_texts():
    found = html_of(hostile())
    read = Reader(found)
    assert len(read.of("script")) == 2
    assert read.of("img") == []
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    joined = "".join(data for data, _ in read.texts)
    assert joined.count("alert(1)") >= 4
    assert HOSTILE in joined
    assert "<b>&bold" in joined
    assert "<b>&" not in found


# --- what it says is so ---------------------------------------------------------------------------------------------


def test_the_figures_are_the_runs(text):
    tiles = text[text.index('<dl class="facts">') : text.index("</dl>")]
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert f"<dd>{words.number(run().history[name][-1])}</dd>" in tiles
    assert f"<dd>{run().step:,}</dd>" in tiles


def test_the_step_is_the_one_asked_for():
    trace = run().at(3)
    found = page(run(), run().at, step=3)
    lead = say("report_step_lead", step=3, samples=len(trace["x"]), loss=f"{trace.loss:.6g}")
    assert lead in found
    g = np.abs(trace.grad("dense1.W"))
    j, k = np.unravel_index(np.argmax(g), g.shape)
    assert f"Δdense1.W[{j},{k}]" in section(found, "weight")


@pytest.mark.parametrize("step", [0, -1, 10**6])
def test_a_step_that_is_not_there_is_refused(step):
    with pytest.raises(InputError, match="BL"):
        run().report(step=step)


def test_without_data_the_rest_is_told_all_the_same(tmp_path):
    train(tmp_path, plain())
    opened = bl.open_run(tmp_path)
    found = opened.report().read_text("utf-8")
    assert found.count('<pre class="error">') == 8  # four sections, each in both languages
    for name in ("distributions", "flow", "check", "weight"):
        assert "BL431" in section(found, name)
    for name in ("learning", "layers", "cost", "graph", "settings"):
        assert "BL" not in section(found, name)
    assert Reader(found).faults == []


def test_changed_data_are_not_looked_at_unless_forced(tmp_path):
    train(tmp_path, plain())
    X, y = samples()
    opened = bl.open_run(tmp_path, data=(X + 1, y), validation=samples(20))
    assert "sha256" in section(opened.report().read_text("utf-8"), "distributions")
    assert "class=layer" in section(opened.report(force=True).read_text("utf-8"), "distributions")


def test_a_run_without_recording_or_epochs_is_reported(tmp_path):
    stop = lambda event: "stop" if type(event).__name__ == "StepDone" else None  # noqa: E731
    short = train(tmp_path, record=False, callbacks=[stop])
    found = short.report().read_text("utf-8")
    assert say("report_no_epoch") in section(found, "learning")
    assert say("report_no_recording") in section(found, "layers")
    assert "class=layer" in section(found, "distributions")


def test_a_network_without_matrices_is_reported():
    X, _ = samples()
    found = bl.fit(bl.Sequential(bl.LayerNorm()), (X, X), loss="mse", epochs=1, batch_size=16, progress=False)
    text = page(found, found.at)
    assert say("report_no_layers") in section(text, "weight")
    assert Reader(text).faults == []


def test_numbers_that_are_not_finite_are_shown_as_such(tmp_path):
    found = train(tmp_path, epochs=2)
    found.history["val_loss"][1] = float("nan")
    found.history["loss"][0] = float("inf")
    text = page(found, found.at)
    assert not re.search(r'(?:d|x|y|width|height)="[^"]*(?:nan|inf)', text)


def test_where_it_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = bl.fit(bl.Sequential(bl.Dense(3)), samples(), loss="softmax_cross_entropy", epochs=1, progress=False)
    assert found.report().resolve() == tmp_path / "report.html"
    assert found.report(tmp_path / "deep" / "er.html").is_file()
    with pytest.raises(BacklitError):
        found.report("/proc/nowhere/report.html")


def test_a_formula_without_latex_is_text():
    assert words.formula("", "a < b") == "<code>a &lt; b</code>"
    assert ">\\displaystyle a &lt; b<" in words.formula("a < b", "")
