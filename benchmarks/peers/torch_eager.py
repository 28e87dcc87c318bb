"""PyTorch, eager."""

from __future__ import annotations

from typing import Any

import torch
from workloads import Task

from peers.torch_layers import adam, loss_of, network

PACKAGES = ("torch",)
HOW = (
    "nn.Sequential, index_select, zero_grad(set_to_none=True), Adam(fused=True), set_num_threads; images and their "
    "weights channels-last, nn.LSTM, F.scaled_dot_product_attention"
)


class Peer:
    """The usual loop, with what makes it fast on a CPU."""

    def __init__(self, task: Task, threads: int, loss: Any = loss_of) -> None:
        torch.set_num_threads(threads)
        self.X, self.y = torch.from_numpy(task.X), torch.from_numpy(task.y)
        self.batches = torch.from_numpy(task.order).split(task.workload.batch)
        self.model, self.loss = network(task), loss
        self.optimizer = adam(self.model)

    def run(self, steps: int) -> list[float]:
        losses = []
        for rows in self.batches[:steps]:
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(self.model, self.X.index_select(0, rows), self.y.index_select(0, rows))
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()
