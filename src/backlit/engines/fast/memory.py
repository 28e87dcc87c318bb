"""Planned memory: buffers that are not alive at the same time share one arena."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.core.types import Array, Shape

LINE = 64
"""Bytes of a cache line."""
ALIGN = 16
"""Buffers begin at multiples of this many entries: a cache line of float32."""


@dataclass(frozen=True)
class Buffer:
    """An array of a program: where it lies in its storage, and during which calls it is needed."""

    name: str
    shape: Shape
    offset: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


def plan(shapes: Mapping[str, Shape], uses: Mapping[str, tuple[int, int]]) -> tuple[dict[str, Buffer], int]:
    """(buffer by name, entries of the arena): each is put at the lowest place free while it is needed, big ones first.

    ``uses`` gives the first and last call that touches a buffer.
    """
    placed: dict[str, Buffer] = {}
    for name in sorted(shapes, key=lambda n: (-math.prod(shapes[n]), uses[n])):
        first, last = uses[name]
        taken = [b for b in placed.values() if b.first <= last and first <= b.last]
        placed[name] = Buffer(name, shapes[name], _lowest(math.prod(shapes[name]), taken), first, last)
    end = max((b.offset + padded(b.size) for b in placed.values()), default=0)
    return placed, end


def _lowest(size: int, taken: Iterable[Buffer]) -> int:
    at = 0
    for b in sorted(taken, key=lambda b: b.offset):
        if at + size <= b.offset:
            break
        at = max(at, b.offset + padded(b.size))
    return at


def zeros(shape: Shape, dtype: Any) -> Array:
    """Zeros that begin with a cache line: vectors of numbers lie on one each, and threads do not share any."""
    count, size = math.prod(shape), np.dtype(dtype).itemsize
    whole = np.zeros(count + LINE // size, dtype)
    first = -whole.ctypes.data % LINE // size
    return whole[first : first + count].reshape(shape)


def padded(size: int) -> int:
    """``size`` rounded up to whole cache lines."""
    return -(-size // ALIGN) * ALIGN
