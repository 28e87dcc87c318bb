"""Layers of sequences that look at themselves: embeddings, positions, attention, transformer blocks.

Sequences are x[N, T, D]: T positions of width D. Tokens are whole numbers ids[N, T]; an input that an embedding reads
stays an integer array. A mask[N, S] (or [N, T, S], one row for each query) is 1 where a position may be seen and 0
where it is padding; a mask that hides every position is refused.
"""

# ruff: noqa: D403  a docstring begins with the formula

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.graph.functions import builder_of
from backlit.graph.symbolic import Symbolic
from backlit.nn import initializers
from backlit.nn.initializers import Initializer, Normal, Zeros
from backlit.nn.layer import Layer, Scope, activation_name, features, require_count, require_range
from backlit.nn.layers import Dense, Dropout, LayerNorm


@dataclass(frozen=True, eq=False, repr=False)
class Embedding(Layer):
    """a = E[ids]: row ids of the table E[n, d]. Input ids[N, …], whole numbers from 0 to n - 1; output [N, …, d].

    E starts as ``init`` says, Gaussian with standard deviation 1 unless told. PyTorch's ``Embedding.weight`` is E as it
    is. An id out of range is refused where data come in (InputError BL170).

    With ``sparse`` training keeps the gradient as the rows that the batch read, and updates these rows alone: the
    others keep their values and their optimizer state, so momentum, weight decay and penalties reach a row only in
    steps that read it. Adam is then "lazy" as PyTorch's SparseAdam, except that eps is added to the root of the
    corrected v, as in :class:`backlit.Adam`; plain SGD is the same as without. Everything that shows gradients shows
    the whole array. A sparse table cannot be tied (InputError BL332).

    Source: Bengio, Ducharme, Vincent, Jauvin: A neural probabilistic language model, JMLR 3, 2003.
    """

    n: int
    d: int
    init: str | float | Initializer | None = field(default=None, kw_only=True)
    sparse: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for option in ("n", "d"):
            object.__setattr__(self, option, require_count(self.name or "Embedding", option, getattr(self, option)))

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (ids,) = inputs
        return scope.node("a", "embedding", ids, self._table(scope))

    def logits(self, h: Any) -> Symbolic:
        """z = E h for h[N, …, d]: how well h fits each row, [N, …, n], with the same table (weight tying).

        Source: Press, Wolf: Using the output embedding to improve language models, EACL 2017.
        """
        builder = builder_of(h)
        if self.sparse:
            raise InputError("sparse_tied", where=self.name or self.kind, got="sparse=True")
        if builder is None:
            raise InputError("layer_on_array", where=self.name or self.kind, got=type(h).__name__)
        with builder.layer(self, self.kind, self.name) as (owner, prefix):
            scope = Scope(builder, owner, prefix)
            return scope.node("z", "linear", h, self._table(scope))

    def _table(self, scope: Scope) -> Symbolic:
        init = Normal(1.0) if self.init is None else initializers.get(self.init)
        return scope.parameter("E", (self.n, self.d), init, sparse=self.sparse)


@dataclass(frozen=True, eq=False, repr=False)
class PositionalEmbedding(Layer):
    """a = x + P[t]: a learned vector for each position, P[length, D]. Input x[N, T, D] with T up to ``length``.

    P starts Gaussian with standard deviation 0.02 unless ``init`` says otherwise. InputError BL330 for a longer
    sequence. Source: Gehring et al.: Convolutional sequence to sequence learning, ICML 2017, section 3.1.
    """

    length: int
    init: str | float | Initializer | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", require_count(self.name or "PositionalEmbedding", "length", self.length))

    @property
    def kind(self) -> str:
        return "positions"

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        T, D = _sequence(scope, x)
        if self.length < T:
            raise InputError(
                "position_table", where=scope.prefix, expected=f"T ≤ {self.length}", got=f"x{list(x.shape)}"
            )
        init = Normal(0.02) if self.init is None else initializers.get(self.init)
        P = scope.parameter("P", (self.length, D), init)
        rows = P if self.length == T else scope.node("rows", "slice", P, index=(slice(0, T),))
        return scope.node("a", "add", x, rows)


@dataclass(frozen=True, eq=False, repr=False)
class SinusoidalPositions(Layer):
    """a = x + P[t], P[t, 2i] = sin(t / base^(2i/D)), P[t, 2i+1] = cos(t / base^(2i/D)): nothing is learned.

    Input x[N, T, D] of any length. Source: Vaswani et al.: Attention is all you need, NeurIPS 2017, section 3.5.
    """

    base: float = 10000.0

    def __post_init__(self) -> None:
        require_range(self.name or "SinusoidalPositions", "base", self.base, 1.0, math.inf)

    @property
    def kind(self) -> str:
        return "positions"

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        return scope.node("a", "add", x, _waves(*_sequence(scope, x), self.base))


def _waves(T: int, D: int, base: float) -> Array:
    """P[T, D], sines in the even columns and cosines in the odd ones."""
    pair = np.arange(D) // 2
    angle = np.arange(T)[:, None] / base ** (2 * pair / D)
    return np.where(np.arange(D) % 2 == 0, np.sin(angle), np.cos(angle))


def _sequence(scope: Scope, x: Symbolic) -> tuple[int, int]:
    """(T, D) of x[N, T, D]; InputError where x is no sequence."""
    if x.ndim != 3:
        raise InputError("no_sequence", where=scope.prefix, got=f"x{list(x.shape)}")
    return x.shape[1], x.shape[2]


class _Masked(Layer):
    """A layer that takes a mask by keyword; its stage gets it last, None where there is none."""

    takes = None

    def __call__(self, *inputs: Any, mask: Any = None) -> Symbolic:
        return super().__call__(*inputs, mask)

    def _split(self, scope: Scope, inputs: tuple[Any, ...], most: int) -> tuple[Any, Any, Any]:
        """(x, memory or None, mask or None); InputError for another number of inputs."""
        *values, mask = inputs
        if not 1 <= len(values) <= most:
            expected = "x" if most == 1 else "x | x, memory"
            raise InputError("layer_inputs", where=scope.prefix, expected=expected, got=str(len(values)))
        return values[0], values[1] if len(values) > 1 else None, mask


@dataclass(frozen=True, eq=False, repr=False)
class MultiHeadAttention(_Masked):
    """out = Wo a + bo, a = softmax(q kᵀ / √(D/heads)) v in each head: every position takes what it looks for in others.

    ``layer(x, mask=None)`` is self-attention: (q, k, v) = Wqkv x + bqkv with Wqkv[3D, D]. ``layer(x, memory,
    mask=None)`` looks at another sequence memory[N, S, M]: q = Wq x + bq, (k, v) = Wkv memory + bkv with Wq[D, D],
    Wkv[2D, M]. Input x[N, T, D], output [N, T, D]; the weights are the value ``weights``[N, heads, T, S]. With
    ``causal`` position t sees positions up to t. ``heads`` must divide D (InputError BL172); ``bias=False`` leaves the
    biases out; weights start as ``init`` says, Xavier unless told.

    Of PyTorch's ``MultiheadAttention`` in_proj_weight is Wqkv and out_proj.weight is Wo, as they are; for another
    sequence the first D rows of in_proj_weight are Wq, the others Wkv.
    Source: Vaswani et al.: Attention is all you need, NeurIPS 2017, section 3.2.2.
    """

    heads: int
    causal: bool = False
    bias: bool = field(default=True, kw_only=True)
    init: str | float | Initializer = field(default="xavier_uniform", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", require_count(self.name or "MultiHeadAttention", "heads", self.heads))
        initializers.get(self.init)

    @property
    def kind(self) -> str:
        return "attention"

    def stage(self, scope: Scope, *inputs: Any) -> Symbolic:
        x, memory, mask = self._split(scope, inputs, 2)
        _, D = _sequence(scope, x)
        q, k, v = self._own(scope, x, D) if memory is None else self._across(scope, x, memory, D)
        a = scope.node("a", "attention", q, k, v, mask, heads=self.heads, causal=self.causal)
        return self._project(scope, "out", "o", a, D)

    def _own(self, scope: Scope, x: Symbolic, D: int) -> list[Symbolic]:
        return _thirds(scope, self._project(scope, "qkv", "qkv", x, 3 * D), "qkv")

    def _across(self, scope: Scope, x: Symbolic, memory: Symbolic, D: int) -> list[Symbolic]:
        _sequence(scope, memory)
        q = self._project(scope, "q", "q", x, D)
        return [q, *_thirds(scope, self._project(scope, "kv", "kv", memory, 2 * D), "kv")]

    def _project(self, scope: Scope, value: str, name: str, x: Symbolic, width: int) -> Symbolic:
        W = scope.parameter(f"W{name}", (width, x.shape[-1]), initializers.get(self.init))
        b = scope.parameter(f"b{name}", (width,), Zeros()) if self.bias else None
        return scope.node(value, "linear", x, W, b)


def _thirds(scope: Scope, joined: Symbolic, names: str) -> list[Symbolic]:
    """The parts of the last axis, one for each letter of ``names``."""
    D = joined.shape[-1] // len(names)
    parts = ((name, slice(i * D, (i + 1) * D)) for i, name in enumerate(names))
    return [scope.node(name, "slice", joined, index=(..., part)) for name, part in parts]


@dataclass(frozen=True, eq=False, repr=False)
class TransformerBlock(_Masked):
    """h = x + attention(norm1(x)), a = h + mlp2(gelu(mlp1(norm2(h)))): normalised first, residual twice.

    ``block(x, mask=None)``; input and output [N, T, D]. The hidden layer mlp1 has ``mlp_ratio`` · D units;
    ``activation`` replaces gelu. ``dropout`` is the share of entries that each branch loses in training before it is
    added. Parameters are named by their part: ``block1.norm1.gamma``, ``block1.attention.Wqkv``, ``block1.mlp1.W``.

    It is PyTorch's ``TransformerEncoderLayer(D, heads, mlp_ratio * D, activation="gelu", norm_first=True,
    batch_first=True)``: self_attn is attention, linear1 and linear2 are mlp1 and mlp2, norm1 and norm2 themselves; that
    layer's dropout also falls on attention weights and on the hidden layer, which this one's does not.
    Sources: Vaswani et al., NeurIPS 2017; Xiong et al.: On layer normalization in the transformer architecture, ICML
    2020 (norms first); Hendrycks, Gimpel, 2016 (gelu).
    """

    heads: int
    mlp_ratio: float = 4
    causal: bool = False
    dropout: float = field(default=0.0, kw_only=True)
    activation: str = field(default="gelu", kw_only=True)

    def __post_init__(self) -> None:
        where = self.name or type(self).__name__
        object.__setattr__(self, "heads", require_count(where, "heads", self.heads))
        require_range(where, "mlp_ratio", self.mlp_ratio, 1e-9, math.inf)
        require_range(where, "dropout", self.dropout, 0.0, 1.0)
        activation_name(self.activation)

    @property
    def kind(self) -> str:
        return "block"

    def stage(self, scope: Scope, *inputs: Any) -> Symbolic:
        x, _, mask = self._split(scope, inputs, 1)
        return self._mlp(scope, 2, self._self_attention(scope, x, mask))

    def _self_attention(self, scope: Scope, x: Symbolic, mask: Any) -> Symbolic:
        """x + attention(norm1(x))."""
        attention, normed = MultiHeadAttention(self.heads, self.causal), self._norm(scope, 1, x)
        return self._add(scope, 1, "h", x, attention.stage(scope.part("attention"), normed, mask))

    def _mlp(self, scope: Scope, number: int, x: Symbolic) -> Symbolic:
        """x + mlp2(f(mlp1(norm(x))))."""
        D = features(scope, x)
        hidden = Dense(max(1, round(self.mlp_ratio * D)), self.activation)
        found = hidden.stage(scope.part("mlp1"), self._norm(scope, number, x))
        return self._add(scope, number, "a", x, Dense(D).stage(scope.part("mlp2"), found))

    def _norm(self, scope: Scope, number: int, x: Symbolic) -> Symbolic:
        return LayerNorm().stage(scope.part(f"norm{number}"), x)

    def _add(self, scope: Scope, number: int, value: str, x: Symbolic, branch: Symbolic) -> Symbolic:
        return scope.node(value, "add", x, Dropout(self.dropout).stage(scope.part(f"dropout{number}"), branch))


@dataclass(frozen=True, eq=False, repr=False)
class TransformerDecoderBlock(TransformerBlock):
    """h = x + attention(norm1(x)), h2 = h + cross(norm2(h), memory), a = h2 + mlp2(gelu(mlp1(norm3(h2)))).

    ``block(x, memory, mask=None, memory_mask=None)``: x[N, T, D] looks at itself, at positions up to its own
    (``causal``, True unless told), then at memory[N, S, M]; ``mask``[N, T] hides positions of x, ``memory_mask``[N, S]
    of memory. Options and PyTorch's ``TransformerDecoderLayer(…, norm_first=True)`` as for :class:`TransformerBlock`;
    multihead_attn is cross.
    """

    causal: bool = True

    @property
    def kind(self) -> str:
        return "decoder"

    def __call__(self, *inputs: Any, mask: Any = None, memory_mask: Any = None) -> Symbolic:
        return Layer.__call__(self, *inputs, memory_mask, mask)

    def stage(self, scope: Scope, *inputs: Any) -> Symbolic:
        *rest, memory_mask, mask = inputs
        x, memory, _ = self._split(scope, (*rest, mask), 2)
        if memory is None:
            raise InputError("layer_inputs", where=scope.prefix, expected="x, memory", got="1")
        h = self._self_attention(scope, x, mask)
        cross, normed = MultiHeadAttention(self.heads), self._norm(scope, 2, h)
        h2 = self._add(scope, 2, "h2", h, cross.stage(scope.part("cross"), normed, memory, memory_mask))
        return self._mlp(scope, 3, h2)
