"""What the peers are timed on: the same networks, the same data, the same first parameters for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
"""Adam's settings, the same everywhere."""


@dataclass(frozen=True)
class Workload:
    """A multilayer perceptron (relu, softmax cross entropy, float32) and how it is trained."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    rows: int
    """Of the data, a multiple of the batch."""
    bar: float
    """How many times faster than the best peer the fast engine has to be."""
    aim: float

    @property
    def epoch(self) -> int:
        """Steps in a pass over the data."""
        return self.rows // self.batch

    @property
    def flops(self) -> int:
        """Of the matrix products of a step; the first layer passes no gradient down."""
        return self.batch * sum((6 if i else 4) * a * b for i, (a, b) in enumerate(pairwise(self.sizes)))

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch}"


WORKLOADS = {
    w.name: w
    for w in (
        Workload("tiny", (8, 16, 3), 16, 1024, bar=10, aim=16),
        Workload("mnist32", (784, 128, 10), 32, 8192, bar=2, aim=3),
        Workload("mnist128", (784, 128, 10), 128, 8192, bar=2, aim=2.8),
        Workload("medium", (784, 512, 512, 10), 128, 8192, bar=1.4, aim=2),
        Workload("large", (2048, 2048, 2048, 10), 256, 4096, bar=1.2, aim=1.45),
    )
}


@dataclass(frozen=True)
class Task:
    """A workload with its numbers, drawn from a fixed seed."""

    workload: Workload
    X: NDArray[Any] = field(init=False)
    """Data [rows, inputs], float32 in [-1/2, 1/2)."""
    y: NDArray[Any] = field(init=False)
    """Labels [rows], int64."""
    order: NDArray[Any] = field(init=False)
    """The order of the rows in an epoch: batch s is ``order[s * batch : (s + 1) * batch]``."""
    layers: list[tuple[NDArray[Any], NDArray[Any]]] = field(init=False)
    """(W[outputs, inputs], b[outputs]) of every layer: He's uniform weights, no bias."""

    def __post_init__(self) -> None:
        import numpy as np

        rng, sizes = np.random.default_rng(0), self.workload.sizes
        found = {
            "X": rng.random((self.workload.rows, sizes[0]), dtype=np.float32) - np.float32(0.5),
            "y": rng.integers(0, sizes[-1], self.workload.rows),
            "order": rng.permutation(self.workload.rows),
            "layers": [
                ((rng.random((o, i), dtype=np.float32) * 2 - 1) * np.float32((6 / i) ** 0.5), np.zeros(o, np.float32))
                for i, o in pairwise(sizes)
            ],
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def batches(self, steps: int) -> list[NDArray[Any]]:
        """The rows of the first mini-batches of an epoch, as views of ``order``."""
        size = self.workload.batch
        return [self.order[s * size : (s + 1) * size] for s in range(steps)]
