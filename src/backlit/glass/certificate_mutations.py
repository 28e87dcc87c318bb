"""The usual slips in a formula: every way to get one thing wrong in it, each with the name of the slip."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from backlit.rules._formula_syntax import function_name, is_over_index, subscripts
from backlit.rules.formula import Formula

_FLIPPED: dict[type, type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
_LONGEST = 4
"""Terms of the longest sum of which every part is tried."""


@dataclass(frozen=True)
class Mutation:
    """A formula with one slip."""

    kind: str
    """``mean``, ``mean_twice``, ``sign``, ``term``, ``slope``, ``gate``, ``transpose`` or ``swap``."""
    detail: str
    """What is missing or wrong, as it stands in the formula."""
    formula: Formula


def mutations(formula: Formula, names: Iterable[str]) -> Iterator[Mutation]:
    """All of them; ``names`` are the arrays that may be taken for one another."""
    for kind, detail, expression in _inside(formula.expression, tuple(names)):
        yield Mutation(kind, detail, replace(formula, expression=expression))


Slip = tuple[str, str, ast.expr]


def _inside(e: ast.expr, names: tuple[str, ...]) -> Iterator[Slip]:
    yield from _here(e, names)
    if isinstance(e, ast.Subscript):
        return
    for field, value in ast.iter_fields(e):
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.expr) and not (isinstance(e, ast.Call) and field == "func"):
                for kind, detail, new in _inside(child, names):
                    yield kind, detail, _replaced(e, field, i, new)


def _replaced(e: ast.expr, field: str, i: int, new: ast.expr) -> ast.expr:
    made = copy.copy(e)
    value = getattr(e, field)
    setattr(made, field, [*value[:i], new, *value[i + 1 :]] if isinstance(value, list) else new)
    return made


def _here(e: ast.expr, names: tuple[str, ...]) -> Iterator[Slip]:
    if isinstance(e, ast.BinOp):
        yield from _of_sum(e) if isinstance(e.op, ast.Add | ast.Sub) else _of_product(e)
    elif isinstance(e, ast.UnaryOp) and isinstance(e.op, ast.USub):
        yield "sign", ast.unparse(e), e.operand
    elif isinstance(e, ast.Compare) and type(e.ops[0]) in _FLIPPED:
        yield "gate", ast.unparse(e), ast.Compare(e.left, [_FLIPPED[type(e.ops[0])]()], e.comparators)
    elif isinstance(e, ast.IfExp):
        yield from (("gate", ast.unparse(e.test), branch) for branch in (e.body, e.orelse))
    elif isinstance(e, ast.Call):
        yield from _of_call(e)
    elif isinstance(e, ast.Subscript | ast.Name):
        yield from _of_array(e, names)


def _of_product(e: ast.BinOp) -> Iterator[Slip]:
    dropped = [(e.right, e.left)] + ([(e.left, e.right)] if isinstance(e.op, ast.Mult) else [])
    for gone, kept in dropped:
        text = ast.unparse(gone)
        counts = isinstance(e.op, ast.Div) and ("Count" in text or text == "mass")
        yield "mean" if counts else "slope", f"/ {text}" if counts else text, kept


def _of_sum(e: ast.BinOp) -> Iterator[Slip]:
    terms = list(_terms(e, 1))
    for i, (sign, term) in enumerate(terms):
        yield "sign", ast.unparse(term), _sum([*terms[:i], (-sign, term), *terms[i + 1 :]])
    for count in range(1, len(terms)) if len(terms) <= _LONGEST else ():
        for kept in combinations(terms, count):
            yield "term", ", ".join(ast.unparse(t) for s, t in terms if (s, t) not in kept), _sum(list(kept))


def _terms(e: ast.expr, sign: int) -> Iterator[tuple[int, ast.expr]]:
    if isinstance(e, ast.BinOp) and isinstance(e.op, ast.Add | ast.Sub):
        yield from _terms(e.left, sign)
        yield from _terms(e.right, sign if isinstance(e.op, ast.Add) else -sign)
    else:
        yield sign, e


def _sum(terms: list[tuple[int, ast.expr]]) -> ast.expr:
    sign, first = terms[0]
    found: ast.expr = first if sign > 0 else ast.UnaryOp(ast.USub(), first)
    for sign, term in terms[1:]:
        found = ast.BinOp(found, ast.Add() if sign > 0 else ast.Sub(), term)
    return found


def _of_call(e: ast.Call) -> Iterator[Slip]:
    other = {"Mean": ("mean", "Sum"), "Sum": ("mean_twice", "Mean")}.get(function_name(e))
    if is_over_index(e) and other:
        yield other[0], ast.unparse(e), ast.Call(ast.Name(other[1]), e.args, [])


def _of_array(e: ast.Subscript | ast.Name, names: tuple[str, ...]) -> Iterator[Slip]:
    name = e.id if isinstance(e, ast.Name) else getattr(e.value, "id", "")
    if name in names:
        for other in names:
            if other != name:
                new = ast.Name(other) if isinstance(e, ast.Name) else ast.Subscript(ast.Name(other), e.slice)
                yield "swap", f"{other}, {name}", new
    if isinstance(e, ast.Subscript) and len(items := subscripts(e)) >= 2:
        swapped = ast.Tuple([*items[:-2], items[-1], items[-2]])
        yield "transpose", name, ast.Subscript(e.value, swapped)
