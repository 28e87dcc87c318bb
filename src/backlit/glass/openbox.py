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

    The rule's ``expand`` is staged on the node's inputs, which keep their names. Its output y is followed by
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
    graph = builder.graph((_weighted(trace, node, made), made))
    return of_graph(graph, env | dict(graph.constants), step=trace.step, opened=node.name)


def _leaves(builder: Builder, trace: Trace, node: Node, env: dict[str, Array]) -> Iterator[Symbolic | None]:
    """The node's inputs as inputs of the new graph; one that is given twice is one leaf."""
    known: dict[str, Symbolic] = {}
    for name in node.inputs:
        if name is not None and name not in known:
            array = env[name] = trace.values[name]
            known[name] = builder.input(name, array.shape, array.dtype.name)
        yield None if name is None else known[name]


def _weighted(trace: Trace, node: Node, made: Any) -> Any:
    """Σ y ∂L/∂y, whose gradient by y is ∂L/∂y; just y where it is the loss itself."""
    if node.name == trace.graph.outputs[0] or node.name not in trace.grads:
        return made if made.shape == () else functions.apply("sum", made, name="total")
    weighted = functions.apply("mul", made, np.asarray(trace.grads[node.name]), name="weighted")
    return functions.apply("sum", weighted, name="total")
