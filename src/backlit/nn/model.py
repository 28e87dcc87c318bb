"""Models: a function of symbolic values, or layers in a row, together with the parameters made for it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.core.rng import generator
from backlit.core.types import Array, Shape
from backlit.data.mapped import is_mapped, opened
from backlit.data.validate import as_array
from backlit.graph.builder import Builder
from backlit.graph.functions import builder_of
from backlit.graph.graph import Graph
from backlit.graph.symbolic import Symbolic
from backlit.nn import predicting
from backlit.nn.layer import Layer
from backlit.nn.losses import Loss
from backlit.nn.summary import Summary

Shapes = tuple[Shape, ...]

GRAPHS_KEPT = 32
"""Staged graphs that a model keeps, those used last."""

ROWS_AT_ONCE, BYTES_AT_ONCE = 1024, 1 << 28
"""At inference as many samples are walked through together as give at most so many rows, and bytes of all values."""


@dataclass(frozen=True)
class Signature:
    """All that a staged graph depends on besides the model: one graph is kept for each."""

    inputs: tuple[tuple[Shape, str], ...]
    """(shape with the batch axis, dtype) of each input."""
    training: bool = False
    loss: Loss | None = None
    target: tuple[Shape, str] | None = None
    weights: tuple[Shape, str] | None = None
    dtype: str = "float32"
    """dtype of the parameters."""


class Model:
    """Any directed acyclic graph of layers, written as a function of symbolic values.

    ``function(x, …)`` returns the network's output. Layers made inside are named by their order; a layer made outside
    and called more than once is shared. ``params`` maps dotted names (``dense1.W``) to arrays once the model is built.
    ``trainable=False`` freezes all parameters, also where the model is part of another; see :meth:`freeze`.
    """

    def __init__(self, function: Callable[..., Symbolic], *, trainable: bool = True) -> None:
        self.function, self.trainable = function, trainable
        self.params: dict[str, Array] = {}
        self.state: dict[str, Array] = {}
        self.samples: Shapes = ()
        """Shape of one sample of each input; empty until the model is built."""
        self.dtype = "float32"
        self.dtypes: tuple[str, ...] = ()
        """dtype of each input: int64 where it holds indices, as of an embedding, else ``dtype``."""
        self.seed = 0
        self._graphs: dict[Signature, Graph] = {}
        self._holders: dict[str, tuple[str, ...]] = {}
        """What freeze takes -> names of parameters."""
        self._chosen: dict[str, bool] = {}
        """What freeze (True) and unfreeze (False) were given, the last one last."""

    @property
    def built(self) -> bool:
        """True once parameters exist."""
        return bool(self.samples)

    def stage(self, *inputs: Symbolic) -> Symbolic:
        """The output for symbolic ``inputs``; GraphError or InputError from the layers."""
        self._check_count(len(inputs))
        with inputs[0].builder.inside(self, type(self).__name__):
            found = self.function(*inputs)
        if not isinstance(found, Symbolic):
            raise InputError("model_result", where=type(self).__name__, got=type(found).__name__)
        return found

    def _check_count(self, count: int) -> None:
        """InputError unless the function takes so many inputs."""
        try:
            signature = inspect.signature(self.function)
        except ValueError:  # a compiled function that does not tell
            return
        try:
            signature.bind(*range(count))
        except TypeError:
            want, got = ", ".join(signature.parameters), ", ".join(input_names(count))
            raise InputError("model_inputs", where=type(self).__name__, expected=want, got=got) from None

    def __call__(self, *inputs: Any) -> Any:
        """Inside another model's function: part of that model. On arrays: :meth:`predict`."""
        if builder_of(*inputs) is None:
            return self.predict(inputs if len(inputs) > 1 else inputs[0])
        if self._chosen:
            raise InputError("freeze_part", where=type(self).__name__, got=", ".join(self._chosen))
        return self.stage(*inputs)

    # --- frozen parameters --------------------------------------------------------------------------------------

    def freeze(self, *names: str) -> Model:
        """Let training leave parameters as they are, bit for bit; returns the model.

        ``names`` are of layers (``dense1``: all its parameters, those of layers inside it too) or of parameters
        (``dense1.W``). What comes later counts, also over a layer's ``trainable``. Gradients pass through frozen
        layers as before, and the running statistics of a frozen BatchNorm go on moving. UnknownNameError where there
        is no such name; for a model that is not built yet, when it is.
        """
        return self._choose(names, frozen=True)

    def unfreeze(self, *names: str) -> Model:
        """The opposite of :meth:`freeze`."""
        return self._choose(names, frozen=False)

    def _choose(self, names: tuple[str, ...], *, frozen: bool) -> Model:
        for name in names if self.built else ():
            lookup(self._holders, name, "holder")
        self._chosen = {n: f for n, f in self._chosen.items() if n not in names} | dict.fromkeys(names, frozen)
        self._graphs = {}
        return self

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the parameters that training leaves as they are. May be set; InputError where not built."""
        self._require_built()
        graph = self.graph(self.batch_of(1), training=True)
        return tuple(name for name in graph.parameters if name in graph.frozen)

    @frozen.setter
    def frozen(self, names: Iterable[str]) -> None:  # which ones exactly
        self._require_built()
        wanted = {lookup(dict.fromkeys(self.params, name), name, "parameter") for name in names}
        self._chosen, self._graphs = {name: name in wanted for name in self.params}, {}

    def _freeze_in(self, graph: Graph, holders: dict[str, tuple[str, ...]]) -> Graph:
        """The graph with the choices of freeze and unfreeze."""
        found = graph.frozen
        for name, frozen in self._chosen.items():
            if name not in holders:
                self._chosen = {n: f for n, f in self._chosen.items() if n != name}  # said once, then forgotten
            parameters = lookup(holders, name, "holder")
            found = found.union(parameters) if frozen else found.difference(parameters)
        return replace(graph, frozen=found.intersection(graph.parameters))

    # --- parameters ---------------------------------------------------------------------------------------------

    def build(self, sample_shape: Any, *, seed: int = 0, dtype: Any = "float32") -> Model:
        """Make the parameters for samples of this shape (no batch axis; one tuple per input), drawn from ``seed``.

        ``dtype`` is ``float32`` or another floating type of NumPy, by name or as it is; it holds for all arrays.

        Each parameter comes from its own key (seed, 0, name), so a layer added elsewhere does not change it.
        """
        samples, dtype = _sample_shapes(sample_shape), _floating(dtype)
        signature = Signature(_batch(samples, 2, (dtype,) * len(samples)), training=True, dtype=dtype)
        builder, graph = self._stage(signature)
        dtypes = tuple("int64" if name in graph.integer_inputs else dtype for name in graph.inputs)
        if graph.integer_inputs:
            signature = replace(signature, inputs=_batch(samples, 2, dtypes))
            builder, graph = self._stage(signature)
        holders = _holders(builder, graph)
        graph = self._freeze_in(graph, holders)
        self.samples, self.dtype, self.seed, self._graphs = samples, dtype, seed, {signature: graph}
        self._holders, self.dtypes = holders, dtypes
        arrays = {name: self._first_value(builder, name) for name in builder.initializers}
        self.params = {name: arrays[name] for name in graph.parameters}
        self.state = {name: arrays[name] for name in graph.state}
        return self

    def batch_of(self, n: int) -> tuple[tuple[Shape, str], ...]:
        """(shape, dtype) of each input for a batch of ``n`` samples; InputError where not built."""
        self._require_built()
        return _batch(self.samples, n, self.dtypes)

    def _first_value(self, builder: Builder, name: str) -> Array:
        shape = builder.values[name].shape
        return np.asarray(builder.initializers[name](generator(self.seed, 0, name), shape), self.dtype)

    def graph(self, inputs: Any, **settings: Any) -> Graph:
        """The graph for ``inputs``, one (shape, dtype) each, and other fields of :class:`Signature`.

        It is staged once, and again only after :data:`GRAPHS_KEPT` others.
        """
        signature = Signature(tuple(inputs), **{"dtype": self.dtype} | settings)
        self._check_samples(signature)
        graph = self._graphs.pop(signature, None) or self._staged(signature)
        self._graphs[signature] = graph  # now the last
        while len(self._graphs) > GRAPHS_KEPT:
            del self._graphs[next(iter(self._graphs))]
        return graph

    def graph_like(self, arrays: Iterable[Array], n: int) -> Graph:
        """The graph at inference for ``n`` samples like those of ``arrays``."""
        return self.graph(((n, *a.shape[1:]), a.dtype.name) for a in arrays)

    def _staged(self, signature: Signature) -> Graph:
        builder, graph = self._stage(signature)
        return self._freeze_in(graph, self._holders if self.built else _holders(builder, graph))

    def _check_samples(self, signature: Signature) -> None:
        came = tuple(tuple(shape[1:]) for shape, _ in signature.inputs)
        if self.built and came != self.samples:
            want = ", ".join(f"x[N{''.join(f', {d}' for d in s)}]" for s in self.samples)
            got = ", ".join(f"x[{', '.join(map(str, shape))}]" for shape, _ in signature.inputs)
            raise InputError("sample_shape", where=type(self).__name__, expected=want, got=got)

    def _stage(self, signature: Signature) -> tuple[Builder, Graph]:
        builder = Builder(dtype=signature.dtype, training=signature.training, uniform=True)
        inputs = [
            builder.input(name, *leaf)
            for name, leaf in zip(input_names(len(signature.inputs)), signature.inputs, strict=True)
        ]
        output = self.stage(*inputs)
        if signature.loss is None:
            return builder, builder.graph((output,))
        assert signature.target is not None
        target = builder.input("y", *signature.target)
        weights = builder.input("weights", *signature.weights) if signature.weights else None
        loss, mass = signature.loss.stage(builder, output, target, weights)
        return builder, builder.graph((loss, output, mass))

    def predict(self, X: Any, *, batch_size: int | None = None, engine: str = "auto") -> Array:
        """The network's output for every sample of ``X`` (a tuple of arrays for several inputs), as at inference.

        ``X`` is x[N, *sample shape]; the result's first axis is N. With a classification loss these are logits. A
        memory-mapped array, or the path of an ``.npy`` file, is read a batch at a time: ``batch_size`` samples, unless
        told up to 1024, fewer where their values take more than 256 MiB.

        ``engine`` is "reference", "fast" or "auto": the fast engine, where Numba is installed, for so many samples that
        the reference engine would need more than about four seconds. Both give the same numbers up to rounding; those
        of the fast engine repeat bit for bit for a number of threads.
        """
        X = opened(X)
        given = X if isinstance(X, tuple) else (X,)
        arrays = given if all(map(is_mapped, given)) else self.arrays(X)
        first = self.arrays(tuple(a[: batch_size or ROWS_AT_ONCE] for a in arrays))
        size = batch_size or self._rows_at_once(first)
        predict, divides = predicting.by(engine, self, first, size, len(arrays[0]))
        step = len(arrays[0]) if divides and arrays is not given else size
        pieces = (tuple(a[i : i + step] for a in arrays) for i in range(0, len(arrays[0]), step))
        return np.concatenate([predict(self.arrays(piece)) for piece in pieces])

    def _rows_at_once(self, first: tuple[Array, ...]) -> int:
        return rows_at_once(self.graph(tuple((a.shape, a.dtype.name) for a in first)), len(first[0]))

    def predict_proba(self, X: Any, *, batch_size: int | None = None, engine: str = "auto") -> Array:
        """Softmax of the logits over the last axis; for a single logit its sigmoid."""
        from backlit import rules

        logits = self.predict(X, batch_size=batch_size, engine=engine)
        return rules.get("sigmoid" if logits.shape[-1] == 1 else "softmax").call(np, logits)[0]

    def arrays(self, X: Any) -> tuple[Array, ...]:
        """``X`` as a tuple of arrays, one per input, in the model's dtype, indices in int64.

        InputError where not built or empty, or where indices are no integers.
        """
        self._require_built()
        return as_inputs(X, self.dtypes)

    def summary(self) -> Summary:
        """Layers with output shapes, parameters and FLOPs of one sample forward and backward; prints as a table."""
        self._require_built()
        return Summary.of(type(self).__name__, self.graph(self.batch_of(1)), self.params)

    def _require_built(self) -> None:
        if not self.built:
            raise InputError("not_built", where=type(self).__name__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self.function, '__name__', '…')})"


class Sequential(Model):
    """Layers (or models) one after another: ``Sequential(Dense(128, "relu"), Dense(10))``."""

    def __init__(self, *layers: Layer | Model, trainable: bool = True) -> None:
        for layer in layers:
            if not isinstance(layer, Layer | Model):
                raise InputError("no_layers", where="Sequential", got=repr(layer))
        self.layers = layers
        super().__init__(self._chain, trainable=trainable)

    def _chain(self, x: Symbolic) -> Symbolic:
        for layer in self.layers:
            x = layer(x)
        return x

    def __repr__(self) -> str:
        parts = [*map(repr, self.layers), *(() if self.trainable else ("trainable=False",))]
        return f"Sequential({', '.join(parts)})"


def rows_at_once(graph: Graph, rows: int) -> int:
    """How many samples to walk through together, where ``graph`` is that of so many."""
    values = (graph.values[name] for node in graph.nodes for name in node.outputs)
    size = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in values)
    return max(1, min(rows, rows * BYTES_AT_ONCE // max(size, 1)))


def _holders(builder: Builder, graph: Graph) -> dict[str, tuple[str, ...]]:
    """Layers, parts of layers (``block1.attention``) and parameters by name, each with its parameters."""
    parts: dict[str, tuple[str, ...]] = {}
    for name in graph.parameters:
        pieces = name.split(".")
        for k in range(1, len(pieces)):
            part = ".".join(pieces[:k])
            parts[part] = (*parts.get(part, ()), name)
    return parts | {layer: tuple(p) for layer, p in builder.holders.items()} | {p: (p,) for p in graph.parameters}


def input_names(count: int) -> tuple[str, ...]:
    """``("x",)`` for one input, ``("x1", "x2", …)`` for more."""
    return ("x",) if count == 1 else tuple(f"x{i}" for i in range(1, count + 1))


def as_inputs(X: Any, dtypes: tuple[str, ...]) -> tuple[Array, ...]:
    """``X`` as a tuple of arrays of these dtypes. InputError where empty or not numbers, or not whole ones."""
    arrays = tuple(as_array(x, "x") for x in (X if isinstance(X, tuple) else (X,)))
    for name, a in zip(input_names(len(arrays)), arrays, strict=True):
        if a.dtype.kind not in "fiub":
            raise InputError("array_kind", where=name, got=f"{name}: {a.dtype}")
        if a.ndim == 0 or len(a) == 0:
            raise InputError("empty_batch", where=name, shape=list(a.shape))
    wanted = (*dtypes, *[dtypes[-1]] * (len(arrays) - len(dtypes)))  # another number of inputs is refused later
    for name, a, dtype in zip(input_names(len(arrays)), arrays, wanted, strict=False):
        if a.dtype.kind == "f" and np.dtype(dtype).kind == "i":
            raise InputError("embedding_integers", where=name, got=f"{name}{list(a.shape)}: {a.dtype}")
    return tuple(a.astype(dtype, copy=False) for a, dtype in zip(arrays, wanted, strict=False))


def _sample_shapes(given: Any) -> Shapes:
    several = isinstance(given, tuple | list) and bool(given) and all(isinstance(s, tuple | list) for s in given)
    shapes = tuple(given) if several else (given,)
    if not all(
        isinstance(s, tuple | list) and all(isinstance(d, int | np.integer) and d > 0 for d in s) for s in shapes
    ):
        raise InputError("sample_shape_form", where="build", got=repr(given))
    return tuple(tuple(int(d) for d in s) for s in shapes)


def _floating(dtype: Any) -> str:
    """The name of a floating dtype; InputError for any other."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found.kind != "f":
        raise InputError("option_range", where="build", option="dtype", expected="float32, float64", got=repr(dtype))
    return str(found.name)


def _batch(samples: Shapes, n: int, dtypes: tuple[str, ...]) -> tuple[tuple[Shape, str], ...]:
    return tuple(((n, *s), dtype) for s, dtype in zip(samples, dtypes, strict=True))
