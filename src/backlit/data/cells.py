"""Cells of a table: what is missing, what is a number, and how it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from backlit.core.types import Array

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "?", "null"})
"""Cells that stand for a missing value, whatever their case."""

_GROUPED = {",": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?"), ".": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?")}


def is_missing(cell: str) -> bool:
    """True for an empty cell and the usual words for one."""
    return cell.strip().casefold() in MISSING


def number(cell: str, decimal: str = ".") -> float | None:
    """The finite number in a cell, thousands separators understood (``1,234.5``); None where there is none.

    With ``decimal=","`` the comma is the decimal mark and the point separates thousands.
    """
    text, thousands = cell.strip(), "," if decimal == "." else "."
    if thousands in text:
        if not _GROUPED[thousands].fullmatch(text):
            return None
        text = text.replace(thousands, "")
    try:
        value = float(text.replace(decimal, "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def numbers(cells: Iterable[str], decimal: str = ".") -> tuple[Array, int | None]:
    """Cells as float64, NaN where missing; and the index of the first that is neither a number nor missing."""
    values = [math.nan if is_missing(cell) else number(cell, decimal) for cell in cells]
    bad = next((i for i, value in enumerate(values) if value is None), None)
    return np.array([math.nan if value is None else value for value in values]), bad


def decimal_mark(cells: Sequence[str]) -> str | None:
    """``"."`` or ``","`` where every cell is missing or a number written so; None for text, and if all are missing."""
    known = [cell for cell in cells if not is_missing(cell)]
    fitting = (mark for mark in ".," if known and all(number(cell, mark) is not None for cell in known))
    return next(fitting, None)


def ordered(values: Iterable[str]) -> tuple[str, ...]:
    """Distinct values, numbers by size and before text."""
    return tuple(sorted(set(values), key=lambda v: (0, n, v) if (n := number(v)) is not None else (1, 0.0, v)))
