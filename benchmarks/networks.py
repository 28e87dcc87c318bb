"""Networks as lists of layers, which every peer builds of its own parts: shapes, parameters and work of each layer.

A layer is its kind and its numbers, ``("conv", 16, 5)``. Arrays lie as the notation has them: samples by rows, images
``[N, H, W, C]``, sequences ``[N, T, C]``, weights ``W[outputs, …, inputs]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

Layer = tuple[str, *tuple[int, ...]]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """What is known of a layer before any number is drawn."""

    shape: Shape
    """Of its output, without the samples' axis."""
    parameters: dict[str, Shape] = field(default_factory=dict)
    products: int = 0
    """Multiply-adds of its matrix products and convolutions, for a sample, forward."""


def dense(shape: Shape, units: int) -> Facts:
    """Along the last axis: z = x Wᵀ + b."""
    return Facts((*shape[:-1], units), {"W": (units, shape[-1]), "b": (units,)}, prod(shape) * units)


def conv(shape: Shape, filters: int, size: int) -> Facts:
    """Convolution, stride 1, as many zeros around as keep height and width (padding "same")."""
    H, W, C = shape
    found = {"W": (filters, size, size, C), "b": (filters,)}
    return Facts((H, W, filters), found, H * W * prod(found["W"]))


def norm(shape: Shape) -> Facts:
    """Normalisation of each channel, over the batch (batchnorm) or of each position (layernorm); eps = 1e-5."""
    return Facts(shape, {"gamma": shape[-1:], "beta": shape[-1:]})


def embedding(shape: Shape, symbols: int, width: int) -> Facts:
    """The row of a table for each symbol."""
    return Facts((*shape, width), {"E": (symbols, width)})


def positions(shape: Shape) -> Facts:
    """A learnt vector added to each place of the sequence."""
    return Facts(shape, {"P": shape})


def lstm(shape: Shape, units: int) -> Facts:
    """One layer, all hidden states; gates in the order i, f, g, o; one bias set."""
    T, C = shape
    found = {"W": (4 * units, C), "U": (4 * units, units), "b": (4 * units,)}
    return Facts((T, units), found, T * (prod(found["W"]) + prod(found["U"])))


def block(shape: Shape, heads: int) -> Facts:  # noqa: ARG001  neither shapes nor work depend on the heads
    """Transformer block: norms first, causal attention, hidden layer of 4 D units, gelu (by erf)."""
    T, D = shape
    matrices = {"Wqkv": (3 * D, D), "Wo": (D, D), "W1": (4 * D, D), "W2": (D, 4 * D)}
    vectors = {n.replace("W", "b"): rows[:1] for n, rows in matrices.items()}
    norms = {f"{n}{i}": (D,) for i in (1, 2) for n in ("gamma", "beta")}
    attention = T * T * D  # scores and their use, half of each hidden
    return Facts(shape, matrices | vectors | norms, T * sum(map(prod, matrices.values())) + attention)


KINDS = {
    "dense": dense,
    "conv": conv,
    "batchnorm": norm,
    "layernorm": norm,
    "embedding": embedding,
    "positions": positions,
    "lstm": lstm,
    "block": block,
    "relu": Facts,
    "pool": lambda shape: Facts((shape[0] // 2, shape[1] // 2, shape[2])),
    "global_pool": lambda shape: Facts(shape[-1:]),
    "flatten": lambda shape: Facts((prod(shape),)),
}
"""Kind of layer -> (shape of a sample, its numbers) to its facts. pool is the maximum of 2x2, global_pool the mean."""


def facts(layers: tuple[Layer, ...], shape: Shape) -> list[Facts]:
    """Of every layer, from the shape of a sample on."""
    found: list[Facts] = []
    for kind, *numbers in layers:
        found.append(KINDS[kind](found[-1].shape if found else shape, *numbers))
    return found


def mlp(*sizes: int) -> tuple[Layer, ...]:
    """Dense layers with relu in between."""
    *hidden, last = sizes
    return (*(layer for units in hidden for layer in (("dense", units), ("relu",))), ("dense", last))


def normed(filters: int) -> tuple[Layer, ...]:
    """A 3x3 convolution with its normalisation and relu."""
    return ("conv", filters, 3), ("batchnorm",), ("relu",)


HEAD: tuple[Layer, ...] = (("flatten",), *mlp(128, 10))
LENET: tuple[Layer, ...] = (("conv", 16, 5), ("relu",), ("pool",), ("conv", 32, 5), ("relu",), ("pool",), *HEAD)
CONVNET: tuple[Layer, ...] = (
    *normed(32), *normed(64), ("pool",), *normed(128), ("pool",), *normed(128), ("global_pool",), ("dense", 10),
)  # fmt: skip
LSTM: tuple[Layer, ...] = ("embedding", 65, 64), ("lstm", 128), ("dense", 65)
GPT: tuple[Layer, ...] = (
    ("embedding", 65, 128), ("positions",), *[("block", 4)] * 4, ("layernorm",), ("dense", 65),
)  # fmt: skip
