"""A run: the trained model and what training reported, held in memory and, where there is one, in its directory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backlit.nn import store
from backlit.nn.model import Model
from backlit.train.rundir import RunDir


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
    dir: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    """The contents of ``run.json``."""

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


def open_run(path: str | os.PathLike[str], *, model: Model | None = None) -> Run:
    """The run in a directory, with the model as its last snapshot has it.

    ``model`` gives the recipe where the run's was a Python function. Raises FileError where there is no run, no
    snapshot, or one is damaged.
    """
    place = RunDir(Path(path))
    record = place.read_record()
    progress = place.last()
    params, state = progress.outcome
    made = store.fill(store.from_header(record["model"], str(place.record), model), params | state, str(path))
    run = Run(made, step=progress.step, reason=progress.reason, dir=place.path, record=record)
    for row in place.read_metrics(up_to_step=progress.step):
        run.add(row)
    return run
