"""Kernels of normalisation within a sample: groups of channels over all places of x[N, P, C], or rows by their size.

What is summed goes along the channels, which lie side by side; the channels of a group are put together at the end.
"""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.jit import inlined, kernel, ordered, span
from backlit.engines.fast.kernels_images import images_of
from backlit.engines.fast.kernels_norms import total, total_of_squares

Array = Any


@inlined
def share_in_groups(groups: int, channels: Array, means: Array) -> None:
    """means[g] = the mean of a group's channels; every channel becomes that of its group."""
    wide = channels.size // groups
    share = channels.dtype.type(1.0 / wide)
    for g in range(groups):
        own = channels[g * wide : (g + 1) * wide]
        mean = total(own) * share
        means[g] = mean
        for c in span(0, wide):
            own[c] = mean


@ordered
def groupnorm(
    lo: int, hi: int, groups: int, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, work: Array, y: Array,
    eps: float,
) -> None:  # fmt: skip
    """y = gamma (x - mean)/√(var + eps) + beta, mean and var of a group's channels over all places; samples lo … hi.

    work[n] holds what each channel is moved by and then multiplied with.
    """
    places, channels = x.shape[1], x.shape[2]
    share, small = x.dtype.type(1.0 / places), x.dtype.type(eps)
    for n in span(lo, hi):
        shift, scale = work[n, 0], work[n, 1]
        shift[:], scale[:] = x.dtype.type(0), x.dtype.type(0)
        for p in range(places):
            for c in span(0, channels):
                shift[c] += x[n, p, c] * share
        share_in_groups(groups, shift, mean[n])
        for p in range(places):
            for c in span(0, channels):
                apart = x[n, p, c] - shift[c]
                scale[c] += apart * apart * share
        share_in_groups(groups, scale, var[n])
        for c in span(0, channels):
            scale[c] = gamma[c] / math.sqrt(scale[c] + small)
        for p in range(places):
            for c in span(0, channels):
                y[n, p, c] = (x[n, p, c] - shift[c]) * scale[c] + beta[c]


@kernel
def groupnorm_sums(lo: int, hi: int, d: Array, x: Array, mean: Array, var: Array, sums: Array, eps: float) -> None:
    """sums[n] = (Σ d xhat, Σ d) of each channel over all places; samples lo … hi."""
    channels, small, one = x.shape[2], x.dtype.type(eps), x.dtype.type(1)
    wide = channels // mean.shape[1]
    for n in span(lo, hi):
        along, whole = sums[n, 0], sums[n, 1]
        along[:], whole[:] = d.dtype.type(0), d.dtype.type(0)
        for g in range(mean.shape[1]):
            middle, scale = mean[n, g], one / math.sqrt(var[n, g] + small)
            for p in range(x.shape[1]):
                for c in span(g * wide, (g + 1) * wide):
                    whole[c] += d[n, p, c]
                    along[c] += d[n, p, c] * ((x[n, p, c] - middle) * scale)


@kernel
def groupnorm_grad(
    lo: int, hi: int, d: Array, x: Array, gamma: Array, mean: Array, var: Array, sums: Array, work: Array, dx: Array,
    eps: float,
) -> None:  # fmt: skip
    """dx = (g - mean g - xhat mean(g xhat))/√(var + eps), g = gamma d, means over a group; samples lo … hi.

    work[n] holds for each channel what d and x - mean are multiplied with, what is taken off, and the mean.
    """
    (_, places, channels), groups = x.shape, mean.shape[1]
    small, one, share = x.dtype.type(eps), x.dtype.type(1), x.dtype.type(groups / (places * channels))
    wide = channels // groups
    for n in span(lo, hi):
        times, slope, off, middle = work[n, 0], work[n, 1], work[n, 2], work[n, 3]
        for g in range(groups):
            scale, along, whole = one / math.sqrt(var[n, g] + small), x.dtype.type(0), x.dtype.type(0)
            for c in span(g * wide, (g + 1) * wide):
                along += gamma[c] * sums[n, 0, c]
                whole += gamma[c] * sums[n, 1, c]
            for c in span(g * wide, (g + 1) * wide):
                times[c], middle[c] = gamma[c] * scale, mean[n, g]
                slope[c], off[c] = along * share * scale * scale, whole * share * scale
        for p in range(places):
            for c in span(0, channels):
                dx[n, p, c] = times[c] * d[n, p, c] - off[c] - (x[n, p, c] - middle[c]) * slope[c]


# --- rmsnorm ----------------------------------------------------------------------------------------------------------


@kernel
def rmsnorm(lo: int, hi: int, x: Array, gamma: Array, y: Array, mean_square: Array, eps: float) -> None:
    """y = gamma x/√(mean x² + eps), the mean of each row; rows lo … hi."""
    share, small, one = x.dtype.type(1.0 / x.shape[1]), x.dtype.type(eps), x.dtype.type(1)
    for n in span(lo, hi):
        square = total_of_squares(x[n]) * share
        scale = one / math.sqrt(square + small)
        for c in span(0, x.shape[1]):
            y[n, c] = gamma[c] * (x[n, c] * scale)
        mean_square[n] = square


@kernel
def rmsnorm_grad(lo: int, hi: int, d: Array, x: Array, gamma: Array, mean_square: Array, dx: Array, eps: float) -> None:
    """dx = (g - xhat mean(g xhat))/√(mean x² + eps), g = gamma d; rows lo … hi."""
    share, small, one = x.dtype.type(1.0 / x.shape[1]), x.dtype.type(eps), x.dtype.type(1)
    for n in span(lo, hi):
        scale, along = one / math.sqrt(mean_square[n] + small), x.dtype.type(0)
        for c in range(x.shape[1]):
            along += d[n, c] * gamma[c] * x[n, c]
        slope = along * share * scale * scale
        for c in span(0, x.shape[1]):
            dx[n, c] = scale * (d[n, c] * gamma[c] - x[n, c] * slope)


@kernel
def rmsnorm_sums(lo: int, hi: int, d: Array, x: Array, mean_square: Array, sums: Array, eps: float) -> None:
    """sums[chunk] = Σ d xhat over a chunk of the rows."""
    small, one = d.dtype.type(eps), d.dtype.type(1)
    for chunk in range(lo, hi):
        first, end = images_of(chunk, sums.shape[0], d.shape[0])
        dgamma = sums[chunk]
        dgamma[:] = d.dtype.type(0)
        for n in span(first, end):
            scale = one / math.sqrt(mean_square[n] + small)
            for c in span(0, d.shape[1]):
                dgamma[c] += d[n, c] * (x[n, c] * scale)
