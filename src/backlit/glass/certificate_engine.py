"""The engine's part judged apart from the rules': what several nodes send to one value must add up.

For every value v on a way to the loss the engine's ∂L/∂v is compared with the sum of what the rules' backwards give,
each fed with the engine's own ∂L/∂(outputs): at the run's parameters, and once more at parameters near by, where an
engine that remembers the first run gives itself away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from backlit.core.types import Array
from backlit.engines import reference
from backlit.glass.certificate_call import EPS, NodeCall
from backlit.glass.certificate_nodes import NEAR
from backlit.graph.graph import Graph


@dataclass(frozen=True, eq=False)
class Run:
    """One run of an engine: all values, ∂L/∂v for those on the way, and the nodes that a gradient reaches."""

    graph: Graph
    values: Mapping[str, Array]
    d: Mapping[str, Array]
    calls: tuple[NodeCall, ...]

    @classmethod
    def of(cls, graph: Graph, values: Mapping[str, Array], d: Mapping[str, Array], wrt: tuple[str, ...]) -> Run:
        """The run that gave ``values`` and ``d``."""
        reached = graph.depends_on(wrt)
        calls = (NodeCall.of(n, values, reached) for n in graph.nodes if not reached.isdisjoint(n.outputs))
        return cls(graph, values, d, tuple(c for c in calls if c.wrt))

    def near(self, env: Mapping[str, Array], wrt: tuple[str, ...]) -> Run:
        """A new run of the reference engine with all parameters multiplied."""
        moved = dict(env) | {n: env[n] * NEAR for n in self.graph.parameters}
        values, d = reference.value_and_grad(self.graph, moved, wrt)
        return Run.of(self.graph, values, d, wrt)

    def delta(self, call: NodeCall) -> tuple[Array, ...] | None:
        """The engine's ∂L/∂(differentiated outputs) of a node; None where it has none, or one of another shape."""
        names = call.of_differentiated(call.node.outputs)
        if not any(n in self.d for n in names):
            return None
        found = tuple(self.d.get(n, np.zeros_like(self.values[n])) for n in names)
        return found if all(f.shape == self.values[n].shape for f, n in zip(found, names, strict=True)) else None

    def shares(self, *, values: Mapping[str, Array] | None = None) -> dict[str, dict[str, Array]]:
        """Value -> node -> what its backward sends there; ``values``: as if it had kept those of another run."""
        found: dict[str, dict[str, Array]] = {}
        for call in self.calls:
            kept = call if values is None else NodeCall.of(call.node, values, frozenset(call.node.operands))
            dys = self.delta(call)
            for w in call.wrt if dys is not None else ():
                gradient = kept.backward(dys)[w.label]  # type: ignore[arg-type]
                to = found.setdefault(str(call.node.inputs[w.place]), {})
                to[call.node.name] = to[call.node.name] + gradient if call.node.name in to else gradient
        return found


@dataclass(frozen=True, eq=False)
class Join:
    """A value whose ∂L/∂v by the engine is not the sum of its shares."""

    value: str
    found: Array
    """The engine's; of shape () and NaN where it has none."""
    shares: Mapping[str, Array]
    """By node, in the order in which the engine meets them."""
    stale: Array | None = None
    """The sum of the shares made with the values of the run before."""

    @property
    def expected(self) -> Array:
        """The sum of the shares."""
        return sum(self.shares.values(), np.zeros(()))


def joins(run: Run, before: Run | None = None) -> Iterator[Join]:
    """Where the engine's ∂L/∂v is another than the sum of the shares, in the order of the backward walk."""
    output = run.graph.outputs[0]
    seed = np.ones_like(run.values[output])
    if not _same(run.d.get(output), seed, 1.0):
        yield Join(output, run.d.get(output, np.array(np.nan)), {output: seed})
    shares = run.shares()
    stale = run.shares(values=before.values) if before else {}
    for value in reversed([v for v in run.graph.values if v in shares]):
        ordered = dict(reversed(shares[value].items()))
        join = Join(value, run.d.get(value, np.array(np.nan)), ordered, _total(stale.get(value)))
        if not _same(join.found, join.expected, float(sum(np.max(np.abs(s), initial=0.0) for s in ordered.values()))):
            yield join


def _total(shares: Mapping[str, Array] | None) -> Array | None:
    return None if shares is None else sum(shares.values(), np.zeros(()))


def _same(found: Array | None, expected: Array, scale: float) -> bool:
    if found is None or found.shape != expected.shape:
        return False
    near = np.all(np.abs(found - expected) <= 1024 * EPS * scale)
    return bool(near or np.array_equal(found, expected, equal_nan=True))


def wrong_forward(run: Run) -> str | None:
    """The first node whose values are not what its rule's forward gives on the values before it; None where all are."""
    for call in run.calls:
        for name, y in zip(call.node.outputs, call.outputs, strict=True):
            if not _same(run.values[name], y, float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0))):
                return call.node.name
    return None
