"""What fit is given, checked before the first step: a bad array is named, not met in the middle of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.errors import InputError
from backlit.core.types import Array, Shape
from backlit.data.mapped import blocks, is_mapped, opened
from backlit.data.validate import as_array, check_features, check_lengths
from backlit.engines import reference
from backlit.nn.grad import build_for
from backlit.nn.losses import Loss
from backlit.nn.model import Model, input_names
from backlit.nn.targets import check_target, ignored
from backlit.train.settings import Settings
from backlit.train.step import Samples

MAPPED_ROWS = 256
"""Rows of memory-mapped arrays that are looked at together."""


def samples_of(model: Model, data: Any, loss: Loss, where: str, *, weights: Any = None, seed: int = 0) -> Samples:
    """``data`` = (X, y) as arrays in the model's dtype, checked; an unbuilt model is built for them.

    A path of an ``.npy`` file is mapped into memory. What is mapped stays so: rows are converted when they are taken.
    Raises InputError for NaN, unequal lengths, wrong widths, labels out of range or of the wrong kind.
    """
    if not isinstance(model, Model):
        raise InputError("no_model", where="fit", got=repr(model))
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError("train_data", where=where, got=type(data).__name__)
    X, y = map(opened, data)
    raw = X if isinstance(X, tuple) else (X,)
    target = as_array(y, f"y_{where}")
    for name, x in zip(input_names(len(raw)), raw, strict=True):
        check_features(x, f"{name}_{where}")
        check_lengths(x, target, f"{name}_{where}, y_{where}")
    check_features(target, f"y_{where}")
    build_for(model, X if isinstance(X, tuple) else np.asarray(X), seed=seed)
    with np.errstate(over="ignore"):
        taken, dtypes = _inputs(model, raw)
        *inputs, y = map(_plain, (*taken, loss.target(target, model.dtype)))
        _check_range((*inputs, y), model.dtype, where)
    made = Samples(tuple(inputs), y, _sample_weights(weights, len(target), model.dtype, where), dtypes)
    check_target(target, output_shape(model, made), loss, f"y_{where}")
    _require_values(model, made, loss)
    return made


def _plain(array: Array) -> Array:
    """Row by row and in the machine's byte order, as kernels read memory; what is mapped stays where it is."""
    return array if is_mapped(array) else np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _inputs(model: Model, raw: tuple[Any, ...]) -> tuple[tuple[Array, ...], tuple[str, ...]]:
    """Inputs as the model takes them; where one is mapped, all as they are, and the dtypes of their rows."""
    if not any(map(is_mapped, raw)):
        return model.arrays(raw), ()
    rows = model.arrays(tuple(np.asarray(x[:1]) for x in raw))
    return tuple(np.asarray(x) for x in raw), tuple(a.dtype.name for a in rows)


def _require_values(model: Model, samples: Samples, loss: Loss) -> None:
    """Stage the graph, so that widths clash here, and show its rules all values that they may refuse."""
    size = MAPPED_ROWS if samples.lazy else len(samples)
    for start in range(0, len(samples), size):
        part = samples.rows(slice(start, start + size))
        graph = part.graph(model, loss, training=False)
        if not any(rules.get(node.rule).requires for node in graph.nodes):
            return
        reference.require(graph, reference.leaves(graph, model.params | model.state | part.given(graph)))


def _check_range(arrays: tuple[Array, ...], dtype: str, where: str) -> None:
    for name, a in zip((*input_names(len(arrays) - 1), "y"), arrays, strict=True):
        if a.dtype.kind == "f" and not all(np.isfinite(b.astype(dtype, copy=False)).all() for _, b in blocks(a)):
            most = f"|{name}| <= {np.finfo(dtype).max:.1e}"
            raise InputError(
                "too_large", where=f"{name}_{where}", dtype=dtype, expected=most, got=f"|{name}| > {most[-7:]}"
            )


def output_shape(model: Model, samples: Samples) -> Shape:
    """Shape of the model's output for these samples."""
    row = samples.rows(slice(0, 1))
    graph = model.graph(tuple(((len(samples), *x.shape[1:]), x.dtype.name) for x in row.inputs))
    return graph.values[graph.outputs[0]].shape


def _sample_weights(weights: Any, count: int, dtype: str, where: str) -> Array | None:
    if weights is None:
        return None
    try:
        w = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        w = np.full(0, np.nan)
    if w.shape != (count,) or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        expected = f"w[{count}] >= 0, Σ w > 0"
        raise InputError("sample_weight", where=where, samples=count, expected=expected, got=_seen(weights))
    return w.astype(dtype)


def _seen(weights: Any) -> str:
    """Weights as an error shows them: shape and range of an array, else the value itself."""
    w = np.asarray(weights)
    plain = w.dtype.kind in "iuf" and w.size
    return f"w{list(w.shape)}, {w.min():g} … {w.max():g}" if plain else repr(weights)


def prepared(
    model: Model, data: Any, validation: Any, settings: Settings, *, sample_weight: Any, class_weight: Any
) -> tuple[Samples, Samples | None]:
    """(training samples with their weights, validation samples or None), checked; builds an unbuilt model."""
    loss = settings.loss
    train = samples_of(model, data, loss, "train", weights=sample_weight, seed=settings.seed)
    train = with_class_weights(train, class_weight, loss, output_shape(model, train)[-1], "train", dtype=model.dtype)
    return train, None if validation is None else samples_of(model, validation, loss, "validation")


def with_class_weights(
    samples: Samples, choice: Any, loss: Loss, width: int, where: str, *, dtype: str = "float32"
) -> Samples:
    """Sample weights times the weight of each sample's class; ``"balanced"`` is N / (classes · count of the class).

    ``width`` is the number of the model's outputs. InputError where targets are not classes or weights do not fit.
    """
    if choice is None:
        return samples
    labels = _labels(samples.target, loss, width, where)
    counted = labels != ignored(loss)
    classes = max(width, 2)
    table = _class_table(choice, np.bincount(labels[counted], minlength=classes), where)
    weights = table[np.where(counted, labels, 0)] * samples.weight
    return replace(samples, weights=weights.astype(dtype))


def _labels(y: Array, loss: Loss, width: int, where: str) -> Array:
    """Class numbers [N]."""
    flat = y.reshape(len(y), -1)
    if loss.labels and y.dtype.kind in "iu" and y.ndim == 1:
        return y.astype(np.int64)
    if loss.name == "binary_cross_entropy" and width == 1 and flat.shape[1] == 1 and set(np.unique(y)) <= {0, 1}:
        return flat[:, 0].astype(np.int64)
    raise InputError("class_weight_target", where=where, got=f"y{list(y.shape)}: {y.dtype}, {loss.name}")


def _class_table(choice: Any, counts: Array, where: str) -> Array:
    classes = len(counts)
    if isinstance(choice, str) and choice == "balanced":
        return counts.sum() / (classes * np.maximum(counts, 1))
    try:
        pairs = dict(choice.items() if isinstance(choice, dict) else enumerate(choice))
        table = np.array([pairs.pop(label) for label in range(classes)], np.float64)
    except (KeyError, TypeError, ValueError):
        pairs, table = {}, np.array([-1.0])
    if pairs or not (np.isfinite(table) & (table >= 0)).all():
        raise InputError("class_weight", where=where, classes=classes, expected=f"w[{classes}] >= 0", got=repr(choice))
    return table
