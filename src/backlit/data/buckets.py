"""Mini-batches of sequences of similar length, as a recipe that is kept with a run: ``fit(…, buckets=True)``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array

ROWS_AT_ONCE = 4096
"""Samples whose lengths are counted together, so that an array in a file is read piece by piece."""


@dataclass(frozen=True)
class Buckets:
    """How samples of similar length come into one mini-batch.

    >>> p = bl.data.pad(sequences)
    >>> bl.fit(model, ((p.X, p.mask), y), loss="mse", buckets=bl.data.Buckets(pool=32))

    A sample's length is the number of steps of the model's ``input``[N, T, …], the last one unless told, that are not
    all ``padding``: of a mask those that are True. Each epoch's order is cut into pools of ``pool`` mini-batches; a
    pool is sorted by length and cut into mini-batches; then all of them are shuffled. Larger pools make lengths more
    equal, smaller ones the mini-batches more different from epoch to epoch. The last, smaller mini-batch of an epoch
    has similar lengths too.

    InputError for an input that there is not or that has no steps, and for a pool of less than one mini-batch.
    Source: Khomenko, Shyshkov, Radyvonenko, Bokhan: Accelerating recurrent neural network training using sequence
    bucketing, 2016.
    """

    input: int = -1
    padding: float = 0
    pool: int = 16

    def __post_init__(self) -> None:
        given: Any = self.pool
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            expected = "1, 2, 3, …"
            raise InputError("option_range", where="Buckets", option="pool", expected=expected, got=repr(self.pool))

    def as_dict(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return asdict(self)

    def lengths(self, inputs: tuple[Array, ...]) -> Array:
        """int64[N]: the length of every sample."""
        if not -len(inputs) <= self.input < len(inputs) or inputs[self.input].ndim < 2:
            shown = ", ".join(f"x{list(x.shape)}" for x in inputs)
            raise InputError("buckets_input", where="fit", expected="x[N, T, …]", got=f"input={self.input}: {shown}")
        x = inputs[self.input]
        parts = (self._lengths(np.asarray(x[i : i + ROWS_AT_ONCE])) for i in range(0, len(x), ROWS_AT_ONCE))
        return np.concatenate(list(parts))

    def _lengths(self, x: Array) -> Array:
        there = (x != self.padding).reshape(*x.shape[:2], -1).any(axis=2)
        return there.sum(axis=1)

    def arrangement(self, inputs: tuple[Array, ...], batch_size: int) -> Arrangement:
        """What puts an epoch's order of these samples into buckets."""
        return Arrangement(self.lengths(inputs), batch_size, self.pool)


@dataclass(frozen=True, eq=False)
class Arrangement:
    """An order of samples put into mini-batches of similar ``lengths``."""

    lengths: Array
    size: int
    pool: int

    def __call__(self, order: Array, rng: np.random.Generator | None) -> Array:
        """``order``, each mini-batch of similar lengths; ``rng`` shuffles mini-batches, without one they stay."""
        whole = self.size * self.pool
        sorted_ = np.concatenate([self._sorted(order[i : i + whole]) for i in range(0, len(order), whole)])
        kept, small = self._split(sorted_, rng)
        batches = kept.reshape(-1, self.size)
        return np.concatenate([(batches if rng is None else rng.permutation(batches)).reshape(-1), small])

    def _sorted(self, pool: Array) -> Array:
        return pool[np.argsort(self.lengths[pool], kind="stable")]

    def _split(self, order: Array, rng: np.random.Generator | None) -> tuple[Array, Array]:
        """(samples of full mini-batches, those of the small one), the small one from anywhere in the last pool."""
        rest, full = len(order) % self.size, len(order) // self.size
        first = full // self.pool * self.pool
        at = self.size * (full if rng is None else int(rng.integers(first, full + 1)))
        return np.concatenate([order[:at], order[at + rest :]]), order[at : at + rest]


def chosen(given: Any) -> Buckets | None:
    """A recipe from what a caller may write, or from what was kept of one; InputError otherwise."""
    if given is None or given is False:
        return None
    if isinstance(given, dict):
        return Buckets(**given)
    if given is True or isinstance(given, Buckets):
        return Buckets() if given is True else given
    expected = "True | bl.data.Buckets(…) | None"
    raise InputError("fit_option", where="fit", option="buckets", expected=expected, got=f"buckets = {given!r}")
