"""Memory over one training step: what backward needs kept and why, and how many bytes are held at each step.

The walk of a graph is its nodes forward (steps 1 … F), those that backpropagation passes through in reverse (named
``∂<node>``), and the update of all parameters (the last step). Two plans for the same walk are compared:

- ``reference``: the reference engine keeps every value and every gradient until the walk back has ended, and the update
  makes new parameters and optimizer state beside the old ones;
- ``least``: every array is freed after the last step that needs it, masks are drawn when first used, the update is in
  place. No plan for this order of steps gets by with less, unless it computes things twice or writes over inputs.

Every named array is counted as one of its own, also where NumPy would share memory (a reshape's view). What a rule
makes and drops inside itself, and a gradient that nothing asked for, are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from backlit import rules
from backlit.graph.graph import Graph, Node, differentiable_inputs


@dataclass(frozen=True)
class Reason:
    """A node whose backward takes the value, and the name it takes it by."""

    node: str
    rule: str
    name: str

    def __str__(self) -> str:
        return f"{self.node}: {self.rule}.backward({self.name})"


@dataclass(frozen=True)
class Kept:
    """A value that backward needs, from the step that makes it (0: it is there before the walk) to its last use."""

    value: str
    bytes: int
    made: int
    until: int
    reasons: tuple[Reason, ...]

    @property
    def leaf(self) -> bool:
        """True where it exists anyway: data, a parameter, a mask."""
        return self.made == 0


@dataclass(frozen=True)
class Peak:
    """The most bytes held at once, and the first step at which they are."""

    bytes: int
    step: int
    name: str


@dataclass(frozen=True)
class Memory:
    """Bytes held during each step of the walk, under the two plans of this module's docstring."""

    steps: tuple[str, ...]
    resident: Mapping[str, int]
    """Bytes there all the time, by kind: parameters, optimizer, state, inputs, constants."""
    reference: tuple[int, ...]
    least: tuple[int, ...]

    @property
    def reference_peak(self) -> Peak:
        """The peak of the reference engine, which frees nothing on its way."""
        return self._peak(self.reference)

    @property
    def least_peak(self) -> Peak:
        """The smallest peak that a planner can reach for this order of steps."""
        return self._peak(self.least)

    def _peak(self, held: tuple[int, ...]) -> Peak:
        at = held.index(max(held))
        return Peak(held[at], at + 1, self.steps[at])

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        held = {"reference": list(self.reference), "least": list(self.least)}
        peaks = {f"{plan}_peak": vars(getattr(self, f"{plan}_peak")) for plan in held}
        return {"resident": dict(self.resident), **peaks, "steps": list(self.steps), **held}


@dataclass(frozen=True)
class Walk:
    """The steps of one training step over ``graph``, counted from 1, and who needs what at which of them."""

    graph: Graph

    @cached_property
    def back(self) -> tuple[tuple[Node, tuple[str, ...]], ...]:
        """(node, values that it sends gradients to) in the order of :func:`backlit.engines.reference.backward`."""
        return tuple(_backward(self.graph))

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """Their names."""
        return (*(n.name for n in self.graph.nodes), *(f"∂{node.name}" for node, _ in self.back), "update")

    @cached_property
    def forward_step(self) -> dict[str, int]:
        """The step that makes each value that a node makes."""
        return {o: i for i, node in enumerate(self.graph.nodes, start=1) for o in node.outputs}

    @cached_property
    def backward_step(self) -> dict[str, int]:
        """The step that carries the gradient of each value through the node that made it."""
        start = len(self.graph.nodes) + 1
        return {o: i for i, (node, _) in enumerate(self.back, start) for o in node.outputs}

    @cached_property
    def last_use(self) -> dict[str, int]:
        """The last step that reads each value; outputs of the graph and new state are there at the end."""
        found = dict(self.forward_step)
        found |= {name: self.forward_step[node.name] for node in self.graph.nodes for name in node.operands}
        found |= {kept.value: kept.until for kept in self.kept}
        return found | dict.fromkeys((*self.graph.outputs, *self.graph.updates.values()), len(self.steps))

    @cached_property
    def kept(self) -> tuple[Kept, ...]:
        """What the backward of each node on the way back needs, in the order in which the values are made."""
        reasons: dict[str, list[tuple[int, Reason]]] = {}
        for node, _ in self.back:
            for local, value in saved(node):
                at = self.backward_step[node.name]
                reasons.setdefault(value, []).append((at, Reason(node.name, node.rule, local)))
        made = self.forward_step
        return tuple(
            Kept(v, nbytes(self.graph, v), made.get(v, 0), reasons[v][-1][0], tuple(r for _, r in reasons[v]))
            for v in self.graph.values
            if v in reasons
        )

    def values(self) -> Iterator[Held]:
        """How long each value that is no resident is needed."""
        for name, step in self.forward_step.items():
            yield Held(name, nbytes(self.graph, name), step, self.last_use[name])
        for mask in self.graph.masks:
            first = next((self.forward_step[n.name] for n in self.graph.nodes if mask in n.operands), 1)
            yield Held(mask, nbytes(self.graph, mask), first, self.last_use.get(mask, first))

    def gradients(self) -> Iterator[Held]:
        """How long each gradient is needed: from the first share until it is carried on, or the parameter updated."""
        start = len(self.graph.nodes)
        first = {self.graph.outputs[0]: start + 1}
        for step, (_, given) in enumerate(self.back, start + 1):
            first |= {name: step for name in given if name not in first}
        for name, step in first.items() if self.back else ():
            end = self.backward_step.get(name, len(self.steps))
            yield Held(f"∂{name}", nbytes(self.graph, name), step, end)


@dataclass(frozen=True)
class Held:
    """An array and the steps, first and last, at which it must be there."""

    name: str
    bytes: int
    first: int
    last: int


def memory(walk: Walk, slots: int) -> Memory:
    """The bytes held at each step; ``slots`` is the size of the optimizer's state."""
    graph = walk.graph
    kinds = {"parameters": graph.parameters, "state": graph.state, "inputs": graph.inputs, "constants": graph.constants}
    resident = {kind: _bytes(graph, names) for kind, names in kinds.items()} | {"optimizer": slots}
    least = [*walk.values(), *walk.gradients()]
    doubled = Held("new", _bytes(graph, graph.trainable) + slots, len(walk.steps), len(walk.steps))
    reference = [*(_kept_to_the_end(h, walk) for h in least), doubled]
    profiles = (_profile(plan, len(walk.steps), sum(resident.values())) for plan in (reference, least))
    return Memory(walk.steps, resident, *profiles)


def _kept_to_the_end(held: Held, walk: Walk) -> Held:
    """As the reference engine keeps it: masks from the start, everything until the walk back has ended."""
    end = len(walk.steps) - 1
    return Held(held.name, held.bytes, 1 if held.name in walk.graph.masks else held.first, max(held.last, end))


def _profile(plan: Iterable[Held], steps: int, resident: int) -> tuple[int, ...]:
    change = [resident, *([0] * (steps + 1))]
    for held in plan:
        change[held.first] += held.bytes
        change[held.last + 1] -= held.bytes
    return tuple(int(total) for total in np.cumsum(change)[1:-1])


def saved(node: Node) -> Iterator[tuple[str, str]]:
    """(name in the rule's backward, value) for each array that the memory contract of the node's rule names."""
    rule = rules.get(node.rule)
    known: dict[str, tuple[str | None, ...]] = {n: (v,) for n, v in zip(rule.outputs, node.outputs, strict=True)}
    if rule.variadic:
        known[rule.inputs[0]] = node.inputs
    else:
        known |= {n: (v,) for n, v in zip(rule.inputs, node.inputs, strict=True)}
    return ((local, v) for local in rule.saved for v in known.get(local, ()) if v is not None)


def nbytes(graph: Graph, name: str) -> int:
    """Bytes of a value."""
    value = graph.values[name]
    return prod(value.shape) * np.dtype(value.dtype).itemsize


def _bytes(graph: Graph, names: Iterable[str]) -> int:
    return sum(nbytes(graph, name) for name in names)


def _backward(graph: Graph) -> Iterator[tuple[Node, tuple[str, ...]]]:
    on_the_way, reached = graph.depends_on(graph.trainable), {graph.outputs[0]}
    for node in reversed(graph.nodes):
        if on_the_way.isdisjoint(node.outputs) or reached.isdisjoint(node.outputs):
            continue
        given = tuple(name for name in differentiable_inputs(node) if name in on_the_way)
        reached.update(given)
        yield node, given
