"""Mini-batches made ahead in other threads: the same ones, for what a step is fed with is a function of its number."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Self

from backlit.train.feeding import Feed
from backlit.train.step import Samples

AHEAD = 2
"""Steps that each worker prepares ahead."""


@dataclass
class Loader:
    """The same mini-batches, made ahead by ``workers`` threads. Use it as a context, so that the threads end."""

    feed: Feed
    last: int
    """The run's last step."""
    workers: int = 1
    _pool: ThreadPoolExecutor = field(init=False, repr=False)
    _coming: dict[int, Future[list[Samples]]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.workers, "backlit-loader")

    @property
    def prepares(self) -> bool:
        """As the feed's."""
        return self.feed.prepares

    def of_step(self, step: int) -> list[Samples]:
        """The mini-batches of ``step``; the next steps are set going. An error in a thread is raised here."""
        for ahead in range(step, min(step + AHEAD * self.workers, self.last) + 1):
            if ahead not in self._coming:
                self._coming[ahead] = self._pool.submit(copy_context().run, self.feed.of_step, ahead)
        for past in [s for s in self._coming if s < step]:
            del self._coming[past]
        return self._coming.pop(step).result() if step in self._coming else self.feed.of_step(step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._coming.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
