"""What a run was told: the arguments of fit that decide its numbers, as values that ``run.json`` can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from backlit import optim
from backlit.core.errors import FileError, InputError
from backlit.nn import losses
from backlit.train import metrics
from backlit.train.metrics import Metric
from backlit.train.stopping import Converged, EarlyStopping


@dataclass(frozen=True)
class Settings:
    """Checked arguments of :func:`backlit.fit`."""

    loss: losses.Loss
    optimizer: optim.Optimizer
    epochs: int
    batch_size: int
    seed: int
    shuffle: bool
    accumulate: int
    clip: optim.Clip | None
    metrics: tuple[Metric, ...]
    early_stopping: EarlyStopping | None
    converged: Converged | None

    @classmethod
    def of(cls, *, loss: Any, optimizer: Any, metrics_: Any, early_stopping: Any, until: Any, **rest: Any) -> Settings:
        """Settings from what a caller may write: names, numbers, True for the defaults. InputError for what cannot be."""
        for name in ("epochs", "batch_size", "accumulate"):
            value = rest[name]
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError("option_range", where="fit", option=name, expected="1, 2, 3, …", got=repr(value))
        recipe = losses.get(loss)
        return cls(
            loss=recipe,
            optimizer=optim.get(optimizer),
            metrics=metrics.usual(recipe.name) if metrics_ is None else metrics.get(metrics_),
            early_stopping=EarlyStopping() if early_stopping is True else early_stopping or None,
            converged=Converged() if until == "converged" else until,
            **rest,
        )

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {
            "loss": {"name": self.loss.name} | asdict(self.loss),
            "optimizer": optim.to_config(self.optimizer),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "accumulate": self.accumulate,
            "clip": None if self.clip is None else optim.to_config(self.clip),
            "metrics": [m.name for m in self.metrics],
            "early_stopping": None if self.early_stopping is None else asdict(self.early_stopping),
            "converged": None if self.converged is None else asdict(self.converged),
        }


def require_same(old: Any, new: Any, where: str, field: str = "") -> None:
    """FileError ``resume_differs`` for the first field in which two records differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            require_same(old.get(key), new.get(key), where, f"{field}.{key}".lstrip("."))
    elif _plain(old) != _plain(new):
        raise FileError("resume_differs", where=where, field=field, expected=repr(old), got=repr(new))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
