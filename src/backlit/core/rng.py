"""Random numbers from a key, so that any mask, shuffle or initial weight can be made again alone.

Each draw has a generator of its own, Philox4x64 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2,
3, SC 2011), keyed by the BLAKE2b hash of (seed, step, name). There is no global state and no order of draws to keep.
:func:`uniforms` goes one step further, to numbers for each of many samples that depend on that sample alone.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from backlit.core.types import Array

_LOW = np.uint64(0xFFFFFFFF)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def generator(seed: int, step: int, name: str) -> np.random.Generator:
    """The generator of key (``seed``, ``step``, ``name``): always the same stream for the same key."""
    return np.random.Generator(np.random.Philox(key=_key(seed, step, name, 16)))


def key_words(seed: int, step: int, name: str) -> tuple[int, int]:
    """The two words of 64 bits that are the key of :func:`generator`, the lower first."""
    key = _key(seed, step, name, 16)
    return key & 0xFFFFFFFFFFFFFFFF, key >> 64


def _key(seed: int, step: int, name: str, size: int) -> int:
    return int.from_bytes(blake2b(f"{seed}|{step}|{name}".encode(), digest_size=size).digest(), "little")


def uniforms(seed: int, step: int, name: str, samples: Array, count: int) -> Array:
    """u[N, count], float64 in [0, 1) in steps of 2⁻³², for sample numbers ``samples[N]``, from 0.

    Row n is a function of (seed, step, name, samples[n]) and of nothing else, whatever it is drawn together with.
    """
    numbers = np.asarray(samples, np.uint64)
    key = _key(seed, step, name, 8)
    words = [w for block in range(-(-count // 4)) for w in philox4x32(numbers & _LOW, numbers >> 32, block, key=key)]
    return np.stack(words[:count], axis=-1).astype(np.float64) * 2.0**-32


def philox4x32(*counter: Array | int, key: int) -> tuple[Array, Array, Array, Array]:
    """Philox4x32-10 of up to four counter words and a key of 64 bits: four words of 32 bits each, as uint64."""
    given = (np.asarray(w, np.uint64) for w in (*counter, *(0,) * (4 - len(counter))))
    a, b, c, d = np.broadcast_arrays(*given)
    for i in range(_ROUNDS):
        k0, k1 = (np.uint64((word + i * weyl) & 0xFFFFFFFF) for word, weyl in zip((key, key >> 32), _WEYL, strict=True))
        left, right = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
        a, b, c, d = (right >> 32) ^ b ^ k0, right & _LOW, (left >> 32) ^ d ^ k1, left & _LOW
    return a, b, c, d
