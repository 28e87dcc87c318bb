"""PyTorch, eager."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from workloads import BETA1, BETA2, EPS, RATE, Task

PACKAGES = ("torch",)
HOW = "nn.Sequential, index_select, zero_grad(set_to_none=True), Adam(fused=True), set_num_threads"


class Peer:
    """The usual loop, with what makes it fast on a CPU."""

    def __init__(self, task: Task, threads: int) -> None:
        torch.set_num_threads(threads)
        self.X, self.y = torch.from_numpy(task.X), torch.from_numpy(task.y)
        self.batches = torch.from_numpy(task.order).split(task.workload.batch)
        self.model = network(task)
        self.optimizer = adam(self.model)

    def run(self, steps: int) -> list[float]:
        losses = []
        for rows in self.batches[:steps]:
            self.optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(self.model(self.X.index_select(0, rows)), self.y.index_select(0, rows))
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()


def network(task: Task) -> nn.Sequential:
    """The network with the task's first parameters."""
    layers = [nn.Linear(i, o) for i, o in pairwise(task.workload.sizes)]
    with torch.no_grad():
        for layer, (W, b) in zip(layers, task.layers, strict=True):
            layer.weight.copy_(torch.from_numpy(W))
            layer.bias.copy_(torch.from_numpy(b))
    return nn.Sequential(*(m for layer in layers[:-1] for m in (layer, nn.ReLU())), layers[-1])


def adam(model: nn.Module) -> torch.optim.Adam:
    """Adam in one kernel."""
    return torch.optim.Adam(model.parameters(), RATE, (BETA1, BETA2), EPS, fused=True)
