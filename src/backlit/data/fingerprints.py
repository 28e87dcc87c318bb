"""Fingerprints of arrays, by which changed data are noticed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

import numpy as np

from backlit.core.types import Array


def fingerprint(arrays: Iterable[Array] | Mapping[str, Array]) -> str:
    """SHA-256 over dtype, shape and bytes of every array, in order (of names, where there are any), hexadecimal."""
    named = sorted(arrays.items()) if isinstance(arrays, Mapping) else [("", array) for array in arrays]
    digest = sha256()
    for name, array in named:
        plain = np.ascontiguousarray(array)
        digest.update(f"{name}|{plain.dtype.str}|{np.shape(array)}|".encode())
        digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
