"""backlit's reference engine: the plain interpreter that defines correct."""

from __future__ import annotations

from typing import Any

import numpy as np
from workloads import BETA1, BETA2, EPS, RATE, Task

import backlit as bl
from backlit import optim
from backlit.engines import reference
from backlit.nn.losses import get

PACKAGES = ("backlit", "numpy")
HOW = "value_and_grad of the graph and optim.apply, a step at a time; threads of OpenBLAS"
ADAM = optim.Adam(RATE, beta1=BETA1, beta2=BETA2, eps=EPS)


class Peer:
    """A step by the reference engine, as training makes it."""

    def __init__(self, task: Task, threads: int) -> None:  # noqa: ARG002  the environment has set them
        self.task = task
        self.graph, self.params = staged(task)
        self.state = optim.init_state(np, ADAM, self.params)
        self.t = 0

    def run(self, steps: int) -> list[float]:
        losses = []
        for rows in self.task.batches(steps):
            self.t += 1
            given = self.params | {"x": self.task.X[rows], "y": self.task.y[rows]}
            env = reference.leaves(self.graph, given)
            values, d = reference.value_and_grad(self.graph, env, self.graph.trainable)
            grads = {n: d[n] for n in self.graph.trainable}
            self.params, self.state = optim.apply(np, ADAM, self.params, grads, self.state, lr=RATE, t=self.t)
            losses.append(float(values[self.graph.outputs[0]]))
        return losses


def staged(task: Task) -> tuple[Any, dict[str, Any]]:
    """(graph of a training step, the task's parameters by name)."""
    w = task.workload
    layers = [*(bl.Dense(size, "relu") for size in w.sizes[1:-1]), bl.Dense(w.sizes[-1])]
    model = bl.Sequential(*layers).build((w.sizes[0],), dtype="float32")
    graph = model.graph(
        (((w.batch, w.sizes[0]), "float32"),), training=True,
        loss=get("softmax_cross_entropy"), target=((w.batch,), "int64"),
    )  # fmt: skip
    pairs = enumerate(task.layers, 1)
    return graph, {f"dense{i}.{n}": a.copy() for i, layer in pairs for n, a in zip("Wb", layer, strict=True)}
