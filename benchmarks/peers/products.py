"""Not a peer but the floor: the matrix products of a step by NumPy, on planned arrays, and nothing else."""

from __future__ import annotations

import numpy as np
from workloads import Task

PACKAGES = ("numpy",)
HOW = "np.matmul(…, out=) of the products forward and backward alone; threads of OpenBLAS"


class Peer:
    """z = x Wᵀ, dW = δᵀ x and dx = δ W of every layer; the first passes no dx down."""

    def __init__(self, task: Task, threads: int) -> None:  # noqa: ARG002  the environment has set them
        rng, batch = np.random.default_rng(1), task.workload.batch
        self.W = task.flat[::2]
        self.dW = [np.empty_like(W) for W in self.W]
        self.x, self.d = ([rng.random((batch, size), np.float32) for size in task.workload.sizes] for _ in "xd")

    def run(self, steps: int) -> list[float]:
        last = len(self.W) - 1
        for _ in range(steps):
            for i, W in enumerate(self.W):
                np.matmul(self.x[i], W.T, out=self.x[i + 1])
            for i in range(last, -1, -1):
                np.matmul(self.d[i + 1].T, self.x[i], out=self.dW[i])
                if i:
                    np.matmul(self.d[i + 1], self.W[i], out=self.d[i])
        return []
