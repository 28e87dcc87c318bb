"""Graphs as JSON values, so that a trace can be put into a file and read back without the model's code."""

from __future__ import annotations

from typing import Any

import numpy as np

from backlit.graph.graph import Graph, Mask, Node, Value


def to_json(graph: Graph) -> dict[str, Any]:
    """The graph without its constants' entries (they travel as arrays)."""
    return {
        "values": [[v.name, list(v.shape), v.dtype] for v in graph.values.values()],
        "nodes": [[n.rule, n.inputs, n.outputs, {k: _plain(a) for k, a in n.attributes.items()}] for n in graph.nodes],
        "masks": {name: mask.rate for name, mask in graph.masks.items()},
        "constants": list(graph.constants),
        "frozen": sorted(graph.frozen),
        "sparse": sorted(graph.sparse),
        "updates": dict(graph.updates),
    } | {part: list(getattr(graph, part)) for part in ("inputs", "parameters", "state", "outputs")}


def from_json(data: dict[str, Any], constants: dict[str, Any]) -> Graph:
    """The inverse of :func:`to_json`, given the constants' arrays; the graph is checked."""
    return Graph(
        values={name: Value(name, tuple(shape), dtype) for name, shape, dtype in data["values"]},
        nodes=tuple(Node(r, tuple(i), tuple(o), {k: _rich(a) for k, a in at.items()}) for r, i, o, at in data["nodes"]),
        masks={name: Mask(rate) for name, rate in data["masks"].items()},
        constants={name: constants[name] for name in data["constants"]},
        frozen=frozenset(data["frozen"]),
        sparse=frozenset(data.get("sparse", ())),
        updates=data["updates"],
        **{part: tuple(data[part]) for part in ("inputs", "parameters", "state", "outputs")},
    ).check()


def _plain(attribute: Any) -> Any:
    """Tuples, slices and Ellipsis, which JSON does not have, as marked objects."""
    if isinstance(attribute, tuple):
        return {"tuple": [_plain(a) for a in attribute]}
    if isinstance(attribute, slice):
        return {"slice": [_plain(attribute.start), _plain(attribute.stop), _plain(attribute.step)]}
    if attribute is Ellipsis:
        return {"ellipsis": True}
    return attribute.item() if isinstance(attribute, np.generic) else attribute


def _rich(attribute: Any) -> Any:
    if not isinstance(attribute, dict):
        return attribute
    if "tuple" in attribute:
        return tuple(_rich(a) for a in attribute["tuple"])
    return slice(*attribute["slice"]) if "slice" in attribute else Ellipsis
