"""What fit is given, checked before the first step: a bad array is named, not met in the middle of training."""

from __future__ import annotations

from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.data.validate import check_features, check_labels, check_lengths
from backlit.nn.grad import build_for
from backlit.nn.losses import Loss
from backlit.nn.model import Model, input_names
from backlit.train.step import Samples


def samples_of(model: Model, data: Any, loss: Loss, where: str, *, weights: Any = None, seed: int = 0) -> Samples:
    """``data`` = (X, y) as arrays in the model's dtype, checked; an unbuilt model is built for them.

    Raises InputError for NaN, unequal lengths, wrong widths, labels out of range or of the wrong kind.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError("train_data", where=where, got=type(data).__name__)
    X, y = data
    raw = X if isinstance(X, tuple) else (X,)
    for name, x in zip(input_names(len(raw)), raw, strict=True):
        check_features(x, f"{where} {name}")
        check_lengths(x, y, f"{where} {name}, y")
    build_for(model, X if isinstance(X, tuple) else np.asarray(X), seed=seed)
    target = np.asarray(y)
    check_features(target, f"{where} y")
    made = Samples(
        model.arrays(X), loss.target(target, model.dtype), _sample_weights(weights, len(target), model.dtype, where)
    )
    _check_target(model, made, loss, where)
    return made


def _check_target(model: Model, samples: Samples, loss: Loss, where: str) -> None:
    """Stage once for a single sample, so that widths clash here, then look at the target's values."""
    y = samples.target
    classes = output_width(model, samples)
    if loss.labels and y.dtype.kind in "iu":
        if y.ndim == 2 and set(np.unique(y)) <= {0, 1} and (y.sum(axis=1) == 1).all():
            raise InputError("label_shape", where=f"{where} y", shape=list(y.shape))
        if int(y.max(initial=0)) >= classes and y.min(initial=0) >= 0:
            most = int(y.max()) + 1
            raise InputError(
                "target_width",
                where=f"{where} y",
                classes=most,
                expected=f"logits[N, {most}]",
                got=f"logits[N, {classes}]",
            )
        check_labels(y.reshape(-1), classes, f"{where} y", ignore=getattr(loss, "ignore", None))
    elif loss.labels and y.ndim == 1:
        raise InputError("label_dtype", where=f"{where} y", dtype=y.dtype)
    if loss.name == "binary_cross_entropy" and (y.min() < 0 or y.max() > 1):
        raise InputError("target_range", where=f"{where} y", got=f"{y.min()} … {y.max()}")
    samples.rows(slice(0, 1)).graph(model, loss, training=False)


def output_width(model: Model, samples: Samples) -> int:
    """Size of the last axis of the model's output."""
    graph = model.graph(tuple(((1, *x.shape[1:]), x.dtype.name) for x in samples.inputs))
    return graph.values[graph.outputs[0]].shape[-1]


def _sample_weights(weights: Any, count: int, dtype: str, where: str) -> Array | None:
    if weights is None:
        return None
    w = np.asarray(weights, np.float64)
    if w.shape != (count,) or not np.isfinite(w).all() or (w < 0).any():
        raise InputError(
            "sample_weight", where=where, samples=count, expected=f"w[{count}] >= 0", got=f"w{list(w.shape)}"
        )
    return w.astype(dtype)


def with_class_weights(samples: Samples, choice: Any, classes: int, where: str) -> Samples:
    """Sample weights times the weight of each sample's class; ``"balanced"`` is N / (classes · count of the class)."""
    if choice is None:
        return samples
    labels = samples.target.astype(np.int64).reshape(len(samples), -1)[:, 0]
    table = _class_table(choice, np.bincount(labels, minlength=classes), where)
    weights = table[labels] * samples.weight
    return Samples(samples.inputs, samples.target, weights.astype(samples.inputs[0].dtype))


def _class_table(choice: Any, counts: Array, where: str) -> Array:
    classes = len(counts)
    if isinstance(choice, str) and choice == "balanced":
        return counts.sum() / (classes * np.maximum(counts, 1))
    try:
        pairs = choice.items() if isinstance(choice, dict) else enumerate(choice)
        table = np.array([dict(pairs)[label] for label in range(classes)], np.float64)
    except (KeyError, TypeError, ValueError):
        table = np.array([-1.0])
    if len(table) != classes or not (table >= 0).all():
        raise InputError("class_weight", where=where, classes=classes, expected=f"w[{classes}] >= 0", got=repr(choice))
    return table
