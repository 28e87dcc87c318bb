"""From raw data and a split to a Dataset: fit on the training part, apply to every part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from backlit.core.types import Array
from backlit.data.dataset import Dataset, Pair
from backlit.data.preprocessing import Preprocessing, TablePreprocessing, mixed_columns, read_marks
from backlit.data.remarks import Remark, remark
from backlit.data.scaling import Target
from backlit.data.splits import Parts, at_most
from backlit.data.table import Table


@dataclass(frozen=True)
class Raw:
    """A data set as read, before it is split: inputs, and targets as class labels or in units."""

    X: Table | Array
    y: Array
    target: str
    classes: tuple[str, ...] | None
    """Names by label, with ``y[N]`` labels from 0; None where y holds quantities."""

    fit: Callable[[Array], Preprocessing] | None = None
    """What makes the preprocessing of the training inputs; None for a table."""

    categories: Collection[str] = ()
    """Columns of a table that are categories though they hold numbers."""

    remarks: Sequence[Remark] = field(default_factory=tuple)
    groups: Array | None = None
    """Who or what each row comes from, by name."""

    @property
    def labels(self) -> Array | None:
        """Labels to split in proportion; None for quantities and for masks."""
        return self.y if self.classes and self.y.ndim == 1 else None


def make(name: str, raw: Raw, given: Parts, how: Remark, *, seed: int = 0, size: int | None = None) -> Dataset:
    """Fit preprocessing and target to the training part, apply them to all.

    ``how`` says how the split was made; ``size`` limits the training part, by a draw from ``seed``.
    """
    parts = at_most(given, size, seed, name, raw.labels)
    fitted, said = _fitted(raw, parts)
    target = Target.fit(raw.target, raw.classes, raw.y[parts.train], name)

    def pair(rows: Array) -> Pair | None:
        return (fitted.transform(raw.X[rows]), target.encode(raw.y[rows])) if len(rows) else None

    train, validation, test = (pair(rows) for rows in parts)
    assert train is not None
    used = raw.X[np.concatenate(parts)] if isinstance(raw.X, Table) else raw.X
    split = (*_said_of_split(given, how), *_said_of_size(given, parts, seed))
    remarks = (*raw.remarks, *split, *said, *fitted.about(), *fitted.remarks(used), *target.remarks())
    groups = {} if raw.groups is None else {part: raw.groups[rows] for part, rows in parts._asdict().items()}
    return Dataset(name, train, validation, test, fitted.features, fitted, target, remarks, groups)


def _fitted(raw: Raw, parts: Parts) -> tuple[Preprocessing, tuple[Remark, ...]]:
    if raw.fit is not None:
        return raw.fit(raw.X[parts.train]), ()
    marks = read_marks(raw.X, raw.categories)
    fitted, left_out = TablePreprocessing.fit(raw.X[parts.train], marks)
    return fitted, (*mixed_columns(raw.X, marks, raw.categories), *left_out)


def _said_of_split(parts: Parts, how: Remark) -> tuple[Remark, ...]:
    counts = {part: len(rows) for part, rows in parts._asdict().items()}
    return (remark("note_split", **counts, how={"say": how.key}, **how.values),)


def _said_of_size(given: Parts, parts: Parts, seed: int) -> tuple[Remark, ...]:
    size, total = len(parts.train), len(given.train)
    return (remark("note_size", size=size, total=total, seed=seed),) if size < total else ()
