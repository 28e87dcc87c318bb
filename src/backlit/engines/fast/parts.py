"""A step of several mini-batches: a program of their gradients for each size that they have, and one of the update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backlit.core.rng import key_words
from backlit.core.types import Array
from backlit.engines.fast.listing import CACHE_LINE
from backlit.engines.fast.program import Made, Program


@dataclass
class Sum:
    """What the parts of a step so far come to."""

    gradient: Array
    """As long as the vector of gradients."""
    share: Array = field(default_factory=lambda: np.zeros(5))
    """Loss, mass and number of the parts, and how the last one was added; see the kernel ``weigh``."""


class Part(Program):
    """Gradients of a mini-batch, added to those of the step's others. What it runs in a row are parts of one size."""

    step = 0
    """The step that the parts belong to."""
    shift = 0
    """What is added to the parts' numbers, from 1, by which it is decided whether they are looked at."""

    def __init__(self, *given: Any, total: Sum, **options: Any) -> None:
        self.total = total
        super().__init__(*given, **options)

    def _results(self, output: int) -> dict[str, Array]:
        return super()._results(output) | {"total": self.total.gradient, "share": self.total.share}

    def _list(self) -> None:
        self._list_gradients()
        low, size = self.low, self.vectors.grads.size
        low.emit("squares", "g", "sums", extent=low.shape_of("sums")[0])
        low.emit("note", "stats", "sums", "losses", "masses", "norms", "stop")
        low.emit("weigh", "stats", "share")
        low.emit("combine", "g", "total", "share", extent=size, grain=CACHE_LINE)
        self._list_results()

    def add(self, data: Mapping[str, Array], order: Array, step: int, *, due: bool) -> Made:
        """Add the parts in ``order``; what the step's first one gives is looked at where it is ``due``."""
        self.step, self.shift = step, int(not due)
        count = len(order) // self.graph.values[self.graph.inputs[0]].shape[0]
        return self.run(data, order, np.zeros(count), 1 + self.shift + int(self.total.share[2]))

    def _prepare_keys(self, steps: int) -> None:
        """A mask's name holds the number of its part, from the second on."""
        parts = [self._number(i) - self.shift - 1 for i in range(steps)]
        for mask in self.graph.masks:
            names = [f"{mask}/{part}" if part else mask for part in parts]
            self.results[self._keys(mask)][:steps] = [key_words(self.seed, self.step, name) for name in names]


class Update(Program):
    """What is done once, with the gradient of all parts."""

    def _list(self) -> None:
        self._list_notes()
        self._list_update()

    def apply(self, total: Sum, rate: float, step: int) -> Made:
        """Clip and update."""
        self.results["stats"][:] = total.share[:2]
        return self.run(self.batch, np.zeros(0, np.int64), np.array([rate]), step)


@dataclass
class Outcome:
    """What a step of several parts gave."""

    loss: float
    mass: float
    norm: float
    outputs: Array
    """The model's outputs, sample by sample."""
    looked: Array | None
    """What was looked at, a number for each column, where the step is due."""


def run(
    parts: Sequence[tuple[Part, Array]], update: Update, data: Mapping[str, Array], rate: float, step: int
) -> Outcome | None:
    """One step: parts by size, each size with the order of its samples in ``data``, and the update.

    None where a number is not finite; nothing has changed then.
    """
    total, looking, state = parts[0][0].total, update.looking, update.vectors.state.copy()
    due = looking is not None and (step - 1) % looking.every == 0
    total.share[:] = 0
    made = [program.add(data, order, step, due=due) for program, order in parts]
    done = update.apply(total, rate, step) if _all(made, parts) else None
    if done is None or not len(done.losses):
        update.vectors.state[...] = state
        return None
    outputs = np.concatenate([m.outputs.reshape(-1, *m.outputs.shape[2:]) for m in made])
    looked = _looked(parts[0][0], made[0], update, done) if due else None
    return Outcome(float(total.share[0]), float(total.share[1]), float(done.norms[0]), outputs, looked)


def _all(made: Sequence[Made], parts: Sequence[tuple[Part, Array]]) -> bool:
    """True where every part was finite."""
    return bool(sum(math.prod(m.outputs.shape[:2]) for m in made) == sum(len(order) for _, order in parts))


def _looked(first: Part, made: Made, update: Update, done: Made) -> Array:
    """What the first part shows, and of the whole step what the update shows."""
    assert first.looking is not None
    assert update.looking is not None
    seen, whole = first.looking.numbers(made.looked[:1])[0], update.looking.numbers(done.looked)[0]
    return np.where(np.isnan(whole), seen, whole)
