"""A graph is plain data: named values, and nodes that apply rules to them, in an order in which they can be run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.errors import BacklitError, GraphError
from backlit.core.types import Array, Shape


@dataclass(frozen=True)
class Value:
    """An array that will exist when the graph is run."""

    name: str
    shape: Shape
    dtype: str

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Node:
    """One rule applied to values; its name is that of its first output."""

    rule: str
    inputs: tuple[str | None, ...]
    """Names of values; None where an optional input is absent."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The dotted name, e.g. ``dense1.z``."""
        return self.outputs[0]

    @property
    def operands(self) -> tuple[str, ...]:
        """The inputs that are present."""
        return tuple(i for i in self.inputs if i is not None)


@dataclass(frozen=True)
class Mask:
    """A random mask for dropout: 0 with probability ``rate``, else 1/(1 - rate), drawn by (seed, step, name)."""

    rate: float


@dataclass(frozen=True)
class Graph:
    """A staged program. Leaves are inputs, parameters, state, masks and constants; nodes make every other value."""

    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    """Given at each run: ``x``, ``y``, ``weights``."""
    parameters: tuple[str, ...]
    frozen: frozenset[str]
    """Parameters that training leaves as they are."""
    state: tuple[str, ...]
    """Arrays a run reads and replaces without a gradient: running statistics."""
    masks: Mapping[str, Mask]
    constants: Mapping[str, Array]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    updates: Mapping[str, str]
    """State name -> the value that takes its place after the run."""
    sparse: frozenset[str] = frozenset()
    """Parameters of which only the rows that a batch reads are updated."""

    @property
    def trainable(self) -> tuple[str, ...]:
        """Parameters with a gradient."""
        return tuple(p for p in self.parameters if p not in self.frozen)

    @cached_property
    def leaves(self) -> frozenset[str]:
        """Values that no node makes."""
        return frozenset((*self.inputs, *self.parameters, *self.state, *self.masks, *self.constants))

    @cached_property
    def producer(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {out: node for node in self.nodes for out in node.outputs}

    @cached_property
    def integer_inputs(self) -> frozenset[str]:
        """Inputs that a rule reads whole numbers from, at once or through other nodes: token ids."""
        read = (
            pair
            for node in self.nodes
            for pair in zip(node.inputs, rules.get(node.rule).inputs, strict=False)
            if pair[1] in rules.get(node.rule).integers
        )
        return self.behind(value for value, _ in read if value is not None).intersection(self.inputs)

    def behind(self, names: Iterable[str]) -> frozenset[str]:
        """The given values and all that they are computed from."""
        needed = set(names)
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.outputs):
                needed.update(node.operands)
        return frozenset(needed)

    def depends_on(self, names: tuple[str, ...]) -> frozenset[str]:
        """The given values and all that has a gradient by them: what a backward pass must walk through."""
        reached = set(names)
        for node in self.nodes:
            rule = rules.get(node.rule)
            if any(i in reached for i in differentiable_inputs(node)):
                reached.update(
                    o for o, kind in zip(node.outputs, rule.outputs, strict=True) if kind in rule.differentiated
                )
        return frozenset(reached)

    def check(self) -> Graph:
        """Make sure that the graph is well formed, and return it.

        Raises GraphError where a value is used before it is made (so also where nodes form a cycle), made twice,
        unknown, or where its shape or dtype is not the one that its rule, its array or its update gives.
        """
        self._check_described()
        self._check_order()
        for node in self.nodes:
            self._check_node(node)
        for name, array in self.constants.items():
            self._check_stated(name, (name,), (tuple(array.shape),), str(array.dtype))
        for name, new in self.updates.items():
            self._check_stated(name, (name,), (self.values[new].shape,), self.values[new].dtype)
        return self

    def _check_described(self) -> None:
        """GraphError unless there is an entry in ``values`` for all that there is."""
        for name in (*sorted(self.leaves), *self.producer, *self.updates):
            if name not in self.values:
                raise GraphError("graph_value", where=name, name=name, got=", ".join(self.values))

    def _check_order(self) -> None:
        """GraphError unless every value is made once, before it is used."""
        made = set(self.leaves)
        for node in self.nodes:
            for name in node.operands:
                if name not in made:
                    raise GraphError("graph_order", where=node.name, name=name, got=_cycle(self, node, name))
            for out in node.outputs:
                if out in made:
                    raise GraphError("graph_twice", where=node.name, name=out)
            made.update(node.outputs)
        for name in (*self.outputs, *self.updates.values()):
            if name not in made:
                raise GraphError("graph_order", where="outputs", name=name, got=f"{name!r}")

    def _check_node(self, node: Node) -> None:
        inputs = [None if i is None else self.values[i] for i in node.inputs]
        shapes = infer_shapes(node.rule, [None if i is None else i.shape for i in inputs], node.attributes, node.name)
        dtype = infer_dtype(node.rule, [None if i is None else i.dtype for i in inputs])
        self._check_stated(node.name, node.outputs, shapes, dtype)

    def _check_stated(self, where: str, names: tuple[str, ...], shapes: tuple[Shape, ...], dtype: str) -> None:
        """GraphError unless the values of these names are stated with these shapes and this dtype."""
        stated = [self.values[name] for name in names]
        if shapes != tuple(v.shape for v in stated):
            raise GraphError("graph_shape", where=where, expected=str(shapes), got=str(tuple(v.shape for v in stated)))
        if wrong := [v.dtype for v in stated if v.dtype != dtype]:
            raise GraphError("graph_dtype", where=where, expected=dtype, got=wrong[0])

    def __str__(self) -> str:
        from backlit.graph.show import listing

        return listing(self)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)


def differentiable_inputs(node: Node) -> list[str]:
    """Names of the values that the node's backward gives a gradient of, absent ones left out."""
    return [name for name, _ in differentiable_positions(node)]


def differentiable_positions(node: Node) -> list[tuple[str, int]]:
    """(value, position of its gradient in what backward returns) for each differentiable input present."""
    rule = rules.get(node.rule)
    if rule.variadic:
        return [(name, i) for i, name in enumerate(node.operands)]
    named = dict(zip(rule.inputs, node.inputs, strict=True))
    return [(value, i) for i, n in enumerate(rule.differentiable) if (value := named[n]) is not None]


def infer_shapes(rule: str, shapes: list[Shape | None], attributes: Mapping[str, Any], where: str) -> tuple[Shape, ...]:
    """Shapes of a node's outputs; the rule's own error, said of the node ``where``, if it cannot take these inputs."""
    try:
        found = rules.get(rule).shapes(*shapes, **attributes)
    except BacklitError as error:
        raise error.at(where) from None
    several = bool(found) and isinstance(found[0], tuple)
    return found if several else (found,)


def infer_dtype(rule: str, dtypes: list[str | None]) -> str:
    """The dtype of a node's outputs: the rule's own, else the common one of what it can differentiate by."""
    found = rules.get(rule)
    if found.dtype:
        return found.dtype
    kept = (
        dtypes if found.variadic else [d for d, n in zip(dtypes, found.inputs, strict=True) if n not in found.constants]
    )
    return str(np.result_type(*[np.dtype(d) for d in (kept or dtypes) if d is not None]).name)


def _cycle(graph: Graph, start: Node, name: str) -> str:
    """The path from ``name`` back to itself through ``start``, or just the name where there is none."""
    seen: set[str] = set()
    frontier = [(name, [name])]
    while frontier:
        value, path = frontier.pop()
        node = graph.producer.get(value)
        if node is None or value in seen:
            continue
        seen.add(value)
        if value == start.name:
            return " → ".join([*reversed(path), start.name])
        frontier += [(i, [*path, i]) for i in node.operands]
    return repr(name)
