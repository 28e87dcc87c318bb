"""MNIST by PyTorch, start to end: python whole_torch.py EPOCHS."""

from __future__ import annotations

import mnist
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

train, validation, test = ((torch.from_numpy(X), torch.from_numpy(y)) for X, y in mnist.pairs())
rng, steps = np.random.default_rng(0), mnist.epochs() * -(-mnist.TRAINED // mnist.BATCH)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(784, mnist.HIDDEN), nn.ReLU(), nn.Linear(mnist.HIDDEN, 10))
optimizer = torch.optim.Adam(model.parameters(), mnist.RATE, fused=True)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def epoch(_: int) -> float:
    for rows in map(torch.from_numpy, mnist.batches(rng)):
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model(train[0].index_select(0, rows)), train[1].index_select(0, rows)).backward()
        optimizer.step()
        schedule.step()
    return accuracy(validation)


@torch.no_grad()
def accuracy(pair: mnist.Pair) -> float:
    return float((model(pair[0]).argmax(1) == pair[1]).float().mean())


mnist.told(epoch, lambda: accuracy(test))
