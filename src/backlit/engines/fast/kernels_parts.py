"""Kernels of a step of several parts: their gradients come together by mass."""

from __future__ import annotations

from typing import Any

from backlit.engines.fast.jit import kernel, span

Array = Any


@kernel
def weigh(lo: int, hi: int, stats: Array, share: Array) -> None:
    """share = (loss, mass, parts, old, new) after one more part of stats = (loss, mass): (L, Σm, n, Σm'/Σm, m/Σm).

    L = Σ m_i L_i / Σ m_i and Σm' is the mass before this part; while there is no mass, the first part stands.
    """
    mass = share[1] + stats[1]
    if share[2] == 0.0:
        share[3], share[4] = 0.0, 1.0
    elif mass > 0.0:
        share[3], share[4] = share[1] / mass, stats[1] / mass
    else:
        share[3], share[4] = 1.0, 0.0
    share[0] = stats[0] if share[3] == 0.0 else share[3] * share[0] + share[4] * stats[0]
    share[1], share[2] = mass, share[2] + 1.0


@kernel
def combine(lo: int, hi: int, g: Array, total: Array, share: Array) -> None:
    """total = old total + new g, the gradient of the parts so far, in g too; entries lo … hi of flat arrays."""
    real = g.dtype.type
    old, new = real(share[3]), real(share[4])
    if share[3] == 0.0:
        for i in span(lo, hi):
            total[i] = g[i]
    else:
        for i in span(lo, hi):
            total[i] = old * total[i] + new * g[i]
            g[i] = total[i]
