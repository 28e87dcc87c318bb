"""The layers: each states its formulas; the mathematics is in the rules it names."""

# ruff: noqa: D403  a docstring begins with the formula, in the notation: a = f(x)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from backlit import rules
from backlit.core.errors import InputError
from backlit.graph.symbolic import Symbolic
from backlit.nn import initializers
from backlit.nn.initializers import Constant, Initializer, Zeros
from backlit.nn.layer import Layer, Scope, activation_name, features, require_count, require_range


@dataclass(frozen=True, eq=False, repr=False)
class Dense(Layer):
    """z = W a_prev + b, a = f(z). Input x[N, …, I], W[units, I], b[units], output [N, …, units].

    ``activation`` names f; ``init`` the initialiser of W (by activation unless told: He for rectifying ones, LeCun for
    selu, else Xavier); b starts at 0, and is left out with ``bias=False``. PyTorch's ``Linear.weight`` is W as it is.
    """

    units: int
    activation: str | None = None
    bias: bool = True
    init: str | float | Initializer | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", require_count(self.name or "Dense", "units", self.units))
        object.__setattr__(self, "activation", activation_name(self.activation))

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        init = initializers.for_activation(self.activation) if self.init is None else initializers.get(self.init)
        W = scope.parameter("W", (self.units, features(scope, x)), init)
        b = scope.parameter("b", (self.units,), Zeros()) if self.bias else None
        return scope.activate(self.activation, scope.node("z", "linear", x, W, b))


@dataclass(frozen=True, eq=False, repr=False)
class Activation(Layer):
    """a = f(x) for every entry (softmax: along the last axis); ``options`` are the rule's attributes: ``slope``, …."""

    function: str
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple((str(k), v) for k, v in self.options))
        object.__setattr__(self, "function", activation_name(self.function) or "linear")
        known = () if self.function == "linear" else rules.get(self.function).attributes
        if not dict(self.options).keys() <= set(known):
            want, got = (", ".join(names) for names in (("x", *known), dict(self.options)))
            where = self.name or "Activation"
            raise InputError("rule_call", where=where, rule=self.function, expected=f"{self.function}({want})", got=got)

    @property
    def kind(self) -> str:
        return self.function

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        return x if self.function == "linear" else scope.node("a", self.function, x, **dict(self.options))

    def __repr__(self) -> str:
        if self.function not in _MAKERS:
            return super().__repr__()
        maker, given = _MAKERS[self.function]
        defaults = rules.get(self.function).defaults
        options = [f"{name}={value!r}" for name, value in self.options if value != defaults[name]]
        common = [t for t in self._told() if t.startswith(("name=", "trainable="))]
        return f"{maker}({', '.join([*given, *options, *common])})"


_MAKERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "relu": ("ReLU", ()),
    "leaky_relu": ("LeakyReLU", ()),
    "elu": ("ELU", ()),
    "selu": ("SELU", ()),
    "sigmoid": ("Sigmoid", ()),
    "tanh": ("Tanh", ()),
    "softplus": ("Softplus", ()),
    "gelu": ("GELU", ()),
    "gelu_tanh": ("GELU", ("approximate=True",)),
    "silu": ("SiLU", ()),
    "mish": ("Mish", ()),
    "softmax": ("Softmax", ()),
}
"""Activation -> the function below that makes its layer, and what that is given."""


def ReLU(*, name: str | None = None) -> Activation:
    """a = max(x, 0)."""
    return Activation("relu", name=name)


def LeakyReLU(slope: float = 0.01, *, name: str | None = None) -> Activation:
    """a = x for x > 0, else slope·x."""
    return Activation("leaky_relu", (("slope", slope),), name=name)


def ELU(alpha: float = 1.0, *, name: str | None = None) -> Activation:
    """a = x for x > 0, else alpha·(eˣ - 1)."""
    return Activation("elu", (("alpha", alpha),), name=name)


def SELU(*, name: str | None = None) -> Activation:
    """a = 1.0507·x for x > 0, else 1.7581·(eˣ - 1): the self-normalising exponential linear unit."""
    return Activation("selu", name=name)


def Sigmoid(*, name: str | None = None) -> Activation:
    """a = 1 / (1 + e⁻ˣ)."""
    return Activation("sigmoid", name=name)


def Tanh(*, name: str | None = None) -> Activation:
    """a = tanh x."""
    return Activation("tanh", name=name)


def Softplus(*, name: str | None = None) -> Activation:
    """a = ln(1 + eˣ)."""
    return Activation("softplus", name=name)


def GELU(*, approximate: bool = False, name: str | None = None) -> Activation:
    """a = x·Φ(x), with the tanh form of Φ where ``approximate``."""
    return Activation("gelu_tanh" if approximate else "gelu", name=name)


def SiLU(*, name: str | None = None) -> Activation:
    """a = x·sigmoid(x)."""
    return Activation("silu", name=name)


def Mish(*, name: str | None = None) -> Activation:
    """a = x·tanh(softplus(x))."""
    return Activation("mish", name=name)


def Softmax(axis: int = -1, *, name: str | None = None) -> Activation:
    """a = eˣ / Σ eˣ along ``axis``: probabilities. For training end with logits and take softmax_cross_entropy."""
    return Activation("softmax", (("axis", axis),), name=name)


@dataclass(frozen=True, eq=False, repr=False)
class Dropout(Layer):
    """a = x ⊙ m in training, with m = 0 at probability ``rate`` and 1/(1 - rate) else; a = x at inference.

    Source: Srivastava et al.: Dropout, JMLR 15, 2014 (inverted form). The mask is drawn from (seed, step, name).
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        require_range(self.name or "Dropout", "rate", self.rate, 0.0, 1.0)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        if not scope.builder.training or self.rate == 0.0:
            return x
        return scope.node("a", "dropout", x, scope.mask(x.shape, self.rate))


@dataclass(frozen=True, eq=False, repr=False)
class BatchNorm(Layer):
    """a = gamma ⊙ (x - mean)/√(var + eps) + beta per channel (last axis); mean and var over all other axes.

    In training they are the batch's, and ``running_mean``, ``running_var`` move by ``momentum`` towards them (var
    unbiased, as in PyTorch); inference uses the running ones. Source: Ioffe, Szegedy: Batch normalization, ICML 2015.
    """

    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        require_range(self.name or "BatchNorm", "momentum", self.momentum, 0.0, 1.0, closed=True)
        require_range(self.name or "BatchNorm", "eps", self.eps, 0.0, math.inf)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        channels = (features(scope, x),)
        gamma, beta = scope.parameter("gamma", channels, Constant(1.0)), scope.parameter("beta", channels, Zeros())
        mean, var = scope.state("running_mean", channels, Zeros()), scope.state("running_var", channels, Constant(1.0))
        if not scope.builder.training:
            return scope.node("a", "batchnorm_inference", x, gamma, beta, mean, var, eps=self.eps)
        outputs = scope.nodes("a", "batchnorm", x, gamma, beta, eps=self.eps)
        named = {o.name.rsplit(".", 1)[1]: o for o in outputs}
        count = math.prod(x.shape[:-1])
        for old, new, scale in ((mean, "mean", 1.0), (var, "var", count / max(count - 1, 1))):
            kind = old.name.rsplit(".", 1)[1]
            last = scope.builder.latest(old)
            moved = scope.node(f"{kind}.next", "running_average", last, named[new], momentum=self.momentum, scale=scale)
            scope.builder.update(old, moved)
        return outputs[0]


@dataclass(frozen=True, eq=False, repr=False)
class LayerNorm(Layer):
    """a = gamma ⊙ (x - mean)/√(var + eps) + beta, mean and var over the last axis of each sample.

    Source: Ba, Kiros, Hinton: Layer normalization, 2016.
    """

    eps: float = 1e-5

    def __post_init__(self) -> None:
        require_range(self.name or "LayerNorm", "eps", self.eps, 0.0, math.inf)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        width = (features(scope, x),)
        gamma, beta = scope.parameter("gamma", width, Constant(1.0)), scope.parameter("beta", width, Zeros())
        return scope.node("a", "layernorm", x, gamma, beta, eps=self.eps)


@dataclass(frozen=True, eq=False, repr=False)
class RMSNorm(Layer):
    """a = gamma ⊙ x/√(mean(x²) + eps) over the last axis. Source: Zhang, Sennrich, NeurIPS 2019."""

    eps: float = 1e-6

    def __post_init__(self) -> None:
        require_range(self.name or "RMSNorm", "eps", self.eps, 0.0, math.inf)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        gamma = scope.parameter("gamma", (features(scope, x),), Constant(1.0))
        return scope.node("a", "rmsnorm", x, gamma, eps=self.eps)


@dataclass(frozen=True, eq=False, repr=False)
class Flatten(Layer):
    """x[N, …] to [N, F], samples kept apart."""

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        return scope.node("a", "reshape", x, shape=(x.shape[0], math.prod(x.shape[1:])))


@dataclass(frozen=True, eq=False, repr=False)
class Reshape(Layer):
    """x[N, …] to [N, *shape]."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        return scope.node("a", "reshape", x, shape=(x.shape[0], *self.shape))


@dataclass(frozen=True, eq=False, repr=False)
class Add(Layer):
    """The sum of two or more values."""

    takes = None

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        total = inputs[0]
        for i, x in enumerate(inputs[1:], start=2):
            total = scope.node("a" if i == len(inputs) else f"sum{i}", "add", total, x)
        return total


@dataclass(frozen=True, eq=False, repr=False)
class Concatenate(Layer):
    """The values one after another along ``axis``."""

    axis: int = -1
    takes = None

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        return scope.node("a", "concatenate", *inputs, axis=self.axis)
