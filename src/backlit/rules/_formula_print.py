"""Index formulas as people read them: in Unicode for a terminal, in LaTeX for a page.

Each printer visits the expression and gives (text, precedence) for every part; parentheses stand only where the
precedence needs them. A name ``d<name>`` is shown as ∂L/∂<name>, a Greek name by its letter.
"""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from backlit.core.i18n import say
from backlit.rules._formula_syntax import (
    bound_of,
    function_name,
    index_name,
    indices_of,
    is_over_index,
    is_setting,
    subscripts,
)

if TYPE_CHECKING:
    from backlit.rules.formula import Formula

OR, AND, NOT, COMPARE, ADD, NEGATE, SUM, MULTIPLY, FRACTION, POWER, ATOM = range(11)
"""Precedences, the loosest first."""

_LETTERS = "alpha beta gamma delta epsilon eps eta theta kappa lambda mu nu pi rho sigma tau phi omega"
_GREEK = dict(zip(_LETTERS.split(), "αβγδεεηθκλμνπρστφω", strict=True))
_LATEX_GREEK = {"eps": "varepsilon", "epsilon": "varepsilon", "phi": "varphi"}
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SMALL = dict(zip("aehijklmnoprstuvx", "ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
_SIGNS: dict[type, tuple[str, str]] = {
    ast.Eq: ("=", "="),
    ast.NotEq: ("≠", r"\ne"),
    ast.Lt: ("<", "<"),
    ast.LtE: ("≤", r"\le"),
    ast.Gt: (">", ">"),
    ast.GtE: ("≥", r"\ge"),
    ast.And: ("∧", r"\land"),
    ast.Or: ("∨", r"\lor"),
    ast.Add: ("+", "+"),
    ast.Sub: ("-", "-"),
}
_NUMBERED = re.compile(r"^(?P<name>[A-Za-z]+)(?P<number>\d+)$")


Part: TypeAlias = tuple[str, int]
"""The text of a part and its precedence."""


class _Printer(ast.NodeVisitor, ABC):
    """What both printers share: precedence, and the order of things."""

    way: int
    """Which column of the table of signs."""

    def __init__(self, symbols: Mapping[str, str] | None = None) -> None:
        self.symbols = dict(symbols or {})

    def formula(self, formula: Formula) -> str:
        """The whole line."""
        indices = None if formula.indices is None else [i.lstrip("*") for i in formula.indices]
        return f"{self.named(formula.target, indices)[0]} = {self.visit(formula.expression)[0]}"

    def inside(self, node: ast.expr, least: int) -> str:
        """The text of a part, in parentheses where it binds less tightly than ``least``."""
        text, binds = self.visit(node)
        return text if binds >= least else self.parentheses(text)

    def is_gradient(self, name: str) -> bool:
        """True where a name is shown as a derivative of the loss."""
        return name not in self.symbols and name not in _GREEK and len(name) > 1 and name.startswith("d")

    def visit_Name(self, node: ast.Name) -> Part:
        return self.named(node.id, None)

    def visit_Subscript(self, node: ast.Subscript) -> Part:
        assert isinstance(node.value, ast.Name)
        shown = [self.visit(i.value if isinstance(i, ast.Starred) else i)[0] for i in subscripts(node)]
        if is_setting(node):
            return self.indexed(node.value.id, shown), ATOM
        return self.named(node.value.id, shown)

    def visit_Constant(self, node: ast.Constant) -> Part:
        value: Any = node.value
        if isinstance(value, str):
            return self.word(value), ATOM
        return self.number(*(f"{value:g}" if float(f"{value:g}") == value else repr(value)).split("e")), ATOM

    def visit_BoolOp(self, node: ast.BoolOp) -> Part:
        binds = AND if isinstance(node.op, ast.And) else OR
        sign = _SIGNS[type(node.op)][self.way]
        return f" {sign} ".join(self.inside(v, binds + 1) for v in node.values), binds

    def visit_Compare(self, node: ast.Compare) -> Part:
        signs = [_SIGNS[type(op)][self.way] for op in node.ops]
        rest = [f" {sign} {self.inside(v, ADD)}" for sign, v in zip(signs, node.comparators, strict=True)]
        return "".join([self.inside(node.left, ADD), *rest]), COMPARE

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Part:
        if isinstance(node.op, ast.Not):
            return self.negation + self.inside(node.operand, ATOM), NOT
        sign = "-" if isinstance(node.op, ast.USub) else ""
        return sign + self.term(node.operand, SUM), NEGATE

    def visit_BinOp(self, node: ast.BinOp) -> Part:
        if isinstance(node.op, (ast.Add, ast.Sub)):
            sign = _SIGNS[type(node.op)][self.way]
            return f"{self.term(node.left, ADD)} {sign} {self.term(node.right, SUM)}", ADD
        if isinstance(node.op, ast.Mult):
            left = self.left_factor(node.left)
            return self.product(left, self.right_factor(node.right)), NEGATE if left.startswith("-") else MULTIPLY
        return self.quotient(node) if isinstance(node.op, ast.Div) else self.power(node)

    def visit_Call(self, node: ast.Call) -> Part:
        name = function_name(node)
        if is_over_index(node):
            return self.over(name, indices_of(node), node.args[-1])
        known = getattr(self, f"call_{name}", None)
        return known(*node.args) if known else (self.applied(name, *(self.visit(a)[0] for a in node.args)), ATOM)

    def visit_IfExp(self, node: ast.IfExp) -> Part:
        rows: list[tuple[str, str]] = []
        rest: ast.expr = node
        while isinstance(rest, ast.IfExp):
            rows.append((self.visit(rest.body)[0], self.visit(rest.test)[0]))
            rest = rest.orelse
        return self.piecewise(rows, self.visit(rest)[0]), ATOM

    def letter(self, name: str) -> str:
        """An index as it is shown."""
        return name

    def ranges(self, indices: list[ast.expr]) -> list[str]:
        """Indices as they stand below a sign: ``p``, or ``p < k`` where an array does not tell how far it runs."""
        letters, bounds = [self.letter(index_name(i)) for i in indices], map(bound_of, indices)
        return [i if k is None else f"{i} < {self.visit(k)[0]}" for i, k in zip(letters, bounds, strict=True)]

    def term(self, node: ast.expr, least: int) -> str:
        """A term of a sum, a factor, …: a condition there is the number 1 or 0, in Iverson's brackets."""
        text, binds = self.visit(node)
        if binds <= COMPARE:
            return self.bracket(text)
        return text if binds >= least else self.parentheses(text)

    def left_factor(self, node: ast.expr) -> str:
        return self.term(node, NEGATE if isinstance(node, ast.UnaryOp) else MULTIPLY)

    def right_factor(self, node: ast.expr) -> str:
        return self.term(node, MULTIPLY if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) else FRACTION)

    def call_log1p(self, x: ast.expr) -> Part:
        return self.applied("log", f"1 + {self.term(x, SUM)}"), ATOM

    def call_expm1(self, x: ast.expr) -> Part:
        return f"{self.visit(ast.Call(ast.Name('exp'), [x], []))[0]} - 1", ADD

    @abstractmethod
    def named(self, name: str, indices: list[str] | None) -> Part: ...

    @abstractmethod
    def indexed(self, name: str, indices: list[str] | None) -> str: ...

    @abstractmethod
    def product(self, left: str, right: str) -> str: ...

    @abstractmethod
    def quotient(self, node: ast.BinOp) -> Part: ...

    @abstractmethod
    def power(self, node: ast.BinOp) -> Part: ...

    @abstractmethod
    def over(self, name: str, indices: list[ast.expr], body: ast.expr) -> Part: ...

    @abstractmethod
    def applied(self, name: str, *arguments: str) -> str: ...

    @abstractmethod
    def piecewise(self, rows: list[tuple[str, str]], rest: str) -> str: ...

    negation = "¬"

    def parentheses(self, text: str) -> str:
        return f"({text})"

    def bracket(self, text: str) -> str:
        return f"[{text}]"

    def word(self, text: str) -> str:
        return f"“{text}”"

    def number(self, mantissa: str, exponent: str = "") -> str:
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa


class TextPrinter(_Printer):
    """Formulas in Unicode: ``∂L/∂W[o,i] = Σₙ ∂L/∂z[n,o]·x[n,i]``."""

    way = 0

    def named(self, name: str, indices: list[str] | None) -> Part:
        if self.is_gradient(name):
            return f"∂L/∂{self.indexed(name[1:], indices)}", FRACTION
        return self.indexed(name, indices), ATOM

    def indexed(self, name: str, indices: list[str] | None) -> str:
        return f"{self.symbol(name)}[{','.join(indices)}]" if indices else self.symbol(name)

    def symbol(self, name: str) -> str:
        if name in self.symbols:
            return self.symbols[name]
        if (match := _NUMBERED.match(name)) and match["name"] in _GREEK:
            return _GREEK[match["name"]] + match["number"].translate(_LOWERED)
        return _GREEK.get(name, name)

    def product(self, left: str, right: str) -> str:
        return f"{left}·{right}"

    def quotient(self, node: ast.BinOp) -> Part:
        return f"{self.left_factor(node.left)} / {self.term(node.right, POWER)}", MULTIPLY

    def power(self, node: ast.BinOp) -> Part:
        base, exponent = self.term(node.left, ATOM), node.right
        if isinstance(exponent, ast.Constant) and isinstance(exponent.value, int):
            return base + str(exponent.value).translate(_RAISED), POWER
        return f"{base}^{self.term(exponent, ATOM)}", POWER

    def over(self, name: str, indices: list[ast.expr], body: ast.expr) -> Part:
        below = self.below(self.ranges(indices))
        if name in ("Sum", "Prod"):
            return f"{'Σ' if name == 'Sum' else 'Π'}{below} {self.term(body, SUM)}", SUM
        return (f"N{below}", ATOM) if name == "Count" else (f"{name.lower()}{below}({self.visit(body)[0]})", ATOM)

    def below(self, ranges: list[str]) -> str:
        small = "".join(_SMALL.get(i, "") for i in ranges)
        if len(small) == len("".join(ranges)):
            return small
        listed = ",".join(ranges)
        return f"_{{{listed.replace(' ', '')}}}" if " " in listed else f"_{listed}"

    def applied(self, name: str, *arguments: str) -> str:
        return f"{name}({', '.join(arguments)})"

    def call_abs(self, x: ast.expr) -> Part:
        return f"|{self.visit(x)[0]}|", ATOM

    def call_floor(self, x: ast.expr) -> Part:
        return f"⌊{self.visit(x)[0]}⌋", ATOM

    def call_sqrt(self, x: ast.expr) -> Part:
        return f"√{self.term(x, ATOM)}", POWER

    def call_sigmoid(self, x: ast.expr) -> Part:
        return f"σ({self.visit(x)[0]})", ATOM

    def piecewise(self, rows: list[tuple[str, str]], rest: str) -> str:
        given = "; ".join(f"{value} {say('formula_if')} {test}" for value, test in rows)
        return f"{{{given}; {rest} {say('formula_otherwise')}}}"


class LatexPrinter(_Printer):
    r"""Formulas in LaTeX: ``\frac{\partial L}{\partial b_{o}} = \sum_{n} \frac{\partial L}{\partial z_{n,o}}``."""

    way = 1
    negation = r"\lnot "

    def named(self, name: str, indices: list[str] | None) -> Part:
        if self.is_gradient(name):
            return rf"\frac{{\partial L}}{{\partial {self.indexed(name[1:], indices)}}}", FRACTION
        return self.indexed(name, indices), ATOM

    def indexed(self, name: str, indices: list[str] | None) -> str:
        symbol = self.symbol(name)
        if not indices:
            return symbol
        return f"{f'{{{symbol}}}' if '_' in symbol else symbol}_{{{','.join(indices)}}}"

    def symbol(self, name: str) -> str:
        if name in self.symbols:
            return self.symbols[name]
        if (match := _NUMBERED.match(name)) and (match["name"] in _GREEK or len(match["name"]) == 1):
            return f"{self.symbol(match['name'])}_{{{match['number']}}}"
        if name in _GREEK:
            return "\\" + _LATEX_GREEK.get(name, name)
        return name if len(name) == 1 else self.word(name)

    def word(self, text: str) -> str:
        escaped = text.replace("_", r"\_")
        return rf"\mathrm{{{escaped}}}"

    def number(self, mantissa: str, exponent: str = "") -> str:
        factor = "" if mantissa == "1" else rf"{mantissa} \cdot "
        return f"{factor}10^{{{int(exponent)}}}" if exponent else mantissa

    def parentheses(self, text: str) -> str:
        return rf"\left({text}\right)"

    def bracket(self, text: str) -> str:
        return rf"\left[{text}\right]"

    def product(self, left: str, right: str) -> str:
        return rf"{left} \cdot {right}" if right[0].isdigit() else rf"{left}\,{right}"

    def quotient(self, node: ast.BinOp) -> Part:
        return rf"\frac{{{self.term(node.left, ADD)}}}{{{self.term(node.right, ADD)}}}", FRACTION

    def power(self, node: ast.BinOp) -> Part:
        base = self.term(node.left, ATOM)
        if "^" in base and not base.startswith(r"\left("):  # a name that has something above it already
            base = rf"\left({base}\right)"
        return f"{base}^{{{self.term(node.right, ADD)}}}", POWER

    def over(self, name: str, indices: list[ast.expr], body: ast.expr) -> Part:
        below = f"_{{{','.join(self.ranges(indices))}}}"
        if name in ("Sum", "Prod"):
            return rf"\{name.lower()}{below} {self.term(body, SUM)}", SUM
        if name == "Count":
            return f"N{below}", ATOM
        sign = rf"\{name.lower()}" if name in ("Max", "Min") else r"\operatorname*{mean}"
        return sign + below + self.parentheses(self.visit(body)[0]), ATOM

    def applied(self, name: str, *arguments: str) -> str:
        known = name in ("log", "sin", "cos", "tanh", "max", "min")
        return (f"\\{name}" if known else rf"\operatorname{{{name}}}") + self.parentheses(", ".join(arguments))

    def call_exp(self, x: ast.expr) -> Part:
        return f"e^{{{self.term(x, ADD)}}}", POWER

    def call_abs(self, x: ast.expr) -> Part:
        return rf"\left|{self.visit(x)[0]}\right|", ATOM

    def call_floor(self, x: ast.expr) -> Part:
        return rf"\left\lfloor {self.visit(x)[0]} \right\rfloor", ATOM

    def call_sqrt(self, x: ast.expr) -> Part:
        return rf"\sqrt{{{self.visit(x)[0]}}}", ATOM

    def call_sigmoid(self, x: ast.expr) -> Part:
        return rf"\sigma{self.parentheses(self.visit(x)[0])}", ATOM

    def piecewise(self, rows: list[tuple[str, str]], rest: str) -> str:
        lines = [rf"{value} & \text{{{say('formula_if')} }} {test}" for value, test in rows]
        lines.append(rf"{rest} & \text{{{say('formula_otherwise')}}}")
        return r"\begin{cases} " + r" \\ ".join(lines) + r" \end{cases}"
