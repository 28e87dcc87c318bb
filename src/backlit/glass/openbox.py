"""Open the box: a fused rule's node as the smaller rules it is made of, with every value and gradient in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.glass.trace import Trace, of_graph
from backlit.graph import functions
from backlit.graph.builder import Builder
from backlit.graph.graph import Node
from backlit.graph.symbolic import Symbolic


def opened(trace: Trace, name: str) -> Trace:
    """The trace of the inside of the node that made the value ``name`` (an entry's index is ignored).

    The rule's ``expand`` is staged on the node's inputs, which keep their names. Its outputs y are followed by
    ``Σ y ∂L/∂y``, with the ∂L/∂y of the whole step, so that every gradient inside is that of the step's loss. A value
    inside differs from the fused one by rounding only. UnknownNameError for a value that does not exist, InputError for
    one that is given, or whose rule has no smaller ones.
    """
    value = trace.resolve(name.partition("[")[0])
    node = trace.graph.producer.get(value)
    if node is None or rules.get(node.rule).expand is None:
        able = sorted(n.name for n in trace.graph.nodes if rules.get(n.rule).expand is not None)
        got = value if node is None else f"{value} = {node.rule}(…)"
        raise InputError("box_closed", where=value, got=got, known=", ".join(able) or "-")
    builder, env = Builder(dtype=trace.values[value].dtype.name), dict[str, Array]()
    leaves = list(_leaves(builder, trace, node, env))
    made = rules.get(node.rule).expand(functions, *leaves, **node.attributes)  # type: ignore[misc]
    outputs = made if isinstance(made, tuple) else (made,)
    graph = builder.graph((_weighted(trace, node, outputs), *outputs))
    return of_graph(graph, env | dict(graph.constants), step=trace.step, opened=node.name)


def _leaves(builder: Builder, trace: Trace, node: Node, env: dict[str, Array]) -> Iterator[Symbolic | None]:
    """The node's inputs as inputs of the new graph; one that is given twice is one leaf."""
    known: dict[str, Symbolic] = {}
    for name in node.inputs:
        if name is not None and name not in known:
            array = env[name] = trace.values[name]
            known[name] = builder.input(name, array.shape, array.dtype.name)
        yield None if name is None else known[name]


def _weighted(trace: Trace, node: Node, outputs: tuple[Any, ...]) -> Any:
    """Σ y ∂L/∂y, whose gradient by y is ∂L/∂y; just y where it is the loss itself."""
    kept = rules.get(node.rule).differentiated or rules.get(node.rule).outputs
    names = (name for name, local in zip(node.outputs, rules.get(node.rule).outputs, strict=True) if local in kept)
    reached = [(y, name) for y, name in zip(outputs, names, strict=False) if name in trace.grads]
    if node.name == trace.graph.outputs[0] or not reached:
        return outputs[0] if outputs[0].shape == () else functions.apply("sum", outputs[0], name="total")
    (first, name), *more = reached
    weighted = functions.apply("mul", first, np.asarray(trace.grads[name]), name="weighted")
    total = functions.apply("sum", weighted, name="total")
    return sum((functions.apply("sum", y * np.asarray(trace.grads[name])) for y, name in more), total)
