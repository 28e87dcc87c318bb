"""Which samples a step sees: a pure function of (seed, epoch), so that any step's batch can be found again alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from backlit.core.rng import generator
from backlit.core.types import Array


@dataclass(frozen=True)
class Batches:
    """The order of samples in a run. A step takes ``accumulate`` mini-batches; an epoch's last ones may be smaller."""

    samples: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    accumulate: int = 1

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return -(-self.samples // (self.batch_size * self.accumulate))

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, of ``step``, from 1."""
        return (step - 1) // self.per_epoch + 1

    def of_step(self, step: int) -> Iterator[Array]:
        """Indices of the samples of each mini-batch of ``step``."""
        order = epoch_order(self.samples, self.seed, self.epoch_of(step), shuffle=self.shuffle)
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
        order = epoch_order(self.samples, self.seed, self.epoch_of(step), shuffle=self.shuffle)
        start = (step - 1) % self.per_epoch * self.batch_size
        whole = min(most, (self.samples - start) // self.batch_size)
        return order[start : start + max(whole, 1) * self.batch_size], max(whole, 1)


@lru_cache(maxsize=2)
def epoch_order(samples: int, seed: int, epoch: int, *, shuffle: bool) -> Array:
    """The permutation of an epoch, drawn by the key (seed, epoch, "shuffle")."""
    return generator(seed, epoch, "shuffle").permutation(samples) if shuffle else np.arange(samples)
