"""Kernels of losses: the loss, its mass, and δ in one pass. ``stats`` receives (loss, mass)."""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.jit import kernel, ordered

Array = Any


@ordered
def softmax_cross_entropy(z: Array, y: Array, d: Array, stats: Array) -> None:
    """L = -(1/N) Σ_n ln softmax(z_n)[y_n] and δ = (softmax(z) - onehot(y))/N, each row shifted by its maximum."""
    rows, classes = z.shape
    total, scale = 0.0, z.dtype.type(1.0 / rows)
    for n in range(rows):
        top = z[n, 0]
        for c in range(1, classes):
            top = max(top, z[n, c])
        norm = z.dtype.type(0)
        for c in range(classes):
            e = math.exp(z[n, c] - top)
            d[n, c] = e
            norm += e
        total += math.log(norm) - (z[n, y[n]] - top)
        share = scale / norm
        for c in range(classes):
            d[n, c] *= share
        d[n, y[n]] -= scale
    stats[0], stats[1] = total / rows, rows


@kernel
def mse(pred: Array, target: Array, d: Array, rows: int, stats: Array) -> None:
    """L = mean (pred - target)² and δ = 2 (pred - target)/size, of flat arrays that hold ``rows`` samples."""
    total, scale = 0.0, pred.dtype.type(2.0 / pred.size)
    for i in range(pred.size):
        e = pred[i] - target[i]
        total += e * e
        d[i] = scale * e
    stats[0], stats[1] = total / pred.size, rows


@kernel
def note(stats: Array, g: Array, losses: Array, masses: Array, norms: Array, step: int) -> bool:
    """Keep the step's loss, mass and ‖g‖; True where both are finite."""
    squares = 0.0
    for i in range(g.size):
        squares += g[i] * g[i]
    losses[step], masses[step], norms[step] = stats[0], stats[1], math.sqrt(squares)
    return math.isfinite(stats[0]) and math.isfinite(squares)


@kernel
def keep(output: Array, outputs: Array, step: int) -> None:
    """outputs[step] = output, a flat array."""
    for i in range(output.size):
        outputs[step, i] = output[i]
