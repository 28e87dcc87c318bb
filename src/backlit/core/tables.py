"""Plain-text and HTML tables, and numbers as people read them."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Sequence
from unicodedata import east_asian_width

Rows = Sequence[Sequence[str]]
"""Lines of cells, the heads of the columns first."""


def text_table(rows: Rows, *, left: Collection[int] = (0,)) -> list[str]:
    """Aligned lines, the header underlined; the columns in ``left`` stand to the left, the others to the right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = [_line(cells, widths, left) for cells in rows]
    return [lines[0], "  ".join("─" * w for w in widths), *lines[1:]]


def _line(cells: Sequence[str], widths: Sequence[int], left: Collection[int]) -> str:
    spaces = [" " * (w - width(cell)) for cell, w in zip(cells, widths, strict=True)]
    pairs = enumerate(zip(cells, spaces, strict=True))
    return "  ".join(cell + space if k in left else space + cell for k, (cell, space) in pairs).rstrip()


def width(text: str) -> int:
    """Columns that a terminal shows ``text`` in: two for a full-width character, as Chinese ones are."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def html_table(rows: Rows) -> str:
    """The same as an HTML table; cells are escaped."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in rows[0])
    body = ("".join(f"<td>{html.escape(c)}</td>" for c in row) for row in rows[1:])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{r}</tr>' for r in body)}</tbody></table>"


def amount(number: float, unit: str = "") -> str:
    """Three digits with a decimal prefix: ``1.23 M``, ``25.6 kB``; whole numbers below 1000 as they are."""
    power = 0 if number < 1000 else min(int(math.log10(number) // 3), 6)
    digits = f"{number / 1000**power:.3g}"
    if digits == "1e+03":
        power, digits = power + 1, "1"
    return f"{digits} {' kMGTPE'[power].strip()}{unit}".rstrip()


def bar(share: float, cells: int = 12) -> str:
    """A horizontal bar of up to ``cells`` characters for a share in [0, 1], in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
