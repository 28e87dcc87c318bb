"""One node of a graph as the certificate looks at it: its rule, with the arrays of this very run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.types import Array
from backlit.engines import complex_step
from backlit.graph.graph import Node
from backlit.rules import Rule

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Wrt:
    """An input that the node's backward gives a gradient of."""

    place: int
    """Among the node's inputs."""
    position: int
    """Of its gradient in what backward returns."""
    label: str
    """Its name in the rule: ``W``, ``xs[0]``."""


@dataclass(frozen=True, eq=False)
class NodeCall:
    """A node's rule on ``inputs``, which stand in the order of the node's."""

    node: Node
    rule: Rule
    inputs: tuple[Any, ...]
    wrt: tuple[Wrt, ...]
    rounding: tuple[Array, ...] = ()
    """Factors near 1 on the outputs that backward keeps: what rounding might have made of them."""

    @classmethod
    def of(cls, node: Node, values: Mapping[str, Array], reached: frozenset[str]) -> NodeCall:
        """``node`` with the ``values`` of a run; it is judged by the inputs that are ``reached`` by a gradient."""
        rule = rules.get(node.rule)
        wrt = tuple(w for w in _differentiable(rule, node) if node.inputs[w.place] in reached)
        return cls(node, rule, tuple(None if i is None else values[i] for i in node.inputs), wrt)

    @cached_property
    def outputs(self) -> tuple[Array, ...]:
        """What forward gives."""
        return self.rule.call(np, *self.inputs, **self.node.attributes)

    @cached_property
    def differentiated(self) -> tuple[Array, ...]:
        """The outputs that backward takes gradients of."""
        return self.of_differentiated(self.outputs)

    def of_differentiated(self, outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Those of ``outputs`` that backward takes gradients of."""
        return tuple(y for n, y in zip(self.rule.outputs, outputs, strict=True) if n in self.rule.differentiated)

    def with_input(self, place: int, array: Array) -> NodeCall:
        """The same with another input at ``place``."""
        return replace(self, inputs=tuple(array if i == place else x for i, x in enumerate(self.inputs)))

    def scaled(self, by: float) -> NodeCall:
        """The same with the inputs it is judged by multiplied."""
        places = {w.place for w in self.wrt}
        return replace(self, inputs=tuple(by * x if i in places else x for i, x in enumerate(self.inputs)))

    def nudged(self, rng: np.random.Generator, by: float) -> NodeCall:
        """The same with every entry it is judged by, and every output it keeps, off by that share of itself."""

        def factor(x: Array) -> Array:
            return 1.0 + by * rng.choice([-1.0, 1.0], size=x.shape)

        places = {w.place for w in self.wrt}
        inputs = tuple(x * factor(x) if i in places else x for i, x in enumerate(self.inputs))
        return replace(self, inputs=inputs, rounding=tuple(map(factor, self.outputs)))

    def backward(self, dys: tuple[Array, ...]) -> dict[str, Array]:
        """∂L/∂(each input of ``wrt``) by the rule's backward, by label, given ∂L/∂(the differentiated outputs)."""
        kept = [y * r for y, r in zip(self.outputs, self.rounding, strict=True)] if self.rounding else self.outputs
        saved = self.rule.saved_from(self.inputs, tuple(kept), self.node.attributes)
        found = self.rule.gradients(np, [np.array(dy) for dy in dys], saved)
        return {w.label: np.asarray(found[w.position]) for w in self.wrt}

    def value(self, dys: tuple[Array, ...]) -> float:
        """⟨dy, y⟩."""
        return inner(dys, self.differentiated)

    def slopes(self, w: Wrt, v: Array) -> tuple[Array, ...] | None:
        """J v, the outputs' derivatives along ``v`` at one input, by the complex step; None where it cannot be taken.

        It is taken only where the run through the complex numbers gives the outputs of the plain run.
        """
        try:
            found = complex_step.along(self._forward, self.inputs, {w.place: v})
        except (AttributeError, TypeError, ValueError):
            return None
        outputs = self.of_differentiated(found)
        same = all(_equal(complex_step.real(c), y) for c, y in zip(outputs, self.differentiated, strict=True))
        return tuple(complex_step.slope(c) for c in outputs) if same else None

    def _forward(self, xp: Any, *inputs: Any) -> tuple[Any, ...]:
        return self.rule.call(xp, *inputs, **self.node.attributes)

    @property
    def pieces(self) -> dict[str, Array]:
        """For each place with a kink the number of the smooth piece it lies on, under the node's name."""
        kinks = self.rule.kinks
        return {} if kinks is None else {self.node.name: kinks(np, *self.inputs, **self.node.attributes)}

    @cached_property
    def terms(self) -> int:
        """The largest number of terms that a sum in this node can have."""
        return max((x.size for x in (*self.inputs, *self.outputs) if x is not None), default=1)


def _differentiable(rule: Rule, node: Node) -> list[Wrt]:
    if rule.variadic:
        return [Wrt(i, i, f"{rule.inputs[0]}[{i}]") for i in range(len(node.inputs))]
    return [Wrt(rule.inputs.index(n), k, n) for k, n in enumerate(rule.differentiable)]


def _equal(a: Array, b: Array) -> bool:
    scale = float(np.max(np.abs(b), initial=0.0))
    return bool(np.all(np.isfinite(b)) and np.max(np.abs(a - b), initial=0.0) <= 1e-9 * scale)


def inner(us: tuple[Array, ...], vs: tuple[Array, ...]) -> float:
    """⟨u, v⟩ over several arrays."""
    return float(sum(np.sum(u * v) for u, v in zip(us, vs, strict=True)))


def size(us: tuple[Array, ...], vs: tuple[Array, ...]) -> float:
    """Σ |u v|: what the rounding of ⟨u, v⟩ is in proportion to."""
    return float(sum(np.sum(np.abs(u * v)) for u, v in zip(us, vs, strict=True)))
