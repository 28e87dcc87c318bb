"""Gradients: of any array function of NumPy-like operations, and of a model's loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from backlit.core.errors import GraphError, InputError
from backlit.core.types import Array
from backlit.data.validate import check_features
from backlit.engines import reference
from backlit.graph.builder import Builder
from backlit.graph.graph import Graph
from backlit.graph.symbolic import Symbolic
from backlit.nn import losses
from backlit.nn.model import Model, input_names
from backlit.nn.targets import check_target
from backlit.nn.tree import map_leaves


def grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient of ``function(a, b, …) -> scalar`` by its arguments: an array of its shape, a tuple for several.

    ``function`` may use ``+ - * / ** @``, comparisons, indexing, NumPy functions that have a rule, and ``backlit.ops``.
    Arguments are arrays or numbers, or dicts, lists and tuples of them, nested in any way: the gradient has the same
    structure, each array in its own dtype. A list of numbers is an array. Keyword arguments are passed on as they are.

    Raises GraphError where the result is not a scalar or an operation has no rule, InputError for arguments that are
    not numbers.
    """
    both = _of_function(function)

    @wraps(function)
    def gradient(*arguments: Any, **constants: Any) -> Any:
        return both(*arguments, **constants)[1]

    return gradient


def value_and_grad(of: Callable[..., Any] | Model, *data: Any, **settings: Any) -> Any:
    """(value, gradient) at once.

    Of a function: returns a function of its arguments, like :func:`grad`. Of a model: ``value_and_grad(model, X, y,
    loss="mse")`` returns (loss, gradients by dotted name); see :func:`of_model`.
    """
    return of_model(of, *data, **settings) if isinstance(of, Model) else _of_function(of)


def _of_function(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def both(*arguments: Any, **constants: Any) -> tuple[Any, Any]:
        trees = [map_leaves(_floating, a, f"argument{i}") for i, a in enumerate(arguments, start=1)]
        graph, arrays = _stage(function, trees, constants)
        values, d = reference.value_and_grad(graph, reference.leaves(graph, arrays), graph.inputs)
        own = {name: d[name].astype(a.dtype, copy=False) for name, a in arrays.items()}
        gradients = tuple(
            map_leaves(lambda name, _: own[name], t, f"argument{i}") for i, t in enumerate(trees, start=1)
        )
        return values[graph.outputs[0]], gradients[0] if len(gradients) == 1 else gradients

    return both


def _floating(name: str, argument: Any) -> Array:
    try:
        array = np.asarray(argument)
    except ValueError as error:
        if isinstance(error, GraphError):
            raise  # a symbolic value: a gradient of a gradient
        raise InputError("array_kind", where=name, got=type(argument).__name__) from None
    if array.dtype.kind not in "fiub":
        raise InputError("array_kind", where=name, got=f"{type(argument).__name__} ({array.dtype})")
    return array if array.dtype.kind == "f" else array.astype("float64")


def _stage(function: Callable[..., Any], trees: list[Any], constants: dict[str, Any]) -> tuple[Graph, dict[str, Array]]:
    """The graph of ``function``, and the arrays of ``trees`` by the names of its inputs."""
    arrays: dict[str, Array] = {}
    for i, tree in enumerate(trees, start=1):
        map_leaves(arrays.__setitem__, tree, f"argument{i}")
    builder = Builder(dtype=np.result_type(*arrays.values()).name if arrays else "float64")
    inputs = {name: builder.input(name, a.shape, a.dtype.name) for name, a in arrays.items()}
    arguments = [map_leaves(lambda name, _: inputs[name], t, f"argument{i}") for i, t in enumerate(trees, start=1)]
    result = function(*arguments, **constants)
    if not isinstance(result, Symbolic):
        result = builder.lift(result)
    if result.shape != ():
        raise GraphError("not_scalar", where=getattr(function, "__name__", "function"), got=str(result.value))
    return builder.graph((result,)), arrays


def of_model(
    model: Model,
    X: Any,
    y: Any,
    *,
    loss: str | losses.Loss,
    weights: Any = None,
    training: bool = True,
    seed: int = 0,
    step: int = 1,
) -> tuple[float, dict[str, Array]]:
    """(loss, ∂loss/∂θ of every trainable parameter θ by dotted name) for one batch.

    X[N, …], y[N, …], weights[N] as for :func:`backlit.fit`; an unbuilt model is built with ``seed``. With ``training``
    dropout draws its masks from (seed, step, name) and batch normalisation uses the batch. The model is not changed.
    """
    graph, env = loss_graph(model, X, y, loss=loss, weights=weights, training=training, seed=seed, step=step)
    values, d = reference.value_and_grad(graph, env, graph.trainable)
    return float(values[graph.outputs[0]]), {name: d[name] for name in graph.trainable}


def loss_graph(
    model: Model,
    X: Any,
    y: Any,
    *,
    loss: str | losses.Loss,
    weights: Any = None,
    training: bool = True,
    seed: int = 0,
    step: int = 1,
    dtype: str | None = None,
) -> tuple[Graph, dict[str, Array]]:
    """The graph of (loss, output, mass) for one batch and its leaves' values, in ``dtype`` (the model's by default)."""
    recipe = losses.get(loss)
    build_for(model, X, seed=seed)
    dtype = dtype or model.dtype
    arrays = tuple(a.astype(dtype) if a.dtype.kind == "f" else a for a in model.arrays(X))
    for name, a in (*zip(input_names(len(arrays)), arrays, strict=True), ("y", y)):
        check_features(a, name)
    target = recipe.target(y, dtype)
    weights = None if weights is None else np.asarray(weights, dtype)
    graph = model.graph(
        tuple((a.shape, a.dtype.name) for a in arrays),
        training=training,
        loss=recipe,
        target=(target.shape, target.dtype.name),
        weights=None if weights is None else (weights.shape, dtype),
        dtype=dtype,
    )
    check_target(np.asarray(y), graph.values[graph.outputs[1]].shape, recipe)
    given = {n: a.astype(dtype, copy=False) for n, a in (model.params | model.state).items()}
    given |= dict(zip(graph.inputs, (*arrays, target, *(() if weights is None else (weights,))), strict=True))
    env = reference.leaves(graph, given, seed=seed, step=step)
    reference.require(graph, env)
    return graph, env


def build_for(model: Model, X: Any, *, seed: int = 0, dtype: str = "float32") -> Model:
    """Build ``model`` for samples like those of ``X`` unless it is built already."""
    if not model.built:
        arrays = X if isinstance(X, tuple) else (X,)
        shapes = tuple(tuple(np.shape(a)[1:]) for a in arrays)
        model.build(shapes if len(shapes) > 1 else shapes[0], seed=seed, dtype=dtype)
    return model
