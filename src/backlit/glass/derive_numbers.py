"""A formula with this run's numbers in it: one entry, every sum written out, every condition decided."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from backlit.glass.derive_equations import Equation
from backlit.rules._formula_eval import FLOAT, BesideError, Evaluation
from backlit.rules._formula_print import ADD, ATOM, MULTIPLY, NEGATE, SUM, LatexPrinter
from backlit.rules._formula_syntax import function_name, is_over_index

_SHOWN = 3
"""Terms of a long sum before the dots."""


def number(value: float, digits: int = 4) -> str:
    """A number in LaTeX, rounded to ``digits`` significant ones."""
    mantissa, _, exponent = f"{abs(value):.{digits}g}".partition("e")
    if exponent:
        mantissa = "" if mantissa == "1" else rf"{mantissa} \cdot "
        mantissa = rf"{mantissa}10^{{{int(exponent)}}}"
    return f"{{-{mantissa}}}" if value < 0 else mantissa


class _Here(Evaluation):
    """An evaluation that stands at one entry."""

    def enter(self, index: tuple[int, ...]) -> Iterator[None]:
        """Each place whose value adds to that entry: one, or several where the entry was broadcast."""
        for place in self._places(index):
            self._enter(place)
            yield

    def inside(self, node: ast.Call) -> Iterator[dict[str, int]]:
        """The values of the indices that a function runs over."""
        return self._inside(node)


class Filled(LatexPrinter):
    """The right side of an equation at one entry, with numbers for names."""

    def __init__(self, equation: Equation) -> None:
        super().__init__()
        self.formula_of = equation.formula
        self.here = _Here(equation.formula, equation.arrays, {}, equation._whole, arithmetic=FLOAT)  # noqa: SLF001

    def at(self, index: tuple[int, ...]) -> str:
        """The expression at that entry of the target."""
        return _joined([self.visit(self.formula_of.expression)[0] for _ in self.here.enter(index)])

    def _number(self, node: ast.expr) -> tuple[str, int]:
        value = self.here.visit(node)
        if not isinstance(value, float):
            return self.word(str(value)), ATOM
        text = number(value)
        return text, NEGATE if value < 0 else MULTIPLY if "cdot" in text else ATOM

    def visit_Name(self, node: ast.Name) -> tuple[str, int]:
        return self._number(node)

    def visit_Subscript(self, node: ast.Subscript) -> tuple[str, int]:
        return self._number(node)

    def visit_Compare(self, node: ast.Compare) -> tuple[str, int]:
        return self._number(node)

    def visit_IfExp(self, node: ast.IfExp) -> tuple[str, int]:
        return self.visit(node.body if self.here.visit(node.test) else node.orelse)  # type: ignore[no-any-return]

    def visit_Call(self, node: ast.Call) -> tuple[str, int]:
        if not is_over_index(node):
            return super().visit_Call(node)
        name, body = function_name(node), node.args[-1]
        if name in ("Count", "Max", "Min", "Prod"):
            return self._number(node)
        show = self._number if _nested(body) else self.visit
        terms = list[tuple[str, int]]()
        for _ in self.here.inside(node):
            with suppress(BesideError):
                terms.append(show(body))
        if name == "Sum":
            return _joined([t if p >= SUM else f"({t})" for t, p in terms]), ATOM if len(terms) == 1 else ADD
        if len(terms) == 1:
            return terms[0]
        return rf"\frac{{1}}{{{len(terms)}}}\left({_joined([t for t, _ in terms])}\right)", MULTIPLY

    def product(self, left: str, right: str) -> str:
        return rf"{left} \cdot {right}"


def _nested(node: ast.expr) -> bool:
    """True where a term is itself a sum, too long to be written out once for each."""
    return any(is_over_index(n) and function_name(n) in ("Sum", "Mean") for n in ast.walk(node))  # type: ignore[arg-type]


def _short(texts: list[str], dots: str) -> list[str]:
    return texts if len(texts) <= _SHOWN + 1 else [*texts[:_SHOWN], dots, texts[-1]]


def _joined(terms: list[str]) -> str:
    """A sum; a negative term is in parentheses."""
    shown = _short(terms, r"\cdots")
    return " + ".join([shown[0], *(f"({t})" if t.startswith(("-", "{-")) else t for t in shown[1:])]) if shown else "0"


def value_at(equation: Equation, index: tuple[int, ...]) -> Any:
    """The formula's value at one entry of the value it is for, in float64."""
    return Filled(equation).here.at(_place(equation, index))


def size_at(equation: Equation, index: tuple[int, ...]) -> float:
    """The absolute terms of one entry added up: what its rounding is measured by where the terms cancel."""
    return float(sum(abs(value) for _, value in Filled(equation).here.terms(_place(equation, index))))


def filled(equation: Equation, index: tuple[int, ...]) -> str:
    """The right side at one entry with its numbers, in LaTeX."""
    return Filled(equation).at(_place(equation, index))


def _place(equation: Equation, index: tuple[int, ...]) -> tuple[int, ...]:
    if equation.part is None:
        return index
    flat = sum(i * _stride(equation.shape, axis) for axis, i in enumerate(index))
    return (equation.part.start + flat,)


def _stride(shape: tuple[int, ...], axis: int) -> int:
    found = 1
    for n in shape[axis + 1 :]:
        found *= n
    return found
