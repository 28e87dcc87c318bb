"""Texts of the page: every one of them in both languages, of which the page shows one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from html import escape
from typing import Any

from backlit.core.i18n import LANGUAGES, say, use_language
from backlit.glass import katex

TAGS = {"en": "en", "zh": "zh-CN"}
"""Languages of the catalogue -> the page's ``lang`` attributes."""


def both(key: str, /, **values: object) -> str:
    """The message ``key`` in each language, escaped, each in a span of its own."""
    return both_of(lambda: escape(say(key, **values)))


def both_of(html: Callable[[], str], tag: str = "span") -> str:
    """What ``html`` gives in each language; where that is the same, once and without a span."""
    found = {}
    for lang in LANGUAGES:
        with use_language(lang):
            found[lang] = html()
    if len(set(found.values())) == 1:
        return found[LANGUAGES[0]]
    return "".join(f'<{tag} class="{lang}" lang="{TAGS[lang]}">{text}</{tag}>' for lang, text in found.items())


def axis(name: str) -> str:
    """What an axis shows, ``epoch`` or ``step``, in each language, as SVG."""
    return both_of(lambda: escape(say(f"report_axis_{name}")), "tspan")


def columns(key: str) -> list[str]:
    """The heads of a table from a message with ``|`` between them."""
    rows = {}
    for lang in LANGUAGES:
        with use_language(lang):
            rows[lang] = say(key).split("|")
    return [
        "".join(
            f'<span class="{lang}" lang="{TAGS[lang]}">{escape(c)}</span>' for lang, c in zip(rows, cells, strict=True)
        )
        for cells in zip(*rows.values(), strict=True)
    ]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, texts: Collection[int] = (0,)) -> str:
    """A table of cells in HTML: the columns in ``texts`` stand to the left, the others, numbers, to the right."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{'' if i in texts else ' class=num'}>{c}</{tag}>" for i, c in enumerate(row))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells(heads, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def code(text: object) -> str:
    """A name, as it is written in a program; where it is too long for its place it is broken before its index."""
    return f"<code>{escape(str(text)).replace('[', '<wbr>[')}</code>"


def number(value: Any, digits: int = 4) -> str:
    """A number to so many digits, with a true minus sign; – where it is not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}g}".replace("-", "−")


def formula(latex: str, text: str) -> str:
    """A formula set on its own; as ``text`` where there is no LaTeX."""
    return katex.equations([("", "", latex)]) if latex else code(text)
