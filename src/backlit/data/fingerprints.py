"""Fingerprints of arrays, by which changed data are noticed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import zip_longest

import numpy as np

from backlit.core.types import Array
from backlit.data.mapped import blocks


def fingerprint(arrays: Iterable[Array] | Mapping[str, Array], dtypes: Sequence[str] = ()) -> str:
    """SHA-256 over dtype, shape and bytes of every array, in order (of names, where there are any), hexadecimal.

    The first arrays count as converted to ``dtypes``. Arrays are read a part at a time, and none is copied whole.
    """
    named = sorted(arrays.items()) if isinstance(arrays, Mapping) else [("", array) for array in arrays]
    digest = sha256()
    for (name, array), given in zip_longest(named, dtypes):
        dtype = np.dtype(given or array.dtype)
        digest.update(f"{name}|{dtype.str}|{np.shape(array)}|".encode())
        for _, block in blocks(np.atleast_1d(array)):
            plain = np.ascontiguousarray(block, dtype)
            digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
