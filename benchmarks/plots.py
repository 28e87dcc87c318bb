"""Curves over logarithmic axes as SVG files that stand by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from backlit.report.charts import Line, Scale, span

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 34, 58
COLOURS = ("#2f6fde", "#d9660d", "#14866d", "#a63fa0", "#b8860b")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.end{text-anchor:end}.mid{text-anchor:middle}.title{font-weight:600}"
    ".grid{stroke:#ddd}.axis{stroke:#888}.curve{fill:none;stroke-width:2}"
)


@dataclass(frozen=True)
class Panel:
    """A plot: its curves, and what the axes are."""

    title: str
    lines: Sequence[Line]
    x_label: str
    unit: str
    """Of the y axis, written behind its numbers."""

    @property
    def scales(self) -> tuple[Scale, Scale]:
        """Of x, over the points, and of y, over whole decades."""
        xs, ys = (np.concatenate([np.asarray(getattr(n, axis), float) for n in self.lines]) for axis in "xy")
        x = Scale(xs.min(), xs.max(), LEFT, WIDTH - RIGHT, log=True)
        return x, Scale(*span(ys, log=True), HEIGHT - BOTTOM, TOP, log=True)

    def drawn(self, left: float) -> str:
        """SVG, so far from the left edge."""
        x, y = self.scales
        curves = "".join(self._curve(i, x, y) for i in range(len(self.lines)))
        return f'<g transform="translate({left:g})">{self._frame(x, y)}{curves}{self._legend()}</g>'

    def _frame(self, x: Scale, y: Scale) -> str:
        base, parts = HEIGHT - BOTTOM, [f'<text class="title" x="{LEFT}" y="18">{escape(self.title)}</text>']
        for value, at in zip(y.ticks, y(np.array(y.ticks)), strict=True):
            parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text class="end" x="{LEFT - 6}" y="{at + 4:.1f}">{value:g} {escape(self.unit)}</text>')
        longest = max(self.lines, key=lambda line: len(line.x))
        for value, at in zip(longest.x, x(longest.x), strict=True):
            parts.append(f'<text class="mid" x="{at:.1f}" y="{base + 16}">{short(value)}</text>')
        label = f'<text class="end" x="{WIDTH - RIGHT}" y="{base + 32}">{escape(self.x_label)}</text>'
        return "".join(parts) + f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>{label}'

    def _curve(self, i: int, x: Scale, y: Scale) -> str:
        points = list(zip(x(self.lines[i].x), y(self.lines[i].y), strict=True))
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
        dots = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{COLOURS[i]}"/>' for px, py in points)
        return f'<path class="curve" stroke="{COLOURS[i]}" d="M{path}"/>{dots}'

    def _legend(self) -> str:
        parts, at = [], float(LEFT)
        for colour, line in zip(COLOURS, self.lines, strict=False):
            parts.append(f'<rect x="{at:g}" y="{HEIGHT - 15}" width="10" height="10" fill="{colour}"/>')
            parts.append(f'<text x="{at + 14:g}" y="{HEIGHT - 6}">{escape(line.label)}</text>')
            at += 26 + 7 * len(line.label)
        return "".join(parts)


def short(value: float) -> str:
    """Thousands as k, millions as M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def figure(panels: Sequence[Panel]) -> str:
    """The panels side by side, as the text of a file."""
    width, inside = WIDTH * len(panels), "".join(panel.drawn(WIDTH * i) for i, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'role="img"><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{inside}</svg>\n'
    )
