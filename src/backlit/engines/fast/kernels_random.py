"""Kernels of random numbers: dropout masks out of the very bits that NumPy's Philox4x64-10 would give.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC 2011. A block of four numbers depends on the
key and its place alone, so threads share the blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backlit.engines.fast.jit import inlined, kernel, span

Array = Any

_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_WEYL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_ROUNDS, _ALL = 10, 2**64 - 1
_TO_53_BITS, _UNIT = np.uint64(11), 2.0**-53


def plus(a: Any, b: Any) -> Any:
    """The lower 64 bits of a + b."""
    return np.uint64((int(a) + int(b)) & _ALL)


def times(a: Any, b: Any) -> Any:
    """The lower 64 bits of a b."""
    return np.uint64((int(a) * int(b)) & _ALL)


def high_times(a: Any, b: Any) -> Any:
    """The upper 64 bits of a b."""
    return np.uint64((int(a) * int(b)) >> 64)


@inlined
def philox4x64(place: Any, k0: Any, k1: Any) -> Any:
    """The four numbers of 64 bits at a place, under a key of two words."""
    a, b, c, d = place, np.uint64(0), np.uint64(0), np.uint64(0)
    for _ in range(_ROUNDS):
        left, right = high_times(_MULTIPLIERS[0], a), high_times(_MULTIPLIERS[1], c)
        a, b, c, d = right ^ b ^ k0, times(_MULTIPLIERS[1], c), left ^ d ^ k1, times(_MULTIPLIERS[0], a)
        k0, k1 = plus(k0, _WEYL[0]), plus(k1, _WEYL[1])
    return a, b, c, d


@kernel
def dropout_mask(lo: int, hi: int, step: int, keys: Array, mask: Array, rate: float) -> None:
    """mask = 0 where u < rate, else 1/(1 - rate), u uniform out of keys[step]; blocks lo … hi of four entries."""
    zero, kept = mask.dtype.type(0), mask.dtype.type(1.0 / (1.0 - rate))
    for block in span(lo, hi):
        at = 4 * block
        for number in philox4x64(np.uint64(block + 1), keys[step, 0], keys[step, 1]):
            if at < mask.size:
                mask[at] = kept if (number >> _TO_53_BITS) * _UNIT >= rate else zero
            at += 1
