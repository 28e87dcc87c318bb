"""Staging: a model is called once on symbolic values, and what it does is written down as a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.errors import GraphError, InputError
from backlit.core.types import Array, Shape
from backlit.graph.graph import Graph, Mask, Node, Value, infer_dtype, infer_shapes
from backlit.graph.symbolic import Symbolic
from backlit.rules import Rule

Initializer = Callable[[np.random.Generator, Shape], Array]
"""(generator, shape) -> first values of a parameter or a state array."""


class Builder:
    """Collects values and nodes while symbolic values are computed with. Layers such as dropout see ``training``.

    With ``uniform`` all floating constants take ``dtype``; without it arrays keep their own, as in NumPy.
    """

    def __init__(self, *, dtype: str = "float32", training: bool = False, uniform: bool = False) -> None:
        self.dtype, self.training, self.uniform = dtype, training, uniform
        self.initializers: dict[str, Initializer] = {}
        self.values: dict[str, Value] = {}
        self._nodes: list[Node] = []
        self._inputs: list[str] = []
        self._parameters: list[str] = []
        self._frozen: set[str] = set()
        self._sparse: set[str] = set()
        self._state: list[str] = []
        self._masks: dict[str, Mask] = {}
        self._constants: dict[str, Array] = {}
        self._updates: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._layers: dict[int, tuple[object, str]] = {}
        self._open: list[object] = []
        self.holders: dict[str, dict[str, None]] = {}
        """Layer name -> names of the parameters in it, those of layers inside it too."""

    # --- leaves -------------------------------------------------------------------------------------------------

    def input(self, name: str, shape: Shape, dtype: str | None = None) -> Symbolic:
        """An array given at each run."""
        self._inputs.append(name)
        return self._leaf(name, shape, dtype or self.dtype)

    def parameter(
        self, name: str, shape: Shape, init: Initializer, *, trainable: bool = True, sparse: bool = False
    ) -> Symbolic:
        """A parameter; asked for again under the same name (a shared layer), the same one.

        It is frozen where it, or a layer or model that it lies in, is not ``trainable``. Of a ``sparse`` one only the
        rows that a batch reads are updated.
        """
        for part in self._open:
            trainable = trainable and getattr(part, "trainable", True)
            if id(part) in self._layers:
                self.holders.setdefault(self._layers[id(part)][1], {})[name] = None
        self._frozen |= set() if trainable else {name}
        self._sparse |= {name} if sparse else set()
        if name in self._parameters:
            return self._known(name, shape)
        self._parameters.append(name)
        self.initializers[name] = init
        return self._leaf(name, shape, self.dtype)

    def state(self, name: str, shape: Shape, init: Initializer) -> Symbolic:
        """A state array, such as a running mean."""
        if name in self._state:
            return self._known(name, shape)
        self._state.append(name)
        self.initializers[name] = init
        return self._leaf(name, shape, self.dtype)

    def update(self, state: Symbolic, new: Symbolic) -> None:
        """``new`` takes the place of ``state`` after a run."""
        self._updates[state.name] = new.name

    def latest(self, state: Symbolic) -> Symbolic:
        """What ``state`` will be after the updates staged so far: a shared layer goes on from its last call."""
        return Symbolic(self, self.values[self._updates.get(state.name, state.name)])

    def mask(self, name: str, shape: Shape, rate: float) -> Symbolic:
        """A dropout mask, drawn anew at every step from the key (seed, step, name)."""
        self._masks[name] = Mask(rate)
        return self._leaf(name, shape, self.dtype)

    def constant(self, array: Array) -> Symbolic:
        """An array that is part of the graph."""
        name = self.number("constant")
        self._constants[name] = array = np.asarray(array)
        return self._leaf(name, array.shape, array.dtype.name)

    def _leaf(self, name: str, shape: Shape, dtype: str) -> Symbolic:
        if name in self.values:
            raise GraphError("graph_twice", where=name, name=name)
        self.values[name] = Value(name, tuple(shape), dtype)
        return Symbolic(self, self.values[name])

    def _known(self, name: str, shape: Shape) -> Symbolic:
        known = self.values[name]
        if known.shape != tuple(shape):
            raise InputError(
                "shared_shape", where=name, expected=f"{name}{list(known.shape)}", got=f"{name}{list(shape)}"
            )
        return Symbolic(self, known)

    # --- nodes --------------------------------------------------------------------------------------------------

    def add(self, rule: str, *inputs: Any, name: str | None = None, **attributes: Any) -> tuple[Symbolic, ...]:
        """Add a node; ``inputs`` are symbolic values, arrays, numbers, or None where absent. Returns its outputs."""
        found = rules.get(rule)
        attributes = found.defaults | attributes
        name = name or self.number(rule)
        if name in self.values:
            raise GraphError("graph_twice", where=name, name=name)
        _check_call(found, inputs, attributes, name)
        operands = self._operands(found, inputs)
        shapes = infer_shapes(rule, [None if o is None else o.shape for o in operands], attributes, name)
        outputs = _output_names(name, found)
        dtype = infer_dtype(rule, [None if o is None else o.dtype for o in operands])
        self.values |= {o: Value(o, s, dtype) for o, s in zip(outputs, shapes, strict=True)}
        self._nodes.append(Node(rule, tuple(o.name if o is not None else None for o in operands), outputs, attributes))
        return tuple(Symbolic(self, self.values[o]) for o in outputs)

    def _operands(self, rule: Rule, inputs: tuple[Any, ...]) -> list[Symbolic | None]:
        given = list(inputs) + [None] * (0 if rule.variadic else len(rule.inputs) - len(inputs))
        dtype = next((i.dtype for i in given if isinstance(i, Symbolic) and i.dtype.startswith("float")), self.dtype)
        kinds = [n not in rule.constants for n in rule.inputs] if not rule.variadic else [True] * len(given)
        return [i if i is None else self.lift(i, dtype if real else None) for i, real in zip(given, kinds, strict=True)]

    def lift(self, value: Any, dtype: str | None = None) -> Symbolic:
        """A symbolic value of this graph for ``value``.

        Numbers and integer arrays take ``dtype`` where given; floating arrays take the graph's where it is uniform.
        """
        if isinstance(value, Symbolic):
            if value.builder is not self:
                raise GraphError("graph_foreign", where=value.name, got=f"{value.value}")
            return value
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise InputError("array_kind", where="constant", got=f"{type(value).__name__} ({array.dtype})")
        if self.uniform and array.dtype.kind == "f":
            array = array.astype(self.dtype)
        elif dtype is not None and (array.ndim == 0 or array.dtype.kind in "iub"):
            array = array.astype(dtype)
        return self.constant(array)

    def rule_of(self, value: Symbolic) -> str | None:
        """The rule that made ``value``; None for a leaf."""
        return next((node.rule for node in self._nodes if value.name in node.outputs), None)

    def number(self, kind: str) -> str:
        """The next name of a kind: ``dense1``, then ``dense2``."""
        self._counts[kind] += 1
        return f"{kind}{self._counts[kind]}"

    # --- layers -------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> dict[str, object]:
        """The layers entered so far by name, in the order in which they were entered first."""
        return {name: layer for layer, name in self._layers.values()}

    @contextmanager
    def layer(self, layer: object, kind: str, name: str | None) -> Iterator[tuple[str, str]]:
        """Enter a layer: gives (its name, the prefix of its values). A layer called again is shared: ``dense1@2``."""
        with self.inside(layer, name or kind):
            yield self._named(layer, kind, name)

    @contextmanager
    def inside(self, part: object, name: str) -> Iterator[None]:
        """Enter a layer or model; GraphError where it is entered already, so that it contains itself."""
        if any(part is outer for outer in self._open):
            path = [*(type(p).__name__ for p in self._open), name]
            raise GraphError("graph_cycle", where=name, got=" → ".join(path))
        self._open.append(part)
        try:
            yield
        finally:
            self._open.pop()

    def _named(self, layer: object, kind: str, name: str | None) -> tuple[str, str]:
        if id(layer) not in self._layers:
            self._layers[id(layer)] = (layer, self._new_layer_name(kind, name))
        own = self._layers[id(layer)][1]
        self._counts[f"call of {own}"] += 1
        call = self._counts[f"call of {own}"]
        return own, own if call == 1 else f"{own}@{call}"

    def _new_layer_name(self, kind: str, name: str | None) -> str:
        taken = {n for _, n in self._layers.values()}
        if name in taken:
            raise InputError("layer_name_taken", where=name, got=f"{name!r}")
        if name is not None and (not name or set(name) & set(".@[] ")):
            raise InputError("layer_name_form", where=name, got=f"{name!r}")
        chosen = name or self.number(kind)
        while chosen in taken:
            chosen = self.number(kind)
        return chosen

    def graph(self, outputs: Mapping[str, Symbolic] | tuple[Symbolic, ...]) -> Graph:
        """The graph of all that was staged, checked."""
        wanted = tuple(outputs.values()) if isinstance(outputs, Mapping) else outputs
        return Graph(
            values=dict(self.values),
            inputs=tuple(self._inputs),
            parameters=tuple(self._parameters),
            frozen=frozenset(self._frozen),
            state=tuple(self._state),
            masks=dict(self._masks),
            constants=dict(self._constants),
            nodes=tuple(self._nodes),
            outputs=tuple(o.name for o in wanted),
            updates=dict(self._updates),
            sparse=frozenset(self._sparse),
        ).check()


def _check_call(rule: Rule, inputs: tuple[Any, ...], attributes: Mapping[str, Any], where: str) -> None:
    """InputError unless the rule takes these inputs and attributes."""
    needed = [n for n, p in rule.parameters.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    given = set(rule.inputs[: len(inputs)]) | set(attributes)
    fits = rule.variadic or len(inputs) <= len(rule.inputs)
    if not (fits and given.issuperset(needed) and set(attributes) <= set(rule.attributes)):
        want = ", ".join(f"{n}=" if n in rule.attributes else n for n in (*rule.inputs, *rule.attributes))
        got = ", ".join([*(_said(i) for i in inputs), *(f"{k}={v!r}" for k, v in attributes.items())])
        raise InputError("rule_call", where=where, rule=rule.name, expected=f"{rule.name}({want})", got=got or "()")


def _said(value: Any) -> str:
    return str(value.value) if isinstance(value, Symbolic) else f"{type(value).__name__}{list(np.shape(value))}"


def _output_names(name: str, rule: Rule) -> tuple[str, ...]:
    """The first output carries the node's name, the others ``<layer or node>.<output>``."""
    owner = name.rsplit(".", 1)[0]
    return (name, *(f"{owner}.{o}" for o in rule.outputs[1:]))
