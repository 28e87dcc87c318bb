"""Charts as SVG, drawn for a phone and enlarged elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backlit.core.types import Array
from backlit.report.words import number

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 34
COLOURS = 8
"""Colours --c0 … of the style sheet."""
MOST_POINTS = 500


@dataclass(frozen=True)
class Line:
    """A curve and its name in the legend, which is HTML."""

    label: str
    x: Array
    y: Array


@dataclass(frozen=True)
class Scale:
    """Maps numbers to pixels, from ``low`` … ``high`` to ``start`` … ``end``; by their logarithms where ``log``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: Array) -> Array:
        """The pixels of ``values``."""
        low, high, v = (np.log10(x) if self.log else x for x in (self.low, self.high, np.asarray(values, float)))
        return self.start + (v - low) / (high - low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round numbers between the ends."""
        return _powers(self.low, self.high) if self.log else _rounds(self.low, self.high)


def span(values: Array, *, log: bool = False) -> tuple[float, float]:
    """(lowest, highest) that a scale should show of the finite values, of those above 0 where ``log``."""
    v = values[np.isfinite(values) & ((values > 0) | (not log))]
    low, high = (float(v.min()), float(v.max())) if v.size else (0.1, 1.0)
    if log:
        floor, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return 10.0**floor, 10.0 ** max(top, floor + 1)
    room = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return (low if low == 0 else low - room), high + room


def line_chart(lines: Sequence[Line], *, x_label: str, log: bool = False, guide: float | None = None) -> str:
    """Curves over a common x axis, whose label is SVG, with a legend; ``guide`` draws a dashed level."""
    xs, ys = (np.concatenate([np.asarray(v, float) for v in vs]) for vs in ([n.x for n in lines], [n.y for n in lines]))
    low, high = span(np.append(ys, [] if guide is None else guide), log=log)
    x = Scale(*_widened(xs), LEFT, WIDTH - RIGHT)
    y = Scale(low, high, HEIGHT - BOTTOM, TOP, log)
    level = [] if guide is None else [f'<path class="guide" d="M{LEFT} {_p(y(np.array(guide)))}H{WIDTH - RIGHT}"/>']
    curves = [_curve(n, x, y, i) for i, n in enumerate(lines)]
    names = "".join(f'<li><i style="--c:var(--c{i % COLOURS})"></i>{n.label}</li>' for i, n in enumerate(lines))
    legend = f'<ul class="legend">{names}</ul>' if len(lines) > 1 else ""
    return legend + _svg([*_frame(x, y, x_label), *level, *curves], WIDTH, HEIGHT)


def _curve(line: Line, x: Scale, y: Scale, colour: int) -> str:
    step = -(-len(line.x) // MOST_POINTS) or 1
    across, values = (np.asarray(v, float)[::step] for v in (line.x, line.y))
    fine = np.isfinite(values) & ((values > 0) | (not y.log))
    px, py = x(across), y(np.where(fine, values, y.low))
    pieces = np.split(np.arange(len(px)), np.flatnonzero(~fine))
    paths = ["L".join(f"{_p(px[i])} {_p(py[i])}" for i in piece if fine[i]) for piece in pieces]
    drawn = "".join(f"M{p}" + ("h.1" if "L" not in p else "") for p in paths if p)
    return f'<path class="curve" style="--c:var(--c{colour % COLOURS})" d="{drawn}"/>'


def _frame(x: Scale, y: Scale, x_label: str) -> list[str]:
    parts = []
    for t in y.ticks:
        at = _p(y(np.array(t)))
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{at}" dy=".32em">{_tick(t, log=y.log)}</text>')
    below = [
        f'<text class="mid" x="{_p(x(np.array(t)))}" y="{HEIGHT - BOTTOM + 16}">{_tick(t)}</text>' for t in x.ticks
    ]
    line = f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
    return [*parts, *below, line, f'<text class="end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{x_label}</text>']


def histogram(values: Array, colour: int, bins: int = 36) -> str:
    """How often which values occur; the heights are square roots, so that rare ones are seen too."""
    wide, width, height = np.asarray(values, np.float64).ravel(), 200, 96
    v = wide[np.isfinite(wide)]
    if not v.size:
        return '<p class="none">–</p>'
    if v.min() == v.max():
        return f'<p class="none">= {number(v.min(), 3)} <small>({v.size:,}×)</small></p>'
    counts, edges = np.histogram(v, bins=bins)
    tops = height - 20 - np.sqrt(counts / counts.max()) * (height - 26)
    x = Scale(float(edges[0]), float(edges[-1]), 2, width - 2)
    px = x(edges)
    steps = "".join(f"V{_p(t)}H{_p(r)}" for t, r in zip(tops, px[1:], strict=True))
    parts = [f'<path class="area" style="--c:var(--c{colour})" d="M{_p(px[0])} {height - 20}{steps}V{height - 20}Z"/>']
    if edges[0] < 0 < edges[-1]:
        parts.append(f'<path class="guide" d="M{_p(x(np.array(0.0)))} 4V{height - 20}"/>')
    parts += [
        f'<path class="axis" d="M2 {height - 20}H{width - 2}"/>',
        f'<text x="2" y="{height - 5}">{number(v.min(), 2)}</text>',
        f'<text class="end" x="{width - 2}" y="{height - 5}">{number(v.max(), 2)}</text>',
    ]
    return _svg(parts, width, height)


def bars(rows: Sequence[tuple[str, float, str]], *, colour: int = 0, log: bool = False) -> str:
    """Named horizontal bars: (name in HTML, value of at least 0, what to write beside it).

    ``log``: lengths by the logarithm, over at least four decades.
    """
    values = np.array([v for _, v, _ in rows], float)
    lengths = _decades(values) if log else values / max(values.max(initial=0.0), 1e-300)
    lines = "".join(
        f'<li><span class="name">{name}</span><span class="track"><i style="--c:var(--c{colour});width:{100 * s:.1f}%">'
        f"</i></span><span class=what>{text}</span></li>"
        for (name, _, text), s in zip(rows, np.nan_to_num(lengths), strict=True)
    )
    return f'<ul class="bars">{lines}</ul>'


def _decades(values: Array) -> Array:
    logs = np.log10(np.where(values > 0, values, np.nan))
    if np.isnan(logs).all():
        return np.zeros(len(values))
    top, low = np.nanmax(logs), np.nanmin(logs)
    return np.nan_to_num(1 - (top - logs) / max(top - low + 0.5, 4.0))


# --- numbers --------------------------------------------------------------------------------------------------------


def _widened(x: Array) -> tuple[float, float]:
    low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _rounds(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(k for k in (1, 2, 5, 10) if k * size >= rough) * size
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    first, last = round(math.log10(low)), round(math.log10(high))
    return [10.0**k for k in range(first, last + 1, -(-(last - first) // 5) or 1)]


def _tick(value: float, *, log: bool = False) -> str:
    if log:
        return f'10<tspan dy="-.45em" font-size="75%">{number(round(math.log10(value)))}</tspan>'
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else number(value)


def _p(pixels: float | Array) -> str:
    return f"{float(pixels):.1f}".removesuffix(".0")


def _svg(parts: Sequence[str], width: float, height: float) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'
