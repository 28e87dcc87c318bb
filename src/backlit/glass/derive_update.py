"""The optimizer's formulas as equations, and one weight's update with its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from backlit.glass.derive_equations import Equation
from backlit.glass.derive_symbols import Mark
from backlit.optim.base import Optimizer
from backlit.rules import get
from backlit.rules.formula import Formula, parse

_NEW = "new"
"""What the right side makes; it is shown by the name that it takes, whose old value the right side may read."""

_PARAMETER = re.compile(r"\bp\b")
"""In index formulas p is the position of an entry."""

_MARKS = {
    "p": Mark(r"\theta"),
    "theta": Mark(r"\theta"),
    "g": Mark("g"),
    "lr": Mark(r"\alpha"),
    "t": Mark("t"),
    "m": Mark("m"),
    "v": Mark("v"),
    "m_hat": Mark(r"\hat{m}"),
    "v_hat": Mark(r"\hat{v}"),
    "mu": Mark(r"\mu"),
    "eps": Mark(r"\varepsilon"),
    "beta1": Mark(r"\beta_{1}"),
    "beta2": Mark(r"\beta_{2}"),
}


def first_rate(optimizer: Optimizer) -> float:
    """The learning rate of the first update of a run of a thousand."""
    return float(optimizer.schedule(1, 1000, 100))


def mark(name: str) -> Mark:
    """The symbol of a name in an update's formulas."""
    return _MARKS.get(name, Mark(rf"\mathrm{{{name}}}".replace("_", r"\_")))


def update_line(line: str) -> tuple[str, str, str]:
    """(left, ←, right) in LaTeX of one of an optimizer's formulas, such as ``m = beta1 * m + (1 - beta1) * g``."""
    name, formula = _parsed(line)
    marks = {n: mark(n).latex() for n in (*formula.names, _NEW)}
    return mark(name).latex(), r"\leftarrow", formula.latex(marks).partition(" = ")[2]


def _parsed(line: str) -> tuple[str, Formula]:
    name, _, right = line.partition(" = ")
    return name, parse(f"{_NEW} = {_PARAMETER.sub('theta', right)}")


def update_equations(optimizer: Optimizer, known: Mapping[str, Any]) -> Iterator[tuple[Equation, float]]:
    """Each formula of the update with the numbers it reads, and its value; in order, for one entry of a parameter.

    ``known`` has p, g, lr, t and the slots as they are before the update.
    """
    numbers: dict[str, Any] = dict(optimizer.options) | dict(known)
    for line in optimizer.formulas:
        name, formula = _parsed(line)
        marks = {n: mark(n) for n in (*formula.names, _NEW)}
        equation = Equation(name, formula, numbers | {"theta": numbers["p"]}, (), marks, 1, get("add"))
        numbers[name] = float(equation.evaluate())
        yield equation, numbers[name]
