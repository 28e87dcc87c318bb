"""What the reference engine needs for a graph, about: by that it is decided whether another engine is worth loading."""

from __future__ import annotations

import math

from backlit.graph.graph import Graph, Node

CALL, SPEED = 2.5e-5, 8e9
"""What a node costs the reference engine, about: seconds a call, forward and backward, and FLOPs a second."""


def seconds(graph: Graph, batch_size: int) -> float:
    """What a mini-batch takes the reference engine, about."""
    return len(graph.nodes) * CALL + sum(_work(graph, node) for node in graph.nodes) * batch_size / SPEED


def _work(graph: Graph, node: Node) -> int:
    """FLOPs of a node on one sample, forward and backward: of a product for every entry, or some for each."""
    out = math.prod(graph.values[node.name].shape)
    shapes = [graph.values[i].shape for i in node.inputs[1:2] if i is not None and i in graph.parameters]
    return 6 * out * math.prod(shapes[0][1:]) if shapes and len(shapes[0]) > 1 else 20 * out
