"""What an entry is made of: the terms of its formula, each with the entries of arrays that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from backlit.core.types import Array
from backlit.glass.reading import Block, Reading
from backlit.rules._formula_eval import FLOAT
from backlit.rules.formula import Formula

Read = tuple[Any, tuple[int, ...], float]
"""(name in the formula, or the entry itself where a rule only copies; index in that array; value)."""


@dataclass(frozen=True)
class Part:
    """One term of an entry: the indices summed over, its value in float64, and what it reads."""

    indices: Mapping[str, Any]
    value: float
    reads: tuple[Read, ...]


class Parts(Sequence[Part]):
    """The terms of an entry, each made when it is looked at: there may be tens of thousands."""

    def __init__(self, reading: Reading, blocks: Sequence[Block]) -> None:
        self._extents, self._blocks = reading.extents, blocks
        self._there = [np.flatnonzero(b.there) for b in blocks]
        self._starts = np.cumsum([0, *(len(there) for there in self._there)])

    @cached_property
    def values(self) -> Array:
        """The value of every term."""
        found = [b.values.reshape(-1)[there] for b, there in zip(self._blocks, self._there, strict=True)]
        return np.concatenate(found) if found else np.empty(0)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, number: int) -> Part: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Part]: ...
    def __getitem__(self, number: int | slice) -> Part | Sequence[Part]:
        if isinstance(number, slice):
            return [self._made(k) for k in range(len(self))[number]]
        return self._made(range(len(self))[number])

    def _made(self, number: int) -> Part:
        which = int(np.searchsorted(self._starts, number, side="right")) - 1
        block = self._blocks[which]
        at = np.unravel_index(self._there[which][number - self._starts[which]], block.values.shape)
        reads = (r for r in block.reads if _at(r.there, at))
        return Part(
            {letter: self._shown(letter, int(_at(steps, at))) for letter, steps in block.letters.items()},
            float(block.values[at]),
            tuple((r.name, _index(int(_at(r.places, at)), r.shape), float(_at(r.values, at))) for r in reads),
        )

    def _shown(self, letter: str, step: int) -> Any:
        place = _index(step, self._extents[letter])
        return place[0] if len(place) == 1 else place


def values_of(parts: Sequence[Part]) -> Array:
    """The value of each term."""
    return parts.values if isinstance(parts, Parts) else np.array([p.value for p in parts], np.float64)


def _at(a: Array, at: tuple[Any, ...]) -> Any:
    """The entry of ``a`` at a place of the grid that it is broadcast to."""
    return a[tuple(i if n > 1 else 0 for i, n in zip(at, a.shape, strict=False))]


def _index(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(position, shape)))


def parts(formula: Formula, arrays: Mapping[str, Any], attributes: Mapping[str, Any], index: tuple[int, ...]) -> Parts:
    """The terms of one entry of the formula's target, whose shape is taken from ``arrays``."""
    like = arrays.get(formula.target, arrays.get(formula.target.removeprefix("d")))
    reading = Reading(formula, arrays, attributes, tuple(like.shape), arithmetic=FLOAT)
    return Parts(reading, reading.blocks(index))
