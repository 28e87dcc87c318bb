"""The terms of a formula and what each reads, by loops over the indices: the definition, one number at a time."""

from __future__ import annotations

import ast
from contextlib import suppress

import numpy as np

from backlit.glass.terms import Part
from backlit.rules._formula_eval import FLOAT, BesideError, Evaluation, summed_and_factor
from backlit.rules._formula_syntax import function_name, is_over_index


def terms(formula, arrays, index):
    """What :func:`backlit.glass.terms.parts` gives."""
    like = arrays.get(formula.target, arrays.get(formula.target.removeprefix("d")))
    return _Loops(formula, arrays, {}, tuple(like.shape), arithmetic=FLOAT).parts(index)


class _Loops(Evaluation):
    """Notes which entries each term reads; of a sum inside a term, those of its largest part."""

    inner = 0

    def parts(self, index):
        self.places, self.inner, self.reads, self.noted = {}, 0, [], []
        found = super().terms(index)
        return [Part(at, float(value), reads) for (at, value), reads in zip(found, self.noted, strict=True)]

    def visit_Call(self, node):  # noqa: N802
        summed = is_over_index(node)
        self.inner += summed
        value = super().visit_Call(node)
        self.inner -= summed
        return value

    def _each(self, node):
        before, found, reads = self.reads, [], []
        for inside in self._inside(node):
            self.reads = []
            with suppress(BesideError):
                found.append((inside, self.visit(node.args[-1])))
                reads.append(tuple(self.reads))
        if self.inner:
            self.reads = [*before, *(reads[_decisive(node, found)] if found else ())]
        else:
            self.noted += reads
        return found

    def _terms(self, node):
        before, self.reads = len(self.noted), []
        if isinstance(node, ast.IfExp):
            return self._chosen(node)
        found = super()._terms(node)
        if len(self.noted) == before and found:
            self.noted.append(tuple(self.reads))
        return found

    def _chosen(self, node):
        holds, condition = self.visit(node.test), self.reads
        start, found = len(self.noted), self._terms(node.body if holds else node.orelse)
        self.noted[start:] = [(*reads, *condition) for reads in self.noted[start:]]
        return found

    def _terms_of_two(self, node):
        start, found = len(self.noted), super()._terms_of_two(node)
        if not isinstance(node.op, (ast.Add, ast.Sub)):
            self.reads = []
            self.visit(summed_and_factor(node)[1])
            self.noted[start:] = [(*reads, *self.reads) for reads in self.noted[start:]]
        return found

    def visit_Name(self, node):  # noqa: N802
        value, array = super().visit_Name(node), self.values.get(node.id)
        if node.id not in self.env and hasattr(array, "shape") and not self.formula.elementwise:
            self.reads.append((node.id, (0,) * array.ndim, float(value)))
        return value

    def _entry(self, node, array, items):
        value = super()._entry(node, array, items)
        name = node.value if isinstance(node, ast.Subscript) else node
        if node not in self.places:
            self.places[node] = self._view(np.arange(array.size).reshape(array.shape), items)
        origin = np.unravel_index(int(self.places[node][self.at_last]), array.shape)
        self.reads.append((name.id, tuple(map(int, origin)), float(value)))
        return value


def _decisive(node, found):
    signed = {"Max": 1.0, "Min": -1.0}.get(function_name(node))
    sizes = [abs(float(v)) if signed is None else signed * float(v) for _, v in found]
    return max(range(len(found)), key=sizes.__getitem__)
