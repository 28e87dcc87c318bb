"""Type names used throughout: an array is anything that follows the array API standard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of the namespace it was made by (NumPy, ``jax.numpy``, …)."""

Namespace: TypeAlias = Any
"""A module that follows the array API standard, called ``xp``."""

Shape: TypeAlias = tuple[int, ...]
Arrays: TypeAlias = Mapping[str, Array]
"""Arrays by dotted name, e.g. ``{"dense1.W": …}``."""
