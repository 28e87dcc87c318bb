"""What a run was told: the arguments of fit that decide its numbers, as values that ``run.json`` can hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NoReturn

from backlit import optim
from backlit.core import environment
from backlit.core.errors import FileError, InputError
from backlit.core.names import lookup
from backlit.nn import losses
from backlit.train import metrics
from backlit.train.metrics import Metric
from backlit.train.stopping import Converged, EarlyStopping

if TYPE_CHECKING:
    from backlit.data.augment import Augmentation
    from backlit.data.buckets import Buckets

ENGINES = {name: name for name in ("auto", "reference", "fast")}
"""Engines by the name they are chosen by; ``auto`` is settled before a run begins."""


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
    engine: str = "reference"
    threads: int = 1
    """Of the fast engine; a part of what the run is, since sums come in another order with another number."""
    augment: tuple[Augmentation, ...] = ()
    buckets: Buckets | None = None

    @classmethod
    def of(cls, *, loss: Any, optimizer: Any, metrics_: Any, early_stopping: Any, until: Any, **rest: Any) -> Settings:
        """Settings from what a caller may write: names, numbers, True for the defaults. InputError otherwise."""
        rest |= {name: _whole(name, rest[name], 1) for name in ("epochs", "batch_size", "accumulate")}
        rest |= {"seed": _whole("seed", rest["seed"], None)}
        stopping = EarlyStopping() if early_stopping is True else early_stopping or None
        converged = Converged() if until == "converged" else until
        _require_kind("early_stopping", stopping, EarlyStopping, "True | bl.EarlyStopping(…) | None")
        _require_kind("until", converged, Converged, "'converged' | bl.Converged(…) | None")
        _require_kind("clip", rest["clip"], optim.Clip, "bl.ClipByGlobalNorm(1.0) | … | None")
        recipe = losses.get(loss)
        rest |= {"engine": lookup(ENGINES, rest["engine"], "engine"), "threads": environment.threads()}
        rest |= {"augment": _augmentations("chosen", rest.get("augment")), "buckets": _buckets(rest.get("buckets"))}
        return cls(
            loss=recipe,
            optimizer=optim.get(optimizer),
            metrics=metrics.usual(recipe.name) if metrics_ is None else metrics.get(metrics_),
            early_stopping=stopping,
            converged=converged,
            **rest,
        )

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Settings:
        """The inverse of :meth:`as_dict`."""
        loss = {k: tuple(v) if isinstance(v, list) else v for k, v in told["loss"].items() if k != "name"}
        kinds = {"early_stopping": EarlyStopping, "converged": Converged}
        stopping: dict[str, Any] = {k: None if told[k] is None else kind(**told[k]) for k, kind in kinds.items()}
        plain = ("epochs", "batch_size", "seed", "shuffle", "accumulate", "engine")
        return cls(
            loss=lookup(losses.NAMED, told["loss"]["name"], "loss")(**loss),
            optimizer=optim.from_config(told["optimizer"]),
            clip=None if told["clip"] is None else optim.from_config(told["clip"]),
            metrics=metrics.get(told["metrics"]),
            augment=_augmentations("from_configs", told.get("augment")),
            buckets=_buckets(told.get("buckets")),
            **stopping,
            threads=told.get("threads", 1),
            **{k: told[k] for k in plain},
        )

    def check_monitors(self, *, validation: bool) -> None:
        """Make sure that what is watched will be reported: InputError where validation lacks, else UnknownNameError."""
        trained = ["loss", *(m.name for m in self.metrics)]
        held = [f"val_{name}" for name in trained]
        known = dict.fromkeys([*trained, *(held if validation else ()), "learning_rate", "gradient_norm"])
        stopping = self.early_stopping
        for name in (None if stopping is None else stopping.monitor, self.optimizer.schedule.monitor):
            if name is None:
                continue
            if name in held and not validation:
                raise InputError("monitor_validation", where="fit", name=name, got="validation=None")
            lookup(known, name, "metric")

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON values; ``augment`` and ``buckets`` only where there are any."""
        given: dict[str, Any] = {"augment": [a.as_dict() for a in self.augment]} if self.augment else {}
        given |= {"buckets": self.buckets.as_dict()} if self.buckets else {}
        return given | {
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
            "engine": self.engine,
            "threads": self.threads,
        }


def _augmentations(read: str, given: Any) -> tuple[Augmentation, ...]:
    """Augmentations as :mod:`backlit.data.augment` reads them; it is loaded only where there are any."""
    if given is None:
        return ()
    from backlit.data import augment

    found: tuple[Augmentation, ...] = getattr(augment, read)(given)
    return found


def _buckets(given: Any) -> Buckets | None:
    """Buckets as :mod:`backlit.data.buckets` reads them; it is loaded only where there are any."""
    if given is None:
        return None
    from backlit.data import buckets

    return buckets.chosen(given)


def check_options(callbacks: Any, snapshot_every: Any, snapshot_mb: Any, notes: Any) -> None:
    """InputError for an option of fit that decides no number of the run and cannot be used."""
    if not isinstance(callbacks, Iterable) or not all(map(callable, callbacks)):
        _refuse("callbacks", "[function(event), …]", callbacks)
    if snapshot_every is not None:
        _whole("snapshot_every", snapshot_every, 1)
    if not isinstance(snapshot_mb, Real) or not float(snapshot_mb) > 0:
        _refuse("snapshot_mb", "snapshot_mb > 0", snapshot_mb)
    try:
        json.dumps(notes)
    except (TypeError, ValueError) as error:
        _refuse("notes", "JSON", error)


def _whole(option: str, value: Any, least: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or (least is not None and value < least):
        expected = "…, -1, 0, 1, 2, …" if least is None else "1, 2, 3, …"
        raise InputError("option_range", where="fit", option=option, expected=expected, got=repr(value))
    return int(value)


def _require_kind(option: str, value: Any, kind: type, expected: str) -> None:
    if value is not None and not isinstance(value, kind):
        _refuse(option, expected, value)


def _refuse(option: str, expected: str, value: Any) -> NoReturn:
    raise InputError("fit_option", where="fit", option=option, expected=expected, got=f"{option} = {value!r}")


def require_same(old: Any, new: Any, where: str, field: str) -> None:
    """FileError ``resume_differs`` for the first part of ``field`` in which two records differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            require_same(old.get(key), new.get(key), where, f"{field}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (a, b) in enumerate(zip(old, new, strict=True)):
            require_same(a, b, where, f"{field}.{number}")
    elif old != new:
        raise FileError("resume_differs", where=where, name=field, expected=json.dumps(old), got=json.dumps(new))
