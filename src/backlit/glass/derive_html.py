"""A derivation as one HTML page that needs no network and no script: formulas are MathML, which every browser shows."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import cache

from backlit.core.errors import InputError
from backlit.glass.derive_blocks import Block, Code, Formulas, Heading, Table, Text

_STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5d6878; --line: #dfe4ea; --paper: #fff; --tint: #f5f7fa; --mark: #1f5fae; }
.derivation { color: var(--ink); background: var(--paper); max-width: 56rem; margin: 0 auto; padding: 2rem 1.25rem 4rem;
  font: 16px/1.65 "Source Serif 4", Georgia, "Noto Serif CJK SC", "Songti SC", SimSun, serif; }
.derivation h1 { font-size: 1.9rem; line-height: 1.25; margin: 0 0 1rem; }
.derivation h2 { font-size: 1.35rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 2px solid var(--line); }
.derivation h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; color: var(--mark); }
.derivation code, .derivation pre { font-family: "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .84em; }
.derivation p > code, .derivation td > code, .derivation h3 > code { background: var(--tint); padding: .08em .3em; border-radius: 3px; }
.derivation pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; line-height: 1.45; border-radius: 4px; margin: .4rem 0; }
.derivation .table { overflow-x: auto; }
.derivation table.data { border-collapse: collapse; margin: .8rem 0; font-size: .92em; }
.derivation table.data th, .derivation table.data td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.derivation table.data th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.derivation .formula { overflow-x: auto; overflow-y: hidden; margin: .6rem 0 .3rem; padding: .25rem 0 .25rem 1.2rem; border-left: 3px solid var(--line); }
.derivation .formula math { font-size: 1.06em; }
.derivation mtd { padding: .28em .18em; }
.derivation mtd.left { text-align: right; }
.derivation mtd.right { text-align: left; }
.derivation details { margin: 0 0 1rem 1.2rem; color: var(--soft); font-size: .88em; }
.derivation summary { cursor: pointer; }
.derivation details pre { color: var(--ink); }
@media (max-width: 40rem) { .derivation { padding: 1rem .8rem 3rem; font-size: 15px; } .derivation .formula { padding-left: .6rem; } }
@media print {
  .derivation { max-width: none; padding: 0; font-size: 10.5pt; }
  .derivation h2, .derivation h3 { break-after: avoid; }
  .derivation .formula, .derivation tr { break-inside: avoid; }
  .derivation .formula { overflow: visible; }
  .derivation .formula.long { font-size: 72%; }
}
"""
_INLINE = re.compile(r"\$(?P<math>[^$]+)\$|`(?P<code>[^`]+)`")
_GREEK = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "end", "sigma", "tau"]
_BOLD_ALPHA = ord("𝜶")
_LONG = 420
"""Characters of LaTeX from which on a line is set smaller on paper, where nothing can be scrolled."""


def page(blocks: tuple[Block, ...], *, title: str, lang: str) -> str:
    """A whole page. InputError where the package for MathML is not installed."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
    return f'<!DOCTYPE html>\n<html lang="{lang}"><head>{head}</head>\n<body style="margin:0">{fragment(blocks)}</body></html>\n'


def fragment(blocks: tuple[Block, ...]) -> str:
    """The document as an element that can stand in another page."""
    body = "\n".join(_block(b) for b in blocks)
    return f'<style>{_STYLE}</style><article class="derivation">\n{body}\n</article>'


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
            return f"<details><summary>{html.escape(title)}</summary><pre><code>{html.escape(source.code)}</code></pre></details>"


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
    return f'<div class="{kind}"><math xmlns="http://www.w3.org/1998/Math/MathML" display="inline" displaystyle="true"><mtable displaystyle="true">{rows}</mtable></math></div>'


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
    """LaTeX as the converter takes it: limits below large signs, bold Greek as characters, a thin space for a product."""
    latex = re.sub(r"\\(sum|max|min)_", r"\\\1\\limits_", latex)
    return re.sub(r"\\boldsymbol\{\\(\w+)\}", lambda m: chr(_BOLD_ALPHA + _GREEK.index(m[1])), latex)


@cache
def _converter() -> Callable[[str], str]:
    try:
        from latex2mathml.converter import convert
    except ImportError:
        raise InputError("derive_no_mathml", where="derive", got="ImportError") from None
    return convert
