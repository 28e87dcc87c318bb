"""Sequences of different lengths as one array, with a mask of what is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.data.validate import as_array

WHERE = "data.pad"


@dataclass(frozen=True)
class Padded:
    """N sequences as arrays of the length T of the longest, or of one asked for.

    >>> p = bl.data.pad(sequences, labels=tags)
    >>> bl.fit(model, ((p.X, p.mask), p.y), loss=bl.SoftmaxCrossEntropy(ignore=-1), buckets=True)
    """

    X: Array
    """x[N, T, …], padded at the end."""
    mask: Array
    """bool[N, T], True where there is a step."""
    lengths: Array
    """int64[N]."""
    y: Array | None = None
    """Labels[N, T, …] of the steps, with the ignored one where there is no step; None where there are none."""

    def __len__(self) -> int:
        return len(self.X)


def pad(
    sequences: Iterable[Any],
    *,
    labels: Iterable[Any] | None = None,
    value: float = 0,
    ignore: int = -1,
    length: int | None = None,
) -> Padded:
    """``sequences``, arrays x[T_n, …] that differ in length alone, as one array padded with ``value``.

    ``labels``: for each sequence an array [T_n, …], padded with ``ignore``, which a loss told to ignore it leaves out.
    ``length``: T; that of the longest sequence unless given. The dtype is the common one of the sequences.

    Raises InputError naming the sequence that is empty, too long, of another shape, or has not as many labels as steps.
    """
    arrays = _arrays(sequences)
    lengths = np.array([len(a) for a in arrays], np.int64)
    steps = int(lengths.max()) if length is None else length
    for number, count in enumerate(lengths.tolist()):
        if count > steps:
            raise InputError(
                "sequences_long", where=WHERE, number=number, expected=f"T <= {steps}", got=f"x[{count}, …]"
            )
    y = None if labels is None else _filled(_labels(labels, lengths), steps, ignore)
    return Padded(_filled(arrays, steps, value), np.arange(steps) < lengths[:, None], lengths, y)


def _arrays(sequences: Iterable[Any]) -> list[Array]:
    arrays = [as_array(s, f"{WHERE}: sequence {number}") for number, s in enumerate(sequences)]
    if not arrays or any(a.ndim and not len(a) for a in arrays):
        got = f"{len(arrays)} sequences, lengths {[len(a) for a in arrays[:8]]}"
        raise InputError("sequences_none", where=WHERE, got=got)
    for number, a in enumerate(arrays):
        if a.ndim < 1 or a.shape[1:] != arrays[0].shape[1:]:
            raise _clash("sequences_shape", number, (None, *arrays[0].shape[1:]), a)
    return arrays


def _labels(labels: Iterable[Any], lengths: Array) -> list[Array]:
    arrays = [as_array(s, f"{WHERE}: labels {number}") for number, s in enumerate(labels)]
    if len(arrays) != len(lengths):
        got = f"{len(arrays)} arrays"
        raise InputError(
            "sequences_labels",
            where=WHERE,
            number=min(map(len, (arrays, lengths))),
            expected=f"{len(lengths)}",
            got=got,
        )
    for number, (a, count) in enumerate(zip(arrays, lengths.tolist(), strict=True)):
        if a.shape != (count, *arrays[0].shape[1:]):
            raise _clash("sequences_labels", number, (count, *arrays[0].shape[1:]), a)
    return arrays


def _clash(key: str, number: int, want: tuple[int | None, ...], came: Array) -> InputError:
    expected = f"[{', '.join('T' if n is None else str(n) for n in want)}]"
    return InputError(key, where=WHERE, number=number, expected=expected, got=str(list(came.shape)))


def _filled(arrays: Sequence[Array], steps: int, value: float) -> Array:
    out = np.full((len(arrays), steps, *arrays[0].shape[1:]), value, np.result_type(*arrays))
    for row, a in zip(out, arrays, strict=True):
        row[: len(a)] = a
    return out
