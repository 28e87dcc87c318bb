"""Receipts of what an optimizer does: the change of a parameter, line by line, and the gradient it was given."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.i18n import say
from backlit.core.rows import Rows
from backlit.core.types import Array
from backlit.glass import symbols
from backlit.glass.receipts import Entry, Receipt, Step, Term, short, total
from backlit.glass.trace import Share, Trace, Update


def of_update(trace: Trace, entry: Entry) -> Receipt:
    """Δp: the optimizer's formulas evaluated one after another on this entry's numbers.

    The terms are the changes of p by each line that changes it: one, and one more where weights decay.
    """
    update, old = _known(trace, entry), trace.values[entry.name]
    if not update.moves(entry.name, entry.index):
        return _unread(update, entry, old.dtype.type(0))
    g, slots = update.grads[entry.name], update.slots.get(entry.name, {})
    optimizer, settings = update.optimizer, {"lr": update.learning_rate, "t": update.step}

    def recompute() -> Any:
        return (optimizer.update(np, old, g, slots, **settings)[0] - old)[entry.index]

    numbers = {"p": old, "g": g} | dict(slots)
    wide = {name: np.float64(a[entry.index] if a.shape == old.shape else a) for name, a in numbers.items()}
    steps = tuple(_steps(update, wide))
    terms = _changes(trace, entry, steps, wide)
    exact = total(t.value for t in terms)
    return Receipt(
        entry=entry,
        rule=optimizer.name,
        formula=";  ".join(optimizer.formulas),
        latex=symbols.latex("update", entry.name),
        numbers=";  ".join(f"{s.name} = {short(s.value)}" for s in steps) + f";  {entry} = {short(exact)}",
        value=(update.params[entry.name] - old)[entry.index],
        terms=tuple(sorted(terms, key=lambda t: -abs(t.value))),
        exact=exact,
        recompute=recompute,
        steps=steps,
        scale=abs(float(wide["p"])),
    )


def _unread(update: Update, entry: Entry, zero: Any) -> Receipt:
    """The receipt of an entry in a row of a sparse parameter that the batch did not read."""
    told = say("update_row_unread", row=entry.index[0])
    return Receipt(
        entry=entry,
        rule=update.optimizer.name,
        formula=f"{entry} = {told}",
        latex=symbols.latex("update", entry.name),
        numbers=f"{entry} = 0",
        value=zero,
        terms=(),
        exact=0.0,
        recompute=lambda: zero,
    )


def _known(trace: Trace, entry: Entry) -> Update:
    if trace.update is None or entry.name not in trace.update.grads:
        raise InputError("no_update", where=entry.name, got=str(entry))
    return trace.update


def _steps(update: Update, wide: Mapping[str, Any]) -> Iterator[Step]:
    optimizer, settings = update.optimizer, {"lr": update.learning_rate, "t": update.step}
    slots = {name: value for name, value in wide.items() if name not in ("p", "g")}
    known: dict[str, Any] = optimizer.options | settings | dict(wide)
    made = optimizer.steps(np, wide["p"], wide["g"], slots, **settings)
    for formula, (name, value) in zip(optimizer.formulas, made, strict=True):
        yield Step(name, formula, _filled(_right(formula), known), float(value))
        known[name] = value


def _right(formula: str) -> str:
    return formula.partition(" = ")[2]


def _filled(expression: str, known: Mapping[str, Any]) -> str:
    """The expression with numbers for names; names of functions stay."""
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda m: _number(known[m[0]]) if m[0] in known else m[0], expression)


def _number(value: Any) -> str:
    return f"({short(value)})" if value < 0 else short(value)


def _changes(trace: Trace, entry: Entry, steps: tuple[Step, ...], wide: Mapping[str, Any]) -> list[Term]:
    """One term for each line that assigns p: by how much, and from which of p and g it comes, directly or not."""
    behind, before, found = {"p": {"p"}, "g": {"g"}}, float(wide["p"]), []
    for step in steps:
        read = set().union(*(behind.get(name, set()) for name in _names(_change(step))))
        if step.name == "p":
            found.append((_change(step), step.value - before, read))
            before = step.value
        else:
            behind[step.name] = read
    operands = {"p": Entry("value", entry.name, entry.index), "g": _gradient_given(trace, entry)}
    whole = total(value for _, value, _ in found)
    return [
        Term(label, value, value / whole if whole else 0.0, tuple((operands[n], float(wide[n])) for n in sorted(read)))
        for label, value, read in found
    ]


def _change(step: Step) -> str:
    """``-lr * m`` of the line ``p = p - lr * m``; the right side of any other line."""
    right = _right(step.formula)
    return f"-{right.removeprefix('p - ')}" if step.name == "p" else right


def _names(expression: str) -> list[str]:
    return [node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)]


def _gradient_given(trace: Trace, entry: Entry) -> Entry:
    update = _known(trace, entry)
    plain = update.clip is None and len(update.shares) < 2
    return Entry("grad" if plain else "given", entry.name, entry.index)


# --- the gradient that an optimizer is given ------------------------------------------------------------------------


def of_given(trace: Trace, entry: Entry) -> Receipt:
    """The gradients of the step's mini-batches by their masses, then clipped: g = clip(Σᵢ mᵢ gᵢ / Σᵢ mᵢ).

    The terms are the mini-batches; the one that the trace shows rests on its gradient.
    """
    update = _known(trace, entry)
    value = update.grads[entry.name][entry.index]
    shares = update.shares or (Share(1.0, {name: trace.grads[name] for name in update.grads}),)
    wide = [float(share.grads[entry.name][entry.index]) for share in shares]
    exact = float(_given(update, shares, np.float64)[entry.name][entry.index])
    weights = [share.mass / (math.fsum(s.mass for s in shares) or 1.0) for share in shares]
    whole = total(w * g for w, g in zip(weights, wide, strict=True))
    factor = exact / whole if whole else 1.0
    return Receipt(
        entry=entry,
        rule="mean" if update.clip is None else update.clip.name,
        formula=_formula(update, entry),
        latex=symbols.latex("grad", entry.name),
        numbers=_formula_in_numbers(entry, weights, wide, factor, exact),
        value=value,
        terms=tuple(_terms(update, entry, [w * factor * g for w, g in zip(weights, wide, strict=True)], wide)),
        exact=exact,
        recompute=lambda: _given(update, shares, value.dtype)[entry.name][entry.index],
    )


def _given(update: Update, shares: Sequence[Share], dtype: Any) -> Mapping[str, Array]:
    """What the optimizer is given, from the gradients of the mini-batches: added up as the run does."""
    mass, found = shares[0].mass, {name: g.astype(dtype) for name, g in shares[0].grads.items()}
    for share in shares[1:]:
        if (both := mass + share.mass) > 0:
            old, new = mass / both, share.mass / both
            found = {n: (g * old + share.grads[n].astype(dtype) * new).astype(dtype) for n, g in found.items()}
        mass = both
    if update.clip is None:
        return found
    rows = {n: Rows(at, found[n][at], found[n].shape) for n, at in update.rows.items()}
    return {name: np.asarray(g) for name, g in update.clip(np, found | rows).items()}


def _terms(update: Update, entry: Entry, values: Sequence[float], grads: Sequence[float]) -> list[Term]:
    """The largest first."""
    here, whole = Entry("grad", entry.name, entry.index), total(values)
    found = [
        Term(f"i={i}", v, v / whole if whole else 0.0, ((here, g),) if i == update.part else ())
        for i, (v, g) in enumerate(zip(values, grads, strict=True))
    ]
    return sorted(found, key=lambda t: -abs(t.value))


def _formula(update: Update, entry: Entry) -> str:
    g = symbols.text("grad", entry.name)
    mean = f"Σᵢ mᵢ·{g}ᵢ / Σᵢ mᵢ" if len(update.shares) > 1 else g
    return f"g {entry.name} = {mean if update.clip is None else f'{update.clip.name}({mean}, {update.clip.limit:g})'}"


def _formula_in_numbers(
    entry: Entry, weights: Sequence[float], grads: Sequence[float], factor: float, exact: float
) -> str:
    shares = zip(weights, grads, strict=True)
    mean = " + ".join(_number(g) if w == 1.0 else f"{short(w)}·{_number(g)}" for w, g in shares)
    scaled = mean if factor == 1.0 else f"{short(factor)}·({mean})"
    return f"{entry} = {scaled} = {short(exact)}"
