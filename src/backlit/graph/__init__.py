"""Programs as data: values and nodes, the builder that stages them, the checker and the printer."""

from backlit.graph.builder import Builder
from backlit.graph.graph import Graph, Mask, Node, Value
from backlit.graph.symbolic import Symbolic

__all__ = ["Builder", "Graph", "Mask", "Node", "Symbolic", "Value"]
