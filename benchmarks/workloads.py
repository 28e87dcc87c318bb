"""What the peers are timed on: the same networks, the same data, the same first parameters for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from networks import CONVNET, GPT, LENET, LSTM, Facts, Layer, Shape, facts, mlp

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
"""Adam's settings, the same everywhere."""


@dataclass(frozen=True)
class Workload:
    """A network (softmax cross entropy, float32) and how it is trained."""

    name: str
    title: str
    layers: tuple[Layer, ...]
    sample: Shape
    batch: int
    rows: int
    """Of the data, a multiple of the batch."""
    bar: float = 0.0
    """How many times faster than the best peer the fast engine has to be."""
    aim: float = 0.0

    @property
    def facts(self) -> list[Facts]:
        """Of every layer."""
        return facts(self.layers, self.sample)

    @property
    def sizes(self) -> Shape:
        """Widths of a multilayer perceptron from the input on; empty for other networks."""
        kinds = {kind for kind, *_ in self.layers}
        return (*self.sample, *(units for _, *given in self.layers for units in given)) if kinds <= PLAIN else ()

    @property
    def symbols(self) -> int:
        """How many a sequence is made of; 0 where samples are not sequences."""
        return self.layers[0][1] if self.layers[0][0] == "embedding" else 0

    @property
    def parameters(self) -> int:
        """Their number."""
        return sum(prod(shape) for layer in self.facts for shape in layer.parameters.values())

    @property
    def epoch(self) -> int:
        """Steps in a pass over the data."""
        return self.rows // self.batch

    @property
    def flops(self) -> int:
        """Of the products of a step; a first layer that reads the data passes no gradient down."""
        first, *rest = (layer.products for layer in self.facts)
        return self.batch * (4 * first + 6 * sum(rest))

    def __str__(self) -> str:
        return f"{self.title}, batch {self.batch}"


PLAIN = {"dense", "relu"}


def plain(name: str, sizes: Shape, batch: int, rows: int, **bounds: float) -> Workload:
    """A multilayer perceptron."""
    return Workload(name, "-".join(map(str, sizes)), mlp(*sizes[1:]), sizes[:1], batch, rows, **bounds)


WORKLOADS = {
    w.name: w
    for w in (
        plain("tiny", (8, 16, 3), 16, 1024, bar=10, aim=16),
        plain("mnist32", (784, 128, 10), 32, 8192, bar=2, aim=3),
        plain("mnist128", (784, 128, 10), 128, 8192, bar=2, aim=2.8),
        plain("medium", (784, 512, 512, 10), 128, 8192, bar=1.4, aim=2),
        plain("large", (2048, 2048, 2048, 10), 256, 4096, bar=1.2, aim=1.45),
        Workload("lenet", "LeNet on 28×28", LENET, (28, 28, 1), 64, 2048, bar=1.5, aim=2.2),
        Workload("convnet", "conv3×3 32-64-128-128 on 32×32×3", CONVNET, (32, 32, 3), 64, 512, bar=1.2, aim=1.6),
        Workload("lstm", "character LSTM, 64 steps", LSTM, (64,), 32, 2048, bar=1.3, aim=1.8),
        Workload("gpt", "small GPT, 64 steps", GPT, (64,), 12, 768, bar=1.3, aim=1.9),
    )
}


def workload(name: str) -> Workload:
    """By its name, or a perceptron written out, as ``784-128-10,128``: widths, batch; ValueError for anything else."""
    if name in WORKLOADS:
        return WORKLOADS[name]
    sizes, batch = name.split(",")
    return plain(name, tuple(map(int, sizes.split("-"))), int(batch), 16 * int(batch))


@dataclass(frozen=True)
class Task:
    """A workload with its numbers, drawn from a fixed seed."""

    workload: Workload
    X: NDArray[Any] = field(init=False)
    """Data [rows, …]: float32 in [-1/2, 1/2), or symbols, int64."""
    y: NDArray[Any] = field(init=False)
    """Labels [rows] or [rows, steps], int64."""
    order: NDArray[Any] = field(init=False)
    """The order of the rows in an epoch: batch s is ``order[s * batch : (s + 1) * batch]``."""
    params: list[dict[str, NDArray[Any]]] = field(init=False)
    """Of every layer, float32: weights uniform as He has them, scales 1, all else 0."""

    def __post_init__(self) -> None:
        import numpy as np

        rng, w = np.random.default_rng(0), self.workload
        size, outputs = (w.rows, *w.sample), w.facts[-1].shape
        found = {
            "X": rng.integers(0, w.symbols, size) if w.symbols else rng.random(size, dtype=np.float32),
            "y": rng.integers(0, outputs[-1], (w.rows, *outputs[:-1])),
            "order": rng.permutation(w.rows),
            "params": [{n: drawn(rng, n, shape) for n, shape in f.parameters.items()} for f in w.facts],
        }
        if not w.symbols:
            found["X"] -= np.float32(0.5)
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @property
    def flat(self) -> list[NDArray[Any]]:
        """All parameters in a row."""
        return [a for layer in self.params for a in layer.values()]

    def batches(self, steps: int) -> list[NDArray[Any]]:
        """The rows of the first mini-batches of an epoch, as views of ``order``."""
        size = self.workload.batch
        return [self.order[s * size : (s + 1) * size] for s in range(steps)]


def drawn(rng: Any, name: str, shape: Shape) -> NDArray[Any]:
    """First values of a parameter, which its name tells the kind of."""
    import numpy as np

    if len(shape) == 1:
        return np.full(shape, name.startswith("gamma"), np.float32)
    x = rng.random(shape, dtype=np.float32) * 2 - 1
    return x * np.float32((6 / prod(shape[1:])) ** 0.5)
