"""The longer way through a fused rule: its ``expand`` as a graph of smaller rules, with its own trace and symbols."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from backlit import rules
from backlit.glass.derive_equations import Equation, Equations, Gradient
from backlit.glass.derive_symbols import Mark, Symbols
from backlit.glass.trace import Trace, of_graph
from backlit.graph import functions
from backlit.graph.builder import Builder
from backlit.graph.graph import Node

_OUTSIDE = "outside "
"""Before the name of a constant of the outer graph: both graphs count theirs from 1."""


@dataclass(frozen=True)
class Steps(Symbols):
    """Symbols of the smaller steps, ``u^{[1]}``, …; what comes from outside keeps its own."""

    outer: Symbols
    copies: dict[str, str] = field(default_factory=dict)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each step."""
        names = [o for node in self.graph.nodes for o in node.outputs if o not in self.copies]
        return {name: i for i, name in enumerate(names[:-1], start=1)}

    def mark(self, name: str) -> Mark:
        """The symbol of a value."""
        name = self.copies.get(name, name)
        if name.startswith(_OUTSIDE):
            return self.outer.mark(name.removeprefix(_OUTSIDE))
        if name in self.graph.constants:
            return Mark(r"\kappa", f"[{name.removeprefix('constant')}]")
        if name in self.outer.graph.values:
            return self.outer.mark(name)
        return Mark("u", f"[{self.numbers[name]}]") if name in self.numbers else Mark("L")


@dataclass(frozen=True)
class Longer:
    """The steps forward and the chain rule back; ``gap`` is how far its result is from the fused rule's."""

    forward: tuple[Equation, ...]
    backward: tuple[Gradient, ...]
    gap: float


def longer_way(outer: Equations, node: Node) -> Longer | None:
    """The steps of a node whose rule has an ``expand``; None for any other."""
    if rules.get(node.rule).expand is None:
        return None
    trace = _trace(outer.trace, node)
    copies = _copies(Equations(trace, Steps(trace.graph, outer.symbols)))
    equations = Equations(trace, Steps(trace.graph, outer.symbols, copies))
    forward = _needed([e for n in trace.graph.nodes for e in equations.forward(n) if e.name not in copies])
    reached = [n for n in reversed(trace.graph.nodes) if n.name in trace.grads and n.name not in copies]
    own = [i for i in node.operands if i in trace.grads]
    found = [equations.gradient(name) for name in (*(n.name for n in reached), *own)]
    gap = max(float(np.max(np.abs(trace.grads[i] - outer.trace.grads[i]))) for i in own)
    return Longer(tuple(forward), tuple(g for g in found if g is not None), gap)


def _trace(trace: Trace, node: Node) -> Trace:
    """One step of the small graph, for the same operands."""
    rule = rules.get(node.rule)
    builder = Builder(dtype=trace.graph.values[node.name].dtype)
    named = {i: f"{_OUTSIDE}{i}" if i in trace.graph.constants else i for i in node.operands}
    leaves = {i: builder.input(n, trace.values[i].shape, trace.values[i].dtype.name) for i, n in named.items()}
    assert rule.expand is not None
    result = rule.expand(functions, *(leaves.get(i or "") for i in node.inputs), **node.attributes)
    graph = builder.graph(result if isinstance(result, tuple) else (result,))
    return of_graph(graph, {n: trace.values[i] for i, n in named.items()} | dict(graph.constants))


def _needed(found: list[Equation]) -> list[Equation]:
    """Without the steps that no later one reads once its conditions are decided."""
    kept: list[Equation] = []
    for equation in reversed(found):
        above = equation.marks[equation.formula.target].above
        if not kept or any(f"^{{{above}}}" in later.right for later in kept):
            kept.insert(0, equation)
    return kept


def _copies(equations: Equations) -> dict[str, str]:
    """Value -> the one that it only repeats, as u·1 and u + 0 do."""
    found: dict[str, str] = {}
    for node in equations.trace.graph.nodes:
        (equation,) = equations.forward(node)
        names = dict(zip(rules.get(node.rule).inputs, node.inputs, strict=False))
        kept = equation.formula.expression
        if (
            isinstance(kept, ast.Name)
            and (source := names.get(kept.id))
            and equation.arrays[kept.id].shape == equation.shape
        ):
            found[node.name] = found.get(source, source)
    return found
