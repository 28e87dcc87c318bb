"""The printer: a graph as a listing, one line a value."""

from __future__ import annotations

from typing import Any

from backlit.graph.graph import Graph, Node


def listing(graph: Graph) -> str:
    """The graph as text: leaves with their kinds, nodes as ``name: dtype[shape] = rule(inputs, attributes)``."""
    kinds = {"input": graph.inputs, "parameter": graph.parameters, "state": graph.state, "mask": tuple(graph.masks)}
    lines = [f"{kind:9} {graph.values[name]}{_note(graph, name)}" for kind, names in kinds.items() for name in names]
    lines += [f"{'constant':9} {graph.values[name]}" for name in graph.constants]
    lines += [f"{'node':9} {_node(graph, node)}" for node in graph.nodes]
    lines += [f"{'update':9} {state} ← {new}" for state, new in graph.updates.items()]
    return "\n".join([*lines, f"{'output':9} {', '.join(graph.outputs)}"])


def _note(graph: Graph, name: str) -> str:
    if name in graph.masks:
        return f" rate={graph.masks[name].rate}"
    return " (frozen)" if name in graph.frozen else ""


def _node(graph: Graph, node: Node) -> str:
    made = ", ".join(str(graph.values[o]) for o in node.outputs)
    inputs = [i or "-" for i in node.inputs]
    return f"{made} = {node.rule}({', '.join(inputs + [_attribute(k, v) for k, v in node.attributes.items()])})"


def _attribute(key: str, value: Any) -> str:
    return f"{key}={value!r}"
