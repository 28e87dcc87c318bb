"""Standardising: (x − mean) / std by feature, with mean and std of the training part; and the target's way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.i18n import say
from backlit.core.types import Array
from backlit.data.remarks import Remark, remark


@dataclass(frozen=True)
class Scaler:
    """x ↦ (x − mean) / std along the last axis. One number stands for all features."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def fit(cls, X: Array) -> Scaler:
        """Mean and standard deviation (divisor N) of each column of ``X[N, F]``; 1 for the std of a constant column."""
        X = np.asarray(X, np.float64)
        mean, std = X.mean(axis=0), X.std(axis=0)
        constant = X.min(axis=0) == X.max(axis=0)
        return cls(tuple(mean.tolist()), tuple(np.where(constant | (std == 0), 1.0, std).tolist()))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scaler:
        """The inverse of ``dataclasses.asdict``, before or after a trip through JSON."""
        return cls(tuple(data["mean"]), tuple(data["std"]))

    def apply(self, X: Array) -> Array:
        """The scaled numbers, float32. Computed in float64, but for bytes, which float32 holds exactly."""
        work = np.float32 if X.dtype == np.uint8 else np.float64
        scaled = X.astype(work)
        scaled -= np.asarray(self.mean, work)
        scaled /= np.asarray(self.std, work)
        return scaled.astype(np.float32, copy=False)

    def undo(self, X: Array) -> Array:
        """The numbers in their own units, float64: X · std + mean."""
        return np.asarray(X, np.float64) * np.asarray(self.std) + np.asarray(self.mean)


UNSCALED = Scaler()


@dataclass(frozen=True)
class Target:
    """What is predicted: classes by name, or one or more quantities in their units."""

    name: str
    classes: tuple[str, ...] | None = None
    scaler: Scaler | None = None
    """Standardises the target of a regression; fitted on the training part."""

    @classmethod
    def fit(cls, name: str, classes: tuple[str, ...] | None, y: Array, where: str) -> Target:
        """Fit to the training targets ``y``. InputError where they are all the same."""
        if (y == y[:1]).all():
            raise InputError("data_target_constant", path=where, name=name, got=f"y = {y[0]}")
        return cls(name, classes, None if classes else Scaler.fit(_columns(y)))

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return "classification" if self.classes else "regression"

    def encode(self, y: Array) -> Array:
        """Model-ready targets: int64 labels ``y[N]``, or standardised float32 ``y[N, K]``."""
        return self.scaler.apply(_columns(y)) if self.scaler else np.asarray(y).astype(np.int64)

    def to_units(self, predictions: Array) -> Array:
        """Predictions of a regression in the target's units, float64, in the shape they came; labels stay labels."""
        return self.scaler.undo(predictions) if self.scaler else predictions

    def remarks(self) -> tuple[Remark, ...]:
        """How the target was scaled."""
        return (remark("note_target_scaled", **self._figures()),) if self.scaler else ()

    def describe(self) -> str:
        """One line: the classes, or the quantity with its mean and standard deviation."""
        if self.classes is None:
            return say("describe_target", **self._figures())
        names = ", ".join(self.classes[:12]) + (", …" if len(self.classes) > 12 else "")
        return say("describe_classes", count=len(self.classes), names=names)

    def _figures(self) -> dict[str, Any]:
        scaler = self.scaler or UNSCALED
        return {"name": self.name, "mean": scaler.mean[0], "std": scaler.std[0]}

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Target:
        """The inverse of :meth:`to_dict`, before or after a trip through JSON."""
        scaler = data["scaler"] and Scaler.from_dict(data["scaler"])
        return cls(data["name"], data["classes"] and tuple(data["classes"]), scaler)


def _columns(y: Array) -> Array:
    """``y[N]`` as ``y[N, 1]``; other ranks as they are."""
    y = np.asarray(y)
    return y[:, None] if y.ndim == 1 else y
