"""Which engine trains where the caller leaves it open, and why."""

from __future__ import annotations

import math
from importlib import import_module
from importlib.util import find_spec

from backlit.core.i18n import say
from backlit.graph.graph import Graph, Node

QUICK = 4.0
"""Seconds that the reference engine may take for a run before it is worth loading the fast engine's compiler."""
CALL, SPEED = 2.5e-5, 8e9
"""What a node costs the reference engine, about: seconds a call, forward and backward, and FLOPs a second."""


def chosen(graph: Graph, *, batch_size: int, steps: int, accumulate: int) -> tuple[str, str]:
    """("fast", "") or ("reference", the reason in one line) for a run of ``steps`` steps.

    ``graph`` is that of a training step on one sample; a step has ``accumulate`` mini-batches. The choice depends on
    the run alone, not on the machine's load nor on what is compiled already, so that a run is the same run wherever it
    is started.
    """
    if find_spec("numba") is None:
        return "reference", say("engine_without_numba")
    if graph.sparse:
        return "reference", say("engine_without_sparse", names=", ".join(sorted(graph.sparse)))
    if steps * accumulate * seconds(graph, batch_size) < QUICK:
        return "reference", ""
    try:
        import_module("backlit.engines.fast.blas")
    except (AttributeError, OSError) as error:
        return "reference", say("engine_without_blas", reason=str(error))
    return "fast", ""


def seconds(graph: Graph, batch_size: int) -> float:
    """What a mini-batch takes the reference engine, about."""
    return len(graph.nodes) * CALL + sum(_work(graph, node) for node in graph.nodes) * batch_size / SPEED


def _work(graph: Graph, node: Node) -> int:
    """FLOPs of a node on one sample, forward and backward: of a product for every entry, or some for each."""
    out = math.prod(graph.values[node.name].shape)
    shapes = [graph.values[i].shape for i in node.inputs[1:2] if i is not None and i in graph.parameters]
    return 6 * out * math.prod(shapes[0][1:]) if shapes and len(shapes[0]) > 1 else 20 * out
