"""Formulas for pages: what KaTeX is given, where lines may be broken, and that everything it needs is in the page."""

from __future__ import annotations

import base64
import re
from importlib.resources import files
from xml.etree import ElementTree as ET

import pytest

from backlit.glass import katex


def element(html):
    return ET.fromstring(html)


@pytest.mark.parametrize(
    ("latex", "want"),
    [
        ("a < b & c", "a < b & c"),
        (r"\left(a + b\right)", "(a + b)"),
        (r"\left(\left[y = c\right] - p\right)", "([y = c] - p)"),
        (r"\left(\frac{1}{N}\right)", r"\left(\frac{1}{N}\right)"),
        (r"f\left(\left(a\right)^{2} + \sum_{i} x\right)", r"f\left((a)^{2} + \sum_{i} x\right)"),
    ],
)
def test_a_formula_in_the_line(latex, want):
    found = element(katex.formula(latex))
    assert (found.tag, found.attrib["class"], found.text) == ("span", "tex", want)


def test_equations_are_lines_of_three_parts():
    root = element(katex.equations([("a", "=", "b"), ("", "=", "c < d"), ("", "", "e")]))
    parts = [[(p.attrib["class"], "".join(p.itertext())) for p in line] for line in root]
    show = r"\displaystyle {}".format
    assert parts == [
        [("left", show("a")), ("relation", show("=")), ("tex", show("b"))],
        [("left", ""), ("relation", show("=")), ("tex", show("c < d"))],
        [("tex", show("e"))],
    ]


def right(latex):
    return element(katex.equations([("", "", latex)])).find("p/span").text.removeprefix(r"\displaystyle ")


HIGH = r"\frac{a}{b}"


def test_long_parentheses_can_be_broken_and_short_ones_grow():
    short, long = (rf"\left({' + '.join([HIGH] * count)}\right)" for count in (2, 20))
    assert right(short) == short
    assert right(long) == long.replace(r"\left", r"\Bigl").replace(r"\right", r"\Bigr")
    assert right(f"{short} - {long}").startswith(rf"{short} - \Bigl(")
    nested = right(rf"\left({short} + {long} + {short}\right)")
    assert nested.count(r"\Bigl") == nested.count(r"\Bigr") == 2
    assert nested.count(r"\left(") == nested.count(r"\right)") == 2


def test_an_arrow_is_no_parenthesis():
    assert right(r"a \leftarrow b \rightarrow c") == r"a \leftarrow b \rightarrow c"


def test_a_product_stays_on_its_line():
    assert right(r"2 \cdot 3 + 4") == r"2 \cdot\nobreak 3 + 4"


def test_the_style_has_its_fonts_inside():
    style = katex.style()
    addresses = re.findall(r"url\(([^)]*)\)", style)
    shipped = [f for f in (files("backlit.glass.katex") / "fonts").iterdir() if f.name.endswith(".woff2")]
    assert len(addresses) == len(shipped) == style.count("@font-face") == 8
    inside = {base64.b64decode(a.removeprefix("data:font/woff2;base64,")) for a in addresses}
    assert inside == {f.read_bytes() for f in shipped}
    assert all(data.startswith(b"wOF2") for data in inside)


def test_script_and_style_end_only_where_they_should():
    assert "</script" not in katex.script()
    assert "</style" not in katex.style()
    assert "katex.render(" in katex.script()


@pytest.mark.parametrize(("path", "words"), [("LICENSE", "MIT License"), ("fonts/LICENSE", "OPEN FONT LICENSE")])
def test_licences_lie_beside(path, words):
    assert words in (files("backlit.glass.katex") / path).read_text("utf-8")


def test_a_page_carries_the_licence():
    assert (files("backlit.glass.katex") / "LICENSE").read_text("utf-8") in katex.script()
