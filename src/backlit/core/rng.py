"""Random numbers from a key, so that any mask, shuffle or initial weight can be made again alone.

Each draw has a generator of its own, Philox4x64 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2,
3, SC 2011), keyed by the BLAKE2b hash of (seed, step, name). There is no global state and no order of draws to keep.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def generator(seed: int, step: int, name: str) -> np.random.Generator:
    """The generator of key (``seed``, ``step``, ``name``): always the same stream for the same key."""
    digest = blake2b(f"{seed}|{step}|{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
