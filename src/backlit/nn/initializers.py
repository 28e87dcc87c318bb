"""First values of parameters. A weight W[O, …, I] has fan_in, its entries into one neuron, and fan_out likewise.

Sources: Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010
(Xavier); He, Zhang, Ren, Sun: Delving deep into rectifiers, ICCV 2015 (He/Kaiming); LeCun, Bottou, Orr, Müller:
Efficient BackProp, 1998 (LeCun); Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in
deep linear networks, ICLR 2014 (orthogonal).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.core.types import Array, Shape

Generator: TypeAlias = np.random.Generator


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight ``W[O, …, I]``: field·I and field·O, the field being the axes between."""
    if len(shape) < 2:
        raise InputError("initializer_shape", expected="W[O, …, I]", got=f"W{list(shape)}")
    field = math.prod(shape[1:-1])
    return field * shape[-1], field * shape[0]


@dataclass(frozen=True)
class Zeros:
    """All 0."""

    def __call__(self, _rng: Generator, shape: Shape) -> Array:
        return np.zeros(shape)


@dataclass(frozen=True)
class Constant:
    """All ``value``."""

    value: float

    def __call__(self, _rng: Generator, shape: Shape) -> Array:
        return np.full(shape, float(self.value))


@dataclass(frozen=True)
class Normal:
    """Gaussian with mean 0 and standard deviation ``std``."""

    std: float = 0.01

    def __call__(self, rng: Generator, shape: Shape) -> Array:
        return rng.normal(0.0, self.std, shape)


@dataclass(frozen=True)
class Uniform:
    """Uniform on [-``limit``, ``limit``]."""

    limit: float = 0.05

    def __call__(self, rng: Generator, shape: Shape) -> Array:
        return rng.uniform(-self.limit, self.limit, shape)


@dataclass(frozen=True)
class VarianceScaling:
    """Mean 0, variance ``scale`` / fan, ``fan`` being in, out or their mean; Gaussian, or uniform on ±√(3·variance)."""

    scale: float
    fan: str
    uniform: bool

    def __call__(self, rng: Generator, shape: Shape) -> Array:
        fan_in, fan_out = fans(shape)
        size = {"in": fan_in, "out": fan_out, "mean": (fan_in + fan_out) / 2}[self.fan]
        std = math.sqrt(self.scale / max(size, 1))
        return (
            rng.uniform(-math.sqrt(3) * std, math.sqrt(3) * std, shape) if self.uniform else rng.normal(0.0, std, shape)
        )


@dataclass(frozen=True)
class Orthogonal:
    """Rows (or columns, if fewer) orthonormal times ``gain``: Q of a Gaussian matrix's QR, signs made unique."""

    gain: float = 1.0

    def __call__(self, rng: Generator, shape: Shape) -> Array:
        fans(shape)
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


Initializer: TypeAlias = Callable[[Generator, Shape], Any]

NAMED: dict[str, Initializer] = {
    "zeros": Zeros(),
    "ones": Constant(1.0),
    "normal": Normal(),
    "uniform": Uniform(),
    "xavier_normal": VarianceScaling(1.0, "mean", uniform=False),
    "xavier_uniform": VarianceScaling(1.0, "mean", uniform=True),
    "he_normal": VarianceScaling(2.0, "in", uniform=False),
    "he_uniform": VarianceScaling(2.0, "in", uniform=True),
    "lecun_normal": VarianceScaling(1.0, "in", uniform=False),
    "lecun_uniform": VarianceScaling(1.0, "in", uniform=True),
    "orthogonal": Orthogonal(),
}
NAMED |= {
    name.replace(old, new): NAMED[name]
    for old, new in (("xavier", "glorot"), ("he_", "kaiming_"))
    for name in list(NAMED)
    if old in name
}

_RECTIFYING = {"relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "softplus"}


def get(choice: str | float | Initializer) -> Initializer:
    """The initialiser of that name, a constant for a number, or ``choice`` itself if it can be called."""
    if isinstance(choice, int | float):
        return Constant(float(choice))
    return lookup(NAMED, choice, "initializer") if isinstance(choice, str) else choice


def for_activation(activation: str | None) -> Initializer:
    """The usual choice: He for rectifying activations, LeCun for selu, Xavier for all others."""
    name = "he_normal" if activation in _RECTIFYING else "lecun_normal" if activation == "selu" else "xavier_uniform"
    return NAMED[name]
