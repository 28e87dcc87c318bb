"""Formulas in a browser: every one is set, with the fonts of the page, and fits on a phone and on paper."""

from __future__ import annotations

import pytest

import backlit as bl
from backlit.glass import katex
from backlit.rules import REGISTRY
from backlit.rules.formula import formulas_of
from report.browser import browser, program
from report.runs import branched, run, samples

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="no chromium or chrome is installed"),
]
ERRORS = """[...document.querySelectorAll('.katex-error, .katex-html [style*="204, 0, 0"]')].map(e => e.textContent)"""
UNSET = "[...document.querySelectorAll('.tex')].filter(e => !e.querySelector('.katex-html')).length"
FAMILIES = """[...new Set([...document.querySelectorAll('.katex-html *')].map(e => getComputedStyle(e).fontFamily))]
    .map(f => f.split(',')[0].replaceAll('"', '')).sort()"""
SHIPPED = "[...new Set([...document.fonts].map(f => f.family))]"
WIDER = "[...document.querySelectorAll('.equations')].filter(e => e.scrollWidth > e.clientWidth + 1).length"


HEAD = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">
    <meta name="viewport" content="width=device-width"><style>{katex.style()}</style></head><body>"""
FOOT = f"<script>{katex.script()}</script></body></html>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module", params=["derivation-en", "derivation-zh", "report", "rules"])
def path(request, tmp_path_factory):
    """Pages with formulas; the last one has every formula of every rule."""
    place = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    kind, _, lang = request.param.partition("-")
    if kind == "derivation":
        X, y = samples(4)
        return bl.derive(branched(), X, y, optimizer="adam", lang=lang).save(place)
    if kind == "report":
        return run().dir / "report.html"
    every = [f.latex() for rule in REGISTRY.values() for f in formulas_of(rule).values()]
    body = katex.equations(("", "", latex) for latex in every)
    place.write_text(HEAD + body + FOOT, "utf-8")
    return place


def test_every_formula_is_set_with_the_fonts_of_the_page(page, path):
    page.open(path)
    assert page.run("document.querySelectorAll('.tex').length") >= 8
    assert page.run(UNSET) == 0
    assert page.run(ERRORS) == []
    used = page.run(FAMILIES)
    assert {"KaTeX_Main", "KaTeX_Math"} <= set(used)
    assert [f for f in used if f.startswith("KaTeX") and f not in page.run(SHIPPED)] == []
    assert page.complaints() == []
    assert page.requests() == [path.resolve().as_uri()]


def test_a_formula_that_katex_does_not_know_would_be_noticed(page, tmp_path):
    bad = tmp_path / "bad.html"
    body = katex.formula(r"\nosuchcommand") + katex.formula(r"\mathfrak{A}")
    bad.write_text(HEAD + body + FOOT, "utf-8")
    page.open(bad)
    assert set(page.run(ERRORS)) == {r"\nosuchcommand"}
    assert "KaTeX_Fraktur" in set(page.run(FAMILIES)) - set(page.run(SHIPPED))


def test_the_page_is_no_wider_than_a_phone(page, path):
    page.open(path, width=390)
    assert page.run("document.documentElement.scrollWidth") <= 390


def test_equations_fit_on_paper(page, path):
    """On a sheet of A4 between usual margins, where a desk shows them at their size or lets them be scrolled."""
    page.open(path, width=718)
    page.run("document.fonts.ready.then(() => 0)")
    page.send("Emulation.setEmulatedMedia", media="print")
    wider = page.run(WIDER)
    page.send("Emulation.setEmulatedMedia", media="")
    assert wider == 0


def test_source_lines_are_unfolded_on_paper_and_only_there(page, tmp_path):
    page.open(bl.derive(branched(), *samples(4)).save(tmp_path / "derivation.html"))
    unfolded = "[document.querySelectorAll('details[open]').length, document.querySelectorAll('details.first').length]"
    assert page.run(unfolded)[0] == 0
    page.run("dispatchEvent(new Event('beforeprint'))")
    on_paper, first = page.run(unfolded)
    assert on_paper == first > 5
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run(unfolded) == [0, first]


OVERLAPPING = """[...document.querySelectorAll('.left')].filter(e => e.querySelector('.tex') &&
    e.querySelector('.tex').getBoundingClientRect().right > e.nextSibling.getBoundingClientRect().left + 1).length"""


def test_nothing_overlaps_even_before_the_fonts_are_there(page, tmp_path):
    page.open(bl.derive(branched(), *samples(4)).save(tmp_path / "derivation.html"))
    assert page.run("document.querySelectorAll('.left .katex').length") > 50
    assert page.run(OVERLAPPING) == 0
    page.run("document.querySelectorAll('.equations').forEach(e => e.style = '')")
    assert page.run(OVERLAPPING) == 0


def test_equations_stand_below_each_other_at_the_relation(page, tmp_path):
    path = bl.derive(branched(), *samples(4), optimizer="adam").save(tmp_path / "derivation.html")
    page.open(path)
    page.run("document.fonts.ready.then(() => 0)")
    spread = """Math.max(...[...document.querySelectorAll('.equations')].map(e =>
        [...e.querySelectorAll('.relation')].map(r => r.getBoundingClientRect().left))
        .map(x => Math.max(...x) - Math.min(...x)))"""
    assert page.run(spread) < 1
