"""Layers that keep training in bounds: weights reparametrised by their norms, and blocks left out at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from backlit import rules
from backlit.core.errors import InputError
from backlit.core.types import Array, Shape
from backlit.graph.builder import Initializer
from backlit.graph.symbolic import Symbolic
from backlit.nn.layer import Layer, Scope, require_range

WEIGHTS = "W"
"""The parameter that is normalised: that of Dense and of the convolutions."""

WARM_UP = 15
"""Power iterations on the first value of W, as many as PyTorch does."""


@dataclass(frozen=True, eq=False, repr=False)
class StochasticDepth(Layer):
    """a = x m_n in training, m_n = 0 for a whole sample at probability ``rate`` and 1/(1 - rate) else; else a = x.

    Last in a residual block, it leaves the block out: ``bl.Residual(bl.Dense(64, "relu"), bl.StochasticDepth(0.2))``.
    As torchvision's ``stochastic_depth(mode="row")``. Source: Huang et al.: Deep networks with stochastic depth, ECCV
    2016. The mask is drawn from (seed, step, name).
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        require_range(self.name or "StochasticDepth", "rate", self.rate, 0.0, 1.0)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        if not scope.builder.training or self.rate == 0.0:
            return x
        return scope.node("a", "dropout", x, scope.mask((x.shape[0], *(1,) * (x.ndim - 1)), self.rate))


@dataclass(frozen=True)
class Reparametrized(Scope):
    """A layer's scope in which ``W`` is not a parameter but made from one."""

    make: Callable[[Scope, Shape, Initializer], Symbolic]
    made: list[Symbolic] = field(default_factory=list)

    def parameter(self, name: str, shape: Shape, init: Initializer, *, sparse: bool = False) -> Symbolic:
        if name != WEIGHTS:
            return super().parameter(name, shape, init, sparse=sparse)
        self.made.append(self.make(Scope(self.builder, self.owner, self.prefix), shape, init))
        return self.made[-1]


@dataclass(frozen=True, eq=False, repr=False)
class Wrapper(Layer):
    """Base of layers that are another layer with other weights; it has the other's name and is counted as that."""

    layer: Layer
    takes: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Layer):
            raise InputError("no_layers", where=type(self).__name__, got=repr(self.layer))
        object.__setattr__(self, "name", self.name or self.layer.name)
        object.__setattr__(self, "trainable", self.trainable and self.layer.trainable)

    @property
    def kind(self) -> str:
        return self.layer.kind

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        if self.layer.takes not in (None, len(inputs)):
            raise InputError("layer_inputs", where=scope.prefix, expected=str(self.layer.takes), got=str(len(inputs)))
        inner = Reparametrized(scope.builder, scope.owner, scope.prefix, self.weights)
        output = self.layer.stage(inner, *inputs)
        if not inner.made:
            raise InputError("norm_weights", where=scope.prefix, kind=type(self).__name__, got=repr(self.layer))
        return output

    def weights(self, scope: Scope, shape: Shape, init: Initializer) -> Symbolic:
        """The weights W[O, …] that the layer computes with; each kind defines it."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class WeightNorm(Wrapper):
    """W_o = g_o v_o / ‖v_o‖ for each unit or channel o of the layer inside: length and direction trained apart.

    Parameters v[O, …] and g[O] in place of W; g starts at ‖v‖, so that training starts from the layer's own W.
    PyTorch's ``parametrizations.weight.original0`` (flat) and ``original1`` are g and v. Source: Salimans, Kingma:
    Weight normalization, NeurIPS 2016.
    """

    def weights(self, scope: Scope, shape: Shape, init: Initializer) -> Symbolic:
        first = _Lengths(init)
        v = scope.parameter("v", shape, first.of_v)
        g = scope.parameter("g", shape[:1], first.of_g)
        return scope.node(WEIGHTS, "weight_norm", v, g)


@dataclass
class _Lengths:
    """First values of v, and of g = ‖v‖, which are made after them."""

    init: Initializer
    lengths: Array = None

    def of_v(self, rng: np.random.Generator, shape: Shape) -> Array:
        v = self.init(rng, shape)
        self.lengths = np.linalg.norm(np.reshape(v, (len(v), -1)), axis=1)
        return v

    def of_g(self, _rng: np.random.Generator, _shape: Shape) -> Array:
        return self.lengths


@dataclass(frozen=True, eq=False, repr=False)
class SpectralNorm(Wrapper):
    """The layer inside computes with W/σ, σ = uᵀ W v about the largest singular value of W[O, …] as a matrix.

    u[O] and v[…] are state. They start close to the first singular vectors, and each training step moves them by one
    power iteration, u ← W v, v ← Wᵀ u, each of length 1, for the next step: with u and v given, the gradient is exactly
    that of the loss. PyTorch's ``parametrizations.spectral_norm`` iterates before it uses them, so its σ is one
    iteration ahead; its ``_u`` and ``_v`` (flat) are u and v. Source: Miyato et al., ICLR 2018.
    """

    def weights(self, scope: Scope, shape: Shape, init: Initializer) -> Symbolic:
        first = _Singular(init)
        W = scope.parameter(WEIGHTS, shape, first.of_W)
        v, u = scope.state("v", shape[1:], first.of_v), scope.state("u", shape[:1], first.of_u)
        if scope.builder.training:
            moved = scope.nodes("u_next", "power_iteration", W, scope.builder.latest(v))
            for old, new in zip((u, v), moved, strict=True):
                scope.builder.update(old, new)
        return scope.node("W_sn", "spectral_norm", W, u, v)


@dataclass
class _Singular:
    """First values of W, and of v and u, which are made from it."""

    init: Initializer
    W: Array = None
    u: Array = None

    def of_W(self, rng: np.random.Generator, shape: Shape) -> Array:  # noqa: N802
        self.W = np.asarray(self.init(rng, shape))
        return self.W

    def of_v(self, rng: np.random.Generator, shape: Shape) -> Array:
        v: Any = rng.standard_normal(shape)
        for _ in range(WARM_UP):
            self.u, v = rules.get("power_iteration").call(np, self.W, v, eps=1e-12)
        return v

    def of_u(self, _rng: np.random.Generator, _shape: Shape) -> Array:
        return self.u
