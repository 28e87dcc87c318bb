"""Central differences that choose their own step and know where they cannot be trusted.

The derivative of f along v is taken from D(h) = (f(h v) - f(-h v)) / 2h, extrapolated: R(h) = (4 D(h/2) - D(h)) / 3.
On a ladder of steps the one with the smallest estimated error is kept: what extrapolation changed, plus the rounding of
f. A step is refused where some value crosses a kink between -h v and h v (``Rule.kinks``).

Source: Ridders: Accurate computation of F'(x) and F'(x)F''(x), Advances in Engineering Software 4(2), 1982.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from backlit import rules
from backlit.core.types import Array, Arrays
from backlit.engines import reference
from backlit.graph.graph import Graph

LADDER = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Steps that are tried, along a direction of Euclidean length 1."""


@dataclass(frozen=True)
class Derivative:
    """A directional derivative, its estimated error, the step h it came from, and the kinks that stood in the way."""

    value: float
    error: float
    step: float
    kinks: dict[str, int]
    """Node -> entries that crossed a kink within the smallest step; empty where a step without crossing was found."""


@dataclass(frozen=True)
class Point:
    """The loss at one point, and for each node with kinks the numbers of the smooth pieces its entries lie on."""

    loss: float
    pieces: dict[str, Array]

    @classmethod
    def of(cls, graph: Graph, env: Arrays) -> Point:
        """Run the graph forward and note both."""
        values = reference.forward(graph, env)
        return cls(float(values[graph.outputs[0]]), dict(_pieces(graph, values)))

    def crossed(self, other: Point) -> dict[str, int]:
        """Node -> number of entries that lie on another piece in ``other``."""
        counts = {name: int(np.sum(p != other.pieces[name])) for name, p in self.pieces.items()}
        return {name: count for name, count in counts.items() if count}


def _pieces(graph: Graph, values: Arrays) -> Iterator[tuple[str, Array]]:
    for node in graph.nodes:
        kinks = rules.get(node.rule).kinks
        if kinks is not None:
            inputs = (None if i is None else values[i] for i in node.inputs)
            yield node.name, kinks(np, *inputs, **node.attributes)


def derivative(along: Callable[[float], Point], here: Point) -> Derivative:
    """The derivative at 0 of ``along(h).loss``, where ``along(0)`` is ``here``."""
    best, kinks = None, {}
    for h in LADDER:
        points = {s: along(s) for s in (h, -h, h / 2, -h / 2)}
        kinks = _merged([here.crossed(p) for p in points.values()])
        if not kinks:
            found = _extrapolated(points, here, h)
            best = found if best is None or found.error < best.error else best
    return best or Derivative(float("nan"), float("inf"), LADDER[-1], kinks)


def _extrapolated(points: dict[float, Point], here: Point, h: float) -> Derivative:
    coarse = (points[h].loss - points[-h].loss) / (2 * h)
    fine = (points[h / 2].loss - points[-h / 2].loss) / h
    value = (4 * fine - coarse) / 3
    rounding = 4 * np.finfo(np.float64).eps * abs(here.loss) / h
    return Derivative(value, float(abs(value - fine) + rounding), h, {})


def _merged(counts: list[dict[str, int]]) -> dict[str, int]:
    return {name: max(c.get(name, 0) for c in counts) for name in {n for c in counts for n in c}}
