"""What a run records of its layers while it trains: sizes, how far each update goes, and units that do nothing.

Columns are named ``<layer>.<quantity>``, one number a recorded step, all of the step's first mini-batch:

- ``a``: root mean square of the layer's output
- ``delta``: root mean square of δ = ∂L/∂z (∂L/∂a where the layer has no z)
- ``gradient``: ‖∂L/∂θ‖₂ over the layer's parameters together, of the whole step, before clipping
- ``update``: ‖θ' - θ‖₂
- ``parameters``: ‖θ‖₂ before the update
- ``update_ratio``: update / parameters
- ``dead``: share of relu units that are 0 on every sample
- ``saturated``: share of sigmoid and tanh units whose slope, averaged over the samples, is below ``SATURATED`` of the
  steepest one

A unit is one place of the last axis. Recording reads arrays that the step has made anyway and changes none.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, log2, sqrt
from typing import Any, Self

import numpy as np

from backlit import rules
from backlit.core.types import Array, Arrays
from backlit.graph.graph import Graph, Node

SATURATED = 0.05
"""A unit's mean slope below this share of the steepest counts as saturated: |tanh| above about 0.975."""

ALL_STEPS = 64
"""Up to so long a run records every step; a longer one every second, fourth, … step, which keeps it cheap,"""

FAST_STEPS = 16
"""or every 16th with the fast engine, whose steps are so short that looking at each second one would be felt;"""

MOST_ROWS, MOST_NUMBERS = 1_000, 1_000_000
"""and so that no more rows and numbers are kept than these."""

_SAFE = 1e-30, 1e37
"""Sums of squares that float32 holds without loss; others are summed again in float64."""


@dataclass(frozen=True)
class Columns:
    """Where the numbers come from: column name -> name in the graph."""

    outputs: Mapping[str, str]
    deltas: Mapping[str, str]
    idle: Mapping[str, tuple[str, str]]
    """Column -> (rule, its output)."""
    owned: Mapping[str, tuple[str, ...]]
    """Layer -> its trainable parameters."""

    @classmethod
    def of(cls, graph: Graph) -> Self:
        """The columns of a training graph with outputs (loss, output, …)."""
        nodes = list(_watched(graph))
        reached = graph.depends_on(graph.trainable)
        made = {layer_of(node.name): node.name for node in nodes}
        delta = {layer: next(n.name for n in nodes if n.name in (f"{layer}.z", v)) for layer, v in made.items()}
        idle = {
            f"{layer_of(n.name)}.{kind}": (n.rule, n.name)
            for kind, known in (("dead", _DEAD), ("saturated", _SATURATED))
            for n in nodes
            if n.rule in known
        }
        owned: dict[str, tuple[str, ...]] = {}
        for name in graph.trainable:
            owned[layer_of(name)] = (*owned.get(layer_of(name), ()), name)
        return cls(
            {f"{layer}.a": v for layer, v in made.items()},
            {f"{layer}.delta": v for layer, v in delta.items() if v in reached},
            idle,
            owned,
        )

    @property
    def names(self) -> list[str]:
        """All columns in order."""
        moved = (f"{layer}.{q}" for layer in self.owned for q in ("gradient", "update", "parameters"))
        return [*self.outputs, *self.deltas, *self.idle, *moved]


@dataclass
class Recorder:
    """Keeps a row of numbers for each step that is ``due``."""

    columns: Columns
    every: int
    """1, 2, 4, …: step 1 is recorded and each ``every``-th after it."""
    steps: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    _half: list[float] = field(default_factory=list)
    """The columns of the step's forward and backward pass, until those of its update are known."""

    @classmethod
    def of(cls, graph: Graph, steps: int, *, fast: bool = False) -> Self:
        """A recorder for a run of at most so many steps on ``graph``, by the fast engine or the reference engine."""
        columns = Columns.of(graph)
        rows = max(1, min(MOST_ROWS, MOST_NUMBERS // max(len(columns.names), 1)))
        least = 0 if steps <= ALL_STEPS else log2(FAST_STEPS) if fast else 1
        return cls(columns, 2 ** int(max(ceil(log2(max(steps / rows, 1))), least)))

    def due(self, step: int) -> bool:
        """Whether ``step`` (from 1) is recorded."""
        return (step - 1) % self.every == 0

    def look(self, values: Arrays, d: Arrays) -> None:
        """Take the numbers of a mini-batch's values and gradients."""
        c = self.columns
        self._half = [_rms(values.get(v)) for v in c.outputs.values()]
        self._half += [_rms(d.get(v)) for v in c.deltas.values()]
        self._half += [_idle(rule, values[v]) if v in values else np.nan for rule, v in c.idle.values()]

    def keep(self, step: int, old: Arrays, squares: Mapping[str, float], new: Arrays) -> None:
        """Add the row of a step, given parameters before, ‖∂L/∂θ‖² of each, and parameters after."""
        self.steps.append(step)
        self.numbers.extend(self._half)
        for names in self.columns.owned.values():
            gradient = update = size = 0.0
            for n in names:
                gradient += squares[n]
                update += _squares(new[n] - old[n])  # memory just freed is in the cache, a kept buffer is not
                size += _squares(old[n])
            self.numbers.extend((sqrt(gradient), sqrt(update), sqrt(size)))

    def add(self, step: int, numbers: Array) -> None:
        """Add the row of a step, its columns in order."""
        self.steps.append(step)
        self.numbers.extend(numbers.tolist())

    def arrays(self) -> dict[str, Array]:
        """``step`` and every column, each [rows]."""
        names = self.columns.names
        table = np.array(self.numbers).reshape(len(self.steps), len(names))
        return {"step": np.array(self.steps, np.int64)} | {n: table[:, i].copy() for i, n in enumerate(names)}

    def go_on(self, known: Arrays, step: int) -> None:
        """Take over what an earlier recording has up to ``step``."""
        if "step" not in known:
            return
        kept = [i for i, s in enumerate(known["step"].tolist()) if s <= step and self.due(s)]
        self.steps = array("q", known["step"][kept].tolist())
        absent = np.full(len(known["step"]), np.nan)
        table = [known.get(n, absent)[kept] for n in self.columns.names]
        self.numbers = array("d", np.stack(table, axis=1).ravel().tolist() if table else [])


def with_ratios(recorded: Arrays) -> dict[str, Array]:
    """The recording with ``<layer>.update_ratio`` beside each update; NaN where all parameters are 0."""
    found = dict(recorded)
    for name in [n for n in recorded if n.endswith(".update")]:
        size = recorded[f"{layer_of(name)}.parameters"]
        with np.errstate(all="ignore"):
            found[f"{name}_ratio"] = np.where(size > 0, recorded[name] / np.where(size > 0, size, 1.0), np.nan)
    return found


def layer_of(name: str) -> str:
    """``dense1`` of ``dense1.z``; ``add1`` of ``add1``."""
    return name.rpartition(".")[0] or name


def _watched(graph: Graph) -> Iterable[Node]:
    """The nodes on the way to the model's output that compute something and are seen in their layer's output."""
    needed = {graph.outputs[1]}
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed.update(node.operands)
    return (n for n in graph.nodes if n.name in needed and _computes(graph, n))


def _computes(graph: Graph, node: Node) -> bool:
    return graph.values[node.name].dtype.startswith("float") and not rules.get(node.rule).moves


# --- numbers --------------------------------------------------------------------------------------------------------


def _squares(x: Array) -> float:
    total = float(np.vdot(x, x))  # flattens in C, makes no copy
    return total if _SAFE[0] < total < _SAFE[1] else float(np.sum(np.square(x, dtype=np.float64)))


def _rms(x: Array | None) -> float:
    return float("nan") if x is None else sqrt(_squares(x) / max(x.size, 1))


def _idle(rule: str, y: Array) -> float:
    """The share of units (last axis) of an activation's output that are dead, or saturated."""
    units = y.reshape(-1, y.shape[-1]) if y.ndim else y.reshape(1, 1)
    return np.count_nonzero(_IDLE[rule](units)) / units.shape[1] if y.size else 0.0


def _mean_square(y: Array) -> Array:
    return np.einsum("nu,nu->u", y, y) / len(y)


_DEAD: dict[str, Callable[[Any], Array]] = {"relu": lambda y: np.ones(len(y), y.dtype) @ y <= 0}
_SATURATED: dict[str, Callable[[Any], Array]] = {
    "tanh": lambda y: 1 - _mean_square(y) < SATURATED,
    "sigmoid": lambda y: 4 * (y.mean(axis=0) - _mean_square(y)) < SATURATED,
}
"""Output y[N, units] of a rule -> which units. No relu output is below 0, so a sum (a matrix product, quicker than a
maximum) tells whether all are 0; slopes are 1 - y² (steepest 1) and y(1 - y) (steepest 1/4)."""
_IDLE = _DEAD | _SATURATED
