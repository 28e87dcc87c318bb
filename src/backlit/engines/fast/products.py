"""The matrix product: panels of B beside tiles of C that stay in registers, by instructions of :mod:`vector_code`.

A product is cut along k in parts whose panels of B fit a core's nearest cache; a panel is copied together (turned
where B is given transposed) and serves all rows. Where the rows of A lie so far apart that they fall on the same
lines of the cache, or A is given transposed and needed often, a block of it is copied too. Every entry is summed in
the order of k, part by part, however the product is cut: shares of it have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.lib.stride_tricks import as_strided

Array = Any

PART = 320
"""Terms of a sum that are done together, at most."""
FAR = 4096
"""Bytes between two rows from which they share lines of the cache."""
MANY = 16
"""Vectors in a row of C from which tiles of Aᵀ are worth copying."""
FEW = 2
"""Tiles of rows for which B is not worth copying."""
BLOCK = 22
"""Tiles of rows that are copied together."""


def gemm(
    ta: bool, tb: bool, m: int, n: int, k: int, A: Array, a: int, lda: int, B: Array, b: int, ldb: int,
    beta: float, C: Array, c: int, ldc: int,
) -> None:  # fmt: skip
    """C[m, n] = op(A)[m, k] op(B)[k, n] + beta C, op the transpose where ``ta``, ``tb``, in rows; beta is 0 or 1.

    A matrix is the part of a contiguous array that begins at entry ``a`` and has rows ``lda`` entries apart.
    """
    left = _part(A, a, lda, (k, m) if ta else (m, k))
    right = _part(B, b, ldb, (n, k) if tb else (k, n))
    into = _part(C, c, ldc, (m, n))
    found = (left.T if ta else left) @ (right.T if tb else right)
    into[...] = found + beta * into if beta else found


def _part(A: Array, start: int, row: int, shape: tuple[int, int]) -> Array:
    size, (rows, columns) = A.itemsize, shape
    assert rows * columns == 0 or 0 <= start <= A.size - (rows - 1) * row - columns
    return as_strided(A.reshape(-1)[start:], shape, (row * size, size))


def copying(size: int, lanes: int, code: dict[str, Any]) -> tuple[Callable[..., None], Callable[..., None]]:
    """(turned, copied): lines of numbers of ``size`` bytes put together, by vectors of ``lanes``."""
    turn, move, load, store = (code[n] for n in ("turn", "move", "load", "store"))

    @code["inlined"]
    def turned(lines: int, step: int, count: int, k: int, into: int, width: int) -> None:
        """into[q, c] = lines[c, q], a vector's length of both at a time; the last line may be longer by almost one."""
        whole = k // lanes * lanes
        for q in range(0, whole, lanes):
            for c in range((count - 1) // lanes * lanes, -1, -lanes):  # what is too much is written over
                turn(lines + size * q + c * step, step, count - c, into + size * (q * width + c), size * width)
        for q in range(whole, k):
            for c in range(count):
                store(load(lines + c * step + size * q), into + size * (q * width + c))

    @code["inlined"]
    def copied(lines: int, step: int, count: int, k: int, into: int, width: int) -> None:
        """into[q, c] = lines[q, c]."""
        for q in range(k):
            for c in range(0, count // lanes * lanes, lanes):
                move(lines + q * step + size * c, into + size * (q * width + c))
            for c in range(count // lanes * lanes, count):
                store(load(lines + q * step + size * c), into + size * (q * width + c))

    return turned, copied


def gathering(size: int, lanes: int, deep: int, code: dict[str, Any]) -> tuple[Callable[..., None], Callable[..., Any]]:
    """(block, panel): the parts of A and of B that are copied together; ``deep`` entries for a column of a tile."""
    turned, copied = copying(size, lanes, code)
    whole = -(-deep // lanes) * lanes

    @code["inlined"]
    def block(ta: int, i0: int, i1: int, m: int, tall: int, o: int, k: int, A: int, lda: int, into: int) -> None:
        """Tiles of rows i0 … i1 of op(A), terms o … o + k, each as k lines of a column's entries."""
        for i in range(i0, i1, tall):
            tile_at = into + (i - i0) // tall * (deep * k * size)
            if ta:  # whole vectors, whose ends are written over
                copied(A + size * (o * lda + i), size * lda, min(whole, m - i), k, tile_at, deep)
            else:
                turned(A + size * (i * lda + o), size * lda, min(tall, i1 - i), k, tile_at, deep)

    @code["inlined"]
    def panel(tb: int, few: int, j: int, columns: int, o: int, k: int, B: int, ldb: int, into: int) -> tuple[int, int]:
        """(address, bytes between lines) of a panel of op(B): where it lies already, for few rows, or a copy."""
        wide = lanes if columns <= lanes else 2 * lanes
        if tb:
            turned(B + size * (j * ldb + o), size * ldb, columns, k, into, wide)
        elif few and columns == wide:
            return B + size * (o * ldb + j), size * ldb
        else:
            copied(B + size * (o * ldb + j), size * ldb, columns, k, into, wide)
        return into, size * wide

    return block, panel


def compiled_gemm(size: int, lanes: int, heights: tuple[int, ...], code: dict[str, Any]) -> Callable[..., None]:  # noqa: C901  the loops of one product
    """The product of numbers of ``size`` bytes as the compiler takes it, on addresses; ``code`` has its instructions.

    ``lanes`` numbers make a vector; ``heights`` are the rows that a tile may have, falling to 1.
    """
    tile, store, zero, stack_panel, stack_rows = (
        code[n] for n in ("tile", "store", "zero", "stack_panel", "stack_rows")
    )
    high = heights[0]
    block, panel = gathering(size, lanes, high, code)

    @code["inlined"]
    def part(whole: int, most: int) -> int:
        return max(-(-whole // max(-(-whole // most), 1)), 1)

    @code["inlined"]
    def height(rows: int) -> int:
        """The highest tile of at most so many rows."""
        for some in heights:
            if rows >= some:
                return some
        return 1

    @code["inlined"]
    def usual(m: int) -> int:
        """The height of tiles that divide m rows well."""
        found = high
        for some in heights:
            found = some if some >= part(m, high) else found
        return found

    @code["inlined"]
    def clear(m: int, n: int, C: int, ldc: int) -> None:
        for i in range(m):
            for j in range(n):
                store(zero, C + size * (i * ldc + j))

    def product(
        ta: int, tb: int, m: int, n: int, k: int, A: int, lda: int, B: int, ldb: int, add: int, C: int, ldc: int
    ) -> None:
        lines, near = stack_panel(), stack_rows()
        terms, tall, few = part(k, PART), usual(m), m <= FEW * high
        copies = n > 2 * lanes and not few and (lda * size >= FAR or (ta and n >= MANY * lanes))
        rows = tall * BLOCK if copies else max(m, 1)
        step_i, step_k = (size, size * lda) if ta else (size * lda, size)
        to_i, to_k = (size, size * high) if copies else (step_i, step_k)
        if k == 0 and not add:
            clear(m, n, C, ldc)
        for o in range(0, k, terms):
            some, adds = min(terms, k - o), 1 if o > 0 else add
            for i0 in range(0, m, rows):
                i1 = min(i0 + rows, m)
                if copies:
                    block(ta, i0, i1, m, tall, o, some, A, lda, near)
                for j in range(0, n, 2 * lanes):
                    columns = min(2 * lanes, n - j)
                    at, step_b = panel(tb, few, j, columns, o, some, B, ldb, lines)
                    i = i0
                    while i < i1:
                        high_now = height(min(tall, i1 - i))
                        if copies:
                            here = near + size * ((i - i0) // tall * (high * some) + (i - i0) % tall)
                        else:
                            here = A + i * step_i + o * step_k
                        tile(2 if columns > lanes else 1, high_now, some, here, to_i, to_k, at, step_b,
                             C + size * (i * ldc + j), size * ldc, adds, columns)  # fmt: skip
                        i += high_now

    return product
