"""When to stop before the last epoch. What a rule has seen is a plain dict, kept in every snapshot."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Arrays
from backlit.train.metrics import Metric


def better_sign(monitor: str, chosen: Iterable[Metric]) -> int:
    """+1 where a larger value of the watched metric is better, -1 where a smaller one is (losses, norms)."""
    name = monitor.removeprefix("val_")
    return next((m.better for m in chosen if m.name == name), -1)


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when ``monitor`` has not improved by more than ``min_delta`` for ``patience`` epochs.

    With ``restore_best`` the run ends with the parameters of its best epoch. Source: Prechelt: Early stopping - but
    when?, Neural Networks: Tricks of the Trade, 1998.
    """

    monitor: str = "val_loss"
    patience: int = 5
    min_delta: float = 0.0
    restore_best: bool = True

    def __post_init__(self) -> None:
        _require(type(self).__name__, "patience", self.patience, whole=True)
        _require(type(self).__name__, "min_delta", self.min_delta)

    def observe(self, seen: dict[str, Any], metrics: Arrays, sign: int) -> dict[str, Any]:
        """What is known after an epoch: ``best`` (times ``sign``), ``waited``, ``improved``, ``stop``."""
        value = sign * float(metrics[self.monitor])
        best = seen.get("best", -math.inf)
        improved = value > best + self.min_delta
        waited = 0 if improved else seen.get("waited", 0) + 1
        return {
            "best": value if improved else best,
            "waited": waited,
            "improved": improved,
            "stop": waited >= self.patience,
        }


@dataclass(frozen=True)
class Converged:
    """Stop when training stands still: "until it converges".

    The epoch's loss changes by at most ``loss_tolerance`` times its size, or its mean gradient norm is at most
    ``gradient_tolerance``, for ``patience`` epochs in a row. None leaves a test out.
    """

    loss_tolerance: float | None = 1e-4
    gradient_tolerance: float | None = None
    patience: int = 3

    def __post_init__(self) -> None:
        _require(type(self).__name__, "patience", self.patience, whole=True)
        for name in ("loss_tolerance", "gradient_tolerance"):
            if getattr(self, name) is not None:
                _require(type(self).__name__, name, getattr(self, name))

    def observe(self, seen: dict[str, Any], metrics: Arrays) -> dict[str, Any]:
        """What is known after an epoch: ``loss``, ``still`` (epochs in a row), ``stop``."""
        loss, last = float(metrics["loss"]), seen.get("loss", math.inf)
        calm = self.loss_tolerance is not None and abs(last - loss) <= self.loss_tolerance * abs(loss)
        flat = self.gradient_tolerance is not None and float(metrics["gradient_norm"]) <= self.gradient_tolerance
        still = seen.get("still", 0) + 1 if calm or flat else 0
        return {"loss": loss, "still": still, "stop": still >= self.patience}


def _require(where: str, option: str, value: Any, *, whole: bool = False) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int if whole else int | float)
        or not value >= (1 if whole else 0)
    ):
        expected = "1, 2, 3, …" if whole else f"{option} >= 0"
        raise InputError("option_range", where=where, option=option, expected=expected, got=repr(value))
