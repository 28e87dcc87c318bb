"""Targets against the loss and the model's output: a label that names no class is refused where data come in."""

from __future__ import annotations

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Shape
from backlit.data.validate import check_labels
from backlit.nn.losses import Loss


def check_target(y: Array, output: Shape, loss: Loss, where: str = "y") -> None:
    """InputError unless ``y``, finite numbers as they were given, can be targets of ``loss`` for this output[N, …].

    Class labels: one integer in 0 … C - 1 (or the ignored one) for each row of logits, or one probability for each
    logit. Targets of binary cross-entropy, focal, dice and contrastive loss: numbers from 0 to 1.
    """
    if loss.labels:
        _check_classes(y, output, loss, where)
    elif loss.unit_interval and (y.min() < 0 or y.max() > 1):
        raise InputError("target_range", where=where, got=f"{y.min()} … {y.max()}")


def ignored(loss: Loss) -> int | None:
    """The label that does not count, where the loss has one."""
    return getattr(loss, "ignore", None)


def _check_classes(y: Array, output: Shape, loss: Loss, where: str) -> None:
    if not np.issubdtype(y.dtype, np.integer):
        if y.ndim < len(output):
            raise InputError("data_label_dtype", where=where, dtype=y.dtype)
        return
    if y.ndim != len(output) - 1:
        raise InputError("data_label_shape", where=where, shape=list(y.shape))
    try:
        check_labels(y.reshape(-1), output[-1], where, ignore=ignored(loss))
    except InputError as error:
        if isinstance(flat := error.values.get("index"), int):  # the place in the array as it was given
            error.values["index"] = ", ".join(str(int(i)) for i in np.unravel_index(flat, y.shape))
        raise
