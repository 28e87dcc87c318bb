"""What a report is about: a run and one of its steps, looked at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from backlit.core.types import Array
from backlit.glass.trace import Trace
from backlit.train.recording import layer_of
from backlit.train.run import Run


@dataclass
class Subject:
    """A run, the step to look at, and how to look at it."""

    run: Run
    step: int
    at: Callable[[int], Trace]
    """Replays a step; raises BacklitError where the run has no data, or they have changed."""

    @cached_property
    def trace(self) -> Trace:
        """Everything of the step."""
        return self.at(self.step)

    @cached_property
    def recording(self) -> dict[str, Array]:
        """What the run recorded."""
        return self.run.recording

    def recorded(self, quantity: str) -> list[tuple[str, Array]]:
        """(layer, its numbers) of a recorded quantity, in the order of the layers."""
        return [(layer_of(n), a) for n, a in self.recording.items() if n.endswith(f".{quantity}")]
