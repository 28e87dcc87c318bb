"""What each column of a table becomes for the model, fitted on the training rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.data.cells import is_missing, number, numbers, ordered
from backlit.data.remarks import Remark, remark
from backlit.data.table import Table

MOST_CATEGORIES = 200


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers: missing values become the training median, then (x − mean) / std."""

    name: str
    decimal: str
    median: float
    mean: float
    std: float

    @classmethod
    def fit(cls, table: Table, name: str, decimal: str) -> NumberColumn:
        """Median of what is there; mean and standard deviation after filling in."""
        values = read_numbers(table, name, decimal)
        median = float(np.median(values[~np.isnan(values)]))
        filled = np.where(np.isnan(values), median, values)
        std = float(filled.std()) if filled.min() < filled.max() else 0.0  # of six times 0.1 std() gives 1.4e-17
        return cls(name, decimal, median, float(filled.mean()), std)

    @property
    def features(self) -> tuple[str, ...]:
        """One input, named as the column."""
        return (self.name,)

    def encode(self, table: Table) -> Array:
        """``[N, 1]`` float64. InputError with the line where a cell is not a number."""
        values = read_numbers(table, self.name, self.decimal)
        return ((np.where(np.isnan(values), self.median, values) - self.mean) / self.std)[:, None]

    def about(self) -> tuple[Remark, ...]:
        """Nothing beyond being standardised."""
        return ()

    def remarks(self, table: Table) -> Iterable[Remark]:
        """How many values are missing, and how the first number with a comma is read."""
        commas = [cell for cell in table.column(self.name) if "," in cell]
        if commas:
            yield remark("note_commas", name=self.name, cell=commas[0], value=number(commas[0], self.decimal))
        if count := int(np.isnan(read_numbers(table, self.name, self.decimal)).sum()):
            yield remark("note_missing_number", name=self.name, count=count, median=self.median)


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories: one input each (one-hot). Missing and unseen ones are all zeros."""

    name: str
    categories: tuple[str, ...]

    @classmethod
    def fit(cls, table: Table, name: str) -> CategoryColumn:
        """The distinct values of the training part."""
        return cls(name, ordered(cell for cell in _stripped(table, name) if not is_missing(cell)))

    @property
    def features(self) -> tuple[str, ...]:
        """One input per category: ``"ocean_proximity=INLAND"``."""
        return tuple(f"{self.name}={category}" for category in self.categories)

    def encode(self, table: Table) -> Array:
        """``[N, C]`` of zeros and ones."""
        return (_stripped(table, self.name)[:, None] == np.array(self.categories, dtype=object)).astype(np.float64)

    def about(self) -> tuple[Remark, ...]:
        """How many inputs the column becomes."""
        return (remark("note_categories", name=self.name, count=len(self.categories)),)

    def remarks(self, table: Table) -> Iterable[Remark]:
        """How many rows have no category seen in training."""
        others = [cell for cell in _stripped(table, self.name) if cell not in self.categories]
        unseen = [cell for cell in others if not is_missing(cell)]
        if count := len(others) - len(unseen):
            yield remark("note_missing_category", name=self.name, count=count)
        if unseen:
            yield remark("note_unseen", name=self.name, count=len(unseen), examples=", ".join(ordered(unseen)[:3]))


Column: TypeAlias = NumberColumn | CategoryColumn


def read_numbers(table: Table, name: str, decimal: str) -> Array:
    """A column as float64, NaN where missing. InputError with the line where a cell is not a number."""
    cells = table.column(name)
    values, bad = numbers(cells, decimal)
    if bad is not None:
        raise InputError(
            "data_cell_number", path=table.where, line=int(table.lines[bad]), name=name, got=repr(cells[bad])
        )
    return values


def fit_column(table: Table, name: str, decimal: str | None) -> Column | Remark:
    """What a column becomes, seen the training rows; or why it is left out. ``decimal`` is None for categories."""
    kinds = {cell for cell in _stripped(table, name) if not is_missing(cell)}
    if not kinds or (len(kinds) == 1 and not any(map(is_missing, table.column(name)))):
        return remark("note_constant", name=name)
    if decimal is not None:
        made = NumberColumn.fit(table, name, decimal)
        return made if made.std > 0 else remark("note_constant", name=name)
    if len(kinds) > MOST_CATEGORIES or len(kinds) > max(20, len(table) // 2):
        return remark("note_too_many", name=name, count=len(kinds), rows=len(table))
    return CategoryColumn.fit(table, name)


def mixed(table: Table, name: str) -> Iterable[Remark]:
    """A remark where a column of text is mostly numbers: the first cell that is none."""
    cells = table.column(name)
    values, bad = numbers(cells)
    if bad is not None and np.isfinite(values).sum() > len(cells) / 2:
        yield remark("note_mixed", name=name, cell=cells[bad], line=int(table.lines[bad]))


def column_to_dict(column: Column) -> dict[str, Any]:
    """As JSON data."""
    return {"kind": "number" if isinstance(column, NumberColumn) else "category"} | asdict(column)


def column_from_dict(data: dict[str, Any]) -> Column:
    """The inverse of :func:`column_to_dict`."""
    values = {name: value for name, value in data.items() if name != "kind"}
    if data["kind"] == "number":
        return NumberColumn(**values)
    return CategoryColumn(values["name"], tuple(values["categories"]))


def _stripped(table: Table, name: str) -> Array:
    return np.array([cell.strip() for cell in table.column(name)], dtype=object)
