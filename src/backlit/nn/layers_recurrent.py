"""Recurrent layers over sequences x[N, T, I]: RNN, LSTM, GRU, one or both directions, one layer or several.

Each direction of each layer is a part: its input products z = x Wᵀ + b of all steps are a node ``linear``, the walk
along time is the node ``rnn``, ``lstm`` or ``gru``. A layer of one part has all names to itself (``lstm1.W``,
``lstm1.z``, ``lstm1.a``); otherwise parts are called ``forward`` and ``backward``, ``layer1``, ``layer2``, …
(``lstm1.layer2.backward.W``). δ = ∂L/∂z of a part is the error term of every gate at every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Shape
from backlit.graph import functions
from backlit.graph.symbolic import Symbolic
from backlit.nn import initializers
from backlit.nn.initializers import Initializer, Zeros
from backlit.nn.layer import Layer, Scope, require_count

ALL = slice(None)
BACKWARDS = (ALL, slice(None, None, -1))
LAST = (ALL, -1)


@dataclass(frozen=True)
class PerGate:
    """W[G·U, …] of which every gate's block is drawn by itself."""

    init: Initializer
    gates: int

    def __call__(self, rng: np.random.Generator, shape: Shape) -> Array:
        block = (shape[0] // self.gates, *shape[1:])
        return np.concatenate([self.init(rng, block) for _ in range(self.gates)])


@dataclass(frozen=True)
class OpenForgetGate:
    """b[4U]: 1 for the forget gate, 0 for the others.

    Source: Jozefowicz, Zaremba, Sutskever: An empirical exploration of recurrent network architectures, ICML 2015.
    """

    def __call__(self, _rng: np.random.Generator, shape: Shape) -> Array:
        return np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4)


@dataclass(frozen=True, eq=False, repr=False)
class Recurrent(Layer):
    """What the recurrent layers share. Called as ``layer(x)``, ``layer(x, mask)``, ``layer(x, state=…)``.

    Input x[N, T, I]; output [N, T, units], or [N, units], the state after the last step, with
    ``return_sequences=False``. ``bidirectional`` walks the sequence backwards too, with weights of its own, and puts
    both outputs side by side: [N, …, 2·units]. ``layers`` are stacked, each on the output of the one below.

    ``mask[N, T]`` is 1 for steps that count and 0 for padding, at the end or in front: the output there is 0, and the
    last step is the last one that counts, as with PyTorch's packed sequences. A sequence that is masked altogether is
    refused (InputError BL122).

    ``state`` is the initial state, 0 unless given: one h0[N, units] (for LSTM h0 and c0) for each part, in a row:
    layer by layer, forward before backward. With ``return_state`` the layer gives (output, state), the state after the
    last step in that same row, which another layer of the same kind begins with; gradients flow back through it::

        seen, state = bl.LSTM(64, return_state=True)(x)  # an encoder
        said = bl.LSTM(64)(y, state=state)  # its decoder

    Truncated backpropagation through time: ``truncate=k`` cuts the gradient at every k-th step; values do not change.
    ``stateful=N`` carries the state of N sequences from each training batch of N to the next, without gradient: row i
    of a batch goes on where row i of the batch before stopped (train without shuffling). Batches of another size, and
    inference, begin with 0. Source: Williams, Peng: Neural Computation 2, 1990.

    W starts Xavier uniform, U orthogonal, both gate by gate, biases 0 (LSTM's forget gate: 1).
    """

    units: int
    return_sequences: bool = True
    bidirectional: bool = False
    layers: int = field(default=1, kw_only=True)
    truncate: int | None = field(default=None, kw_only=True)
    stateful: int | None = field(default=None, kw_only=True)
    return_state: bool = field(default=False, kw_only=True)

    takes = None
    rule: ClassVar[str] = ""
    gates: ClassVar[int] = 1
    states: ClassVar[tuple[str, ...]] = ("h",)

    def __post_init__(self) -> None:
        where = self.name or type(self).__name__
        for option in ("units", "layers", "truncate", "stateful"):
            if (value := getattr(self, option)) is not None or option in ("units", "layers"):
                object.__setattr__(self, option, require_count(where, option, value))
        if self.stateful is not None and self.bidirectional:
            raise InputError("stateful_backward", where=where, got="bidirectional=True")

    def __call__(self, *inputs: Any, state: Any = None) -> Any:
        if not 1 <= len(inputs) <= 2:
            raise InputError("layer_inputs", where=self.name or self.kind, expected="1 | 2", got=str(len(inputs)))
        given = () if state is None else tuple(state) if isinstance(state, tuple | list) else (state,)
        return super().__call__(*inputs, *[None] * (2 - len(inputs)), *given)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Any:
        """The output, or (output, state of every part after its last step)."""
        x, mask, *given = inputs
        self._check(scope, x, mask, given)
        states, ends, state = iter(given), list[Symbolic](), list[Symbolic]()
        for part in self._parts(scope):
            made = [self._direction(place, x, mask, states, backwards=k == 1) for k, place in enumerate(part)]
            x, ends = _beside(scope, part, [a for a, _ in made]), [end[0] for _, end in made if end]
            state += (s for _, end in made for s in end)
        if not self.return_sequences:
            x = ends[0] if len(ends) == 1 else scope.node("last", "concatenate", *ends, axis=-1)
        return (x, tuple(state)) if self.return_state else x

    def _check(self, scope: Scope, x: Symbolic, mask: Symbolic | None, given: Sequence[Symbolic]) -> None:
        if x.ndim != 3:
            raise InputError("recurrent_input", where=scope.prefix, expected="x[N, T, I]", got=f"x{list(x.shape)}")
        wanted = len(self.states) * self.layers * (1 + self.bidirectional)
        if len(given) not in (0, wanted):
            raise InputError("recurrent_states", where=scope.prefix, expected=str(wanted), got=str(len(given)))
        if mask is not None and self.truncate is not None:
            raise InputError("truncate_mask", where=scope.prefix, got=f"truncate={self.truncate}")

    def _parts(self, scope: Scope) -> Iterator[list[Scope]]:
        """For each layer where its directions put their things."""
        directions = ["forward", "backward"] if self.bidirectional else [""]
        for k in range(1, self.layers + 1):
            numbered = f"layer{k}" if self.layers > 1 else ""
            yield [_inside(_inside(scope, numbered), direction) for direction in directions]

    def _direction(
        self, scope: Scope, x: Symbolic, mask: Symbolic | None, states: Iterator[Symbolic], *, backwards: bool
    ) -> tuple[Symbolic, list[Symbolic]]:
        """(outputs of all steps, what is wanted of the state after the last step) of one part."""
        x = scope.node("reversed", "slice", x, index=BACKWARDS) if backwards else x
        mask = scope.node("mask", "slice", mask, index=BACKWARDS) if backwards and mask is not None else mask
        W = scope.parameter("W", (self.gates * self.units, x.shape[2]), PerGate(_XAVIER, self.gates))
        U = scope.parameter("U", (self.gates * self.units, self.units), PerGate(_ORTHOGONAL, self.gates))
        z = scope.node("z", "linear", x, W, scope.parameter("b", W.shape[:1], self._first_bias()))
        start = [next(states, None) for _ in self.states]
        a, made = self._walk(scope, z, U, start, mask)
        ends = self._ends(scope, made, mask)
        return (scope.node("y", "slice", a, index=BACKWARDS) if backwards else a), ends

    def _walk(
        self, scope: Scope, z: Symbolic, U: Symbolic, start: list[Symbolic | None], mask: Symbolic | None
    ) -> tuple[Symbolic, list[Symbolic]]:
        """(h of all steps, the states of the last stretch): stretches where the gradient is truncated, else one.

        They begin with the carried state, if any.
        """
        carried = self._carried(scope, z.shape[0])
        start = [c if s is None else s for c, s in zip(carried, start, strict=True)]
        steps, length = z.shape[1], self.truncate or z.shape[1]
        if length >= steps:
            made = self._scan(scope, z, U, start, mask)
            self._carry(scope, made)
            return made[0], made
        hs = []
        for k, t in enumerate(range(0, steps, length), start=1):
            stretch = replace(scope, prefix=f"{scope.prefix}.stretch{k}")
            made = self._scan(stretch, z[:, t : t + length], U, start, mask)
            start = [functions.apply("stop_gradient", state[LAST]) for state in made]
            hs.append(made[0])
        self._carry(scope, made)
        return scope.node("a", "concatenate", *hs, axis=1), made

    def _scan(
        self, scope: Scope, z: Symbolic, U: Symbolic, start: Sequence[Symbolic | None], mask: Symbolic | None
    ) -> list[Symbolic]:
        """The rule's node: h and what else is a state."""
        return list(scope.nodes("a", self.rule, z, U, *start, mask))[: len(self.states)]

    def _carried(self, scope: Scope, batch: int) -> list[Symbolic | None]:
        """The state that the batch before left, where this one goes on from it."""
        if self.stateful is None:
            return [None] * len(self.states)
        held = [scope.state(f"{s}_last", (self.stateful, self.units), Zeros()) for s in self.states]
        return [scope.builder.latest(s) if scope.builder.training and batch == self.stateful else None for s in held]

    def _carry(self, scope: Scope, states: Sequence[Symbolic]) -> None:
        if self.stateful is None or not scope.builder.training or states[0].shape[0] != self.stateful:
            return
        for name, state in zip(self.states, states, strict=True):
            held = scope.state(f"{name}_last", (self.stateful, self.units), Zeros())
            scope.builder.update(held, scope.node(f"{name}_last.next", "slice", state, index=LAST))

    def _ends(self, scope: Scope, states: list[Symbolic], mask: Symbolic | None) -> list[Symbolic]:
        """At the last step that counts the whole state, or h alone; nothing where only the sequence is wanted."""
        wanted = states if self.return_state else [] if self.return_sequences else states[:1]
        named = list(zip(("last", "last_c"), wanted, strict=False))
        if mask is None:
            return [scope.node(name, "slice", state, index=LAST) for name, state in named]
        last = _last(mask) if named else mask
        return [scope.node(name, "sum", state * last, axis=1) for name, state in named]

    def _first_bias(self) -> Initializer:
        return Zeros()


@dataclass(frozen=True, eq=False, repr=False)
class RNN(Recurrent):
    """h_t = f(W x_t + U h_{t-1} + b), f = tanh or relu: the simple recurrent layer.

    PyTorch's ``weight_ih``, ``weight_hh`` are W[units, I], U[units, units]; b is ``bias_ih + bias_hh``.
    Source: Elman: Finding structure in time, Cognitive Science 14, 1990. See :class:`Recurrent` for the rest.
    """

    activation: str = field(default="tanh", kw_only=True)
    rule = "rnn"

    def _scan(
        self, scope: Scope, z: Symbolic, U: Symbolic, start: Sequence[Symbolic | None], mask: Symbolic | None
    ) -> list[Symbolic]:
        return list(scope.nodes("a", "rnn", z, U, *start, mask, activation=self.activation))


@dataclass(frozen=True, eq=False, repr=False)
class LSTM(Recurrent):
    """i, f, o = sigmoid(W x_t + U h_{t-1} + b), g = tanh(…), c_t = f ⊙ c_{t-1} + i ⊙ g, h_t = o ⊙ tanh(c_t).

    W[4·units, I], U[4·units, units], b[4·units], the gates in PyTorch's order i, f, g, o: ``weight_ih``, ``weight_hh``
    are W and U as they are, b is ``bias_ih + bias_hh``. The forget gate's bias starts at 1, so that the cell remembers
    before it has learned what to forget; in PyTorch it starts near 0.
    Source: Hochreiter, Schmidhuber: Long short-term memory, Neural Computation 9, 1997. See :class:`Recurrent`.
    """

    rule = "lstm"
    gates = 4
    states = ("h", "c")

    def _first_bias(self) -> Initializer:
        return OpenForgetGate()


@dataclass(frozen=True, eq=False, repr=False)
class GRU(Recurrent):
    """reset, update = sigmoid(W x_t + U h_{t-1} + b), new = tanh(W x_t + b + reset ⊙ (U h_{t-1} + b_n)).

    h_t = (1 - update) ⊙ new + update ⊙ h_{t-1}. W[3·units, I], U[3·units, units], b[3·units], b_n[units], the gates in
    PyTorch's order r, z, n: ``weight_ih``, ``weight_hh`` are W and U as they are; b is ``bias_ih`` plus ``bias_hh`` of
    r and z, and b_n is ``bias_hh`` of n, which the reset multiplies.
    Source: Cho et al.: Learning phrase representations using RNN encoder-decoder, EMNLP 2014. See :class:`Recurrent`.
    """

    rule = "gru"
    gates = 3

    def _scan(
        self, scope: Scope, z: Symbolic, U: Symbolic, start: Sequence[Symbolic | None], mask: Symbolic | None
    ) -> list[Symbolic]:
        b_n = scope.parameter("b_n", (self.units,), Zeros())
        return [scope.nodes("a", "gru", z, U, b_n, *start, mask)[0]]


_XAVIER, _ORTHOGONAL = initializers.NAMED["xavier_uniform"], initializers.NAMED["orthogonal"]


def _last(mask: Symbolic) -> Any:
    """1 at the last step of every sequence, else 0: [N, T, 1]."""
    counts = functions.apply("where", functions.apply("not_equal", mask, 0.0), 1.0, 0.0)
    after = functions.apply("pad", counts[:, 1:], widths=((0, 0), (0, 1)), value=0.0)
    return functions.reshape(counts * (1.0 - after), (*mask.shape, 1))


def _inside(scope: Scope, part: str) -> Scope:
    """The scope of a part: ``lstm1.backward``."""
    return replace(scope, owner=f"{scope.owner}.{part}", prefix=f"{scope.prefix}.{part}") if part else scope


def _beside(scope: Scope, part: Sequence[Scope], outputs: Sequence[Symbolic]) -> Symbolic:
    """The outputs of both directions as one."""
    if len(outputs) == 1:
        return outputs[0]
    above = part[0].prefix.rpartition(".")[0]
    return replace(scope, prefix=above).node("a", "concatenate", *outputs, axis=-1)
