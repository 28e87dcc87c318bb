"""The matrix product of float32 on a processor's matrix unit, by instructions of :mod:`split_code`.

A and B are cut along k. Of what is cut off, a block of A's rows is split once and stays in a core's second cache; a
panel of 32 columns of B is split and meets all of these rows. The next panel is split meanwhile, one of its two tiles
beside the products of the block's first rows, the other beside those of the next. Every entry is summed in the order
of k, cut by cut, whatever rows and columns it is calculated with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backlit.engines.fast.split_tiles import LINES, STEP, TERMS, TILE

DEPTH = 512
"""Terms of a sum that are done together, at most: a whole number of tiles."""
BLOCK = 1 << 20
"""Bytes of A's parts that are kept together, at most."""
SIDE = 2 * LINES
"""Rows and columns of C that are done together."""
PANEL = DEPTH // TERMS * STEP
"""Bytes of a panel's parts."""
EDGE = 4 * SIDE * SIDE
"""Bytes of a square of C."""


def worth(m: int, n: int, k: int) -> bool:
    """Whether splitting A[m, k] and B[k, n] takes less than multiplying their tiles wins: measured."""
    return min(m, n, k) >= 64


def splitting(code: dict[str, Any]) -> Callable[..., None]:
    """What splits rows of A or columns of B."""
    split, turn, near_of = code["split"], code["turn_some"], code["stack_turned"]

    @code["inlined"]
    def tile(
        turned: int, low: int, lines_low: int, wide_low: int, high: int, lines_high: int, wide_high: int, step: int,
        to: int,
    ) -> None:  # fmt: skip
        """A tile: so many lines and numbers of each at ``low`` and, no more of either, at ``high``; others are 0."""
        if turned:
            near = near_of()
            turn(low, step, lines_low, wide_low, near)
            turn(high, step, lines_high, wide_high, near + TILE)
            split(LINES, near, LINES, near + TILE, LINES, 64, to, 2 * TILE)
        else:
            split(lines_high, low, wide_low, high, wide_high, step, to, 2 * TILE)
            more = low + lines_high * step
            split(lines_low - lines_high, more, wide_low, high, 0, step, to + 64 * lines_high, 2 * TILE)
            split(LINES - lines_low, low, 0, high, 0, 0, to + 64 * lines_low, 2 * TILE)

    @code["inlined"]
    def two_tiles(turned: int, along: int, X: int, ldx: int, first: int, end: int, o: int, k: int, to: int) -> None:
        """32 rows or columns from ``first`` on, before ``end``, 32 of k terms from o on: ``along`` lines or across."""
        low, high = min(LINES, k), min(LINES, max(k - LINES, 0))
        for half in range(2):
            i, at = first + half * LINES, to + half * TILE
            there = min(LINES, max(end - i, 0))
            if along:
                here, far = X + 4 * (i * ldx + o), 4 * LINES
                tile(turned, here, there, low, here + far, there, high, 4 * ldx, at)
            else:
                here, far = X + 4 * (o * ldx + i), 4 * LINES * ldx
                tile(turned, here, low, there, here + far, high, there, 4 * ldx, at)

    @code["inlined"]
    def lines(turned: int, along: int, X: int, ldx: int, first: int, last: int, o: int, k: int, to: int) -> None:
        """The steps of rows of A, or of columns of B, terms o … o + k."""
        for s in range((k + TERMS - 1) // TERMS):
            two_tiles(turned, along, X, ldx, first, last, o + s * TERMS, k - s * TERMS, to + s * STEP)

    return lines  # type: ignore[no-any-return]


def adding(code: dict[str, Any]) -> Callable[..., None]:
    """What adds a panel's and a block's products to a square of C."""
    multiply, settle, stack_edge = (code[name] for name in ("multiply", "settle", "stack_edge"))

    @code["inlined"]
    def square(
        steps: int, A: int, B: int, rows: int, columns: int, C: int, ldc: int, add: int,
        ahead: int, turned: int, X: int, line: int, to: int,
    ) -> None:  # fmt: skip
        """32 rows and columns of C, by way of a square of its own where there is something or C ends sooner."""
        whole, edge = rows >= SIDE and columns >= SIDE and not add, stack_edge()
        into, row = (C, 4 * ldc) if whole else (edge, 4 * SIDE)
        multiply(steps, A, B, into, row, ahead, turned, X, line, to)
        if not whole:
            settle(edge, C, 4 * ldc, min(rows, SIDE), columns, add)

    return square  # type: ignore[no-any-return]


def crossing(code: dict[str, Any]) -> Callable[..., None]:
    """What multiplies a block of A's rows, split already, with all columns of B."""
    stack_panels, lines, square = code["stack_panels"], splitting(code), adding(code)

    @code["inlined"]
    def cross(
        tb: int, i: int, m: int, n: int, o: int, k: int, left: int, B: int, ldb: int, add: int, C: int, ldc: int
    ) -> None:
        """Rows i … m of C and terms o … o + k."""
        steps, here = (k + TERMS - 1) // TERMS, stack_panels()
        there = here + PANEL
        lines(tb, tb, B, ldb, 0, n, o, k, here)
        for j in range(0, n, SIDE):
            after = j + SIDE
            ahead = k // TERMS if after + SIDE <= n and m - i > SIDE else 0
            for r in range(i, m, SIDE):
                half = (r - i) // SIDE
                first = after + half * LINES
                X = B + 4 * (first * ldb + o if tb else o * ldb + first)
                square(steps, left + half * (steps * STEP), here, m - r, n - j, C + 4 * (r * ldc + j), ldc, add,
                       ahead if half < 2 else 0, tb, X, 4 * ldb, there + half * TILE)  # fmt: skip
            if after < n:
                done = ahead * TERMS
                lines(tb, tb, B, ldb, after, n, o + done, k - done, there + ahead * STEP)
            here, there = there, here

    return cross  # type: ignore[no-any-return]


def compiled_split_gemm(code: dict[str, Any]) -> Callable[..., None]:
    """The product as the compiler takes it, on addresses; ``code`` has its instructions."""
    begin, end, stack_block = (code[name] for name in ("begin", "end", "stack_block"))
    lines, cross = splitting(code), crossing(code)

    def product(
        ta: int, tb: int, m: int, n: int, k: int, A: int, lda: int, B: int, ldb: int, add: int, C: int, ldc: int
    ) -> None:
        left = stack_block()
        cuts = (k + DEPTH - 1) // DEPTH
        most = (k + cuts * TERMS - 1) // (cuts * TERMS)
        rows = BLOCK // (most * STEP) * SIDE
        begin(LINES)
        for o in range(0, k, most * TERMS):
            some, adds = min(most * TERMS, k - o), 1 if o > 0 else add
            steps = (some + TERMS - 1) // TERMS
            for i0 in range(0, m, rows):
                i1 = min(i0 + rows, m)
                for i in range(i0, i1, SIDE):
                    lines(ta, 1 - ta, A, lda, i, i1, o, some, left + (i - i0) // SIDE * (steps * STEP))
                cross(tb, i0, i1, n, o, some, left, B, ldb, adds, C, ldc)
        end()

    return product
