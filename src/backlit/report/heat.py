"""Heat maps: a number for each layer and time, as an image inside the page."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape

import numpy as np

from backlit.core.types import Array
from backlit.report.charts import Scale
from backlit.report.words import axis, number

COLUMNS = 180
"""Most columns of pixels; further steps are averaged."""

RAMP = np.array(
    [[35, 20, 77], [61, 47, 142], [46, 94, 168], [29, 140, 160], [54, 183, 130], [147, 214, 79], [246, 230, 88]]
)
"""From small to large; equal steps look about equally far apart, in grey too."""
_NAMES, _WIDTH, _FOOT = 104, 440, 38
MOST_ROWS = 60
"""Of more rows the first and the last are shown."""


def heat_map(rows: Sequence[tuple[str, Array]], steps: Array) -> str:
    """Rows (name, number at each step), the first on top; colours by the logarithm, none where there is none."""
    if len(rows) > MOST_ROWS:
        rows = [*rows[: MOST_ROWS // 2], *rows[-MOST_ROWS // 2 :]]
    row = max(12, min(24, 330 // len(rows)))
    logs = _logs(np.stack([values for _, values in rows]))
    table = np.stack([_binned(line) for line in logs])
    seen = table[np.isfinite(table)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    height = row * len(rows)
    image = base64.b64encode(png(_colours(table, low, high))).decode()
    names = "".join(_name(name, row, i) for i, (name, _) in enumerate(rows))
    picture = (
        f'<image x="{_NAMES}" y="0" width="{_WIDTH - _NAMES}" height="{height}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{image}"/>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height + _FOOT}" role="img">{names}{picture}{_axis(steps, height)}</svg>'
        f"{_legend(low, high)}"
    )


def _logs(values: Array) -> Array:
    fine = np.isfinite(values) & (values > 0)
    return np.where(fine, np.log10(np.where(fine, values, 1.0)), np.nan)


def _binned(row: Array) -> Array:
    """At most COLUMNS means of neighbours; NaN where none of them is a number."""
    edges = np.linspace(0, len(row), min(len(row), COLUMNS) + 1).astype(int)
    fine = np.isfinite(row)
    totals, counts = (np.add.reduceat(v, edges[:-1]) for v in (np.where(fine, row, 0.0), fine.astype(float)))
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _colours(table: Array, low: float, high: float) -> Array:
    """RGBA[rows, columns, 4]; clear where the number is NaN."""
    place = (np.nan_to_num(table, nan=low) - low) / ((high - low) or 1.0) * (len(RAMP) - 1)
    rgb = np.stack([np.interp(place, range(len(RAMP)), RAMP[:, c]) for c in range(3)], axis=-1)
    return np.concatenate([rgb, np.where(np.isfinite(table), 255, 0)[..., None]], axis=-1).astype(np.uint8)


def png(pixels: Array) -> bytes:
    """A PNG file of RGBA[rows, columns, 4]. Source: Portable Network Graphics, 2nd ed., W3C Recommendation, 2003."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _name(name: str, height: int, row: int) -> str:
    shown = name if len(name) <= 12 else f"{name[:11]}…"
    at = f'x="{_NAMES - 6}" y="{(row + 0.5) * height:g}" style="font-size:{min(14, height - 1)}px"'
    return f'<text class="end" {at} dy=".32em">{escape(shown)}<title>{escape(name)}</title></text>'


def _axis(steps: Array, height: float) -> str:
    first, last = int(steps[0]), int(steps[-1])
    x = Scale(first, max(last, first + 1), _NAMES, _WIDTH)
    inner = [t for t in x.ticks if first <= t <= last and t == round(t)]
    marks = "".join(
        f'<text class="{"end" if t > first + 0.9 * (last - first) else "mid"}" x="{float(x(np.array(t))):.0f}" '
        f'y="{height + 16}">{t:,.0f}</text>'
        for t in inner
    )
    return f'{marks}<text class="end" x="{_WIDTH}" y="{height + 33}">{axis("step")}</text>'


def _legend(low: float, high: float) -> str:
    stops = ",".join(f"rgb({r} {g} {b})" for r, g, b in RAMP)
    ends = number(10**low, 2), number(10**high, 2)
    return f'<p class="ramp">{ends[0]} <i style="background:linear-gradient(90deg,{stops})"></i> {ends[1]}</p>'
