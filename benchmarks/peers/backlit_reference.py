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
        self.graph, self.params, self.running = staged(task)
        self.state = optim.init_state(np, ADAM, self.params)
        self.t = 0

    def run(self, steps: int) -> list[float]:
        losses = []
        for rows in self.task.batches(steps):
            self.t += 1
            given = self.params | self.running | {"x": self.task.X[rows], "y": self.task.y[rows]}
            env = reference.leaves(self.graph, given)
            values, d = reference.value_and_grad(self.graph, env, self.graph.trainable)
            grads = {n: d[n] for n in self.graph.trainable}
            self.params, self.state = optim.apply(np, ADAM, self.params, grads, self.state, lr=RATE, t=self.t)
            self.running = {n: values[new] for n, new in self.graph.updates.items()}
            losses.append(float(values[self.graph.outputs[0]]))
        return losses


LAYERS: dict[str, Any] = {
    "dense": bl.Dense,
    "conv": bl.Conv2D,
    "batchnorm": bl.BatchNorm,
    "layernorm": bl.LayerNorm,
    "embedding": bl.Embedding,
    "positions": lambda: bl.PositionalEmbedding(64),
    "lstm": bl.LSTM,
    "block": lambda heads: bl.TransformerBlock(heads, causal=True),
    "relu": bl.ReLU,
    "pool": lambda: bl.MaxPool2D(2),
    "global_pool": bl.GlobalAvgPool2D,
    "flatten": bl.Flatten,
}
"""Kind of layer -> the layer, of its numbers."""


def staged(task: Task) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """(graph of a training step, the task's parameters by name, state by name)."""
    w, labels = task.workload, task.y
    model = bl.Sequential(*(LAYERS[kind](*numbers) for kind, *numbers in w.layers)).build(w.sample, dtype="float32")
    graph = model.graph(
        (((w.batch, *w.sample), task.X.dtype.name),), training=True,
        loss=get("softmax_cross_entropy"), target=((w.batch, *labels.shape[1:]), labels.dtype.name),
    )  # fmt: skip
    params = dict(zip(model.params, given(task), strict=True))
    assert all(params[n].shape == a.shape for n, a in model.params.items())
    return graph, params, dict(model.state)


def given(task: Task) -> list[Any]:
    """The task's parameters in the order of the model's: a block's norms stand where it uses them."""
    names = {"block": ("gamma1", "beta1", "Wqkv", "bqkv", "Wo", "bo", "gamma2", "beta2", "W1", "b1", "W2", "b2")}
    pairs = zip(task.workload.layers, task.params, strict=True)
    return [layer[name].copy() for (kind, *_), layer in pairs for name in names.get(kind, layer)]
