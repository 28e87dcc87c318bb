"""Kernels of optimizers: one loop over all parameters at once, flat vectors p, g and the state."""

from __future__ import annotations

import math
from typing import Any

from backlit.engines.fast.jit import kernel

Array = Any


@kernel
def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: float,
    t: int,
    beta1: float,
    beta2: float,
    eps: float,
    l2: float,
    decay: float,
) -> None:
    """m = β₁m + (1-β₁)g, v = β₂v + (1-β₂)g², p -= lr m̂/(√v̂ + ε); l2 adds to g, decay shrinks p first."""
    real = p.dtype.type
    b1, b2, small, penalty = real(beta1), real(beta2), real(eps), real(l2)
    a1, a2, keep = real(1.0 - beta1), real(1.0 - beta2), real(1.0 - lr * decay)
    rate, unbias = real(lr / (1.0 - beta1**t)), real(1.0 / (1.0 - beta2**t))
    for i in range(p.size):
        slope = g[i] + penalty * p[i]
        m[i] = b1 * m[i] + a1 * slope
        v[i] = b2 * v[i] + a2 * slope * slope
        p[i] = keep * p[i] - rate * m[i] / (math.sqrt(v[i] * unbias) + small)


@kernel
def sgd(p: Array, g: Array, lr: float, l2: float, decay: float) -> None:
    """p -= lr g; l2 adds to g, decay shrinks p first."""
    real = p.dtype.type
    rate, penalty, keep = real(lr), real(l2), real(1.0 - lr * decay)
    for i in range(p.size):
        p[i] = keep * p[i] - rate * (g[i] + penalty * p[i])
