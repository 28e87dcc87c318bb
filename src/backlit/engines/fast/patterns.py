"""Shapes as kernels take them: axes that go together made one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from backlit.core.types import Shape

AXES = 4
"""Axes that a pattern of steps through an array may have."""


@dataclass(frozen=True)
class Pattern:
    """Where the entries of an array of ``sizes`` lie in a flat one: first + Σ index · step."""

    first: int
    sizes: Shape
    steps: Shape

    @property
    def rows(self) -> int:
        """How many stretches along the last axis."""
        return math.prod(self.sizes[:-1])

    @property
    def numbers(self) -> tuple[int, ...]:
        """The arguments of a kernel: first, all sizes but the outermost, the steps."""
        return (self.first, *self.sizes[1:], *self.steps)


def strides(shape: Shape) -> Shape:
    """Entries between neighbours along each axis of a contiguous array."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def pattern(first: int, sizes: Shape, steps: Shape) -> Pattern | None:
    """The pattern with as few axes as there can be, filled up to AXES; None where there are more."""
    axes: list[tuple[int, int]] = []
    for size, step in zip(sizes, steps, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1] == size * step:
            axes[-1] = (axes[-1][0] * size, step)
        else:
            axes.append((size, step))
    if len(axes) > AXES:
        return None
    axes = [(1, 0)] * (AXES - max(len(axes), 1)) + (axes or [(1, 1)])
    return Pattern(first, tuple(n for n, _ in axes), tuple(s for _, s in axes))


Kind = TypeVar("Kind")


def runs(shape: Shape, kinds: Sequence[Kind]) -> list[tuple[int, Kind]]:
    """(entries, kind) of neighbouring axes of one kind, those of size 1 left out."""
    found: list[tuple[int, Kind]] = []
    for size, kind in zip(shape, kinds, strict=True):
        if size == 1:
            continue
        if found and found[-1][1] == kind:
            found[-1] = (found[-1][0] * size, kind)
        else:
            found.append((size, kind))
    return found
