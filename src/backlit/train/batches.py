"""Which samples a step sees: a pure function of (seed, epoch), so that any step's batch can be found again alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from backlit.core.rng import generator
from backlit.core.types import Array

Arrange = Callable[[Array, np.random.Generator | None], Array]
"""(an epoch's order of samples, what to draw with, None where nothing is shuffled) -> the order that it becomes."""


@dataclass(frozen=True)
class Batches:
    """The order of samples in a run. A step takes ``accumulate`` mini-batches; an epoch's last ones may be smaller."""

    samples: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    accumulate: int = 1
    arrange: Arrange | None = None

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return -(-self.samples // (self.batch_size * self.accumulate))

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, of ``step``, from 1."""
        return (step - 1) // self.per_epoch + 1

    def of_step(self, step: int) -> Iterator[Array]:
        """Indices of the samples of each mini-batch of ``step``."""
        order = self._order(step)
        start = (step - 1) % self.per_epoch * self.batch_size * self.accumulate
        stop = min(start + self.batch_size * self.accumulate, self.samples)
        return (order[i : min(i + self.batch_size, stop)] for i in range(start, stop, self.batch_size))

    def count(self, step: int, steps: int) -> int:
        """The number of samples of some steps from ``step`` on, all in one epoch."""
        size = self.batch_size * self.accumulate
        start = (step - 1) % self.per_epoch * size
        return min(start + steps * size, self.samples) - start

    def stretch(self, step: int, most: int) -> tuple[Array, int]:
        """(indices of the samples of some steps from ``step`` on, how many steps): in one epoch, of one batch size."""
        order = self._order(step)
        start = (step - 1) % self.per_epoch * self.batch_size
        whole = min(most, (self.samples - start) // self.batch_size)
        return order[start : start + max(whole, 1) * self.batch_size], max(whole, 1)

    def _order(self, step: int) -> Array:
        """The order of samples in the epoch of ``step``."""
        epoch = self.epoch_of(step)
        return epoch_order(self.samples, self.seed, epoch, shuffle=self.shuffle, arrange=self.arrange)


@lru_cache(maxsize=2)
def epoch_order(samples: int, seed: int, epoch: int, *, shuffle: bool, arrange: Arrange | None = None) -> Array:
    """The permutation of an epoch, drawn by (seed, epoch, "shuffle") and arranged with (seed, epoch, "arrange")."""
    order = generator(seed, epoch, "shuffle").permutation(samples) if shuffle else np.arange(samples)
    return order if arrange is None else arrange(order, generator(seed, epoch, "arrange") if shuffle else None)
