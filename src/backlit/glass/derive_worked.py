"""Section 8: the same equations with the numbers of one batch, for one unit of every layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from backlit.core.i18n import say
from backlit.core.types import Array
from backlit.glass.derive_blocks import Block, Formulas, Heading, Text, formulas
from backlit.glass.derive_equations import Equation, Gradient
from backlit.glass.derive_numbers import filled, number, size_at, value_at
from backlit.glass.derive_sections import Sections
from backlit.glass.derive_symbols import layer_of
from backlit.glass.derive_update import first_rate, mark, update_equations

Index = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One number of the document: what the formula gives in float64, and what the engine stored."""

    name: str
    index: Index
    computed: float
    stored: float
    scale: float
    """The largest entry of that value, or the absolute terms of this one added up: what deviations are measured by."""

    @property
    def deviation(self) -> float:
        """|computed - stored| in units of the scale."""
        return abs(self.computed - self.stored) / self.scale if self.scale else abs(self.computed - self.stored)


@dataclass(frozen=True)
class Worked:
    """Works one sample through; ``entries`` fills while the blocks are made."""

    sections: Sections
    entries: list[Entry] = field(default_factory=list)

    @property
    def _grads(self) -> Any:
        return self.sections.equations.trace.grads

    @property
    def _values(self) -> Any:
        return self.sections.equations.trace.values

    @cached_property
    def sample(self) -> int:
        """The sample that reaches every layer best: its weakest δ, as a share of the largest, is the strongest."""
        names = [o for nodes in self.sections.layers.values() for n in nodes for o in n.outputs if o in self._grads]
        largest = [
            np.abs(self._grads[n]).reshape(self.sections.equations.samples, -1).max(axis=1)
            for n in names
            if self._has_samples(n)
        ]
        return int(np.argmax(np.min([d / (d.max() or 1) for d in largest], axis=0)))

    def _has_samples(self, name: str) -> bool:
        return bool(self._grads[name].shape[:1] == (self.sections.equations.samples,))

    def blocks(self) -> Iterator[Block]:
        """The section."""
        yield Heading(2, say("derive_head_numbers"))
        yield Text(say("derive_numbers_intro"))
        yield Heading(3, say("derive_head_samples_forward", n=self.sample))
        yield from self._forward()
        yield Heading(3, say("derive_head_samples_backward", n=self.sample))
        yield from self._backward()
        yield Heading(3, say("derive_head_samples_gradients"))
        yield from self._gradients()
        yield Heading(3, say("derive_head_samples_update"))
        yield from self._update()
        worst = max(e.deviation for e in self.entries)
        dtype = self._values[self.sections.output].dtype.name
        yield Text(say("derive_evidence", count=len(self.entries), worst=f"{worst:.1e}", dtype=dtype))

    # --- which entries ----------------------------------------------------------------------------------------------

    def unit(self, layer: str) -> Index:
        """The unit of a layer that is followed: the one whose value the sample's loss depends on most."""
        made = [o for n in self.sections.layers[layer] for o in n.outputs if o in self._grads]
        d = self._grads[made[0]] if made else None
        return _largest(d[self.sample]) if d is not None and d.ndim else ()

    def index(self, name: str) -> Index:
        """Which entry of a value is shown."""
        value: Array = self._values[name]
        samples = self.sections.equations.samples
        if name in self.sections.equations.trace.graph.parameters:
            return self._parameter_index(name)
        layer = layer_of(name)
        unit = (
            self.unit(layer)
            if layer in self.sections.layers
            else _largest(self._grads[self.sections.output][self.sample])
        )
        if value.ndim == 1 and self._per_sample(name):
            return (self.sample,)
        sampled = value.ndim > 1 and value.shape[0] == samples
        rest = value.shape[sampled:]
        near = ((0,) * len(rest) + unit)[len(unit) :]  # as many as there are axes, the last ones the unit's
        place: Index = tuple(min(i, n - 1) for i, n in zip(near, rest, strict=True))
        return (self.sample, *place) if sampled else place

    def _per_sample(self, name: str) -> bool:
        """True for a statistic of each sample, as layer normalisation has it."""
        node = self.sections.equations.trace.graph.producer.get(name)
        found = [e for e in self.sections.equations.forward(node) if e.name == name] if node else []
        return bool(found) and any(i.startswith("*") for i in found[0].formula.indices or ())

    def _parameter_index(self, name: str) -> Index:
        d: Array = self._grads.get(name, self._values[name])
        unit = self.unit(layer_of(name))
        if d.ndim and unit and unit[-1] < d.shape[0]:
            return (unit[-1], *_largest(d[unit[-1]]))
        return _largest(d)

    # --- the lines --------------------------------------------------------------------------------------------------

    def _forward(self) -> Iterator[Block]:
        for nodes in self.sections.layers.values():
            kept = [n for n in nodes if n.name not in self.sections.equations.trace.graph.updates.values()]
            found = [e for node in kept for e in self.sections.equations.forward(node)]
            yield self._lines(found)
        loss = [e for e in self.sections.equations.forward(self.sections.loss) if e.name != "loss.mass"]
        yield self._lines(loss)

    def _lines(self, found: list[Equation]) -> Formulas:
        return formulas(*(self._line(e, self.index(e.name)) for e in found))

    def _line(self, equation: Equation, index: Index) -> tuple[str, ...]:
        value = self._note(equation.name, index, [equation], self._values[equation.name])
        left = self.sections.equations.symbols.mark(equation.name).latex([str(i) for i in index])
        return _without_repeats(left, filled(equation, index), value)

    def _note(self, name: str, index: Index, parts: Sequence[Equation], stored: Array) -> str:
        computed = sum(float(value_at(p, index)) for p in parts)
        scale = max(float(np.max(np.abs(stored))), sum(size_at(p, index) for p in parts))
        entry = Entry(name, index, computed, float(stored[index]), scale)
        self.entries.append(entry)
        return number(entry.stored, 6)

    def _backward(self) -> Iterator[Block]:
        for layer in reversed(self.sections.layers):
            made = [o for n in reversed(self.sections.layers[layer]) for o in reversed(n.outputs)]
            found = [g for name in made if (g := self.sections.equations.gradient(name)) is not None]
            if found:
                yield formulas(*(self._gradient_line(g) for g in found))

    def _gradients(self) -> Iterator[Block]:
        for name in reversed(self.sections.equations.trace.graph.trainable):
            gradient = self.sections.equations.gradient(name)
            if gradient is not None:
                yield formulas(self._gradient_line(gradient))

    def _gradient_line(self, gradient: Gradient) -> tuple[str, ...]:
        index = self.index(gradient.name)
        texts = [filled(s, index) for s in gradient.shares]
        joined = " + ".join(rf"\left({t}\right)" if len(texts) > 1 else t for t in texts)
        value = self._note(f"∂{gradient.name}", index, gradient.shares, gradient.stored)
        return _without_repeats(self._derivative(gradient.name, index), joined, value)

    def _derivative(self, name: str, index: Index) -> str:
        below = [str(i) for i in index]
        delta = self.sections.equations.symbols.gradient(name)
        if delta is not None:
            return delta.latex(below)
        return rf"\frac{{\partial L}}{{\partial {self.sections.equations.symbols.mark(name).latex(below)}}}"

    def _update(self) -> Iterator[Block]:
        trainable = self.sections.equations.trace.graph.trainable
        if not trainable:
            return
        name = trainable[0]
        index = self.index(name)
        optimizer, p, g = self.sections.optimizer, self._values[name], self._grads[name]
        slots = {slot: float(np.ravel(a)[0]) for slot, a in optimizer.init(np, p).items()}
        known = {"p": float(p[index]), "g": float(g[index]), "lr": first_rate(optimizer), "t": 1, **slots}
        own = self.sections.equations.symbols.mark(name).latex([str(i) for i in index])
        lines = []
        for equation, value in update_equations(optimizer, known):
            shown = own if equation.name == "p" else mark(equation.name).latex()
            lines += [(shown, r"\leftarrow", filled(equation, ())), ("", "=", number(value, 6))]
        yield Formulas(tuple(lines))


def _largest(array: Array) -> Index:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(np.abs(array))), array.shape)) if array.ndim else ()


def _without_repeats(left: str, middle: str, value: str) -> tuple[str, ...]:
    return (left, value) if middle == value else (left, middle, value)
