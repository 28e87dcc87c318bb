"""Formulas in a page of HTML, set by KaTeX, whose script, style and fonts are put into the page: it needs no network.

The LaTeX stands in the page as text, which is what a reader without scripts sees. KaTeX is by Khan Academy and
contributors (MIT licence, beside this file; its fonts: SIL Open Font License 1.1, in ``fonts``).
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

_FACE = re.compile(r"@font-face\{(?P<before>[^}]*?)src:url\(fonts/(?P<name>[\w-]+\.woff2)\)[^}]*\}")
_LOW = re.compile(r"\\left([(\[])((?:(?!\\left|\\right|\\frac|\\sum|\\sqrt|\\begin|\\max\\limits).)*)\\right([)\]])")
"""Parentheses around nothing high: they need not grow, and stand closer when they do not."""
_GROWING = re.compile(r"(\\left|\\right)(?![a-z])")
_LONG = 140
"""Characters of LaTeX from which on parentheses may be broken."""


def formula(latex: str) -> str:
    """An element in the line that :func:`script` turns into the formula."""
    return f'<span class="tex">{html.escape(_prepared(latex))}</span>'


def equations(lines: Iterable[tuple[str, str, str]]) -> str:
    """Lines (left side, relation, right side) below each other at the relation; long right sides are broken."""
    return f'<div class="equations">{"".join(f"<p>{_line(*line)}</p>" for line in lines)}</div>'


def _line(left: str, relation: str, right: str) -> str:
    parts = (("left", left), ("relation", relation)) if relation else ()
    before = "".join(f'<span class="{kind}">{_displayed(part)}</span>' for kind, part in parts)
    return f"{before}{_displayed(_breakable(right))}"


def _displayed(latex: str) -> str:
    return formula(rf"\displaystyle {latex}") if latex else ""


def _breakable(latex: str) -> str:
    """For lines that break between terms, also in long parentheses, which for that must not grow, and not at a dot."""
    parts, opened = _GROWING.split(latex), list[int]()
    for k in range(1, len(parts), 2):
        if parts[k] == r"\left":
            opened.append(k)
        elif len("".join(parts[opened[-1] : k])) > _LONG:
            parts[opened.pop()], parts[k] = r"\Bigl", r"\Bigr"
        else:
            opened.pop()
    return "".join(parts).replace(r"\cdot ", r"\cdot\nobreak ")


def _prepared(latex: str) -> str:
    while (flat := _LOW.sub(r"\1\2\3", latex)) != latex:
        latex = flat
    return latex


@cache
def style() -> str:
    """What the page's ``<style>`` needs: KaTeX's rules, with those of its fonts inside that are shipped here."""
    return _FACE.sub(lambda m: _face(m["before"], m["name"]), _read("katex.min.css")) + _read("formulas.css")


def _face(before: str, name: str) -> str:
    file = files(__name__) / "fonts" / name
    if not file.is_file():
        return ""
    data = base64.b64encode(file.read_bytes()).decode()
    return f'@font-face{{{before}src:url(data:font/woff2;base64,{data}) format("woff2")}}'


@cache
def script() -> str:
    """What a ``<script>`` at the end of the page needs: KaTeX, and what turns each formula's LaTeX into the formula."""
    return f"/* KaTeX\n{_read('LICENSE')}*/\n{_read('katex.min.js')}\n{_read('formulas.js')}"


def _read(name: str) -> str:
    return (files(__name__) / name).read_text("utf-8")
