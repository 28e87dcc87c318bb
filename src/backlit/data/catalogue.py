"""One door to all data: :func:`load`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from backlit.core.errors import FileError, InputError
from backlit.core.names import lookup
from backlit.data.dataset import Dataset
from backlit.data.files import from_csv, from_npz
from backlit.data.making import Raw, make
from backlit.data.preprocessing import ArrayPreprocessing
from backlit.data.published import READERS, open_published
from backlit.data.remarks import remark
from backlit.data.splits import amount, is_count, random_parts
from backlit.data.toys import TOYS, points

NAMES: tuple[str, ...] = (*READERS, *TOYS)
"""Data sets by name: digits (always there), published ones, and toys."""

_TABLES = (".csv", ".tsv", ".txt", ".data")


def load(
    source: str | Path,
    *,
    seed: int = 0,
    validation: float | None = None,
    size: int | None = None,
    target: str | int | None = None,
    **options: Any,
) -> Dataset:
    """A data set by name (one of :data:`NAMES`), or from a ``.csv``, ``.csv.gz`` or ``.npz`` file.

    ``seed`` draws toys, the split of files, and the ``size`` training samples to keep; the published sets have a fixed
    split. ``validation``: fraction, or number, of the samples held out for validation instead of what is usual.
    ``size``: at most so many training samples; for a toy, how many points are made in all (1,000). ``target`` and
    further ``options`` go to :func:`from_csv` or :func:`from_npz`.

    Raises UnknownNameError (nearest names offered), FileError (what is missing, where it was looked for, what to do),
    InputError.
    """
    name = str(source)
    if name in TOYS:
        return toy(name, seed=seed, validation=validation, size=size)
    if name in READERS:
        return open_published(name, seed=seed, validation=validation, size=size)
    if target is not None:
        options["target"] = target
    if validation is not None:
        options["validation_fraction"] = validation
    return _opener(source, options)(source, seed=seed, size=size, **options)


def _opener(source: str | Path, options: dict[str, Any]) -> Callable[..., Dataset]:
    path = Path(source)
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix in _TABLES:
        return from_csv
    if suffix == ".npz":
        if "target" in options:
            raise InputError("data_target_needed", path=path, got=repr(options["target"]))
        return from_npz
    if path.exists() or suffix or len(path.parts) > 1:
        raise FileError("data_file_format", path=path, got=suffix or path.name)
    return lookup(dict.fromkeys(NAMES, from_csv), str(source), "data_set")


def toy(name: str, *, seed: int = 0, validation: float | None = None, size: int | None = None) -> Dataset:
    """A toy of ``size`` points (1,000): a fifth test, a fifth validate unless told. Inputs are not scaled."""
    total = 1_000 if size is None else size
    if not is_count(total) or total < 10:
        raise InputError("data_option", where=name, option="size", expected="10, 11, 12, …", got=repr(total))
    X, y = points(name, total, seed)
    kept = amount(0.2 if validation is None else validation, total, "validation", name)
    parts = random_parts(total, test=0.2, validation=kept, seed=seed, name=name, labels=y)
    raw = Raw(X, y, "class", ("0", "1"), lambda _: ArrayPreprocessing((2,), ("x1", "x2")))
    return make(name, raw, parts, remark("how_stratified", seed=seed))
