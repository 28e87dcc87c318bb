"""Networks of PyTorch's modules, with a task's first parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  as PyTorch's users write it
from workloads import BETA1, BETA2, EPS, RATE, Task

Given = dict[str, torch.Tensor]


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Positions(nn.Module):
    """Adds a learnt vector to each place."""

    def __init__(self, P: torch.Tensor) -> None:
        super().__init__()
        self.P = nn.Parameter(P)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.P


class Hidden(nn.LSTM):
    """All hidden states and nothing else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x)[0]


class Block(nn.Module):
    """Causal transformer block, norms first."""

    def __init__(self, given: Given, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (_norm({n: given[f"{n}{i}"] for n in ("gamma", "beta")}) for i in (1, 2))
        self.qkv, self.out, self.mlp1, self.mlp2 = (
            _dense({"W": given[f"W{part}"], "b": given[f"b{part}"]}) for part in ("qkv", "o", "1", "2")
        )
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp2(F.gelu(self.mlp1(self.norm2(x))))

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        """Every head looks at the places before."""
        N, T, D = x.shape
        q, k, v = self.qkv(x).view(N, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(seen.transpose(1, 2).reshape(N, T, D))


def network(task: Task) -> nn.Sequential:
    """The task's network; images [N, H, W, C] are read as PyTorch's channels-last without a copy."""
    pairs = zip(task.workload.layers, task.params, strict=True)
    layers = [made(kind, *numbers, **_tensors(given)) for (kind, *numbers), given in pairs]
    if task.X.ndim == 4:
        layers.insert(0, Call(lambda x: x.permute(0, 3, 1, 2)))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last if task.X.ndim == 4 else torch.preserve_format)


def _tensors(given: dict[str, Any]) -> Given:
    return {name: torch.from_numpy(a.copy()) for name, a in given.items()}


def made(kind: str, *numbers: int, **given: torch.Tensor) -> nn.Module:
    """A layer with its parameters."""
    return MODULES[kind](given, *numbers)


def _filled(module: Any, **given: torch.Tensor) -> Any:
    with torch.no_grad():
        for name, value in given.items():
            getattr(module, name).copy_(value)
    return module


def _dense(given: Given, *_: int) -> nn.Module:
    outputs, inputs = given["W"].shape
    return _filled(nn.Linear(inputs, outputs), weight=given["W"], bias=given["b"])


def _conv(given: Given, filters: int, size: int) -> nn.Module:
    layer = nn.Conv2d(given["W"].shape[-1], filters, size, padding=size // 2)
    return _filled(layer, weight=given["W"].permute(0, 3, 1, 2), bias=given["b"])


def _norm(given: Given, kind: Any = nn.LayerNorm) -> nn.Module:
    return _filled(kind(given["gamma"].numel()), weight=given["gamma"], bias=given["beta"])


def _lstm(given: Given, units: int) -> nn.Module:
    """PyTorch has two bias sets: the second stays 0."""
    layer = Hidden(given["W"].shape[1], units, batch_first=True)
    layer.bias_hh_l0.requires_grad_(False)  # noqa: FBT003  PyTorch's own
    zeros = torch.zeros_like(given["b"])
    return _filled(layer, weight_ih_l0=given["W"], weight_hh_l0=given["U"], bias_ih_l0=given["b"], bias_hh_l0=zeros)


MODULES: dict[str, Callable[..., nn.Module]] = {
    "dense": _dense,
    "conv": _conv,
    "batchnorm": lambda given: _norm(given, nn.BatchNorm2d),
    "layernorm": _norm,
    "embedding": lambda given, *_: nn.Embedding.from_pretrained(given["E"], freeze=False),
    "positions": lambda given: Positions(given["P"]),
    "lstm": _lstm,
    "block": Block,
    "relu": lambda _: nn.ReLU(),
    "pool": lambda _: nn.MaxPool2d(2),
    "global_pool": lambda _: Call(lambda x: x.mean((2, 3))),
    "flatten": lambda _: Call(lambda x: x.permute(0, 2, 3, 1).flatten(1)),
}
"""Kind of layer -> its module, of its parameters and numbers."""


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean softmax cross entropy, of sequences over all places."""
    return F.cross_entropy(model(x).flatten(0, -2), y.flatten())


def adam(model: nn.Module) -> torch.optim.Adam:
    """Adam in one kernel."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(trained, RATE, (BETA1, BETA2), EPS, fused=True)
