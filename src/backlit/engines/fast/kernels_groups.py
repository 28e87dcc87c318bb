"""Kernels of convolution in groups of channels, and of each channel by itself, on images as lines x[N, H, W·C].

A group's filters see its own channels: what is cut out for a place is a row of kh·kw·C/groups entries, and a group's
product lies beside those of the others. Where every channel is a group the products have one term a place of the
filter, and all channels of a place are done together. A convolution that goes the other way takes the same kernels:
its output is the image that patches are put back into.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import inlined, kernel, span
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.products import gemm

Array = Any


@kernel
def swap_ends(lo: int, hi: int, groups: int, W: Array, V: Array) -> None:
    """V[c, k, f] = W[f, k, c], c and f counted within their group; rows lo … hi of V."""
    own, wide = W.shape[0] // groups, W.shape[2]
    for c in span(lo, hi):
        first = c // wide * own
        for k in range(W.shape[1]):
            for f in span(0, own):
                V[c, k, f] = W[first + f, k, c % wide]


@kernel
def add_bias(lo: int, hi: int, relu: int, z: Array, b: Array) -> None:
    """z += b, max(z, 0) where ``relu``; rows lo … hi."""
    zero = z.dtype.type(0)
    for n in span(lo, hi):
        for f in span(0, z.shape[1]):
            t = z[n, f] + b[f]
            z[n, f] = zero if (relu != 0) & (t <= zero) else t


# --- patches of a group -----------------------------------------------------------------------------------------------


@inlined
def cut_group(
    x: Array, n: int, p0: int, p1: int, columns: int, c0: int, own: int, channels: int, kh: int, kw: int, sh: int,
    sw: int, top: int, left: int, dh: int, dw: int, patches: Array,
) -> None:  # fmt: skip
    """patches[p - p0] = what a filter sees of channels c0 … c0 + own of image n at place p, 0 beside the image."""
    height, width, zero = x.shape[1], x.shape[2] // channels, x.dtype.type(0)
    for p in range(p0, p1):
        row, column = p // columns * sh - top, p % columns * sw - left
        for k in range(kh * kw):
            h, w = row + k // kw * dh, column + k % kw * dw
            there = patches[p - p0, k * own : (k + 1) * own]
            if 0 <= h < height and 0 <= w < width:
                seen = x[n, h, w * channels + c0 : w * channels + c0 + own]
                for c in span(0, own):
                    there[c] = seen[c]
            else:
                there[:] = zero


@inlined
def put_back_group(
    patches: Array, n: int, p0: int, p1: int, columns: int, c0: int, own: int, channels: int, kh: int, kw: int, sh: int,
    sw: int, top: int, left: int, dh: int, dw: int, dx: Array,
) -> None:  # fmt: skip
    """dx += patches where :func:`cut_group` took them from."""
    height, width = dx.shape[1], dx.shape[2] // channels
    for p in range(p0, p1):
        row, column = p // columns * sh - top, p % columns * sw - left
        for k in range(kh * kw):
            h, w = row + k // kw * dh, column + k % kw * dw
            if 0 <= h < height and 0 <= w < width:
                there = patches[p - p0, k * own : (k + 1) * own]
                seen = dx[n, h, w * channels + c0 : w * channels + c0 + own]
                for c in span(0, own):
                    seen[c] += there[c]


@kernel
def grouped_conv2d(
    lo: int, hi: int, chunks: int, groups: int, x: Array, Wt: Array, z: Array, patches: Array, kh: int, kw: int,
    sh: int, sw: int, top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """z = x * W, Wt[kh·kw·C/groups, F]; chunks lo … hi of the images."""
    columns, filters, tile, size = z.shape[2], z.shape[3], patches.shape[1], patches.shape[2]
    places, own, part = z.shape[1] * columns, size // (kh * kw), filters // groups
    for chunk in range(lo, hi):
        first, end = images_of(chunk, chunks, x.shape[0])
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1 = min(p0 + tile, places)
                for g in range(groups):
                    cut_group(x, n, p0, p1, columns, g * own, own, groups * own, kh, kw, sh, sw, top, left, dh, dw,
                              patches[chunk])  # fmt: skip
                    gemm(False, False, p1 - p0, part, size, patches, chunk * tile * size, size, Wt, g * part, filters,
                         0.0, z, (n * places + p0) * filters + g * part, filters)  # fmt: skip


@kernel
def grouped_conv2d_weights_grad(
    lo: int, hi: int, chunks: int, groups: int, d: Array, x: Array, dW: Array, patches: Array, kh: int, kw: int,
    sh: int, sw: int, top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """dW[chunk, F, kh·kw·C/groups] = Σ δᵀ patches over the images of a chunk, group by group."""
    columns, filters, tile, size = d.shape[2], d.shape[3], patches.shape[1], patches.shape[2]
    places, own, part = d.shape[1] * columns, size // (kh * kw), filters // groups
    for chunk in range(lo, hi):
        dW[chunk] = d.dtype.type(0)
        first, end = images_of(chunk, chunks, d.shape[0])
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1 = min(p0 + tile, places)
                for g in range(groups):
                    cut_group(x, n, p0, p1, columns, g * own, own, groups * own, kh, kw, sh, sw, top, left, dh, dw,
                              patches[chunk])  # fmt: skip
                    gemm(True, False, part, size, p1 - p0, d, (n * places + p0) * filters + g * part, filters, patches,
                         chunk * tile * size, size, 1.0, dW, (chunk * filters + g * part) * size, size)  # fmt: skip


@kernel
def grouped_conv2d_images_grad(
    lo: int, hi: int, chunks: int, groups: int, d: Array, W: Array, dx: Array, patches: Array, kh: int, kw: int,
    sh: int, sw: int, top: int, left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """dx: δ W put back where the patches came from; W[F, kh·kw·C/groups]."""
    columns, filters, tile, size = d.shape[2], d.shape[3], patches.shape[1], patches.shape[2]
    places, own, part = d.shape[1] * columns, size // (kh * kw), filters // groups
    for chunk in range(lo, hi):
        first, end = images_of(chunk, chunks, d.shape[0])
        dx[first:end] = d.dtype.type(0)
        for n in range(first, end):
            for p0 in range(0, places, tile):
                p1 = min(p0 + tile, places)
                for g in range(groups):
                    gemm(False, False, p1 - p0, size, part, d, (n * places + p0) * filters + g * part, filters, W,
                         g * part * size, size, 0.0, patches, chunk * tile * size, size)  # fmt: skip
                    put_back_group(patches[chunk], n, p0, p1, columns, g * own, own, groups * own, kh, kw, sh, sw, top,
                                   left, dh, dw, dx)  # fmt: skip


# --- each channel by itself -------------------------------------------------------------------------------------------


@kernel
def depthwise_conv2d(
    lo: int, hi: int, x: Array, Wt: Array, z: Array, kh: int, kw: int, sh: int, sw: int, top: int, left: int, dh: int,
    dw: int,
) -> None:  # fmt: skip
    """z[n, i, j, c] = Σ_k x[n, place of k, c] Wt[k, c]; lines lo … hi of all images."""
    rows, columns, channels = z.shape[1], z.shape[2], z.shape[3]
    height, width = x.shape[1], x.shape[2] // channels
    for line in span(lo, hi):
        n, i = line // rows, line % rows
        z[n, i] = z.dtype.type(0)
        for k in range(kh * kw):
            h = i * sh - top + k // kw * dh
            for j in range(columns):
                w = j * sw - left + k % kw * dw
                if 0 <= h < height and 0 <= w < width:
                    seen, made, weight = x[n, h, w * channels : (w + 1) * channels], z[n, i, j], Wt[k]
                    for c in span(0, channels):
                        made[c] += seen[c] * weight[c]


@kernel
def depthwise_conv2d_weights_grad(
    lo: int, hi: int, chunks: int, d: Array, x: Array, dWt: Array, kh: int, kw: int, sh: int, sw: int, top: int,
    left: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """dWt[chunk, k, c] = Σ δ[n, i, j, c] x[n, place of k, c] over the images of a chunk."""
    channels = d.shape[3]
    height, width = x.shape[1], x.shape[2] // channels
    for chunk in range(lo, hi):
        dWt[chunk] = d.dtype.type(0)
        first, end = images_of(chunk, chunks, d.shape[0])
        for n in range(first, end):
            for i in range(d.shape[1]):
                for k in range(kh * kw):
                    h, total = i * sh - top + k // kw * dh, dWt[chunk, k]
                    for j in range(d.shape[2]):
                        w = j * sw - left + k % kw * dw
                        if 0 <= h < height and 0 <= w < width:
                            seen, error = x[n, h, w * channels : (w + 1) * channels], d[n, i, j]
                            for c in span(0, channels):
                                total[c] += seen[c] * error[c]


@kernel
def depthwise_conv2d_images_grad(
    lo: int, hi: int, d: Array, Wt: Array, dx: Array, kh: int, kw: int, sh: int, sw: int, top: int, left: int, dh: int,
    dw: int,
) -> None:  # fmt: skip
    """dx[n, place of k, c] += δ[n, i, j, c] Wt[k, c]; images lo … hi."""
    channels = d.shape[3]
    height, width = dx.shape[1], dx.shape[2] // channels
    dx[lo:hi] = d.dtype.type(0)
    for n in span(lo, hi):
        for i in range(d.shape[1]):
            for k in range(kh * kw):
                h = i * sh - top + k // kw * dh
                for j in range(d.shape[2]):
                    w = j * sw - left + k % kw * dw
                    if 0 <= h < height and 0 <= w < width:
                        there, error, weight = dx[n, h, w * channels : (w + 1) * channels], d[n, i, j], Wt[k]
                        for c in span(0, channels):
                            there[c] += error[c] * weight[c]
