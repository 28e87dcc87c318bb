"""A run: the trained model and what training reported, held in memory and, where there is one, in its directory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backlit.core.types import Array
from backlit.nn import store
from backlit.nn.model import Model
from backlit.train.inputs import prepared
from backlit.train.progress import Progress
from backlit.train.rundir import Memory, RunDir
from backlit.train.settings import Settings
from backlit.train.step import Samples


@dataclass
class Run:
    """What :func:`backlit.fit` returns, and :func:`open_run` reads back."""

    model: Model
    history: dict[str, list[float]] = field(default_factory=dict)
    """Figures of each epoch by name: ``loss``, ``accuracy``, ``val_loss``, ``learning_rate``, ``gradient_norm``, …"""
    step: int = 0
    """Updates made."""
    reason: str = ""
    """Why training ended: ``epochs``, ``converged``, ``early_stopping``, ``interrupted``, ``stopped``."""
    place: RunDir | Memory | None = None
    """Where its snapshots are."""
    settings: Settings | None = None
    data: Data | None = None
    """What it was trained on; None for a run that was opened without data."""
    record: dict[str, Any] = field(default_factory=dict)
    """The contents of ``run.json``."""

    @property
    def dir(self) -> Path | None:
        """Its directory; None where it has none."""
        return self.place.path if isinstance(self.place, RunDir) else None

    @property
    def recording(self) -> dict[str, Array]:
        """What was recorded of each layer: ``step`` and ``<layer>.<quantity>``, each [rows], by name.

        :mod:`backlit.train.recording` says what the quantities are. Empty where nothing was recorded; FileError where
        the file is damaged.
        """
        return {} if self.place is None else self.place.read_recording()

    def snapshot_steps(self) -> list[int]:
        """Steps of which there is a snapshot."""
        return [] if self.place is None else list(self.place.snapshots())

    def nearest(self, step: int) -> Progress:
        """The last snapshot at or before ``step``."""
        assert self.place is not None
        return self.place.nearest(step)

    @property
    def interrupted(self) -> bool:
        """True where Ctrl-C ended it; ``resume=True`` goes on."""
        return self.reason == "interrupted"

    def add(self, row: dict[str, float]) -> None:
        """Add an epoch's figures to the history."""
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        figures = (f"{k} {v[-1]:.4g}" for k, v in self.history.items() if k not in ("epoch", "step"))
        return f"Run({', '.join([f'step={self.step}', *figures, repr(self.reason)])})"


@dataclass(frozen=True)
class Data:
    """The samples of a run."""

    train: Samples
    validation: Samples | None = None

    def fingerprints(self) -> dict[str, str | None]:
        """SHA-256 of each part, by which changed data are noticed."""
        return {"train": self.train.sha256, "validation": None if self.validation is None else self.validation.sha256}


def open_run(
    path: str | os.PathLike[str],
    *,
    model: Model | None = None,
    data: Any = None,
    validation: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
) -> Run:
    """The run in a directory, with the model as its last snapshot has it.

    ``data`` and ``validation`` = (X, y), and the weights, as they were given to fit, let past steps be replayed.

    ``model`` gives the recipe where the run's was a Python function. Raises FileError where there is no run, no
    snapshot, or one is damaged.
    """
    place = RunDir(Path(path))
    record = place.read_record()
    progress = place.last()
    params, state = progress.outcome
    made = store.fill(store.from_header(record["model"], str(place.record), model), params | state, str(path))
    settings = Settings.from_dict(record["settings"])
    run = Run(made, step=progress.step, reason=progress.reason, place=place, settings=settings, record=record)
    if data is not None:
        weights = {"sample_weight": sample_weight, "class_weight": class_weight}
        run.data = Data(*prepared(made, data, validation, settings, **weights))
    for row in place.read_metrics(up_to_step=progress.step):
        run.add(row)
    return run
