"""Kernels of convolution by products of matrices, on images as lines x[N, H, W·C] and sequences as images of one line.

What a filter sees at one place is a patch: a row of kh·kw·C entries, and behind them a 1, so that the bias is one more
weight: z = patches Wᵀ, dW = δᵀ patches, dpatches = δ W. Of images with few channels patches would be cut in many short
pieces; there they lie turned, a line of every channel shifted for each place of the filter. A chunk is a part of the
images; every chunk has patches of its own, for so many places of an image as fit a core's cache.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.products import gemm

Array = Any


@inlined
def rectify(relu: int, z: Array, n: int, p0: int, p1: int) -> None:
    """max(z, 0) where ``relu``, in place, at places p0 … p1 of image n."""
    zero, columns = z.dtype.type(0), z.shape[2]
    for p in range(p0, p1 if relu else p0):
        there = z[n, p // columns, p % columns]
        for i in span(0, there.size):
            there[i] = zero if there[i] <= zero else there[i]


# --- patches ----------------------------------------------------------------------------------------------------------


@inlined
def inside(w: int, run: int, dw: int, width: int, h: int, height: int) -> tuple[int, int]:
    """(first, end) of the ``run`` neighbours from column w on that lie on the image, ``run`` twice where none does."""
    first, end = max(0, -w), min(run, width - w)
    return (first, end) if 0 <= h < height and first < end else (run, run)


@inlined
def cut(
    x: Array, n: int, p0: int, p1: int, columns: int, channels: int, kh: int, kw: int, sh: int, sw: int, top: int,
    left: int, dh: int, dw: int, patches: Array,
) -> None:  # fmt: skip
    """patches[p - p0] = what the filter sees of image n at place p = row·columns + column, 0 beside it; and 1."""
    height, width, run, zero = x.shape[1], x.shape[2] // channels, kw if dw == 1 else 1, x.dtype.type(0)
    for p in range(p0, p1):
        at, patch = 0, patches[p - p0]
        for i in range(kh):
            h = p // columns * sh - top + i * dh
            for j in range(0, kw, run):
                w = p % columns * sw - left + j * dw
                first, end = inside(w, run, dw, width, h, height)
                for c in span(at, at + first * channels):
                    patch[c] = zero
                if first < end:
                    seen = x[n, h, (w + first) * channels : (w + end) * channels]
                    there = patch[at + first * channels : at + end * channels]
                    for c in span(0, seen.size):
                        there[c] = seen[c]
                for c in span(at + end * channels, at + run * channels):
                    patch[c] = zero
                at += run * channels
        patch[at] = x.dtype.type(1)


@inlined
def put_back(
    patches: Array, n: int, p0: int, p1: int, columns: int, channels: int, kh: int, kw: int, sh: int, sw: int, top: int,
    left: int, dh: int, dw: int, dx: Array,
) -> None:  # fmt: skip
    """dx += patches where :func:`cut` took them from."""
    height, width, run = dx.shape[1], dx.shape[2] // channels, kw if dw == 1 else 1
    for p in range(p0, p1):
        at, patch = 0, patches[p - p0]
        for i in range(kh):
            h = p // columns * sh - top + i * dh
            for j in range(0, kw, run):
                w = p % columns * sw - left + j * dw
                first, end = inside(w, run, dw, width, h, height)
                if first < end:
                    seen = dx[n, h, (w + first) * channels : (w + end) * channels]
                    there = patch[at + first * channels : at + end * channels]
                    for c in span(0, seen.size):
                        seen[c] += there[c]
                at += run * channels


@inlined
def spread_out(x: Array, n: int, top: int, left: int, planes: Array) -> None:
    """planes[c, h + top, w + left] = x[n, h, w·C + c], where there is room."""
    channels = planes.shape[0]
    for h in range(min(x.shape[1], planes.shape[1] - top)):
        for c in range(channels):
            for w in span(0, min(x.shape[2] // channels, planes.shape[2] - left)):
                planes[c, h + top, w + left] = x[n, h, w * channels + c]


@inlined
def cut_turned(
    planes: Array, r0: int, r1: int, columns: int, kh: int, kw: int, sh: int, sw: int, dh: int, dw: int, turned: Array
) -> None:
    """turned[(p·kw + q)·C + c, place] = what entry (p, q, c) of the filter sees at the places of rows r0 … r1."""
    for k in range(kh * kw):
        for c in range(planes.shape[0]):
            for r in range(r0, r1):
                seen = planes[c, r * sh + k // kw * dh, k % kw * dw :]
                there = turned[k * planes.shape[0] + c, (r - r0) * columns : (r - r0 + 1) * columns]
                for w in span(0, columns):
                    there[w] = seen[w * sw]


# --- forward ----------------------------------------------------------------------------------------------------------


@kernel
def filters_and_bias(lo: int, hi: int, W: Array, b: Array, Wt: Array) -> None:
    """Wt[kh·kw·C + 1, F] = W[F, kh·kw·C]ᵀ and the bias below it; filters lo … hi."""
    for f in span(lo, hi):
        for k in range(W.shape[1]):
            Wt[k, f] = W[f, k]
        Wt[W.shape[1], f] = b[f]


@kernel
def filters_turned_round(lo: int, hi: int, W: Array, Wt: Array) -> None:
    """Wt[(kh·kw - 1 - k)·F + f, c] = W[f, k, c], zeros below it for a bias; filters lo … hi."""
    filters, size, channels = W.shape
    for f in span(lo, hi):
        for k in range(size):
            for c in span(0, channels):
                Wt[(size - 1 - k) * filters + f, c] = W[f, k, c]
    for c in span(0, channels):
        Wt[size * filters, c] = W.dtype.type(0)


@kernel
def conv2d(
    lo: int, hi: int, chunks: int, relu: int, x: Array, Wt: Array, z: Array, patches: Array, kh: int, kw: int, sh: int,
    sw: int, top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """z = x * W + b, max(z, 0) where ``relu``; Wt[kh·kw·C + 1, F]; chunks lo … hi of the images."""
    columns, filters, tile, size = z.shape[2], z.shape[3], patches.shape[1], patches.shape[2]
    places, channels = z.shape[1] * columns, (size - 1) // (kh * kw)
    for chunk in range(lo, hi):
        first, end = images_of(chunk, chunks, x.shape[0])
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1, into = min(p0 + tile, places), (n * places + p0) * filters
                cut(x, n, p0, p1, columns, channels, kh, kw, sh, sw, top, left, dh, dw, patches[chunk])
                gemm(False, False, p1 - p0, filters, size, patches, chunk * tile * size, size, Wt, 0, filters, 0.0, z,
                     into, filters)  # fmt: skip
                rectify(relu, z, n, p0, p1)


@inlined
def put_inside(x: Array, n: int, top: int, left: int, padded: Array) -> None:
    """padded[h + top, left + …] = x[n, h], where there is room."""
    for h in range(max(-top, 0), min(x.shape[1], padded.shape[0] - top)):
        line, first = x[n, h], max(-left, 0)
        there = padded[h + top, max(left, 0) :]
        for c in span(0, min(line.size - first, there.size)):
            there[c] = line[first + c]


@kernel
def conv2d_side_by_side(
    lo: int, hi: int, chunks: int, relu: int, x: Array, Wt: Array, z: Array, padded: Array, kh: int, kw: int, top: int,
    left: int,
) -> None:  # fmt: skip
    """z = x * W + b at stride 1, max(z, 0) where ``relu``: neighbours see lines that overlap, so nothing is cut out."""
    rows, columns, filters, wide = z.shape[1], z.shape[2], z.shape[3], padded.shape[2]
    channels = wide // (columns + kw - 1)
    run, bias = kw * channels, Wt[kh * kw * channels]
    for chunk in range(lo, hi):
        padded[chunk] = x.dtype.type(0)
        first, end = images_of(chunk, chunks, x.shape[0])
        for n in range(first, end):
            put_inside(x, n, top, left * channels, padded[chunk])
            for h in range(rows):
                into = (n * rows + h) * columns * filters
                for w in range(columns):
                    there = z[n, h, w]
                    for f in span(0, filters):
                        there[f] = bias[f]
                for i in range(kh):
                    gemm(False, False, columns, filters, run, padded, (chunk * padded.shape[1] + h + i) * wide,
                         channels, Wt, i * run * filters, filters, 1.0, z, into, filters)  # fmt: skip
                rectify(relu, z, n, h * columns, (h + 1) * columns)


@kernel
def conv2d_of_few(
    lo: int, hi: int, chunks: int, relu: int, x: Array, Wt: Array, z: Array, planes: Array, turned: Array, kh: int,
    kw: int, sh: int, sw: int, top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """z = x * W + b of few channels, max(z, 0) where ``relu``; chunks lo … hi of the images."""
    rows, columns, filters, size, tile = z.shape[1], z.shape[2], z.shape[3], turned.shape[1], turned.shape[2]
    step = tile // columns
    for chunk in range(lo, hi):
        planes[chunk], turned[chunk, size - 1] = x.dtype.type(0), x.dtype.type(1)
        first, end = images_of(chunk, chunks, x.shape[0])
        for n in range(first, end):
            spread_out(x, n, top, left, planes[chunk])
            for r0 in range(0, rows, step):
                r1, into = min(r0 + step, rows), (n * rows + r0) * columns * filters
                cut_turned(planes[chunk], r0, r1, columns, kh, kw, sh, sw, dh, dw, turned[chunk])
                gemm(True, False, (r1 - r0) * columns, filters, size, turned, chunk * size * tile, tile, Wt, 0, filters,
                     0.0, z, into, filters)  # fmt: skip
                rectify(relu, z, n, r0 * columns, r1 * columns)


# --- backward ---------------------------------------------------------------------------------------------------------


@kernel
def conv2d_weights_grad(
    lo: int, hi: int, chunks: int, d: Array, x: Array, dW: Array, patches: Array, kh: int, kw: int, sh: int, sw: int,
    top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """dW[chunk, F, kh·kw·C + 1] = Σ δᵀ patches over the images of a chunk: the last column is that of the bias."""
    columns, filters, tile, size = d.shape[2], d.shape[3], patches.shape[1], patches.shape[2]
    places, channels = d.shape[1] * columns, (size - 1) // (kh * kw)
    for chunk in range(lo, hi):
        dW[chunk] = d.dtype.type(0)
        first, end = images_of(chunk, chunks, d.shape[0])
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1 = min(p0 + tile, places)
                cut(x, n, p0, p1, columns, channels, kh, kw, sh, sw, top, left, dh, dw, patches[chunk])
                gemm(True, False, filters, size, p1 - p0, d, (n * places + p0) * filters, filters, patches,
                     chunk * tile * size, size, 1.0, dW, chunk * filters * size, size)  # fmt: skip


@inlined
def put_apart(d: Array, n: int, across: int, errors: Array, db: Array) -> None:
    """errors[h·across + w] = δ[n, h, w], whose rows lie apart there; and db += Σ δ."""
    for h in range(d.shape[1]):
        for w in range(d.shape[2]):
            there, error = errors[h * across + w], d[n, h, w]
            for f in span(0, error.size):
                there[f] = error[f]
                db[f] += error[f]


@kernel
def conv2d_side_by_side_weights_grad(
    lo: int, hi: int, chunks: int, d: Array, x: Array, dW: Array, padded: Array, errors: Array, kh: int, kw: int,
    top: int, left: int,
) -> None:  # fmt: skip
    """dW[chunk, kh·kw·C + 1, F] = Σ over the images of a chunk: a line of the filter sees the whole image, shifted.

    Between two rows of δ lie kw - 1 zeros, so that all places of an image are one after the other.
    """
    rows, columns, filters, wide = d.shape[1], d.shape[2], d.shape[3], padded.shape[2]
    across = columns + kw - 1
    channels, places = wide // across, rows * across - kw + 1
    run = kw * channels
    for chunk in range(lo, hi):
        dW[chunk], padded[chunk], errors[chunk] = d.dtype.type(0), d.dtype.type(0), d.dtype.type(0)
        first, end = images_of(chunk, chunks, d.shape[0])
        for n in range(first, end):
            put_inside(x, n, top, left * channels, padded[chunk])
            put_apart(d, n, across, errors[chunk], dW[chunk, kh * run])
            for i in range(kh):
                gemm(True, False, run, filters, places, padded, (chunk * padded.shape[1] + i) * wide, channels, errors,
                     chunk * rows * across * filters, filters, 1.0, dW, (chunk * (kh * run + 1) + i * run) * filters,
                     filters)  # fmt: skip


@kernel
def conv2d_of_few_weights_grad(
    lo: int, hi: int, chunks: int, d: Array, x: Array, dW: Array, planes: Array, turned: Array, kh: int, kw: int,
    sh: int, sw: int, top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """dW[chunk, kh·kw·C + 1, F] = Σ turned δ over the images of a chunk: the last row is that of the bias."""
    rows, columns, filters, size, tile = d.shape[1], d.shape[2], d.shape[3], turned.shape[1], turned.shape[2]
    step = tile // columns
    for chunk in range(lo, hi):
        dW[chunk], planes[chunk], turned[chunk, size - 1] = d.dtype.type(0), d.dtype.type(0), d.dtype.type(1)
        first, end = images_of(chunk, chunks, d.shape[0])
        for n in range(first, end):
            spread_out(x, n, top, left, planes[chunk])
            for r0 in range(0, rows, step):
                r1 = min(r0 + step, rows)
                cut_turned(planes[chunk], r0, r1, columns, kh, kw, sh, sw, dh, dw, turned[chunk])
                at = (n * rows + r0) * columns * filters
                gemm(False, False, size, filters, (r1 - r0) * columns, turned, chunk * size * tile, tile, d, at,
                     filters, 1.0, dW, chunk * size * filters, filters)  # fmt: skip


@kernel
def filters_grad(lo: int, hi: int, turned: int, parts: Array, dW: Array, db: Array) -> None:
    """dW[F, kh·kw·C] and db = Σ parts over the chunks, in order; parts[chunk, F, kh·kw·C + 1], or ``turned``."""
    size = dW.shape[1]
    for f in span(lo, hi):
        for k in range(size + 1):
            total = dW.dtype.type(0)
            for chunk in range(parts.shape[0]):
                total += parts[chunk, k, f] if turned else parts[chunk, f, k]
            if k < size:
                dW[f, k] = total
            else:
                db[f] = total


@kernel
def conv2d_images_grad(
    lo: int, hi: int, chunks: int, d: Array, W: Array, dx: Array, patches: Array, kh: int, kw: int, sh: int, sw: int,
    top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """dx: δ W put back where the patches came from; W[F, kh·kw·C]."""
    columns, filters, tile, size = d.shape[2], d.shape[3], patches.shape[1], patches.shape[2]
    places, channels = d.shape[1] * columns, (size - 1) // (kh * kw)
    for chunk in range(lo, hi):
        first, end = images_of(chunk, chunks, d.shape[0])
        dx[first:end] = d.dtype.type(0)
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1 = min(p0 + tile, places)
                gemm(False, False, p1 - p0, size - 1, filters, d, (n * places + p0) * filters, filters, W, 0, size - 1,
                     0.0, patches, chunk * tile * size, size)  # fmt: skip
                put_back(patches[chunk], n, p0, p1, columns, channels, kh, kw, sh, sw, top, left, dh, dw, dx)
