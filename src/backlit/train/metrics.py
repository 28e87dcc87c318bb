"""Metrics as sums: what a batch adds is kept in float64, so that any split into batches gives the figure of the whole.

Outputs are out[N, C] (logits) or out[N, K]; targets are labels y[N], probabilities y[N, C], or values y[N, K] or y[N].
Weights w[N] count a sample w times. A metric of nothing (no samples, no variance) is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.core.types import Array

_SAME = 1e-13
"""A spread this small against Σ y² is the rounding of the sums, not variance."""


@dataclass(frozen=True)
class Metric:
    """A figure computed from sums over samples. ``better`` is +1 where larger is better, -1 where smaller is."""

    name: str
    collect: Callable[[Array, Array, Array], Array]
    """(out, y, w[N]) -> sums that add up over batches, float64."""
    result: Callable[[Array], float]
    """The figure from the sums."""
    better: int = 1
    counts: bool = False
    """True where the sums are whole numbers for out[N, C] without weights, and so add up exactly in any grouping."""


def labels_of(y: Array) -> Array:
    """Integer labels: as given, or the most probable class of each row of probabilities."""
    return y if y.dtype.kind in "iu" else np.argmax(y, axis=-1)


def predicted_labels(out: Array) -> Array:
    """The class with the largest logit; for one logit per sample, 1 where it is above 0."""
    return (out[..., 0] > 0).astype(np.int64) if out.shape[-1] == 1 else np.argmax(out, axis=-1)


def _true_labels(out: Array, y: Array) -> Array:
    """Labels as ``predicted_labels`` gives them; targets of one logit are 0 or 1, as numbers or in a column."""
    if out.shape[-1] == 1:
        return (np.reshape(y, out.shape[:-1]) >= 0.5).astype(np.int64)
    return labels_of(y)


def _accuracy(out: Array, y: Array, w: Array) -> Array:
    hit = predicted_labels(out) == _true_labels(out, y)
    return np.array([np.sum(w * _per_sample(hit)), np.sum(w)], np.float64)


def _per_sample(x: Array) -> Array:
    return np.mean(x, axis=tuple(range(1, x.ndim)), dtype=np.float64)


def _top_k(k: int, out: Array, y: Array, w: Array) -> Array:
    true = np.take_along_axis(out, labels_of(y)[..., None], axis=-1)
    hit = np.sum(out > true, axis=-1) < k
    return np.array([np.sum(w * _per_sample(hit)), np.sum(w)], np.float64)


def _errors(power: int, out: Array, y: Array, w: Array) -> Array:
    error = np.abs(out.astype(np.float64) - np.reshape(y, out.shape)) ** power
    return np.array([np.sum(w * _per_sample(error)), np.sum(w)], np.float64)


def _r2_sums(out: Array, y: Array, w: Array) -> Array:
    y = np.reshape(y, (len(out), -1)).astype(np.float64)
    error = y - out.reshape(len(out), -1)
    w = w[:, None]
    return np.stack(
        [np.sum(w * error**2, axis=0), np.sum(w * y, axis=0), np.sum(w * y**2, axis=0), np.sum(w + 0 * y, axis=0)]
    )


def _r2(sums: Array) -> float:
    """R² = 1 - Σ(y - ŷ)² / Σ(y - ȳ)² for each output, averaged over outputs; NaN where an output does not vary."""
    residual, total, squares, mass = sums
    spread = squares - total**2 / np.maximum(mass, 1e-300)
    varies = spread > _SAME * squares
    scores = np.divide(residual, spread, out=np.full_like(residual, math.nan), where=varies)
    return float(1 - np.mean(scores))


def _ratio(sums: Array) -> float:
    return float(sums[0] / sums[1]) if sums[1] else math.nan


def _root(sums: Array) -> float:
    return math.sqrt(_ratio(sums)) if sums[1] else math.nan


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", _accuracy, _ratio, counts=True),
        Metric("top3", partial(_top_k, 3), _ratio, counts=True),
        Metric("top5", partial(_top_k, 5), _ratio, counts=True),
        Metric("r2", _r2_sums, _r2),
        Metric("mae", partial(_errors, 1), _ratio, better=-1),
        Metric("mse", partial(_errors, 2), _ratio, better=-1),
        Metric("rmse", partial(_errors, 2), _root, better=-1),
    )
}


def top_k(k: Any) -> Metric:
    """The share of samples whose label is among the ``k`` largest logits; ties count for the sample."""
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise InputError("option_range", where="top_k", option="k", expected="1, 2, 3, …", got=repr(k))
    return Metric(f"top{k}", partial(_top_k, int(k)), _ratio, counts=True)


def get(choices: str | Metric | Iterable[str | Metric]) -> tuple[Metric, ...]:
    """Metrics by name (``"top7"`` too) or as they are; UnknownNameError with the nearest names otherwise."""
    several = (choices,) if isinstance(choices, str | Metric) else choices
    return tuple(c if isinstance(c, Metric) else _named(c) for c in several)


def _named(name: str) -> Metric:
    digits = str(name).removeprefix("top")
    return top_k(int(digits)) if f"top{digits}" == name and digits.isdecimal() else lookup(METRICS, name, "metric")


_CLASSIFYING = ("softmax_cross_entropy", "binary_cross_entropy", "focal", "softmax_focal", "dice")
_UNMEASURED = (
    *("kl_divergence", "cosine_similarity", "cosine_embedding", "contrastive", "info_nce", "negative_sampling"),
    "ctc",
)


def usual(loss: str) -> tuple[Metric, ...]:
    """What is reported with a loss unless told: accuracy for classes, R² and MAE for values."""
    if loss in _UNMEASURED:
        return ()
    return get(("accuracy",) if loss in _CLASSIFYING else ("r2", "mae"))


def collect(chosen: Iterable[Metric], out: Array, y: Array, w: Array, *, ignore: int | None = None) -> dict[str, Array]:
    """The sums of each metric over one batch, by name; what is labelled ``ignore`` does not count."""
    if ignore is not None and y.dtype.kind in "iu":
        kept = y != ignore
        w = np.broadcast_to(w.reshape(-1, *(1,) * (y.ndim - 1)), y.shape)[kept]
        out, y = out[kept], y[kept]
    return {m.name: m.collect(out, y, w) for m in chosen}


def results(metrics: Iterable[Metric], sums: Mapping[str, Array], prefix: str = "") -> dict[str, float]:
    """The figures from the sums, by (prefixed) name."""
    return {prefix + m.name: m.result(sums[m.name]) for m in metrics}


def confusion_matrix(y_true: Array, y_pred: Array, *, classes: int | None = None) -> Array:
    """counts[true, predicted] of integer labels y[N]; ``y_pred`` may also be logits [N, C].

    Raises InputError where the lengths differ or a label is outside [0, classes).
    """
    true, pred = labels_of(np.asarray(y_true)), np.asarray(y_pred)
    pred = predicted_labels(pred) if pred.ndim == true.ndim + 1 else pred
    if true.shape != pred.shape:
        raise InputError("data_lengths", where="confusion_matrix", x=list(pred.shape), y=list(true.shape))
    size = classes or int(max(true.max(initial=0), pred.max(initial=0))) + 1
    if min(true.min(initial=0), pred.min(initial=0)) < 0 or max(true.max(initial=0), pred.max(initial=0)) >= size:
        raise InputError(
            "option_range",
            where="confusion_matrix",
            option="label",
            expected=f"0 <= label < {size}",
            got=f"{int(max(true.max(), pred.max()))}",
        )
    return np.bincount(true.ravel() * size + pred.ravel(), minlength=size * size).reshape(size, size)
