"""Gradients sample by sample, from the δ and the values that a trace already holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array
from backlit.engines import reference
from backlit.glass.trace import Trace
from backlit.graph.graph import Node, differentiable_inputs


def per_sample(trace: Trace, parameter: str) -> Array:
    """See :meth:`backlit.glass.trace.Trace.per_sample`.

    Where a parameter meets the samples only after some nodes of its own (a transposition), these pass each sample's
    share on.
    """
    whole = trace.grad(parameter)
    own, meeting = _ways(trace, parameter)
    _require_samples(trace, parameter, meeting)
    found = np.zeros((_samples(trace), *whole.shape), whole.dtype)
    for n in range(len(found)):
        d: dict[str, Array] = {}
        for node in meeting:
            _add(d, reference.node_gradients(node, trace.values, dict(_only(trace, node, n)), np))
        for node in reversed(own):
            if not d.keys().isdisjoint(node.outputs):
                _add(d, reference.node_gradients(node, trace.values, d, np))
        found[n] = d.get(parameter, 0.0)
    return found


def _samples(trace: Trace) -> int:
    shape = trace.values[trace.graph.inputs[0]].shape
    return shape[0] if shape else 0


def _ways(trace: Trace, parameter: str) -> tuple[list[Node], list[Node]]:
    """(nodes that compute with the parameter before any data, nodes in which it meets the data), in order."""
    data, behind = set(trace.graph.inputs), {parameter}
    own: list[Node] = []
    meeting: list[Node] = []
    for node in trace.graph.nodes:
        with_data = not data.isdisjoint(node.operands)
        if not behind.isdisjoint(differentiable_inputs(node)) and any(o in trace.grads for o in node.outputs):
            (meeting if with_data else own).append(node)
            behind.update(() if with_data else node.outputs)
        data.update(node.outputs if with_data else ())
    return own, meeting


def _require_samples(trace: Trace, parameter: str, meeting: list[Node]) -> None:
    n = _samples(trace)
    for name in (o for node in meeting for o in node.outputs if o in trace.grads):
        if trace.values[name].shape[:1] != (n,):
            raise InputError("no_sample_axis", where=parameter, expected=f"{name}[{n}, …]", got=_shown(trace, name))


def _shown(trace: Trace, name: str) -> str:
    return f"{name}{list(trace.values[name].shape)}"


def _only(trace: Trace, node: Node, sample: int) -> Iterator[tuple[str, Array]]:
    """δ of the node's outputs with all samples but one set to 0."""
    for name in node.outputs:
        if name in trace.grads:
            kept = np.zeros_like(trace.grads[name])
            kept[sample] = trace.grads[name][sample]
            yield name, kept


def _add(d: dict[str, Array], shares: Iterable[tuple[str, Array]]) -> None:
    for name, g in shares:
        d[name] = d[name] + g if name in d else g
