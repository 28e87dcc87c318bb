"""Steps of several mini-batches by the fast engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from backlit.core.types import Array
from backlit.train.progress import Progress
from backlit.train.step import Samples
from backlit.train.stepping import ByProgram, Stretch

if TYPE_CHECKING:
    from backlit.engines.fast.parts import Outcome, Part, Sum, Update


@dataclass
class ByParts(ByProgram):
    """Steps whose mini-batches' gradients are combined: a program for each size of them, and one of the update."""

    parts: dict[int, Part] = field(default_factory=dict)
    update: Update | None = None
    total: Sum | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.longest = max(1, self.longest // self.settings.accumulate)

    def _stretch(self, p: Progress, rates: Sequence[float], stretch: Stretch) -> None:
        """One step."""
        from backlit.engines.fast.parts import run

        order, step = np.concatenate(list(self.batches.of_step(p.step + 1))), p.step + 1
        samples, order = self._prepared(step, order, 1)
        parts = [(self._part(size, p, samples), rows) for size, rows in self._by_size(order)]
        first = parts[0][0]
        made = run(parts, self._update(p, first), samples.given(first.graph), rates[0], step)
        self._place(p, first.vectors.views)
        if made is None:
            self._explain(p)
        else:
            p.step = step
            self._keep(made, step, stretch)
            stretch.seen.append((made.outputs, samples.answers.rows(order)))

    def _keep(self, made: Outcome, step: int, stretch: Stretch) -> None:
        stretch.losses.append(made.loss)
        stretch.masses.append(made.mass)
        stretch.norms.append(made.norm)
        if made.looked is not None and self.recorder is not None:
            self.recorder.add(step, made.looked)

    def _by_size(self, order: Array) -> list[tuple[int, Array]]:
        """The whole mini-batches of a step, and the smaller one that may come last: (its size, their samples)."""
        size = self.settings.batch_size
        whole = len(order) // size * size
        pieces = ((size, order[:whole]), (len(order) - whole, order[whole:]))
        return [(rows, piece) for rows, piece in pieces if len(piece)]

    def _part(self, size: int, p: Progress, samples: Samples) -> Part:
        from backlit.engines.fast.parts import Part, Sum

        if size not in self.parts:
            vectors = self._loaded(graph := self._graph(size, samples), p)
            self.total = self.total or Sum(np.zeros_like(vectors.grads))
            self.parts[size] = self._made(Part, graph, p, total=self.total)
        return self.parts[size]

    def _update(self, p: Progress, first: Part) -> Update:
        from backlit.engines.fast.parts import Update

        self.update = self.update or self._made(Update, first.graph, p)
        return self.update
