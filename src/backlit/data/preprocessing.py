"""What turns a raw table or array into a model's X: fitted on the training part, kept in the run, used again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Shape
from backlit.data.cells import decimal_mark
from backlit.data.columns import Column, NumberColumn, column_from_dict, column_to_dict, fit_column, mixed, read_numbers
from backlit.data.remarks import Remark, remark
from backlit.data.scaling import UNSCALED, Scaler
from backlit.data.table import Table
from backlit.data.validate import check_features


class Preprocessing(ABC):
    """A fitted map from raw data to ``X[N, …]`` float32."""

    @property
    @abstractmethod
    def features(self) -> tuple[str, ...]:
        """A name for each number of a sample, in row-major order."""

    @abstractmethod
    def transform(self, raw: Table | Array) -> Array:
        """The same columns, categories, medians and scales as in training, applied to other data."""

    @abstractmethod
    def remarks(self, raw: Table | Array) -> tuple[Remark, ...]:
        """What :meth:`transform` does to ``raw`` that one should know: missing values filled, categories not seen."""

    @abstractmethod
    def about(self) -> tuple[Remark, ...]:
        """What is done to all data: scales, one-hot columns."""

    @abstractmethod
    def flattened(self) -> Preprocessing:
        """The same with samples as rows, ``X[N, F]``."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_dict`, before or after a trip through JSON."""
        if data["kind"] == "table":
            return TablePreprocessing(tuple(column_from_dict(column) for column in data["columns"]))
        scaler = Scaler.from_dict(data["scaler"])
        return ArrayPreprocessing(tuple(data["shape"]), tuple(data["names"]), scaler, data["scaling"], data["flat"])


@dataclass(frozen=True)
class TablePreprocessing(Preprocessing):
    """Columns side by side: numbers standardised, categories one-hot. Columns are found by name."""

    columns: tuple[Column, ...]

    @classmethod
    def fit(cls, train: Table, marks: Mapping[str, str | None]) -> tuple[TablePreprocessing, tuple[Remark, ...]]:
        """Fit every column to the training rows, and say which are left out; ``marks`` are from :func:`read_marks`.

        InputError where no column is left.
        """
        made = [fit_column(train, name, marks[name]) for name in train.names]
        columns = tuple(c for c in made if not isinstance(c, Remark))
        if not columns:
            raise InputError("data_no_features", path=train.where, got=", ".join(train.names) or "0")
        return cls(columns), tuple(c for c in made if isinstance(c, Remark))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the inputs, e.g. ``"median_income"``, ``"ocean_proximity=INLAND"``."""
        return tuple(chain.from_iterable(column.features for column in self.columns))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that a table must have."""
        return tuple(column.name for column in self.columns)

    def transform(self, raw: Table | Array) -> Array:
        """``X[N, F]`` float32 of a table. InputError where a column is absent or a cell is not the number due."""
        self._need(raw)
        return np.concatenate([column.encode(raw) for column in self.columns], axis=1).astype(np.float32)

    def _need(self, raw: Table | Array) -> None:
        have = raw.names if isinstance(raw, Table) else [f"X{list(np.shape(raw))}"]
        if absent := [name for name in self.names if name not in have]:
            where = raw.where if isinstance(raw, Table) else "X"
            raise InputError("data_columns_absent", path=where, expected=", ".join(absent), got=", ".join(have))

    def remarks(self, raw: Table | Array) -> tuple[Remark, ...]:
        """Missing values and unseen categories of ``raw``."""
        return tuple(chain.from_iterable(column.remarks(raw) for column in self.columns))

    def about(self) -> tuple[Remark, ...]:
        """How many columns are standardised, and which are one-hot."""
        count = sum(isinstance(column, NumberColumn) for column in self.columns)
        scaled = [remark("note_standardised", count=count)] if count else []
        return (*scaled, *chain.from_iterable(column.about() for column in self.columns))

    def flattened(self) -> TablePreprocessing:
        """Itself: rows are flat."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"kind": "table", "columns": [column_to_dict(column) for column in self.columns]}


def read_marks(table: Table, categories: Collection[str]) -> dict[str, str | None]:
    """Which columns hold numbers, and with which decimal mark; None for categories.

    Read off the whole file, since what a column holds is part of the format; medians, means and categories are read
    off the training part alone.
    """
    return {name: None if name in categories else decimal_mark(table.column(name)) for name in table.names}


def mixed_columns(table: Table, marks: Mapping[str, str | None], categories: Collection[str]) -> Iterable[Remark]:
    """Remarks on columns of text that are mostly numbers."""
    texts = [name for name, mark in marks.items() if mark is None and name not in categories]
    return chain.from_iterable(mixed(table, name) for name in texts)


SCALINGS = {
    "unscaled": "note_unscaled",
    "standardised": "note_standardised",
    "pixels": "note_pixels",
    "waveform": "note_waveform",
}
"""Message keys by what a scaler does to arrays."""


@dataclass(frozen=True)
class ArrayPreprocessing(Preprocessing):
    """Samples of one shape, scaled: standardised features, pixels over their maximum, or as they are."""

    shape: Shape
    names: tuple[str, ...]
    scaler: Scaler = UNSCALED
    scaling: str = "unscaled"
    """What the scaler does, a name of ``SCALINGS``."""

    flat: bool = False
    """Give ``X[N, F]``, whatever the samples' shape."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers of a sample, in row-major order."""
        return self.names

    def transform(self, raw: Table | Array) -> Array:
        """``X[N, *shape]`` float32 (or flat) of an array of that shape, of flat rows, or of a table of numbers."""
        X = self._numbers(raw) if isinstance(raw, Table) else np.asarray(raw)
        check_features(X)
        if tuple(X.shape[1:]) not in self._accepted():
            where = raw.where if isinstance(raw, Table) else "X"
            expected = " | ".join(f"X{['N', *shape]}".replace("'", "") for shape in self._accepted())
            raise InputError("data_sample_shape", path=where, expected=expected, got=f"X{list(X.shape)}")
        return self.scaler.apply(X.reshape(len(X), -1) if self.flat else X.reshape(-1, *self.shape))

    def _accepted(self) -> list[Shape]:
        """Shapes a sample may have: its own, flat, and without a last axis of one entry."""
        bare = [self.shape[:-1]] if self.shape[-1] == 1 else []
        return list(dict.fromkeys([self.shape, (prod(self.shape),), *bare]))

    def _numbers(self, table: Table) -> Array:
        """The feature columns by name where the table has them, else all columns in order."""
        names = self.names if set(self.names) <= set(table.names) else table.names
        return np.stack([read_numbers(table, name, ".") for name in names], axis=1)

    def remarks(self, raw: Table | Array) -> tuple[Remark, ...]:  # noqa: ARG002 (a table's needs it)
        """None: an array has neither missing values nor categories."""
        return ()

    def about(self) -> tuple[Remark, ...]:
        """How the numbers are scaled."""
        return (remark(SCALINGS[self.scaling], most=self.scaler.std[0], count=len(self.scaler.mean)),)

    def flattened(self) -> ArrayPreprocessing:
        """The same with samples as rows. A scale for each feature goes with samples that are flat already."""
        return replace(self, flat=True)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"kind": "array"} | asdict(self)


def pixels(shape: Shape, most: float) -> ArrayPreprocessing:
    """Divide by the greatest value a pixel can have."""
    return ArrayPreprocessing(shape, index_names("pixel", shape), Scaler((0.0,), (float(most),)), "pixels")


def waveform(shape: Shape, most: float) -> ArrayPreprocessing:
    """Divide by the greatest size that a sample of sound can have."""
    return ArrayPreprocessing(shape, index_names("sample", shape), Scaler((0.0,), (float(most),)), "waveform")


def index_names(stem: str, shape: Shape) -> tuple[str, ...]:
    """``("pixel[0,0]", "pixel[0,1]", …)``, without the last axis where it has one entry."""
    axes = shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape
    return tuple(f"{stem}[{','.join(map(str, index))}]" for index in np.ndindex(*axes))
