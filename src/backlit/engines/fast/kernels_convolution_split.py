"""Kernels of convolution at stride 1 by a processor's matrix unit: float32, channels and filters in sixteens.

A chunk is a part of the images; every chunk has a place of its own for an image with what is padded.
"""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import kernel, span
from backlit.engines.fast.kernels_convolution import put_apart, put_inside
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.split_convolution import convolve, correlate, split_filters

Array = Any


@kernel
def filters_split(lo: int, hi: int, lines: int, run: int, Wt: Array, filters: Array) -> None:
    """The parts of filters Wt[lines·run + 1, F], all at once."""
    for _ in range(lo, hi):
        split_filters(lines, run, Wt.shape[1], Wt, filters)


@kernel
def conv2d_split(
    lo: int, hi: int, chunks: int, relu: int, x: Array, Wt: Array, filters: Array, z: Array, padded: Array, kh: int,
    kw: int, top: int, left: int,
) -> None:  # fmt: skip
    """z = x * W + b, max(z, 0) where ``relu``; the bias is the last row of Wt; chunks lo … hi of the images."""
    rows, columns = z.shape[1], z.shape[2]
    channels, bias, zero = padded.shape[2] // (columns + kw - 1), Wt[Wt.shape[0] - 1], x.dtype.type(0)
    for chunk in range(lo, hi):
        padded[chunk] = zero
        first, end = images_of(chunk, chunks, x.shape[0])
        for n in range(first, end):
            put_inside(x, n, top, left * channels, padded[chunk])
            convolve(rows, columns, channels, kh, kw, padded, chunk, filters, z, n)
            for h in range(rows):
                for w in range(columns):
                    there = z[n, h, w]
                    for f in span(0, there.size):
                        t = there[f] + bias[f]
                        there[f] = zero if relu and t <= zero else t


@kernel
def conv2d_split_weights_grad(
    lo: int, hi: int, chunks: int, d: Array, x: Array, dW: Array, padded: Array, errors: Array, sums: Array, kh: int,
    kw: int, top: int, left: int,
) -> None:  # fmt: skip
    """dW[chunk, F, kh·kw·C + 1] = Σ δᵀ patches over the images of a chunk; the last column, that of the bias, by sums.

    Between two rows of δ lie kw - 1 zeros, so that all places of an image are one after the other.
    """
    rows, columns, zero = d.shape[1], d.shape[2], d.dtype.type(0)
    across, last = columns + kw - 1, dW.shape[2] - 1
    channels = padded.shape[2] // across
    for chunk in range(lo, hi):
        dW[chunk], padded[chunk], errors[chunk], sums[chunk] = zero, zero, zero, zero
        first, end = images_of(chunk, chunks, d.shape[0])
        for n in range(first, end):
            put_inside(x, n, top, left * channels, padded[chunk])
            put_apart(d, n, across, errors[chunk], sums[chunk])
            correlate(rows, columns, channels, kh, kw, padded, errors, chunk, dW)
        for f in span(0, sums.shape[1]):
            dW[chunk, f, last] = sums[chunk, f]
