"""A derivation as one HTML page that needs no network and no script: formulas are MathML, which every browser shows."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files

from backlit.core.errors import InputError
from backlit.glass.derive_blocks import Block, Code, Formulas, Heading, Table, Text

_META = '<meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>'
_INLINE = re.compile(r"\$(?P<math>[^$]+)\$|`(?P<code>[^`]+)`")
_LOW = re.compile(r"\\left([(\[])((?:(?!\\left|\\right|\\frac|\\sum|\\sqrt|\\begin|\\max\\limits).)*)\\right([)\]])")
"""Parentheses around nothing high, which need not grow."""
_GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "end",
    "sigma",
    "tau",
]
_BOLD_ALPHA = ord("𝜶")
_LONG = 420
"""Characters of LaTeX from which on a line is set smaller on paper, where nothing can be scrolled."""


def page(blocks: tuple[Block, ...], *, title: str, lang: str) -> str:
    """A whole page. InputError where the package for MathML is not installed."""
    head = f"{_META}<title>{html.escape(title)}</title>"
    body = f'<body style="margin:0">{fragment(blocks)}</body>'
    return f'<!DOCTYPE html>\n<html lang="{lang}"><head>{head}</head>\n{body}</html>\n'


def fragment(blocks: tuple[Block, ...]) -> str:
    """The document as an element that can stand in another page."""
    body = "\n".join(_block(b) for b in blocks)
    return f'<style>{_style()}</style><article class="derivation">\n{body}\n</article>'


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Formulas(lines):
            return _formulas(lines)
        case Table(head, rows):
            return _table(head, rows)
        case Code(title, source, _):
            code = f"<pre><code>{html.escape(source.code)}</code></pre>"
            return f"<details><summary>{html.escape(title)}</summary>{code}</details>"


def _table(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    top = "".join(f"<th>{_inline(c)}</th>" for c in head)
    body = "".join("<tr>" + "".join(f"<td>{_inline(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="table"><table class="data"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _formulas(lines: tuple[tuple[str, str, str], ...]) -> str:
    rows = "".join(
        f'<mtr><mtd class="left" style="text-align:right">{_row(left)}</mtd><mtd><mo>{_sign(sign)}</mo></mtd>'
        f'<mtd class="right" style="text-align:left">{_row(right)}</mtd></mtr>'
        for left, sign, right in lines
    )
    kind = "formula long" if max(len(right) for _, _, right in lines) > _LONG else "formula"
    table = f'<math displaystyle="true"><mtable displaystyle="true">{rows}</mtable></math>'
    return f'<div class="{kind}">{table}</div>'


def _sign(sign: str) -> str:
    return {r"\leftarrow": "←"}.get(sign, sign)


def _inline(text: str) -> str:
    """Text with its formulas and names."""
    found, last = [], 0
    for m in _INLINE.finditer(text):
        found.append(html.escape(text[last : m.start()]))
        found.append(f"<math>{_row(m['math'])}</math>" if m["math"] else f"<code>{html.escape(m['code'])}</code>")
        last = m.end()
    return "".join([*found, html.escape(text[last:])])


def _row(latex: str) -> str:
    """The MathML of a formula, without the element around it."""
    if not latex:
        return "<mrow></mrow>"
    made = _converter()(_prepared(latex))
    return made[made.index(">") + 1 : made.rindex("</math>")]


def _prepared(latex: str) -> str:
    """LaTeX as the converter takes it: limits below large signs, small parentheses, bold Greek as characters."""
    latex = re.sub(r"\\(sum|max|min)_", r"\\\1\\limits_", latex)
    while (flat := _LOW.sub(r"\1\2\3", latex)) != latex:
        latex = flat
    return re.sub(r"\\boldsymbol\{\\(\w+)\}", lambda m: chr(_BOLD_ALPHA + _GREEK.index(m[1])), latex)


@cache
def _style() -> str:
    return (files("backlit.glass") / "derive.css").read_text("utf-8")


@cache
def _converter() -> Callable[[str], str]:
    try:
        from latex2mathml.converter import convert
    except ImportError:
        raise InputError("derive_no_mathml", where="derive", got="ImportError") from None
    found: Callable[[str], str] = convert
    return found
