"""PyTorch, compiled: of a perceptron the whole step is one function made by torch.compile, else network and loss."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear
from workloads import BETA1, BETA2, EPS, RATE, Task

from peers import torch_eager
from peers.torch_layers import loss_of as loss_of_network
from peers.torch_layers import network

PACKAGES = ("torch",)
HOW = (
    "torch.compile(dynamic=False) of a perceptron's whole step: gather, torch.func.grad_and_value and Adam in place, "
    "which costs less than compiling network and loss with an eager Adam(fused=True); the other networks the second "
    "way; set_num_threads; mode default (reduce-overhead is CUDA graphs, nothing on a CPU)"
)

State = tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], torch.Tensor]
"""(parameters, m, v, number of steps made)."""


def Peer(task: Task, threads: int) -> Any:  # noqa: N802  called as the other peers' classes are
    """The whole step compiled, where that can be done by hand."""
    if task.workload.sizes:
        return Whole(task, threads)
    return torch_eager.Peer(task, threads, torch.compile(loss_of_network, dynamic=False))


class Whole:
    """One compiled function that changes parameters and moments in place."""

    def __init__(self, task: Task, threads: int) -> None:
        torch.set_num_threads(threads)
        self.data = torch.from_numpy(task.X), torch.from_numpy(task.y)
        self.batches = torch.from_numpy(task.order).split(task.workload.batch)
        params = [p.detach() for p in network(task).parameters()]
        m, v = ([torch.zeros_like(p) for p in params] for _ in "mv")
        self.state = params, m, v, torch.zeros(())
        self.step = torch.compile(step, dynamic=False)

    @torch.no_grad()
    def run(self, steps: int) -> list[float]:
        losses = [self.step(self.state, *self.data, rows) for rows in self.batches[:steps]]
        return torch.stack(losses).tolist()


def loss_of(params: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean softmax cross entropy of the network; params are W, b of every layer."""
    *hidden, (W, b) = zip(params[::2], params[1::2], strict=True)
    for V, c in hidden:
        x = torch.relu(linear(x, V, c))
    return cross_entropy(linear(x, W, b), y)


def step(state: State, X: torch.Tensor, y: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A step of Adam in place; the loss before it."""
    params, m, v, t = state
    grads, loss = torch.func.grad_and_value(loss_of)(params, X.index_select(0, rows), y.index_select(0, rows))
    t.add_(1)
    a, b = 1 - BETA1**t, 1 - BETA2**t
    for p, m_, v_, g in zip(params, m, v, grads, strict=True):
        m_.mul_(BETA1).add_((1 - BETA1) * g)
        v_.mul_(BETA2).add_((1 - BETA2) * g * g)
        p.sub_(RATE * (m_ / a) / ((v_ / b).sqrt() + EPS))
    return loss
