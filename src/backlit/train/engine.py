"""Which engine trains where the caller leaves it open, and why."""

from __future__ import annotations

import math
from importlib.util import find_spec

from backlit.core.i18n import say
from backlit.engines.estimate import seconds
from backlit.graph.graph import Graph

QUICK = 4.0
"""Seconds that the reference engine may take for a run before it is worth loading the fast engine's compiler."""
ENTRY = 2e-9
"""Seconds that the fast engine takes in every step for an entry of a sparse table, about: it clears and squares the
gradient of all rows, where the reference engine knows only those that were read."""


def chosen(graph: Graph, *, batch_size: int, steps: int, accumulate: int) -> tuple[str, str]:
    """("fast", "") or ("reference", the reason in one line) for a run of ``steps`` steps.

    ``graph`` is that of a training step on one sample; a step has ``accumulate`` mini-batches. The choice depends on
    the run alone, not on the machine's load nor on what is compiled already, so that a run is the same run wherever it
    is started.
    """
    if find_spec("numba") is None:
        return "reference", say("engine_without_numba")
    if steps * accumulate * seconds(graph, batch_size) < QUICK:
        return "reference", ""
    tables = [n for n in graph.trainable if n in graph.sparse]
    if sum(math.prod(graph.values[n].shape) for n in tables) * ENTRY > accumulate * seconds(graph, batch_size):
        return "reference", say("engine_without_sparse", names=", ".join(tables))
    return "fast", ""
