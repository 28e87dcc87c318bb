"""Data from NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.data import targets
from backlit.data.dataset import Dataset, Pair
from backlit.data.making import Raw, make
from backlit.data.preprocessing import ArrayPreprocessing, index_names, pixels
from backlit.data.remarks import remark
from backlit.data.scaling import Scaler
from backlit.data.splits import Parts, random_parts
from backlit.data.validate import check_features, check_lengths

SCALES = ("auto", "standardise", "pixels", "none")


def from_arrays(
    X: Array,
    y: Array,
    *,
    name: str = "arrays",
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    task: str | None = None,
    scale: str = "auto",
    features: Sequence[str] | None = None,
) -> Dataset:
    """Split ``X[N, …]`` and ``y[N]`` (or ``y[N, K]``) and make them model-ready.

    ``task``: where None, text, truth values and integers of few kinds mean classes, floats a regression. ``scale``:
    "standardise" each column of ``X[N, F]`` by the training part; "pixels" over 255; "none"; or "auto": standardise
    ``X[N, F]``, divide images of bytes by 255, leave the rest. The split is that of :func:`from_csv`.

    Raises InputError where X or y is empty, holds no numbers or a NaN, or their lengths differ.
    """
    raw = _read(X, y, task=task, name=name, scale=scale, features=features)
    total, labels = len(raw.y), raw.labels
    parts = random_parts(total, test=test_fraction, validation=validation_fraction, seed=seed, name=name, labels=labels)
    return make(
        name, raw, parts, remark("how_stratified" if raw.classes else "how_drawn", seed=seed), seed=seed, size=size
    )


def from_parts(
    pairs: Mapping[str, Pair],
    *,
    name: str,
    seed: int = 0,
    size: int | None = None,
    task: str | None = None,
    scale: str = "auto",
) -> Dataset:
    """Arrays already split, by part: ``{"train": (X, y), "test": (X, y)}``; otherwise as :func:`from_arrays`."""
    _check_parts(pairs)
    X, y = (np.concatenate(arrays) for arrays in zip(*pairs.values(), strict=True))
    ends = np.cumsum([len(y) for _, y in pairs.values()])
    rows = dict(zip(pairs, np.split(np.arange(len(y)), ends[:-1]), strict=True))
    parts = Parts(*(rows.get(part, np.arange(0)) for part in Parts._fields))
    raw = _read(X, y, task=task, name=name, scale=scale)
    return make(name, raw, parts, remark("how_given"), seed=seed, size=size)


def _check_parts(pairs: Mapping[str, Pair]) -> None:
    want = np.shape(pairs["train"][0])[1:]
    for part, (X, y) in pairs.items():
        check_features(X, f"X_{part}")
        check_lengths(X, y, f"X_{part}, y_{part}")
        if np.shape(X)[1:] != want:
            expected, got = f"[N, {str(want)[1:-1]}]", str(list(np.shape(X)))
            raise InputError("data_sample_shape", path=f"X_{part}", expected=expected, got=got)


def _read(X: Array, y: Array, *, task: str | None, name: str, scale: str, features: Sequence[str] | None = None) -> Raw:
    X, y = np.asarray(X), np.asarray(y)
    targets.check_task(task, name)
    check_features(X, "X")
    check_lengths(X, y)
    if X.ndim < 2:
        raise InputError("data_array_rank", where="X", shape=list(X.shape))
    if scale not in SCALES or (scale == "standardise" and X.ndim != 2):
        expected = " | ".join(SCALES) + " (standardise: X[N, F])"
        raise InputError("data_option", where="X", option="scale", expected=expected, got=repr(scale))
    read = targets.from_array(y, name="y", task=task, where="y")
    return Raw(X, read.y, "y", read.classes, partial(_fit, scale=scale, features=features), remarks=read.remarks)


def _fit(X: Array, *, scale: str, features: Sequence[str] | None) -> ArrayPreprocessing:
    shape, flat = tuple(X.shape[1:]), X.ndim == 2
    if scale == "pixels" or (scale == "auto" and X.dtype == np.uint8 and not flat):
        return replace(pixels(shape, 255), names=_names("pixel", shape, features))
    names = _names("x", shape, features)
    if flat and scale != "none":
        return ArrayPreprocessing(shape, names, Scaler.fit(X), "standardised")
    return ArrayPreprocessing(shape, names)


def _names(stem: str, shape: tuple[int, ...], features: Sequence[str] | None) -> tuple[str, ...]:
    return index_names(stem, shape) if features is None else tuple(features)
