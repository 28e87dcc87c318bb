"""backlit's fast engine."""

from __future__ import annotations

import numpy as np
from workloads import RATE, Task

from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors
from peers.backlit_reference import ADAM, staged

PACKAGES = ("backlit", "numba", "numpy")
HOW = "an epoch, or a part of one, is one Program.run(threads=…)"


class Peer:
    """The program of a training step, run for many steps at a time."""

    def __init__(self, task: Task, threads: int) -> None:
        graph, params, state = staged(task)
        vectors = Vectors.of(graph, ADAM, "float32")
        vectors.load(params, state)
        self.program = Program(graph, ADAM, None, vectors, threads=threads)
        self.data, self.order, self.t = {"x": task.X, "y": task.y}, task.order, 0

    def run(self, steps: int) -> list[float]:
        made = self.program.run(self.data, self.order, np.full(steps, RATE), self.t + 1)
        self.t += steps
        return made.losses.tolist()
