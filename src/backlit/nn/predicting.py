"""Who computes predictions: the interpreter, or programs of the fast engine where there are many samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from threading import local
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from backlit import rules
from backlit.core import environment
from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.core.types import Array
from backlit.engines import reference
from backlit.engines.estimate import seconds

if TYPE_CHECKING:
    from backlit.engines.fast.forward import Forwards
    from backlit.graph.graph import Graph
    from backlit.nn.model import Model

Predict = Callable[[tuple[Array, ...]], Array]

ENGINES = dict.fromkeys(("auto", "reference", "fast"), "")
QUICK = 4.0
"""Seconds that the reference engine may take before it is worth loading the fast engine."""
MANY = 32
"""Samples below which that is not even estimated."""
BACKWARD = 2.0
"""What a walk back costs, in walks forward."""

_kept = local()
"""The programs of each model, in each thread: two threads may ask the same model."""


def by(engine: str, model: Model, first: tuple[Array, ...], size: int, count: int) -> tuple[Predict, bool]:
    """(what computes the outputs of some samples, whether it divides them into batches of ``size`` itself).

    ``first`` are the inputs of some of the ``count`` samples. UnknownNameError for an unknown engine; InputError where
    the fast engine is asked for without Numba.
    """
    lookup(ENGINES, engine, "engine")
    if engine == "fast" and find_spec("numba") is None:
        raise InputError("engine_numba", where="predict")
    if engine == "fast" or (engine == "auto" and _pays(model, first, count)):
        return partial(_by_programs, model, size), True
    return partial(_by_reference, model), False


def _pays(model: Model, first: tuple[Array, ...], count: int) -> bool:
    """A function of model and data alone, so that a prediction has the same bits wherever it is asked for."""
    if count < MANY or find_spec("numba") is None:
        return False
    graph = model.graph_like(first, len(first[0]))
    return seconds(graph, 1) * count / len(first[0]) / (1 + BACKWARD) > QUICK


def _by_reference(model: Model, arrays: tuple[Array, ...]) -> Array:
    graph = model.graph_like(arrays, len(arrays[0]))
    env = _leaves(model, arrays)
    reference.require(graph, env)
    return reference.forward(graph, env)[graph.outputs[0]]


def _leaves(model: Model, arrays: tuple[Array, ...]) -> dict[str, Any]:
    graph = model.graph_like(arrays, len(arrays[0]))
    return reference.leaves(graph, dict(zip(graph.inputs, arrays, strict=True)) | model.params | model.state)


def _by_programs(model: Model, size: int, arrays: tuple[Array, ...]) -> Array:
    graph_of = partial(model.graph_like, arrays)
    graph = graph_of(min(size, len(arrays[0])))
    if any(rules.get(node.rule).requires for node in graph.nodes):
        for i in range(0, len(arrays[0]), size):
            part = tuple(a[i : i + size] for a in arrays)
            reference.require(graph_of(len(part[0])), _leaves(model, part))
    programs = _programs(model, graph)
    programs.load(model.params, model.state)
    return programs.outputs(graph_of, arrays, size)


def _programs(model: Model, graph: Graph) -> Forwards:
    from backlit.engines.fast.forward import Forwards

    kept: WeakKeyDictionary[Model, Forwards] = vars(_kept).setdefault("models", WeakKeyDictionary())
    if model not in kept or not kept[model].fit(graph, model.dtype):
        kept[model] = Forwards.of(graph, model.dtype, environment.threads())
    return kept[model]
