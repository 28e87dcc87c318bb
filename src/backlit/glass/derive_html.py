"""A derivation as one HTML page that needs no network: its formulas are set by KaTeX, which is inside the page."""

from __future__ import annotations

import html
import re
from functools import cache
from importlib.resources import files

from backlit.glass import katex
from backlit.glass.derive_blocks import Block, Code, Formulas, Heading, Table, Text
from backlit.glass.derive_equations import Source

_META = '<meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>'
_ICON = '<link rel="icon" href="data:,"/>'
_INLINE = re.compile(r"\$(?P<math>[^$]+)\$|`(?P<code>[^`]+)`")


def page(blocks: tuple[Block, ...], *, title: str, lang: str) -> str:
    """A whole page."""
    head = f"{_META}<title>{html.escape(title)}</title>{_ICON}<style>{katex.style()}{_read('derive.css')}</style>"
    shown: set[str] = set()
    body = "\n".join(_block(b, shown) for b in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}"><head>{head}</head>\n<body><article class="derivation">\n{body}\n'
        f"</article><script>{katex.script()}{_read('derive.js')}</script></body></html>\n"
    )


def _block(block: Block, shown: set[str]) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Formulas(lines):
            return katex.equations(lines)
        case Table(head, rows):
            return _table(head, rows)
        case Code(title, source, _):
            return _code(title, source, shown)


def _code(title: str, source: Source, shown: set[str]) -> str:
    """Folded source lines, marked where they stand first: there they are printed."""
    kind = "" if source.place in shown else ' class="first"'
    shown.add(source.place)
    lines = f"<pre><code>{html.escape(source.code)}</code></pre>"
    return f"<details{kind}><summary>{html.escape(title)}</summary>{lines}</details>"


def _table(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    top = "".join(f"<th>{_inline(c)}</th>" for c in head)
    body = "".join("<tr>" + "".join(f"<td>{_inline(_unbroken(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="table"><table class="data"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _unbroken(text: str) -> str:
    """A name and its shape stay together, wherever else a narrow cell is broken."""
    return text.replace(" [", "\u00a0[").replace(" × ", "\u00a0×\u00a0")


def _inline(text: str) -> str:
    """Text with its formulas and names."""
    found, last = [], 0
    for m in _INLINE.finditer(text):
        found.append(html.escape(text[last : m.start()]))
        found.append(katex.formula(m["math"]) if m["math"] else f"<code>{html.escape(m['code'])}</code>")
        last = m.end()
    return "".join([*found, html.escape(text[last:])])


@cache
def _read(name: str) -> str:
    return (files("backlit.glass") / name).read_text("utf-8")
