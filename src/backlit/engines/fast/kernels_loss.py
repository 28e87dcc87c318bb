"""Kernels of losses: the loss of each row and δ in one pass; what a step is noted by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backlit.engines.fast.jit import inlined, kernel, ordered, span
from backlit.engines.fast.kernels_norms import total
from backlit.engines.fast.vector_math import exp

Array = Any

CHUNK = 4096
"""Entries whose squares are summed together, so that the sum does not depend on how many threads there are."""


@inlined
def highest(row: Array) -> Any:
    """The largest entry that is not NaN, by four comparisons at a time, each of which waits for its last alone."""
    a = b = c = d = row[0]
    whole = row.size - row.size % 4
    for i in range(0, whole, 4):
        a = row[i] if row[i] > a else a
        b = row[i + 1] if row[i + 1] > b else b
        c = row[i + 2] if row[i + 2] > c else c
        d = row[i + 3] if row[i + 3] > d else d
    for i in range(whole, row.size):
        a = row[i] if row[i] > a else a
    return max(a, b, c, d)


@ordered
def softmax_cross_entropy(lo: int, hi: int, z: Array, y: Array, d: Array, losses: Array, smoothing: float) -> None:
    """losses[n] = -Σ_c t_c ln softmax(z_n)_c and δ = (softmax(z) - t)/N, each row shifted by its maximum.

    t = (1 - smoothing) onehot(y_n) + smoothing/C.
    """
    rows, classes = z.shape
    scale, sure = z.dtype.type(1.0 / rows), z.dtype.type(1.0 - smoothing)
    even = z.dtype.type(smoothing / classes)
    for n in span(lo, hi):
        top = highest(z[n])
        for c in range(classes):
            d[n, c] = exp(z[n, c] - top)
        norm = total(d[n])
        losses[n] = math.log(norm) - sure * (z[n, y[n]] - top)
        share = scale / norm
        for c in range(classes):
            d[n, c] *= share
        d[n, y[n]] -= scale * sure
        if smoothing > 0.0:
            for c in range(classes):
                losses[n] -= even * (z[n, c] - top)
                d[n, c] -= scale * even


@kernel
def mse(lo: int, hi: int, pred: Array, target: Array, d: Array, losses: Array) -> None:
    """losses[n] = Σ_j (pred - target)² of row n, and δ = 2 (pred - target)/size."""
    scale = pred.dtype.type(2.0 / pred.size)
    for n in span(lo, hi):
        total = pred.dtype.type(0)
        for j in range(pred.shape[1]):
            e = pred[n, j] - target[n, j]
            total += e * e
            d[n, j] = scale * e
        losses[n] = total


@kernel
def mean_loss(lo: int, hi: int, losses: Array, count: int, mass: int, stats: Array) -> None:
    """stats = (Σ losses / count, mass)."""
    total = 0.0
    for n in range(losses.size):
        total += np.float64(losses[n])
    stats[0], stats[1] = total / count, mass


@kernel
def keep_loss(lo: int, hi: int, loss: Array, mass: Array, stats: Array) -> None:
    """stats = (loss, mass) of a loss without a kernel."""
    stats[0], stats[1] = loss[0], mass[0]


@kernel
def squares(lo: int, hi: int, g: Array, sums: Array) -> None:
    """sums[c] = Σ g² of the c-th CHUNK entries, in float64."""
    for c in span(lo, hi):
        total = 0.0
        for i in span(c * CHUNK, min((c + 1) * CHUNK, g.size)):
            wide = np.float64(g[i])
            total += wide * wide
        sums[c] = total


@kernel
def note(
    lo: int, hi: int, step: int, stats: Array, sums: Array, losses: Array, masses: Array, norms: Array, stop: Array
) -> None:
    """Keep the step's loss, mass and ‖g‖; stop[0] = step + 1 where one is not finite."""
    total = 0.0
    for c in range(sums.size):
        total += sums[c]
    losses[step], masses[step], norms[step] = stats[0], stats[1], math.sqrt(total)
    if not (math.isfinite(stats[0]) and math.isfinite(total)):
        stop[0] = step + 1


# --- clipping ---------------------------------------------------------------------------------------------------------


@kernel
def clip_by_global_norm(lo: int, hi: int, step: int, g: Array, norms: Array, limit: float) -> None:
    """g = g min(1, limit / (‖g‖ + 1e-6)), the definition of the clipping of that name."""
    factor = limit / (norms[step] + 1e-6)
    if factor < 1.0:
        scale = g.dtype.type(factor)
        for i in span(lo, hi):
            g[i] *= scale


@kernel
def clip_by_value(lo: int, hi: int, g: Array, limit: float) -> None:
    """g cut to -limit … limit."""
    most = g.dtype.type(limit)
    for i in span(lo, hi):
        g[i] = min(max(g[i], -most), most)
