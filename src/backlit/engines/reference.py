"""The reference engine: an interpreter that walks a graph forward, then backward. It defines correct and stays plain.

It runs in any precision and over any array namespace ``xp``; under ``jax.numpy`` the walk can be traced by ``jit``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.errors import InputError
from backlit.core.rng import generator
from backlit.core.types import Array, Arrays, Namespace
from backlit.graph.graph import Graph, Node, differentiable_positions


def leaves(graph: Graph, given: Arrays, *, seed: int = 0, step: int = 0, part: int = 0) -> dict[str, Array]:
    """Values of all leaves: ``given`` inputs, parameters and state, constants, and masks drawn by (seed, step, name).

    ``part`` counts the micro-batches that one step accumulates; from the second on it enters the masks' key.

    Raises InputError where one is missing or has another shape than the graph was staged for.
    """
    env = dict(graph.constants) | {n: draw_mask(graph, n, seed, step, part) for n in graph.masks}
    for name in (*graph.inputs, *graph.parameters, *graph.state):
        if name not in given or tuple(given[name].shape) != graph.values[name].shape:
            came = f"{name}{list(given[name].shape)}" if name in given else f"{name} = None"
            raise InputError("leaf_shape", where=name, expected=str(graph.values[name]), got=came)
        env[name] = given[name]
    return env


def require(graph: Graph, env: Arrays) -> None:
    """InputError where a rule refuses values that come from outside: a token id out of range, a mask that hides all.

    ``env`` holds the leaves. What a rule's constants are computed from is computed, nothing else; so this is done once,
    where data come in, and not in every step.
    """
    demanding = [node for node in graph.nodes if rules.get(node.rule).requires]
    needed = graph.behind(name for node in demanding for name in _constants(node)) if demanding else frozenset()
    nodes = tuple(node for node in graph.nodes if not needed.isdisjoint(node.outputs))
    values = forward(replace(graph, nodes=nodes), env)
    for node in demanding:
        inputs = (None if i is None else values.get(i, graph.values[i]) for i in node.inputs)
        try:
            rules.get(node.rule).requires(*inputs, **node.attributes)  # type: ignore[misc]
        except InputError as error:
            raise error.at(node.name) from None


def _constants(node: Node) -> list[str]:
    """The inputs of a node that it has no gradient of."""
    return [
        i
        for i, n in zip(node.inputs, rules.get(node.rule).inputs, strict=False)
        if i and n in rules.get(node.rule).constants
    ]


def draw_mask(graph: Graph, name: str, seed: int, step: int, part: int = 0) -> Array:
    """The dropout mask of one step: each entry 0 with probability rate, else 1/(1 - rate)."""
    value, rate = graph.values[name], graph.masks[name].rate
    kept = generator(seed, step, f"{name}/{part}" if part else name).random(value.shape) >= rate
    return kept.astype(value.dtype) * np.asarray(1 / (1 - rate), value.dtype)


def forward(graph: Graph, env: Arrays, xp: Namespace = np) -> dict[str, Array]:
    """All values of the graph by name, from those of its leaves."""
    values = dict(env)
    for node in graph.nodes:
        inputs = (None if i is None else values[i] for i in node.inputs)
        values |= zip(node.outputs, rules.get(node.rule).call(xp, *inputs, **node.attributes), strict=True)
    return values


def backward(
    graph: Graph, values: Arrays, wrt: Iterable[str], output: str, xp: Namespace = np, *, rows: bool = False
) -> dict[str, Any]:
    """∂(output)/∂v for every value v on a way from ``wrt`` to ``output``, by name; zeros for a ``wrt`` without a way.

    With ``rows`` the gradients of the graph's sparse parameters are :class:`Rows`, for an optimizer, in NumPy.

    The walk is the chain rule in reverse: a node passes ∂L/∂(outputs) through its rule's backward, and what several
    nodes send to one value adds up.
    """
    wrt = tuple(wrt)
    on_the_way = graph.depends_on(wrt)
    d: dict[str, Any] = {output: xp.ones_like(values[output])}
    sparse = graph.sparse if rows else frozenset()
    for node in reversed(graph.nodes):
        if on_the_way.isdisjoint(node.outputs) or not any(o in d for o in node.outputs):
            continue
        by_rows = not sparse.isdisjoint(node.operands)
        for name, gradient in _row_gradients(node, values, d) if by_rows else node_gradients(node, values, d, xp):
            if name in on_the_way:
                d[name] = d[name] + gradient if name in d else gradient
    return {name: xp.zeros_like(values[name]) for name in wrt} | d


def node_gradients(node: Node, values: Arrays, d: Mapping[str, Array], xp: Namespace) -> Iterable[tuple[str, Array]]:
    """(input, its share of ∂L/∂input) for each differentiable input of one node, given ``d``, ∂L/∂(its outputs)."""
    rule = rules.get(node.rule)
    inputs = tuple(None if i is None else values[i] for i in node.inputs)
    saved = rule.saved_from(inputs, tuple(values[o] for o in node.outputs), node.attributes)
    outputs = [o for o, kind in zip(node.outputs, rule.outputs, strict=True) if kind in rule.differentiated]
    found = rule.gradients(xp, [d[o] if o in d else xp.zeros_like(values[o]) for o in outputs], saved)
    return [(name, found[i]) for name, i in differentiable_positions(node)]


def _row_gradients(node: Node, values: Arrays, d: Mapping[str, Array]) -> Iterable[tuple[str, Any]]:
    """(table, its gradient as rows) of a node that reads rows."""
    rule = rules.get(node.rule)
    assert rule.rows is not None
    inputs = tuple(None if i is None else values[i] for i in node.inputs)
    saved = rule.saved_from(inputs, tuple(values[o] for o in node.outputs), node.attributes)
    return [(name, rule.rows(d[node.name], **saved)) for name, _ in differentiable_positions(node)]


def value_and_grad(
    graph: Graph, env: Arrays, wrt: Iterable[str], xp: Namespace = np, *, rows: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All values, and ∂(first output)/∂v for every value on the way; both by name. ``rows`` as for :func:`backward`."""
    values = forward(graph, env, xp)
    return values, backward(graph, values, wrt, graph.outputs[0], xp, rows=rows)
