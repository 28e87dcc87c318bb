"""Between options and the library: data as the options say, a network for them, and both again from a run's record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import backlit as bl
from backlit.cli.commands import DataOptions
from backlit.core.errors import FileError, InputError
from backlit.core.names import lookup
from backlit.core.types import Array
from backlit.data import NAMES, Dataset, load
from backlit.nn import losses

USUAL_LOSS = {"classification": "softmax_cross_entropy", "regression": "mse"}
OF_CLASSES = ("softmax_cross_entropy", "softmax_focal", "binary_cross_entropy")
OF_VALUES = ("mse", "mae", "huber")
LOSSES = {name: losses.NAMED[name] for name in (*OF_CLASSES, *OF_VALUES)}


@dataclass(frozen=True)
class Job:
    """Data and the loss to learn them by. Samples are rows; images are flattened."""

    data: Dataset
    loss: losses.Loss
    source: dict[str, Any]
    """How the same data are loaded again: the arguments of :func:`backlit.data.load`."""

    @classmethod
    def of(cls, options: DataOptions) -> Job:
        """The job that the options describe; InputError where they do not fit each other."""
        source = _source(options)
        data = load(**source).flattened()
        name = options.loss or USUAL_LOSS[data.task]
        lookup(LOSSES, name, "loss")
        if data.task == "regression" and name in OF_CLASSES:
            raise InputError("cli_loss_task", where=data.name, got=name, expected=" | ".join(OF_VALUES))
        return cls(data, losses.get(name), source)

    @classmethod
    def of_run(cls, run: bl.Run, *, force: bool = False) -> Job:
        """The job of a run that ``backlit train`` made.

        InputError for other runs, FileError where its data changed (``force`` goes on).
        """
        source = notes(run)["source"]
        data = load(**source).flattened()
        known = notes(run)["data"]["sha256"]
        if data.sha256 != known and not force:
            raise FileError("cli_data_changed", where=source["source"], expected=known, got=data.sha256)
        described = dict(run.record["settings"]["loss"])
        return cls(data, losses.NAMED[described.pop("name")](**described), source)

    @property
    def one_hot(self) -> bool:
        """True where class labels are learnt as vectors of 0 and 1: by losses of values, and class by class."""
        classes = self.data.classes or ()
        return bool(classes) and (self.loss.name in OF_VALUES or (self._binary and len(classes) > 2))

    @property
    def _binary(self) -> bool:
        return self.loss.name == "binary_cross_entropy"

    @property
    def outputs(self) -> int:
        """Units of the last layer."""
        if self.data.classes is None:
            return int(self.data.train[1].shape[1])
        return 1 if self._binary and not self.one_hot else len(self.data.classes)

    def targets(self, y: Array) -> Array:
        """Targets as the loss takes them."""
        return np.eye(self.outputs, dtype=np.float32)[y] if self.one_hot else y

    def pair(self, part: str) -> tuple[Array, Array] | None:
        """(X, y) of a part of the data as the loss takes them; None where there is none."""
        found = self.data.parts.get(part)
        return found and (found[0], self.targets(found[1]))

    def model(self, options: DataOptions) -> bl.Sequential:
        """Dense layers of the widths in ``--hidden``, then one for the outputs; built, with ``--seed``."""
        layers = [layer for width in _widths(options.hidden) for layer in _block(width, options)]
        made = bl.Sequential(*layers, bl.Dense(self.outputs))
        made.build(self.data.sample_shape, seed=options.seed)
        return made


def _source(options: DataOptions) -> dict[str, Any]:
    drop = options.drop and [name.strip() for name in options.drop.split(",")]
    settings = {"target": options.target, "task": options.task, "drop": drop, "size": options.size}
    given = {name: value for name, value in settings.items() if value is not None}
    allowed = (
        {"size"} if options.data in NAMES else {"size", "task"} if options.data.endswith(".npz") else set(settings)
    )
    for name in given.keys() - allowed:
        raise InputError("cli_no_table", where=options.data, option=f"--{name}", got=str(given[name]))
    place = str(Path(options.data).absolute()) if _is_file(options.data) else options.data
    return {"source": place, "seed": options.seed, **given}


def _is_file(name: str) -> bool:
    return name not in NAMES and Path(name).exists()


def _widths(text: str) -> list[int]:
    if text in ("", "none"):
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError("cli_hidden", got=text) from None


def _block(width: int, options: DataOptions) -> list[bl.Layer]:
    dropout = [bl.Dropout(options.dropout)] if options.dropout else []
    if not options.batchnorm:
        return [bl.Dense(width, options.activation), *dropout]
    return [bl.Dense(width), bl.BatchNorm(), bl.Activation(options.activation), *dropout]


def notes(run: bl.Run) -> dict[str, Any]:
    """What ``backlit train`` wrote into the run's record of its data; InputError for a run made without it."""
    found: dict[str, Any] = run.record.get("notes", {})
    if "source" not in found:
        raise InputError("cli_no_source", where=str(run.dir), got=", ".join(found) or "notes = {}")
    return found


def reopened(path: Path, *, force: bool = False) -> tuple[bl.Run, Job]:
    """A run with its data loaded again, so that past steps can be looked at; errors as for :meth:`Job.of_run`."""
    run = bl.open_run(path)
    job = Job.of_run(run, force=force)
    given = {part: job.pair(part) for part in ("train", "validation")}
    weights = notes(run).get("class_weight")
    return bl.open_run(path, data=given["train"], validation=given["validation"], class_weight=weights), job


def is_run(name: str) -> bool:
    """True for a folder, or what looks like the path of one: no data set has a separator in its name."""
    path = Path(name)
    return path.is_dir() or (len(path.parts) > 1 and not path.suffix and not path.exists())


def made(kinds: dict[str, Callable[..., Any]], name: str, what: str, **options: Any) -> Any:
    """The recipe of that name with the options that were given (not None); UnknownNameError with the nearest names."""
    return lookup(kinds, name, what)(**{k: v for k, v in options.items() if v is not None})
