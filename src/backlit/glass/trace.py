"""A trace: one step with everything in it, by dotted name."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.i18n import say
from backlit.core.names import lookup
from backlit.core.tables import html_table, text_table
from backlit.core.types import Array
from backlit.engines import reference
from backlit.graph.graph import Graph
from backlit.nn.grad import loss_graph
from backlit.nn.losses import Loss
from backlit.nn.model import Model
from backlit.optim import Clip, Optimizer


@dataclass(frozen=True)
class Update:
    """How the optimizer turned gradients into new parameters at the traced step."""

    optimizer: Optimizer
    learning_rate: float
    step: int
    grads: Mapping[str, Array]
    """What the optimizer was given: the gradients, clipped where the run clips."""
    slots: Mapping[str, Mapping[str, Array]]
    """State arrays before the update, by parameter and slot."""
    params: Mapping[str, Array]
    """Parameters after the update."""
    clip: Clip | None = None
    shares: Sequence[Share] = ()
    """Gradients of each mini-batch, where the step accumulates several."""
    part: int = 0
    """Which of them the trace shows."""
    rows: Mapping[str, Array] = field(default_factory=dict)
    """Of sparse parameters the numbers of the rows that the batch read: all others stayed as they were."""

    def moves(self, name: str, index: tuple[int, ...]) -> bool:
        """False for an entry in a row that the step left as it was."""
        return name not in self.rows or index[0] in self.rows[name]


@dataclass(frozen=True)
class Share:
    """One mini-batch of a step that accumulates several: its weight, the loss's ``mass``, and its gradients."""

    mass: float
    grads: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Trace:
    """Every z, a, δ, parameter and gradient of one step.

    ``t["dense1.z"]`` and ``t["dense1.a"]`` are values, samples along the first axis; ``t.delta("dense1")`` is
    δ = ∂L/∂z of a layer, ``t.grad(name)`` is ∂L/∂(any value or parameter), each of the shape of what it is by.
    """

    graph: Graph
    values: Mapping[str, Array]
    grads: Mapping[str, Array]
    """∂L/∂v by name, for every value with a way to the loss."""
    step: int = 1
    update: Update | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    """JSON values about where the trace comes from, e.g. the indices of its samples."""

    # --- values by name -----------------------------------------------------------------------------------------

    @property
    def loss(self) -> float:
        """The loss of the batch."""
        return float(self.values[self.graph.outputs[0]])

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of layers and of free nodes, in the order in which they were computed."""
        return tuple(dict.fromkeys(node.name.rsplit(".", 1)[0] for node in self.graph.nodes))

    def resolve(self, name: str) -> str:
        """The value that ``name`` means: itself, or z where a layer without activation is asked for its a.

        UnknownNameError with the nearest names where there is none.
        """
        layer, _, kind = name.rpartition(".")
        if name not in self.values and kind == "a" and f"{layer}.z" in self.values:
            return f"{layer}.z"
        lookup(self.values, name, "value")
        return name

    def __getitem__(self, name: str) -> Array:
        return self.values[self.resolve(name)]

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def grad(self, name: str) -> Array:
        """∂L/∂``name``; InputError where no gradient flows to it (labels, masks, frozen parameters)."""
        value = self.resolve(name)
        if value not in self.grads:
            raise InputError("no_gradient", where=name, got=name, known=", ".join(list(self.grads)[:20]))
        return self.grads[value]

    def delta(self, layer: str) -> Array:
        """δ of a layer, ∂L/∂z: of its weighted input ``z``, or of its output where it has no z."""
        return self.grad(self.weighted_input(layer))

    def weighted_input(self, layer: str) -> str:
        """The value whose gradient is called δ of a layer: its ``z``; its ``a``, or itself, where there is none."""
        return next((n for n in (f"{layer}.z", f"{layer}.a") if n in self.values), layer)

    def per_sample(self, parameter: str) -> Array:
        """What each sample contributes to ∂L/∂parameter: [N, *parameter's shape], summing to the gradient over N.

        From δ and what the nodes kept, without another pass through the net: a node's backward is linear in the δ it is
        given, so it is asked with δ of one sample at a time. Where batch normalisation mixes samples, a contribution is
        that of a sample's own δ. InputError for a parameter whose values have no axis of samples.
        """
        from backlit.glass.samples import per_sample

        return per_sample(self, self.resolve(parameter))

    def names(self) -> list[str]:
        """Everything that can be asked for, values first."""
        return [*self.values, *(f"∂{name}" for name in self.grads)]

    # --- explanations -------------------------------------------------------------------------------------------

    def explain(self, entry: str) -> Any:
        """The receipt of one entry, e.g. ``"dense1.W[3,5]"``; see :mod:`backlit.glass.explain`."""
        from backlit.glass.explain import explain

        return explain(self, entry)

    def walk(self, entry: Any, *, depth: int | None = None) -> Any:
        """Receipts from an entry on to the loss, and down to the data; see :func:`backlit.glass.walk.walk`."""
        from backlit.glass.walk import walk

        return walk(self, entry, depth=depth)

    def open(self, name: str) -> Trace:
        """The inside of the rule that made ``name``, in smaller rules; see :func:`backlit.glass.openbox.opened`."""
        from backlit.glass.openbox import opened

        return opened(self, name)

    def paths(self, entry: str, *, limit: int = 20) -> Any:
        """The chain rule path by path; see :func:`backlit.glass.paths.paths`."""
        from backlit.glass.paths import paths

        return paths(self, entry, limit=limit)

    def flow(self) -> Any:
        """The δ-flow ledger, how ‖δ‖ changes from layer to layer and why; see :func:`backlit.glass.flow.flow`."""
        from backlit.glass.flow import flow

        return flow(self)

    # --- comparison and files -----------------------------------------------------------------------------------

    def diff(self, other: Trace) -> list[Difference]:
        """Where two traces differ, in order of computation: values forward, then gradients backward."""
        order = [("", n) for n in self.values] + [("∂", n) for n in self.grads]
        pairs = (
            (mark + n, (self.grads if mark else self.values)[n], (other.grads if mark else other.values).get(n))
            for mark, n in order
        )
        return [d for name, a, b in pairs if (d := Difference.of(name, a, b)) is not None]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the trace to a safetensors file; FileError where it cannot be written."""
        from backlit.glass import store

        return store.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Read a trace back; FileError where the file is damaged, of another kind, or of a newer version."""
        from backlit.glass import store

        return store.load(path)

    # --- printing -----------------------------------------------------------------------------------------------

    def rows(self) -> list[tuple[str, ...]]:
        """(name, shape, mean, standard deviation, smallest, largest, ‖∂L/∂name‖) of every floating value."""
        floats = ((n, a) for n, a in self.values.items() if a.dtype.kind == "f" and a.size)
        return [(n, str(list(a.shape)), *_moments(a), _norm(self.grads.get(n))) for n, a in floats]

    def __str__(self) -> str:
        rows = [say("trace_columns").split("|"), *self.rows()]
        return "\n".join([self._title(), *text_table(rows, left=(0, 1))])

    def _title(self) -> str:
        if "opened" in self.notes:
            return say("trace_opened", name=self.notes["opened"])
        return say(
            "trace_title", step=self.step, samples=len(self.values[self.graph.inputs[0]]), loss=f"{self.loss:.6g}"
        )

    def _repr_html_(self) -> str:
        rows = [say("trace_columns").split("|"), *self.rows()]
        return f"<p>{html.escape(self._title())}</p>{html_table(rows)}"


@dataclass(frozen=True)
class Difference:
    """One array in which two traces differ."""

    name: str
    entries: int
    """How many entries differ."""
    largest: float
    """The largest absolute difference; NaN where shapes differ or one is missing."""
    at: tuple[int, ...]
    """Where it is."""

    @classmethod
    def of(cls, name: str, a: Array, b: Array | None) -> Difference | None:
        """The difference of two arrays, None where they are equal (NaN equals NaN)."""
        if b is None or a.shape != b.shape:
            return cls(name, a.size, float("nan"), ())
        same = (a == b) | (np.isnan(a) & np.isnan(b)) if a.dtype.kind == "f" else a == b
        if same.all():
            return None
        gap = np.where(same, 0.0, np.abs(a.astype(np.float64) - b.astype(np.float64)))
        at = tuple(int(i) for i in np.unravel_index(np.argmax(gap), gap.shape))
        return cls(name, int(np.sum(~same)), float(gap[at]), at)


def trace(
    model: Model,
    X: Any,
    y: Any,
    *,
    loss: str | Loss,
    weights: Any = None,
    training: bool = True,
    seed: int = 0,
    step: int = 1,
    dtype: str | None = None,
) -> Trace:
    """One step on the batch (X[N, …], y[N, …]) with everything in it; the model is not changed.

    ``training``, ``seed`` and ``step`` fix dropout masks and batch statistics; ``dtype`` computes in another precision
    than the model's. Raises InputError where data and model do not fit.
    """
    settings = {"weights": weights, "training": training, "seed": seed, "step": step, "dtype": dtype}
    graph, env = loss_graph(model, X, y, loss=loss, **settings)
    return of_graph(graph, env, step=step)


def of_graph(
    graph: Graph, env: Mapping[str, Array], *, step: int = 1, update: Update | None = None, **notes: Any
) -> Trace:
    """The trace of a graph whose first output is the loss, given the values of its leaves.

    Gradients are taken by parameters and by the floating inputs, so that a chain can be followed down to the data.
    """
    wrt = [*graph.trainable, *(i for i in graph.inputs if graph.values[i].dtype.startswith("float"))]
    with np.errstate(all="ignore"):  # what is not finite is there to be seen
        values, d = reference.value_and_grad(graph, env, wrt)
    reached = graph.depends_on(tuple(wrt))
    return Trace(graph, values, {n: g for n, g in d.items() if n in reached}, step, update, notes)


def _moments(a: Array) -> tuple[str, str, str, str]:
    wide = a.astype(np.float64)
    return tuple(f"{f(wide):.4g}" for f in (np.mean, np.std, np.min, np.max))  # type: ignore[return-value]


def _norm(g: Array | None) -> str:
    return "" if g is None else f"{np.linalg.norm(g.astype(np.float64).ravel()):.4g}"
