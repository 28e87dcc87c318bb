"""The page in a browser: silent, asking for nothing, in either language, on a desk, a phone and paper."""

from __future__ import annotations

import base64

import pytest

from report.browser import browser, program
from report.runs import hostile, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="no chromium or chrome is installed"),
]
VISIBLE = "[...document.querySelectorAll('.{}')].filter(e => e.getClientRects().length).length"
WIDEST = """Math.max(...[...document.querySelectorAll("main *")]
    .filter(e => !e.closest(".scroll, .equations, nav, details")).map(e => e.getBoundingClientRect().right))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(params=[1280, 390])
def opened(page, request):
    page.open(run().dir / "report.html", width=request.param)
    return page


def test_it_logs_nothing_and_asks_for_nothing_but_itself(opened):
    for lang in ("zh", "en"):
        opened.run(f"document.querySelector('[data-set={lang}]').click()")
    opened.run("document.getElementById('theme').click()")
    assert opened.complaints() == []
    assert opened.requests() == [(run().dir / "report.html").resolve().as_uri()]


def test_a_complaint_and_a_request_would_be_noticed(page, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="missing.png"><script>console.error("no")</script>', "utf-8")
    page.open(bad)
    assert page.complaints()
    assert len(page.requests()) == 2


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_one_language_is_shown_at_a_time(opened, lang):
    opened.run(f"document.querySelector('[data-set={lang}]').click()")
    other = {"zh": "en", "en": "zh"}[lang]
    assert opened.run(VISIBLE.format(lang)) > 50
    assert opened.run(VISIBLE.format(other)) == 0
    assert opened.run("document.documentElement.lang") == {"zh": "zh-CN", "en": "en"}[lang]
    pressed = "document.querySelector('[aria-pressed=true]').dataset.set"
    assert opened.run(pressed) == lang
    seen = opened.run("document.body.innerText")
    assert ("误差项" in seen) == (lang == "zh")


def test_nothing_is_wider_than_the_screen(opened):
    width = opened.run("innerWidth")
    assert opened.run("document.documentElement.scrollWidth") <= width
    assert opened.run(WIDEST) <= width


def test_texts_of_charts_can_be_read(opened):
    """At least 9 pixels high on any screen."""
    sizes = """Math.min(...[...document.querySelectorAll("main svg:not(.graph) text")].filter(e => e.textContent)
        .map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a))"""
    assert opened.run(sizes) >= 9


def test_light_and_dark_follow_the_system_and_the_button(page):
    path = run().dir / "report.html"
    light = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128"
    for dark in (False, True):
        page.open(path, dark=dark)
        assert page.run(light) is not dark
        page.run("document.getElementById('theme').click()")
        assert page.run(light) is dark


def test_hostile_names_do_nothing(page):
    page.open(hostile().dir / "report.html")
    assert page.complaints() == []
    assert len(page.requests()) == 1
    assert page.run("document.scripts.length") == 2


def test_it_can_be_printed(page):
    page.open(run().dir / "report.html", dark=True)
    pdf = base64.b64decode(page.send("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    page.send("Emulation.setEmulatedMedia", media="print")
    shown = page.run("getComputedStyle(document.querySelector('nav')).display")
    page.send("Emulation.setEmulatedMedia", media="")
    assert shown == "none"
