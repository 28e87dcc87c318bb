"""Kernels of convolution and pooling on images x[N, H, W, C].

A chunk is a part of the images; every chunk has a scratch of its own, ``patches``: rows of kh·kw·C entries, what a filter
sees at one place, so that a convolution is a product of matrices: z = patches Wᵀ, dW = δᵀ patches, dpatches = δ W.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.blas import gemm
from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.kernels_dense import product

Array = Any


@inlined
def images_of(chunk: int, chunks: int, images: int) -> tuple[int, int]:
    """(first, end) of the images of a chunk."""
    return images * chunk // chunks, images * (chunk + 1) // chunks


@inlined
def cut(
    x: Array, n: int, p0: int, p1: int, columns: int, kh: int, kw: int, sh: int, sw: int, top: int, left: int,
    dh: int, dw: int, patches: Array,
) -> None:  # fmt: skip
    """patches[p - p0] = what the kernel sees of image n at place p = row·columns + column, 0 beside the image."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    zero = x.dtype.type(0)
    for p in range(p0, p1):
        row, column, at = p // columns * sh - top, p % columns * sw - left, 0
        for i in range(kh):
            h = row + i * dh
            for j in range(kw):
                w = column + j * dw
                if 0 <= h < height and 0 <= w < width:
                    for c in range(channels):
                        patches[p - p0, at + c] = x[n, h, w, c]
                else:
                    for c in range(channels):
                        patches[p - p0, at + c] = zero
                at += channels


@inlined
def put_back(
    patches: Array, n: int, p0: int, p1: int, columns: int, kh: int, kw: int, sh: int, sw: int, top: int, left: int,
    dh: int, dw: int, dx: Array,
) -> None:  # fmt: skip
    """dx += patches where :func:`cut` took them from."""
    height, width, channels = dx.shape[1], dx.shape[2], dx.shape[3]
    for p in range(p0, p1):
        row, column, at = p // columns * sh - top, p % columns * sw - left, 0
        for i in range(kh):
            h = row + i * dh
            for j in range(kw):
                w = column + j * dw
                if 0 <= h < height and 0 <= w < width:
                    for c in range(channels):
                        dx[n, h, w, c] += patches[p - p0, at + c]
                at += channels


@kernel
def conv2d(
    lo: int, hi: int, chunks: int, relu: int, x: Array, Wt: Array, b: Array, z: Array, patches: Array, kh: int, kw: int,
    sh: int, sw: int, top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """z = x * W + b, max(z, 0) where ``relu``; Wt[kh·kw·C, F]; chunks lo … hi of the images."""
    columns, filters, tile, size = z.shape[2], z.shape[3], patches.shape[1], patches.shape[2]
    places, zero = z.shape[1] * columns, z.dtype.type(0)
    for chunk in range(lo, hi):
        first, end = images_of(chunk, chunks, x.shape[0])
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1 = min(p0 + tile, places)
                cut(x, n, p0, p1, columns, kh, kw, sh, sw, top, left, dh, dw, patches[chunk])
                into = (n * places + p0) * filters
                product(False, p1 - p0, filters, size, patches, chunk * tile * size, size, Wt, 0, filters, z, into,
                        filters, 64, 64)  # fmt: skip
                out = z.reshape(-1)[into : into + (p1 - p0) * filters].reshape(p1 - p0, filters)
                for p in range(p1 - p0):
                    for f in range(filters):
                        t = out[p, f] + b[f]
                        out[p, f] = zero if relu and t <= zero else t


@kernel
def conv2d_weights_grad(
    lo: int, hi: int, chunks: int, d: Array, x: Array, dW: Array, patches: Array, kh: int, kw: int, sh: int, sw: int,
    top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """dW[chunk, F, kh·kw·C] = Σ δᵀ patches over the images of a chunk."""
    columns, filters, tile, size = d.shape[2], d.shape[3], patches.shape[1], patches.shape[2]
    places = d.shape[1] * columns
    for chunk in range(lo, hi):
        dW[chunk] = d.dtype.type(0)
        first, end = images_of(chunk, chunks, x.shape[0])
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1 = min(p0 + tile, places)
                cut(x, n, p0, p1, columns, kh, kw, sh, sw, top, left, dh, dw, patches[chunk])
                gemm(True, False, filters, size, p1 - p0, d, (n * places + p0) * filters, filters, patches,
                     chunk * tile * size, size, 1.0, dW, chunk * filters * size, size)  # fmt: skip


@kernel
def conv2d_images_grad(
    lo: int, hi: int, chunks: int, d: Array, W: Array, dx: Array, patches: Array, kh: int, kw: int, sh: int, sw: int,
    top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """dx: δ W put back where the patches came from; W[F, kh·kw·C]."""
    columns, filters, tile, size = d.shape[2], d.shape[3], patches.shape[1], patches.shape[2]
    places = d.shape[1] * columns
    for chunk in range(lo, hi):
        first, end = images_of(chunk, chunks, dx.shape[0])
        dx[first:end] = d.dtype.type(0)
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1 = min(p0 + tile, places)
                product(False, p1 - p0, size, filters, d, (n * places + p0) * filters, filters, W, 0, size, patches,
                        chunk * tile * size, size, 64, 64)  # fmt: skip
                put_back(patches[chunk], n, p0, p1, columns, kh, kw, sh, sw, top, left, dh, dw, dx)


@kernel
def sum_chunks(lo: int, hi: int, parts: Array, total: Array) -> None:
    """total = Σ parts over the chunks, in order; entries lo … hi."""
    for i in span(lo, hi):
        total[i] = parts[0, i]
    for chunk in range(1, parts.shape[0]):
        for i in span(lo, hi):
            total[i] += parts[chunk, i]


@kernel
def sum_rows_in_chunks(lo: int, hi: int, d: Array, parts: Array) -> None:
    """parts[chunk] = Σ d over a chunk of its rows."""
    chunks = parts.shape[0]
    for chunk in range(lo, hi):
        parts[chunk] = d.dtype.type(0)
        first, end = images_of(chunk, chunks, d.shape[0])
        for n in span(first, end):
            for j in range(d.shape[1]):
                parts[chunk, j] += d[n, j]


# --- pooling: no padding ----------------------------------------------------------------------------------------------


@kernel
def max_pool2d(lo: int, hi: int, x: Array, y: Array, at: Array, kh: int, kw: int, sh: int, sw: int) -> None:
    """y = the maximum of each window, ``at`` its place in the window, the first of equal ones; images lo … hi."""
    for n in span(lo, hi):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for c in range(y.shape[3]):
                    y[n, i, j, c] = x[n, i * sh, j * sw, c]
                    at[n, i, j, c] = y.dtype.type(0)
                for k in range(1, kh * kw):
                    place = y.dtype.type(k)
                    for c in range(y.shape[3]):
                        t, best = x[n, i * sh + k // kw, j * sw + k % kw, c], y[n, i, j, c]
                        higher = t > best or t != t
                        y[n, i, j, c] = t if higher else best
                        at[n, i, j, c] = place if t > best else at[n, i, j, c]


@kernel
def max_pool2d_grad(lo: int, hi: int, d: Array, at: Array, dx: Array, kh: int, kw: int, sh: int, sw: int) -> None:
    """dx: every maximum's place takes its δ; images lo … hi."""
    dx[lo:hi] = d.dtype.type(0)
    zero = d.dtype.type(0)
    for n in span(lo, hi):
        for i in range(d.shape[1]):
            for j in range(d.shape[2]):
                for k in range(kh * kw):
                    place = d.dtype.type(k)
                    for c in range(d.shape[3]):
                        t = d[n, i, j, c] if at[n, i, j, c] == place else zero
                        dx[n, i * sh + k // kw, j * sw + k % kw, c] += t


@kernel
def avg_pool2d(lo: int, hi: int, x: Array, y: Array, kh: int, kw: int, sh: int, sw: int) -> None:
    """y = the mean of each window; images lo … hi."""
    scale = y.dtype.type(1.0 / (kh * kw))
    y[lo:hi] = y.dtype.type(0)
    for n in span(lo, hi):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for k in range(kh * kw):
                    for c in range(y.shape[3]):
                        y[n, i, j, c] += scale * x[n, i * sh + k // kw, j * sw + k % kw, c]


@kernel
def avg_pool2d_grad(lo: int, hi: int, d: Array, dx: Array, kh: int, kw: int, sh: int, sw: int) -> None:
    """dx: every place of a window takes an equal share of its δ; images lo … hi."""
    scale = d.dtype.type(1.0 / (kh * kw))
    dx[lo:hi] = d.dtype.type(0)
    for n in span(lo, hi):
        for i in range(d.shape[1]):
            for j in range(d.shape[2]):
                for k in range(kh * kw):
                    for c in range(d.shape[3]):
                        dx[n, i * sh + k // kw, j * sw + k % kw, c] += scale * d[n, i, j, c]


@kernel
def mean_of_places(lo: int, hi: int, x: Array, y: Array) -> None:
    """y[n, c] = the mean of x[n, place, c]; images lo … hi."""
    share = x.dtype.type(1.0 / x.shape[1])
    y[lo:hi] = x.dtype.type(0)
    for n in span(lo, hi):
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                y[n, c] += share * x[n, p, c]


@kernel
def mean_of_places_grad(lo: int, hi: int, d: Array, dx: Array) -> None:
    """dx[n, place, c] = d[n, c] / places; images lo … hi."""
    share = d.dtype.type(1.0 / dx.shape[1])
    for n in span(lo, hi):
        for p in range(dx.shape[1]):
            for c in range(dx.shape[2]):
                dx[n, p, c] = share * d[n, c]
