"""Data from files: CSV tables and ``.npz`` arrays."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from backlit.core.errors import FileError, InputError, UnknownNameError
from backlit.core.names import nearest
from backlit.core.types import Array
from backlit.data import targets
from backlit.data.arrays import from_arrays, from_parts
from backlit.data.dataset import Dataset
from backlit.data.making import Raw, make
from backlit.data.preprocessing import Preprocessing, TablePreprocessing
from backlit.data.remarks import Remark, remark
from backlit.data.splits import random_parts
from backlit.data.table import Table, read_csv

_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


def from_csv(
    path: str | Path,
    *,
    target: str | int | None = None,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    task: str | None = None,
    drop: Collection[str] = (),
    categories: Collection[str] = (),
    header: bool | None = None,
    delimiter: str | None = None,
) -> Dataset:
    """Any table, plain or ``.gz``: numbers standardised, categories one-hot, missing values filled, all said in notes.

    ``target``: name of the target column, or its index; the last column where None. ``task``: "classification" or
    "regression"; where None, text and whole numbers of few kinds (at most 20) mean classes. ``test_fraction`` and
    ``validation_fraction`` are of all rows (or numbers of rows), drawn by ``seed``, classes in proportion; ``size``
    limits the training rows. ``drop``: columns not to use. ``categories``: columns of numbers that are categories.

    Raises FileError where the file cannot be read (with the line), UnknownNameError where the target is not a column,
    InputError where there is nothing to learn from or to predict.
    """
    table = read_csv(path, header=header, delimiter=delimiter)
    _check_columns(table, "drop", drop)
    _check_columns(table, "categories", categories)
    name, said = _target_name(table, target)
    raw = _raw(table, name, task, drop=drop, categories=categories, said=said)
    parts = random_parts(
        len(raw.y), test=test_fraction, validation=validation_fraction, seed=seed, name=str(path), labels=raw.labels
    )
    how = remark("how_stratified" if raw.classes else "how_drawn", seed=seed)
    return make(Path(path).name.split(".")[0], raw, parts, how, seed=seed, size=size)


def _target_name(table: Table, target: str | int | None) -> tuple[str, tuple[Remark, ...]]:
    said = () if table.has_header else (remark("note_no_header"),)
    if target is None:
        return table.names[-1], (*said, remark("note_target_last", name=table.names[-1]))
    if isinstance(target, int) and -len(table.names) <= target < len(table.names):
        return table.names[target], said
    _check_columns(table, "target", [str(target)])
    return str(target), said


def _check_columns(table: Table, option: str, names: Collection[str]) -> None:
    for name in names:
        if name not in table.names:
            known = {"known": ", ".join(table.names[:40]), "nearest": " / ".join(nearest(name, table.names))}
            raise UnknownNameError("data_column_unknown", path=table.where, name=name, option=option, **known)


def _raw(
    table: Table,
    name: str,
    task: str | None,
    *,
    drop: Collection[str],
    categories: Collection[str],
    said: tuple[Remark, ...],
) -> Raw:
    targets.check_task(task, table.where)
    there = targets.present(table.column(name))
    if not there.any():
        raise InputError("data_target_empty", path=table.where, name=name, count=len(table))
    if missing := int((~there).sum()):
        said = (*said, remark("note_target_missing", count=missing, name=name))
    kept = table[there]
    y, classes, decided = targets.from_cells(kept.column(name), kept.lines, name=name, task=task, where=table.where)
    if drop:
        said = (*said, remark("note_dropped", names=", ".join(drop)))
    return Raw(kept.without([name, *drop]), y, name, classes, categories=categories, remarks=(*said, *decided))


def from_npz(
    path: str | Path,
    *,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    task: str | None = None,
    scale: str = "auto",
) -> Dataset:
    """Arrays ``X`` and ``y``, split as in :func:`from_csv`; or arrays that are already split.

    Those are ``X_train``, ``y_train`` and any of ``X_test``, ``y_test``, ``X_val``, ``y_val``. What they may hold, and
    ``scale``: see :func:`from_arrays`. Raises FileError where the file is absent or damaged, InputError where the
    arrays have other names or cannot be used.
    """
    arrays, name = read_npz(path), Path(path).stem
    if {"X", "y"} <= arrays.keys():
        return from_arrays(
            arrays["X"],
            arrays["y"],
            name=name,
            test_fraction=test_fraction,
            validation_fraction=validation_fraction,
            seed=seed,
            size=size,
            task=task,
            scale=scale,
        )
    pairs = {part: _pair(arrays, names) for part, names in _SPLIT_NAMES.items()}
    if pairs["train"] is None:
        raise InputError("data_npz_keys", path=path, got=", ".join(arrays) or "0")
    return from_parts(
        {p: pair for p, pair in pairs.items() if pair}, name=name, seed=seed, size=size, task=task, scale=scale
    )


def _pair(arrays: Mapping[str, Array], names: Collection[str]) -> tuple[Array, Array] | None:
    found = [(arrays[f"X_{n}"], arrays[f"y_{n}"]) for n in names if {f"X_{n}", f"y_{n}"} <= arrays.keys()]
    return found[0] if found else None


def read_npz(path: str | Path) -> dict[str, Array]:
    """All arrays of a ``.npz`` file by name; that of a ``.npy`` file as X.

    FileError where it is absent, damaged, or holds pickled objects.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError("data_file_not_found", path=path)
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            return {"X": found} if isinstance(found, np.ndarray) else dict(found)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise FileError("data_file_corrupt", path=path, expected=".npz", got=str(error)) from error


def read_inputs(path: str | Path, preprocessing: Preprocessing) -> tuple[Array, tuple[Remark, ...]]:
    """X of a file to predict for, made as in training; and what was said of it (values missing, categories not seen).

    ``path`` is a CSV table with the training columns (others are ignored), or a ``.npz`` with ``X``, or ``.npy``.
    Raises FileError where it cannot be read, InputError where columns, cells or shapes do not fit.
    """
    raw: Table | Array
    if Path(path).suffix in (".npz", ".npy"):
        arrays = read_npz(path)
        if "X" not in arrays:
            raise InputError("data_npz_keys", path=path, got=", ".join(arrays) or "0")
        raw = arrays["X"]
    else:
        known = preprocessing.names if isinstance(preprocessing, TablePreprocessing) else ()
        raw = read_csv(path, known=known)
    return preprocessing.transform(raw), preprocessing.remarks(raw)
