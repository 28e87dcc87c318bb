"""Convolution of float32 at stride 1 on a processor's matrix unit, by instructions of :mod:`split_code`.

What neighbours see overlaps: a row of A is kw·C numbers of a line of the image, and the next row begins C numbers
further on. So an image is split once, a band of its lines at a time, and nothing is cut out of it; tiles are read from
where their numbers lie. For the gradient of the filters the terms are places: B is the image, place beside the place 16
further on, and for another entry of the filter it begins elsewhere.

As Python the functions are NumPy's products of the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.lib.stride_tricks import as_strided

from backlit.engines.fast.jit import as_python
from backlit.engines.fast.processor import has_matrix_unit
from backlit.engines.fast.split_tiles import LINES, STEP, TERMS, TILE

Array = Any

BAND = 3 << 17
"""Bytes of an image's parts that are kept together, at most."""
SIDE = 2 * LINES
"""Filters that are done together."""
TAIL = 2 * TERMS
"""Numbers that are read, and multiplied with 0, behind the last of a band."""
EDGE = 4 * SIDE * SIDE
"""Bytes of a square of sums."""
ERRORS = BAND // 3 // 64 // TERMS * STEP
"""Bytes of the parts of 32 filters' errors, at most."""


def convolves() -> bool:
    """Whether this processor has a matrix unit and code is compiled for it."""
    return has_matrix_unit() and not as_python()


def fits(channels: int, filters: int, kh: int, kw: int, columns: int) -> bool:
    """Whether channels and filters make whole tiles, and the least band has room."""
    wide = columns + kw - 1
    line, places = 2 * wide * channels, 64 * (TERMS + kh * wide + LINES)
    return channels % LINES == filters % LINES == 0 and 3 * max((kh + 1) * line + 2 * TAIL, places) <= BAND


def panels(filters: int, lines: int, run: int) -> int:
    """Numbers of float32 that have room for the parts of filters of so many lines of ``run`` entries."""
    return -(-filters // SIDE) * lines * -(-run // TERMS) * (STEP // 4)


# --- as Python --------------------------------------------------------------------------------------------------------


def split_filters(lines: int, run: int, filters: int, W: Array, into: Array) -> None:
    """W[lines·run, filters] for :func:`convolve`."""
    into.reshape(-1)[: lines * run * filters] = W.reshape(-1)[: lines * run * filters]


def convolve(
    rows: int, columns: int, channels: int, kh: int, kw: int, padded: Array, chunk: int, filters: Array, z: Array,
    n: int,
) -> None:  # fmt: skip
    """z[n, rows, columns, F] of an image padded[chunk] and filters that :func:`split_filters` has split."""
    size, F = kh * kw * channels, z.shape[3]
    W = filters.reshape(-1)[: size * F].reshape(size, F)
    z[n] = (_patches(padded[chunk], rows, columns, channels, kh, kw) @ W).reshape(rows, columns, F)


def correlate(
    rows: int, columns: int, channels: int, kh: int, kw: int, padded: Array, errors: Array, chunk: int, parts: Array
) -> None:
    """parts[chunk, F, kh·kw·C + 1] += Σ δ patches of the image padded[chunk]; δ = errors[chunk] has its padding."""
    F, wide = errors.shape[2], columns + kw - 1
    d = errors[chunk, : rows * wide].reshape(rows, wide, F)[:, :columns].reshape(-1, F)
    parts[chunk, :, :-1] += d.T @ _patches(padded[chunk], rows, columns, channels, kh, kw)


def _patches(image: Array, rows: int, columns: int, channels: int, kh: int, kw: int) -> Array:
    (line, number), size = image.strides, kh * kw * channels
    seen = as_strided(
        image, (rows, columns, kh, kw * channels), (line, channels * number, line, number), writeable=False
    )
    return seen.reshape(rows * columns, size)


# --- compiled ---------------------------------------------------------------------------------------------------------


def compiled_split_filters(code: dict[str, Any]) -> Callable[..., None]:
    """Filters as tiles of B: panels of 32, line by line; ``code`` has the instructions."""
    split = code["split"]

    @code["inlined"]
    def tile(terms: int, filters: int, W: int, row: int, to: int) -> None:
        """So many terms and filters; the others are 0."""
        pairs, wide = min(max(terms, 0), TERMS) // 2, min(max(filters, 0), LINES)
        split(pairs, W, wide, W + row, wide, 2 * row, to, 2 * TILE)
        split(LINES - pairs, W, 0, W, 0, 0, to + 64 * pairs, 2 * TILE)

    def function(lines: int, run: int, filters: int, W: int, to: int) -> None:
        steps = (run + TERMS - 1) // TERMS
        for f in range(0, filters, SIDE):
            for i in range(lines):
                for s in range(steps):
                    at = to + ((f // SIDE * lines + i) * steps + s) * STEP
                    here = W + 4 * ((i * run + s * TERMS) * filters + f)
                    for half in range(2):
                        f0 = half * LINES
                        tile(run - s * TERMS, filters - f - f0, here + 4 * f0, 4 * filters, at + half * TILE)

    return function


def compiled_convolve(code: dict[str, Any]) -> Callable[..., None]:
    """A convolution of one image; ``code`` has the instructions."""
    names = ("begin", "end", "pack", "multiply_apart", "store", "stack_band", "stack_square")
    begin, end, pack, multiply, store, stack_band, stack_square = (code[name] for name in names)
    zero, apart = code["zero"], BAND // 3

    @code["inlined"]
    def banded(numbers: int, X: int, near: int) -> None:
        """Numbers split, and zeros behind them."""
        pack(numbers // LINES, X, near, apart)
        for part in range(3):
            for at in range(0, 2 * TAIL, 4):
                store(zero, near + part * apart + 2 * numbers + at)

    def function(rows: int, columns: int, channels: int, kh: int, kw: int, X: int, W: int, F: int, Z: int) -> None:
        near, edge = stack_band(), stack_square()
        wide, steps = (columns + kw - 1) * channels, (kw * channels + TERMS - 1) // TERMS
        groups = (columns + LINES - 1) // LINES
        across = (columns + groups - 1) // groups
        band = min((apart // 2 - TAIL) // wide - kh + 1, rows)
        begin(across)
        for r in range(0, rows, band):
            lines = min(band, rows - r)
            banded((lines + kh - 1) * wide, X + 4 * r * wide, near)
            units = lines * groups
            for f in range(0, F, SIDE):
                panel, whole = W + f // SIDE * (kh * steps * STEP), F - f > LINES
                for u in range(0, units, 2):
                    v = min(u + 1, units - 1)
                    first = min(u % groups * across, columns - across)
                    second = min(v % groups * across, columns - across)
                    one = Z + 4 * (((r + u // groups) * columns + first) * F + f)
                    two = Z + 4 * (((r + v // groups) * columns + second) * F + f)
                    multiply(
                        kh, steps, near + 2 * (u // groups * wide + first * channels),
                        near + 2 * (v // groups * wide + second * channels), 2 * channels, apart, 64, 2 * wide,
                        panel, panel + TILE, 2 * TILE, STEP, steps * STEP,
                        one, one + 64 if whole else edge, two, two + 64 if whole else edge, 4 * F,
                        4 * F if whole else 64,
                    )  # fmt: skip
        end()

    return function


def compiled_correlate(code: dict[str, Any], lines: Callable[..., None]) -> Callable[..., None]:
    """The gradient of filters from one image; ``lines`` splits rows of A."""
    names = ("begin", "end", "split", "multiply_apart", "settle", "stack_band", "stack_square", "stack_errors")
    begin, end, split, multiply, settle, stack_band, stack_square, stack_errors = (code[name] for name in names)
    apart = BAND // 3

    @code["inlined"]
    def placed(count: int, there: int, X: int, channels: int, near: int) -> None:
        """So many places, of which as many are ``there``, each beside the one 16 further on."""
        step = 4 * channels
        both, low = min(count, max(there - LINES, 0)), min(count, max(there, 0))
        split(both, X, LINES, X + LINES * step, LINES, step, near, apart)
        split(low - both, X + both * step, LINES, X, 0, step, near + 64 * both, apart)
        split(count - low, X, 0, X, 0, 0, near + 64 * low, apart)

    def function(rows: int, columns: int, channels: int, kh: int, kw: int, X: int, E: int, F: int, P: int) -> None:
        near, edge, errors = stack_band(), stack_square(), stack_errors()
        wide, size = columns + kw - 1, kh * kw
        total, around, row = rows * wide - kw + 1, (kh - 1) * wide + kw, size * channels + 1
        most = (apart // 64 - around) // TERMS
        begin(LINES)
        for o in range(0, total, most * TERMS):
            some = min(most * TERMS, total - o)
            steps = (some + TERMS - 1) // TERMS
            for f in range(0, F, SIDE):
                lines(1, 0, E, F, f, F, o, some, errors)
                for c in range(0, channels, LINES):
                    here, there = X + 4 * (o * channels + c), (rows + kh - 1) * wide - o
                    placed(steps * TERMS + around, there, here, channels, near)
                    for s in range(0, size, 2):
                        t = min(s + 1, size - 1)
                        multiply(
                            1, steps, errors, errors + TILE, 64, 2 * TILE, STEP, 0,
                            near + 64 * (s // kw * wide + s % kw), near + 64 * (t // kw * wide + t % kw), apart,
                            64 * TERMS, 0, edge, edge + 64, edge + EDGE // 2, edge + EDGE // 2 + 64, 128, 128,
                        )  # fmt: skip
                        into = P + 4 * (f * row + s * channels + c)
                        settle(edge, into, 4 * row, min(F - f, SIDE), LINES, 1)
                        if t > s:
                            settle(edge + 64, into + 4 * channels, 4 * row, min(F - f, SIDE), LINES, 1)
        end()

    return function
