"""A gradient of a table of which a batch has read only a few rows: their numbers and their gradients, and no zeros."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backlit.core.types import Array, Shape


@dataclass(frozen=True, eq=False)
class Rows:
    """The array of ``shape`` [V, …] whose rows ``numbers``[M], each once, are ``values``[M, …], all others 0.

    NumPy's functions take it as that array; ``+`` another one, ``*`` a number and ``astype`` keep it as rows.
    """

    numbers: Array
    values: Array
    shape: Shape

    @classmethod
    def of(cls, numbers: Array, values: Array, shape: Shape) -> Rows:
        """From rows that may have the same number: these are added up."""
        if not len(numbers):
            return cls(numbers, values, shape)
        order = np.argsort(numbers, kind="stable")
        found, starts = np.unique(numbers[order], return_index=True)
        return cls(found, np.add.reduceat(values[order], starts, axis=0), shape)

    @property
    def dtype(self) -> Any:
        """That of the values."""
        return self.values.dtype

    def dense(self) -> Array:
        """The whole array."""
        found = np.zeros(self.shape, self.dtype)
        found[self.numbers] = self.values
        return found

    def with_values(self, values: Array) -> Rows:
        """The same rows with other values."""
        return replace(self, values=values)

    def astype(self, dtype: Any) -> Rows:
        """The same in another dtype."""
        return self.with_values(self.values.astype(dtype))

    def __add__(self, other: Rows) -> Rows:
        numbers, values = (np.concat(pair) for pair in ((self.numbers, other.numbers), (self.values, other.values)))
        return Rows.of(numbers, values, self.shape)

    def __mul__(self, factor: float) -> Rows:
        return self.with_values(self.values * factor)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.dense() if dtype is None else self.dense().astype(dtype)


def stored(g: Any) -> Array:
    """The entries of a gradient that may differ from 0: all of an array, the values of rows."""
    return g.values if isinstance(g, Rows) else g
