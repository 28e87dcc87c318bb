"""Kernels of convolution with filters of 3 × 3 at stride 1 by minimal filtering: 16 products where 36 would be needed.

Winograd's F(2 × 2, 3 × 3): for each tile of 2 × 2 places, z = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A, x the 4 × 4 entries that it
sees. The 16 products ⊙ are matrix products over all tiles of a block and all channels. Backward is the same read the
other way: dw = Gᵀ[Σ (A δ Aᵀ) ⊙ (Bᵀ x B)]G, and dx is the convolution of δ with the filters turned round.

Images are lines x[N, H, W·C]. A block is some rows of tiles; what a thread works in: ``lines`` (the four rows that a
row of tiles sees, with what is padded, and a line of zeros) and, for each of the 16 places of a tile, a matrix
[tiles, C].

Source: Lavin, Gray: Fast algorithms for convolutional neural networks, CVPR 2016.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.products import gemm

Array = Any

G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


@inlined
def share_of(chunk: int, chunks: int, extent: int) -> tuple[int, int]:
    """(first, end) of a chunk of the rows of tiles."""
    return extent * chunk // chunks, extent * (chunk + 1) // chunks


@inlined
def plus(a: Array, b: Array, y: Array) -> None:
    """y = a + b."""
    for i in span(0, y.size):
        y[i] = a[i] + b[i]


@inlined
def minus(a: Array, b: Array, y: Array) -> None:
    """y = a - b."""
    for i in span(0, y.size):
        y[i] = a[i] - b[i]


@inlined
def line(x: Array, n: int, h: int, zeros: Array) -> Array:
    """Row h of image n, zeros above and below it."""
    return x[n, h] if 0 <= h < x.shape[1] else zeros


# --- what a tile sees: V = Bᵀ x B, rows of B: (1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1) ---------------


@inlined
def tiles_of_images(
    x: Array, n: int, h: int, left: int, lines: Array, across: int, channels: int, V: Array, t: int
) -> None:
    """V[4i + j, t + 0 … across] of the row of tiles whose first line is h."""
    end = left * channels + x.shape[2]
    zeros = lines[4, : x.shape[2]]
    x0, x1, x2, x3 = line(x, n, h, zeros), line(x, n, h + 1, zeros), line(x, n, h + 2, zeros), line(x, n, h + 3, zeros)
    minus(x0, x2, lines[0, left * channels : end])
    plus(x1, x2, lines[1, left * channels : end])
    minus(x2, x1, lines[2, left * channels : end])
    minus(x1, x3, lines[3, left * channels : end])
    for i in range(4):
        for tile in range(across):
            at, into = 2 * tile * channels, (t + tile) * channels
            y0, y1 = lines[i, at : at + channels], lines[i, at + channels : at + 2 * channels]
            y2, y3 = lines[i, at + 2 * channels : at + 3 * channels], lines[i, at + 3 * channels : at + 4 * channels]
            minus(y0, y2, V[4 * i, into : into + channels])
            plus(y1, y2, V[4 * i + 1, into : into + channels])
            minus(y2, y1, V[4 * i + 2, into : into + channels])
            minus(y1, y3, V[4 * i + 3, into : into + channels])


# --- what a tile gives: z = Aᵀ M A, columns of A: (1, 1, 1, 0), (0, 1, -1, -1) ----------------------------------------


@inlined
def fold(M: Array, size: int) -> None:
    """Aᵀ M of ``size`` entries of each place: rows 0 and 1 of the result in M[0 … 3] and M[12 … 15]."""
    for j in range(4):
        m0, m1, m2, m3 = M[j, :size], M[4 + j, :size], M[8 + j, :size], M[12 + j, :size]
        for i in span(0, size):
            m0[i] = m0[i] + m1[i] + m2[i]
        for i in span(0, size):
            m3[i] = m1[i] - m2[i] - m3[i]


@inlined
def put_tiles(relu: int, M: Array, t: int, b: Array, z: Array, n: int, row: int) -> None:
    """z = (Aᵀ M) A + b of a row of tiles, the first one at t; max(z, 0) where ``relu``."""
    filters, zero = z.shape[3], z.dtype.type(0)
    for h in range(2 * row, min(2 * row + 2, z.shape[1])):
        for w in range(z.shape[2]):
            q, at, out = 12 * (h % 2) + w % 2, (t + w // 2) * filters, z[n, h, w]
            m0, m1, m2 = M[q, at : at + filters], M[q + 1, at : at + filters], M[q + 2, at : at + filters]
            if w % 2 == 0:
                for f in span(0, filters):
                    out[f] = m0[f] + m1[f] + m2[f] + b[f]
            else:
                for f in span(0, filters):
                    out[f] = m0[f] - m1[f] - m2[f] + b[f]
            if relu:
                for f in span(0, filters):
                    out[f] = zero if out[f] <= zero else out[f]


# --- the kernels ------------------------------------------------------------------------------------------------------


@kernel
def winograd_filters(lo: int, hi: int, W: Array, U: Array, turned: Array) -> None:
    """U[q, c, f] = G w Gᵀ, W[F, 9, C], and the same of w turned round, [q, f, c]; filters lo … hi.

    Turning w round exchanges the first row of G w Gᵀ with the last one, and the columns likewise.
    """
    for f in span(lo, hi):
        for q in range(16):
            i, j = q // 4, q % 4
            there = turned[4 * (i if i % 3 else 3 - i) + (j if j % 3 else 3 - j), f]
            there[:] = W.dtype.type(0)
            for k in range(9):
                weight = W.dtype.type(G[i][k // 3] * G[j][k % 3])
                if weight:
                    for c in range(W.shape[2]):
                        there[c] += weight * W[f, k, c]
            for c in range(W.shape[2]):
                U[q, c, f] = there[c]


@kernel
def winograd(
    lo: int, hi: int, chunks: int, relu: int, x: Array, U: Array, b: Array, z: Array, lines: Array, V: Array, M: Array,
    top: int, left: int,
) -> None:  # fmt: skip
    """z = x * W + b, max(z, 0) where ``relu``; chunks lo … hi of the rows of tiles. U[16, C, F] of the filters."""
    channels, filters = U.shape[1], U.shape[2]
    down, across, size = (z.shape[1] + 1) // 2, (z.shape[2] + 1) // 2, V.shape[2] // channels
    for chunk in range(lo, hi):
        lines[chunk] = z.dtype.type(0)
        first, end = share_of(chunk, chunks, x.shape[0] * down)
        for r0 in range(first, end, size // across):
            r1 = min(r0 + size // across, end)
            for r in range(r0, r1):
                tiles_of_images(x, r // down, 2 * (r % down) - top, left, lines[chunk], across, channels, V[chunk],
                                (r - r0) * across)  # fmt: skip
            tiles = (r1 - r0) * across
            for q in range(16):
                at = chunk * 16 + q
                gemm(False, False, tiles, filters, channels, V, at * V.shape[2], channels, U, q * channels * filters,
                     filters, 0.0, M, at * M.shape[2], filters)  # fmt: skip
            fold(M[chunk], tiles * filters)
            for r in range(r0, r1):
                put_tiles(relu, M[chunk], (r - r0) * across, b, z, r // down, r % down)


# --- the way back: D = A δ Aᵀ -----------------------------------------------------------------------------------------


@inlined
def spread(a: Array, b: Array, D: Array, q: int, step: int, at: int) -> None:
    """(a, a + b, a - b, -b) at places q, q + step, …, from entry ``at`` on."""
    end, zero = at + a.size, a.dtype.type(0)
    y0, y1, y2, y3 = D[q, at:end], D[q + step, at:end], D[q + 2 * step, at:end], D[q + 3 * step, at:end]
    for i in span(0, a.size):
        y0[i] = a[i]
    plus(a, b, y1)
    minus(a, b, y2)
    for i in span(0, a.size):
        y3[i] = zero - b[i]


@inlined
def tiles_of_errors(d: Array, n: int, h: int, lines: Array, across: int, filters: int, D: Array, t: int) -> None:
    """D[4i + j, t + 0 … across] of the row of tiles whose first line is h."""
    zeros = lines[4, : d.shape[2]]
    spread(line(d, n, h, zeros), line(d, n, h + 1, zeros), lines, 0, 1, 0)
    for i in range(4):
        for tile in range(across):
            at = 2 * tile * filters
            y0, y1 = lines[i, at : at + filters], lines[i, at + filters : at + 2 * filters]
            spread(y0, y1, D, 4 * i, 1, (t + tile) * filters)


@kernel
def winograd_weights_grad(
    lo: int, hi: int, chunks: int, d: Array, x: Array, dU: Array, db: Array, lines: Array, V: Array, d_lines: Array,
    D: Array, rows: int, columns: int, top: int, left: int,
) -> None:  # fmt: skip
    """dU[chunk, q] = Σ Dᵀ V, [F, C], and db[chunk] = Σ δ, which is Σ D[5]; δ has ``rows`` × ``columns`` places."""
    filters, channels = dU.shape[2], dU.shape[3]
    down, across, size = (rows + 1) // 2, (columns + 1) // 2, V.shape[2] // channels
    for chunk in range(lo, hi):
        zero = d.dtype.type(0)
        lines[chunk], d_lines[chunk], dU[chunk], db[chunk] = zero, zero, zero, zero
        first, end = share_of(chunk, chunks, x.shape[0] * down)
        for r0 in range(first, end, size // across):
            r1 = min(r0 + size // across, end)
            for r in range(r0, r1):
                n, h, t = r // down, 2 * (r % down), (r - r0) * across
                tiles_of_images(x, n, h - top, left, lines[chunk], across, channels, V[chunk], t)
                tiles_of_errors(d, n, h, d_lines[chunk], across, filters, D[chunk], t)
            for q in range(16):
                at = chunk * 16 + q
                gemm(True, False, filters, channels, (r1 - r0) * across, D, at * D.shape[2], filters, V,
                     at * V.shape[2], channels, 1.0, dU, at * filters * channels, channels)  # fmt: skip
            for t in range((r1 - r0) * across):
                for f in span(0, filters):
                    db[chunk, f] += D[chunk, 5, t * filters + f]


@kernel
def winograd_filters_grad(lo: int, hi: int, dU: Array, parts: Array, dW: Array, db: Array) -> None:
    """dW[F, 9, C] = Gᵀ (Σ dU over the chunks) G and db = Σ parts over the chunks, filters lo … hi."""
    for f in span(lo, hi):
        dW[f], db[f] = dW.dtype.type(0), dW.dtype.type(0)
        for chunk in range(dU.shape[0]):
            db[f] += parts[chunk, f]
            for q in range(16):
                for k in range(9):
                    weight = dW.dtype.type(G[q // 4][k // 3] * G[q % 4][k % 3])
                    if weight:
                        for c in range(dW.shape[2]):
                            dW[f, k, c] += weight * dU[chunk, q, f, c]
