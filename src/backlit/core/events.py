"""Events: how training tells whoever listens (progress bar, recorder, callbacks) what just happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Event:
    """Base of all events; each kind adds its fields."""


@dataclass(frozen=True)
class RunStarted(Event):
    """Training begins, or goes on after a resume."""

    step: int
    """Steps already done."""
    steps: int
    """Steps that the run will have at most."""
    epochs: int
    samples: int
    """Samples in one epoch."""


@dataclass(frozen=True)
class Notice(Event):
    """Something that a person should know: which engine trains and why, that kernels are being compiled."""

    text: str


@dataclass(frozen=True)
class StepDone(Event):
    """One update was made. ``step`` counts from 1."""

    step: int
    epoch: int
    loss: float
    samples: int
    """Samples this update was made from."""
    learning_rate: float


@dataclass(frozen=True)
class EpochDone(Event):
    """An epoch ended. ``metrics`` are those of ``Run.history``."""

    epoch: int
    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class SnapshotSaved(Event):
    """A snapshot was written; training can go on from it bit for bit."""

    step: int
    path: str


@dataclass(frozen=True)
class RunEnded(Event):
    """Training is over; ``reason`` is ``epochs``, ``converged``, ``early_stopping``, ``interrupted`` or ``stopped``."""

    step: int
    reason: str


Listener: TypeAlias = Callable[[Event], Any]


@dataclass
class Bus:
    """Calls every listener with every event, in the order they were added."""

    listeners: list[Listener] = field(default_factory=list)

    def emit(self, event: Event) -> list[Any]:
        """Tell every listener; returns what they answered, in order."""
        return [listener(event) for listener in self.listeners]

    def extend(self, listeners: Iterable[Listener]) -> None:
        """Add listeners."""
        self.listeners.extend(listeners)
