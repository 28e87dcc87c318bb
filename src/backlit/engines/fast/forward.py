"""Programs that give a model's output and nothing else: for prediction and validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from backlit import optim
from backlit.core.types import Array, Arrays
from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors
from backlit.graph.graph import Graph

KEPT_PROGRAMS = 4
"""Programs that are kept, each for another number of samples, those used last."""


class Forward(Program):
    """The output of a graph of (output,) at inference. Its steps are batches of so many samples."""

    def __init__(self, graph: Graph, vectors: Vectors, *, threads: int = 1) -> None:
        alone = replace(graph, outputs=("", *graph.outputs), frozen=frozenset(graph.parameters), updates={})
        super().__init__(alone, optim.SGD(), None, vectors, threads=threads)

    def _list(self) -> None:
        self._list_gradients()  # none: all parameters are frozen
        self._list_results()

    def outputs(self, arrays: Sequence[Array], order: Array) -> Array:
        """The output of the samples of ``arrays`` in ``order``, a whole number of batches."""
        data = dict(zip(self.graph.inputs, arrays, strict=True))
        rates = np.zeros(len(order) // self.graph.values[self.graph.inputs[0]].shape[0])
        found = self.run(data, order, rates, 1).outputs
        return found.reshape(-1, *found.shape[2:])


@dataclass
class Forwards:
    """Programs on the same parameters, one for each number of samples that are walked through together."""

    vectors: Vectors
    threads: int = 1
    told: Callable[[Program], object] = id
    """Called with each program that is made."""
    programs: dict[int, tuple[Graph, Forward]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, dtype: str, threads: int) -> Forwards:
        """With parameters of their own, which are still to be loaded."""
        return cls(Vectors.of(replace(graph, frozen=frozenset(graph.parameters)), optim.SGD(), dtype), threads)

    def fit(self, graph: Graph, dtype: str) -> bool:
        """True where their parameters are those of the graph."""
        shapes = {n: a.shape for n, a in self.vectors.views.items()}
        wanted = {n: graph.values[n].shape for n in (*graph.parameters, *graph.state)}
        return shapes == wanted and self.vectors.params.dtype == dtype

    def load(self, params: Arrays, state: Arrays) -> None:
        """Take over the arrays of a model."""
        self.vectors.load(params, state, {})

    def outputs(self, graph_of: Callable[[int], Graph], arrays: Sequence[Array], size: int) -> Array:
        """The outputs of all samples, ``size`` at once; ``graph_of(n)`` is the graph for n samples."""
        count, plain = len(arrays[0]), [np.ascontiguousarray(a) for a in arrays]
        whole = count // size * size
        pieces = ((size, np.arange(whole)), (count - whole, np.arange(whole, count)))
        made = [self._program(graph_of(n), n).outputs(plain, order) for n, order in pieces if len(order)]
        return made[0] if len(made) == 1 else np.concatenate(made)

    def _program(self, graph: Graph, size: int) -> Forward:
        known, program = self.programs.pop(size, (None, None))
        if program is None or known is not graph:
            program = Forward(graph, self.vectors, threads=self.threads)
            self.told(program)
        self.programs[size] = graph, program  # now the last
        while len(self.programs) > KEPT_PROGRAMS:
            del self.programs[next(iter(self.programs))]
        return program
