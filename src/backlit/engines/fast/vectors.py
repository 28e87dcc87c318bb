"""What lasts from step to step: parameters, gradients, optimizer state and running statistics as flat vectors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from backlit import optim
from backlit.core.types import Array, Arrays, Shape
from backlit.engines.fast.memory import padded, zeros
from backlit.graph.graph import Graph

PART = 1 << 20
"""Entries whose state is begun together."""

Place = tuple[int, Shape]
"""(offset, shape) in a vector."""


@dataclass
class Vectors:
    """One flat vector of each kind, with views by dotted name; an update is one loop over the trainable prefix."""

    params: Array
    grads: Array
    slots: dict[str, Array]
    """The optimizer's state by slot, one vector over all trainable parameters, or a number kept for all."""
    state: Array
    views: dict[str, Array]
    """Parameters and state by name; the gradient of a parameter as ``d <name>``."""
    places: dict[str, Place]
    """Where each trainable parameter lies, in the vectors of gradients and slots too."""
    read: dict[str, Array]
    """For each sparse table, all of which lie behind the other trainable parameters, which rows a step has read."""

    @classmethod
    def of(cls, graph: Graph, optimizer: optim.Optimizer, dtype: str) -> Vectors:
        """Vectors for the parameters and state of a graph, the trainable ones first."""
        trained, size = places(sorted(graph.trainable, key=lambda n: n in graph.sparse), graph)
        frozen, whole = places([p for p in graph.parameters if p in graph.frozen], graph, size)
        kept, state_size = places(graph.state, graph)
        params, grads, state = (zeros((n,), dtype) for n in (whole, size, state_size))
        views = {n: view(params, *at) for n, at in (trained | frozen).items()}
        views |= {n: view(state, *at) for n, at in kept.items()}
        views |= {f"d {n}": view(grads, *at) for n, at in trained.items()}
        read = {n: np.zeros(graph.values[n].shape[0], np.int64) for n in graph.trainable if n in graph.sparse}
        return cls(params, grads, _started(optimizer, params[:size]), state, views, trained, read)

    @property
    def trained(self) -> Array:
        """The parameters that have gradients, as a vector."""
        return self.params[: self.grads.size]

    @property
    def dense(self) -> int:
        """How many entries are updated in every step: all before the first sparse table."""
        return min((self.places[n][0] for n in self.read), default=self.grads.size)

    def load(self, params: Arrays, state: Arrays, slots: Mapping[str, Arrays] | None = None) -> None:
        """Take over the arrays of a run; without ``slots`` the optimizer has not begun."""
        for name, a in (*params.items(), *state.items()):
            self.views[name][...] = a
        for name, of_one in (slots or {}).items():
            for slot, vector in self.slots.items():
                (vector if vector.ndim == 0 else view(vector, *self.places[name]))[...] = of_one[slot]

    def copies(self) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
        """(parameters and state by name, slots by name), copied out."""
        values = {n: a.copy() for n, a in self.views.items() if not n.startswith("d ")}
        slots = {
            n: {k: (v if v.ndim == 0 else view(v, *at)).copy() for k, v in self.slots.items()}
            for n, at in self.places.items()
        }
        return values, slots


def _started(optimizer: optim.Optimizer, params: Array) -> dict[str, Array]:
    """The optimizer's state as it begins, part by part: zeros take no memory until they are written to."""
    whole = {n: a if a.ndim == 0 else zeros(params.shape, a.dtype) for n, a in optimizer.init(np, params[:1]).items()}
    for first in range(0, params.size, PART):
        for name, part in optimizer.init(np, params[first : first + PART]).items():
            if part.ndim and part.any():
                whole[name][first : first + PART] = part
    return whole


def places(names: Iterable[str], graph: Graph, start: int = 0) -> tuple[dict[str, Place], int]:
    """(place of each array in a vector that begins at ``start``, where the vector ends)."""
    found = {}
    for name in names:
        found[name] = (start, graph.values[name].shape)
        start += padded(math.prod(graph.values[name].shape))
    return found, start


def view(vector: Array, at: int, shape: Shape) -> Array:
    """A part of a vector as an array."""
    return vector[at : at + math.prod(shape)].reshape(shape)
