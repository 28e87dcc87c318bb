"""How long each node takes on this machine, run by the reference engine on random samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.rng import generator
from backlit.core.types import Array
from backlit.engines import reference
from backlit.graph.graph import Graph, Node
from backlit.nn.model import Model
from backlit.optim import Optimizer

REPEATS = 7
"""Timings of each node, after one that warms up."""


@dataclass(frozen=True)
class Times:
    """Seconds by node, and by parameter for the update."""

    forward: Mapping[str, float] = field(default_factory=dict)
    backward: Mapping[str, float] = field(default_factory=dict)
    update: Mapping[str, float] = field(default_factory=dict)


def measure(model: Model, graph: Graph, back: Sequence[tuple[Node, tuple[str, ...]]], optimizer: Optimizer) -> Times:
    """The median seconds of each node forward and backward, and of each parameter's update.

    ``back`` are the nodes that backpropagation passes through, in its order, with the values they send gradients to.
    """
    with np.errstate(all="ignore"):
        given = samples(graph) | model.params | model.state
        values = reference.leaves(graph, given, seed=model.seed, step=1)
        forward = {node.name: _forward(node, values) for node in graph.nodes}
        output = graph.outputs[0]
        d = {output: np.ones_like(values[output])}
        backward = {node.name: _backward(node, given_to, values, d) for node, given_to in back}
        update = {name: _update(values[name], d, name, optimizer) for name in graph.trainable}
    return Times(forward, backward, update)


def samples(graph: Graph) -> dict[str, Array]:
    """Random inputs: normal numbers, targets uniform in [0, 1), class numbers."""
    classes = graph.values[graph.outputs[1]].shape[-1] if len(graph.outputs) > 1 else 1
    return {name: _random(graph, name, classes) for name in graph.inputs}


def _random(graph: Graph, name: str, classes: int) -> Array:
    value, rng = graph.values[name], generator(0, 0, f"cost {name}")
    if np.dtype(value.dtype).kind == "i":
        return rng.integers(0, classes, value.shape).astype(value.dtype)
    draw = rng.random if name == "y" else rng.standard_normal
    return np.asarray(draw(value.shape), value.dtype)


def _forward(node: Node, values: dict[str, Array]) -> float:
    rule = rules.get(node.rule)
    inputs = [None if i is None else values[i] for i in node.inputs]
    outputs, seconds = _timed(lambda: rule.call(np, *inputs, **node.attributes))
    values.update(zip(node.outputs, outputs, strict=True))
    return seconds


def _backward(node: Node, given: tuple[str, ...], values: Mapping[str, Array], d: dict[str, Array]) -> float:
    def step() -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, gradient in reference.node_gradients(node, values, d, np):
            if name in given:
                earlier = found.get(name, d.get(name))
                found[name] = gradient if earlier is None else earlier + gradient
        return found

    found, seconds = _timed(step)
    d.update(found)
    return seconds


def _update(p: Array, d: Mapping[str, Array], name: str, optimizer: Optimizer) -> float:
    g, state = d.get(name, np.zeros_like(p)), optimizer.init(np, p)
    return _timed(lambda: optimizer.update(np, p, g, state, lr=1e-3, t=1))[1]


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """(result, median seconds of :data:`REPEATS` calls)."""
    result, times = call(), []
    for _ in range(REPEATS):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return result, median(times)
