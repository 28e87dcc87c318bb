"""Targets: which task they mean, and labels counted from 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.data.cells import decimal_mark, is_missing, number, numbers, ordered
from backlit.data.remarks import Remark, remark
from backlit.data.validate import check_features

TASKS = ("classification", "regression")
FEW = 20
"""Whole numbers of at most so many kinds are taken for classes, unless the task is given."""


class Read(NamedTuple):
    """A target that was read: labels from 0 with their names, or numbers; and what was decided about it."""

    y: Array
    classes: tuple[str, ...] | None
    remarks: tuple[Remark, ...]


def check_task(task: str | None, where: str) -> None:
    """InputError unless ``task`` is one of ``TASKS`` or None."""
    if task not in (None, *TASKS):
        raise InputError("data_option", where=where, option="task", expected=" | ".join(TASKS), got=repr(task))


def from_cells(cells: Array, lines: Array, *, name: str, task: str | None, where: str) -> Read:
    """The target of a table: numbers or class names. No cell is missing."""
    mark = decimal_mark(cells)
    values = None if mark is None else numbers(cells, mark)[0]
    task, said = _settled(task, lambda: _decided(values, len(cells), name))
    if task == "classification":
        texts = [cell.strip() for cell in cells] if values is None else [_plain(value) for value in values.tolist()]
        return Read(*label(texts, name, where), said)
    if values is None:
        bad = next(i for i, cell in enumerate(cells) if number(cell) is None)
        raise InputError("data_target_text", path=where, line=int(lines[bad]), name=name, got=repr(cells[bad]))
    return Read(values, None, said)


def from_array(y: Array, *, name: str, task: str | None, where: str) -> Read:
    """The target of arrays. Without ``task``, floats are quantities, text means classes, integers are as in a table."""
    y = np.asarray(y)
    if y.dtype.kind in "OUS":
        texts = ["" if value is None else str(value) for value in y.tolist()]
        return _from_texts(np.array(texts, dtype=object), name, task, where)
    check_features(y, where)
    whole = y.ndim == 1 and y.dtype.kind in "biu"
    task, said = _settled(
        task, lambda: _decided(y, len(y), name) if whole else _found("found_numbers", name, len(np.unique(y)))
    )
    if task == "regression":
        return Read(y.astype(np.float64), None, said)
    _check_classes(y, where)
    return Read(*label([_plain(value) for value in y.tolist()], name, where), said)


def _from_texts(texts: Array, name: str, task: str | None, where: str) -> Read:
    there = present(texts)
    if not there.all():
        first = int(np.argmin(there))
        count = int((~there).sum())
        raise InputError("data_not_finite", where=where, value=repr(texts[first]), index=[first], count=count)
    return from_cells(texts, np.arange(len(texts)), name=name, task=task, where=where)


def _settled(task: str | None, decide: Callable[[], Remark]) -> tuple[str, tuple[Remark, ...]]:
    """The task that was given, or the one decided on and the remark that says so."""
    if task is not None:
        return task, ()
    said = decide()
    return said.values["task"]["say"].removeprefix("task_"), (said,)


def _check_classes(y: Array, where: str) -> None:
    if y.ndim != 1:
        raise InputError("data_label_shape", where=where, shape=list(y.shape))
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        raise InputError("data_label_dtype", where=where, dtype=y.dtype)


def label(texts: list[str], name: str, where: str) -> tuple[Array, tuple[str, ...]]:
    """Labels int64 by order of the class names, and these. InputError where nearly every row has its own class."""
    classes = ordered(texts)
    most = max(2, len(texts) // 2)
    if len(classes) > most:
        raise InputError("data_too_many_classes", path=where, name=name, count=len(classes), rows=len(texts), most=most)
    codes = {text: code for code, text in enumerate(classes)}
    return np.array([codes[text] for text in texts], dtype=np.int64), classes


def _decided(values: Array | None, rows: int, name: str) -> Remark:
    if values is None:
        return _found("found_text", name)
    kinds = len(np.unique(values))
    whole = bool((values == np.round(values)).all()) if values.dtype.kind == "f" else True
    few = whole and kinds <= min(FEW, max(2, rows // 5))
    return _found("found_few" if few else "found_numbers", name, kinds)


def _found(what: str, name: str, kinds: int = 0) -> Remark:
    task = "regression" if what == "found_numbers" else "classification"
    return remark("note_task", name=name, found={"say": what}, task={"say": f"task_{task}"}, count=kinds)


def _plain(value: float) -> str:
    """``3`` for 3.0, ``2.5`` for 2.5, ``True`` for True."""
    return str(int(value)) if type(value) is float and value.is_integer() else str(value)


def present(cells: Array) -> Array:
    """Which cells are not missing, as a mask."""
    return np.array([not is_missing(cell) for cell in cells], dtype=bool)
