"""Equations of a traced step: a rule's formula with the arrays of one node, which can be printed and computed."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.types import Array
from backlit.glass.derive_matrix import Matrix, matrix_form
from backlit.glass.derive_simplify import facts, simplified, slope, whole
from backlit.glass.derive_symbols import Mark, Printer, Symbols
from backlit.glass.explain import positions, received, shares
from backlit.glass.trace import Trace
from backlit.graph.graph import Node, differentiable_positions
from backlit.rules import Rule
from backlit.rules._formula_syntax import index_name, is_over_index, subscripts
from backlit.rules.formula import Formula, bind, formulas_of


@dataclass(frozen=True)
class Source:
    """The lines of a rule that compute something."""

    place: str
    """``backlit/rules/linear.py:17``"""
    code: str

    @classmethod
    def of(cls, function: Any) -> Source:
        """The source of a rule's function, below its decorators and partials."""
        while isinstance(function, partial):
            function = function.func
        function = inspect.unwrap(function)
        lines, first = inspect.getsourcelines(function)
        path = Path(inspect.getsourcefile(function) or "")
        base = next((p.parent for p in path.parents if p.name == "backlit"), path.parent)
        return cls(f"{path.relative_to(base).as_posix()}:{first}", "".join(lines).rstrip())


@dataclass(frozen=True)
class Equation:
    """One formula of one node. ``stored`` is what the engine has for it; None for one share of several."""

    name: str
    """Of the value, or ``∂`` and the name of the value that it is the gradient of."""
    formula: Formula
    arrays: Mapping[str, Any]
    shape: tuple[int, ...]
    marks: Mapping[str, Mark]
    samples: int
    rule: Rule
    stored: Array | None = None
    part: slice | None = None
    """Which entries of a variadic rule's gradient belong to this input."""

    def evaluate(self) -> Array:
        """The formula by plain loops over its indices, in float64; the shape of the value."""
        whole = self.formula.evaluate(self.arrays, {}, self._whole)
        return whole if self.part is None else whole.reshape(-1)[self.part].reshape(self.shape)

    @property
    def _whole(self) -> tuple[int, ...]:
        return self.shape if self.part is None else (int(self.arrays[self.formula.target[1:]].size),)

    @cached_property
    def printer(self) -> Printer:
        """Prints the formula with the graph's symbols."""
        ranks = {name: a.ndim for name, a in self.arrays.items() if hasattr(a, "ndim")}
        ranks[self.formula.target] = len(self._whole)
        return Printer(self.formula, self.marks, ranks, self.counts, samples=not self.name.endswith(".next"))

    @cached_property
    def counts(self) -> dict[str, str]:
        """How many values each index has: N for samples."""
        found: dict[str, str] = {}
        for node in ast.walk(self.formula.expression):
            if isinstance(node, ast.Call) and is_over_index(node):
                items = node.args if node.func.id == "Count" else node.args[:-1]  # type: ignore[attr-defined]
                found |= {index_name(i): self._count(index_name(i)) for i in items}
        return found

    def _count(self, letter: str) -> str:
        from backlit.rules._formula_eval import FLOAT, Evaluation

        size = math.prod(Evaluation(self.formula, self.arrays, {}, self._whole, arithmetic=FLOAT).extents[letter])
        return "N" if letter in ("n", "m") and size == self.samples else str(size)

    @property
    def left(self) -> str:
        """The left side in LaTeX."""
        return self.printer.left()

    @property
    def right(self) -> str:
        """The right side in LaTeX."""
        return self.printer.right()

    @cached_property
    def matrix(self) -> Matrix | None:
        """The formula in matrix notation, where it is a product."""
        return matrix_form(self.formula)

    def bold(self, name: str, *indices: str) -> str:
        """The symbol of a whole array, or of one sample's row of it, as a vector or matrix."""
        if name in self.marks or not name.startswith("d"):
            return self.marks[name].latex(indices, bold=True)
        return rf"\frac{{\partial L}}{{\partial {self.marks[name[1:]].latex(indices, bold=True)}}}"

    @property
    def source(self) -> Source:
        """The lines of the rule that compute it."""
        return Source.of(self.rule.backward if self.name.startswith("∂") else self.rule.forward)

    def chain(self) -> str | None:
        r"""The chain rule, not yet worked out, ``\sum_j \frac{∂L}{∂z_j} \frac{∂z_j}{∂a_k}``, where it has that form."""
        outputs = [o for o in self.rule.differentiated if f"d{o}" in self.formula.names]
        if len(outputs) != 1 or self.formula.moves or _calculates(self.formula, f"d{outputs[0]}"):
            return None
        own, printer = self.formula.target[1:], self.printer
        found = _widest(self.formula, f"d{outputs[0]}")
        if found is None:
            over, inner = list(printer.missing()), printer.indexed(outputs[0], None)
        else:
            over, inner = found[0], printer.indexed(outputs[0], found[1])
        below = ",".join(printer.letters.get(i, i) for i in over)
        lower = printer.indexed(
            own, None if self.formula.indices is None else [i.lstrip("*") for i in self.formula.indices]
        )
        sums = rf"\sum_{{{below}}} " if over else ""
        return rf"{sums}\frac{{\partial L}}{{\partial {inner}}} \cdot \frac{{\partial {inner}}}{{\partial {lower}}}"


def _calculates(formula: Formula, name: str) -> bool:
    """True where the formula reads ``name`` at calculated indices: then no letters say what is summed over."""
    reads = (n for n in ast.walk(formula.expression) if isinstance(n, ast.Subscript) and ast.unparse(n.value) == name)
    return any(not isinstance(i, ast.Name | ast.Starred) for n in reads for i in subscripts(n))


def _widest(formula: Formula, name: str) -> tuple[list[str], list[str]] | None:
    """(indices summed over, all indices) where the formula reads ``name`` summed over the most indices."""
    bound = {
        index_name(i)
        for n in ast.walk(formula.expression)
        if isinstance(n, ast.Call) and is_over_index(n)
        for i in n.args[:-1]
    }
    reads = [
        [index_name(i) for i in subscripts(n)]
        for n in ast.walk(formula.expression)
        if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name) and n.value.id == name
    ]
    sized = [([i for i in items if i in bound], items) for items in reads]
    return max(sized, key=lambda s: len(s[0]), default=None)


@dataclass(frozen=True)
class Gradient:
    """∂L/∂value: one share from every node that reads the value, added up."""

    name: str
    shares: tuple[Equation, ...]
    nodes: tuple[Node, ...]
    stored: Array

    def evaluate(self) -> Array:
        """The sum of the shares."""
        return np.sum([s.evaluate() for s in self.shares], axis=0)


@dataclass(frozen=True)
class Equations:
    """All equations of a trace."""

    trace: Trace
    symbols: Symbols

    @property
    def samples(self) -> int:
        """N, the samples of the batch."""
        return int(self.trace.values[self.trace.graph.inputs[0]].shape[0])

    def forward(self, node: Node) -> list[Equation]:
        """How a node's outputs are computed, what the first one needs first."""
        rule = rules.get(node.rule)
        made = [
            self._equation(node, o, name, self.trace.values[name])
            for o, name in zip(rule.outputs, node.outputs, strict=True)
        ]
        return [e for e in (*made[1:], made[0]) if e is not None]

    def gradient(self, name: str) -> Gradient | None:
        """Where ∂L/∂name comes from; None where no gradient flows, and for the loss itself."""
        uses = [(node, i) for node in self.trace.graph.nodes for v, i in differentiable_positions(node) if v == name]
        uses = [(node, i) for node, i in uses if any(o in self.trace.grads for o in node.outputs)]
        if name not in self.trace.grads or not uses:
            return None
        shares = tuple(self._share(node, i, name) for node, i in uses)
        stored = self.trace.grads[name]
        if len(shares) == 1:
            shares = (replace(shares[0], stored=stored),)
        for share in shares[1:]:
            share.printer.align(shares[0].printer.shown())
        return Gradient(name, shares, tuple(n for n, _ in uses), stored)

    def slope(self, node: Node) -> Equation | None:
        """F' of an elementwise activation; None for any other node."""
        rule = rules.get(node.rule)
        lines = formulas_of(rule)
        made = f"d{rule.inputs[0]}"
        if (
            not (len(rule.inputs) == len(rule.outputs) == 1 and made in lines and lines[made].elementwise)
            or rule.variadic
        ):
            return None
        found = self._equation(node, made, f"∂{node.inputs[0]}", self.trace.values[node.operands[0]])
        return found and replace(found, formula=slope(found.formula, f"d{rule.outputs[0]}"), stored=None)

    def _share(self, node: Node, position: int, name: str) -> Equation:
        rule = rules.get(node.rule)
        target = f"d{rule.inputs[0] if rule.variadic else rule.differentiable[position]}"
        found = self._equation(node, target, f"∂{name}", None)
        assert found is not None
        if not rule.variadic:
            return found
        sizes = [self.trace.values[i].size for i in node.operands]
        start = sum(sizes[:position])
        return replace(found, part=slice(start, start + sizes[position]), shape=self.trace.values[name].shape)

    def _equation(self, node: Node, target: str, name: str, stored: Array | None) -> Equation | None:
        rule = rules.get(node.rule)
        if target not in formulas_of(rule):
            return None
        arrays, marks = self._arrays(node, rule), self._marks(node, rule)
        known = self._scalars(node, rule)
        if self.trace.graph.outputs[0] == node.name:
            known[f"d{rule.outputs[0]}"] = 1
        formula = simplified(formulas_of(rule)[target], facts(rule, arrays, known))
        shape = self.trace.values[name.removeprefix("∂")].shape
        return Equation(name, formula, arrays, shape, marks, self.samples, rule, stored)

    def _arrays(self, node: Node, rule: Rule) -> dict[str, Any]:
        inputs = [None if i is None else self.trace.values[i] for i in node.inputs]
        found = bind(rule, inputs, [self.trace.values[o] for o in node.outputs], node.attributes)
        found |= received(self.trace, node)
        if rule.moves:
            found["source"] = positions(node, inputs)
        return found | shares(self.trace, node)

    def _scalars(self, node: Node, rule: Rule) -> dict[str, float]:
        """Inputs that are a constant number of the graph, by the rule's names."""
        constants = self.trace.graph.constants
        given = [] if rule.variadic else zip(rule.inputs, node.inputs, strict=True)
        known = ((local, constants[v]) for local, v in given if v is not None and v in constants)
        return {local: whole(float(a)) for local, a in known if not np.ndim(a)}

    def _marks(self, node: Node, rule: Rule) -> dict[str, Mark]:
        if rule.variadic:
            listed = ";\\,".join(self.symbols.mark(i).latex() for i in node.operands)
            pairs = [(rule.outputs[0], node.outputs[0])]
            marks = {rule.inputs[0]: Mark(rf"\left[{listed}\right]")}
        else:
            marks = {}
            pairs = [(local, v) for local, v in zip(rule.inputs, node.inputs, strict=True) if v is not None]
            pairs += zip(rule.outputs, node.outputs, strict=True)
        marks |= {local: self.symbols.mark(v) for local, v in pairs}
        return marks | {f"d{local}": m for local, v in pairs if (m := self.symbols.gradient(v)) is not None}

    def every(self) -> Iterator[Equation | Gradient]:
        """All equations, forward and then backward."""
        for node in self.trace.graph.nodes:
            yield from self.forward(node)
        found = (self.gradient(name) for name in reversed(list(self.trace.grads)))
        yield from (g for g in found if g is not None)
