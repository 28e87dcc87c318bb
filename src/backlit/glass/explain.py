"""explain: the receipt of one entry of a trace, built from the formulas of the rules that made it.

An entry is named ``<name>[<index>]``:

- ``dense1.W[3,5]``: the gradient of a parameter's entry, ∂L/∂W
- ``dense1.z[0,3]``, ``dense1.a[0,3]``, ``x[0,5]``, ``loss``: a value
- ``dense1.delta[0,3]`` or ``dense1.δ[0,3]``: δ = ∂L/∂z
- ``∂dense1.a[0,3]`` or ``d dense1.a[0,3]``: the gradient by any value
- ``Δdense1.W[3,5]`` or ``update dense1.W[3,5]``: the change that the optimizer made
- ``g dense1.W[3,5]`` or ``given dense1.W[3,5]``: the gradient that the optimizer was given, combined and clipped
- ``value dense1.W[3,5]``: a parameter's own value
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.errors import InputError
from backlit.core.names import split_entry
from backlit.core.types import Array
from backlit.engines import reference
from backlit.glass import symbols
from backlit.glass.derive_simplify import facts, simplified
from backlit.glass.receipts import Entry, Index, Receipt, Term, Terms, short, total
from backlit.glass.terms import Part, parts, values_of
from backlit.glass.trace import Trace
from backlit.graph.graph import Node, differentiable_positions
from backlit.rules import Rule
from backlit.rules.formula import Formula, bind, formulas_of

MARKS = re.compile(r"(?P<grad>∂|d )|(?P<update>Δ|update )|(?P<given>g |given )|(?P<value>value )")
"""What a name may begin with, and so the kind of entry it means."""


def find(trace: Trace, text: str) -> Entry:
    """The entry that ``text`` names; UnknownNameError with the nearest names, InputError for an index out of range."""
    mark = MARKS.match(text)
    kind = mark.lastgroup if mark else None
    try:
        name, index = split_entry(text[mark.end() :] if mark else text)
    except ValueError:
        raise InputError("entry_form", where=text, got=repr(text)) from None
    if name.endswith((".delta", ".δ")):
        kind, name = "grad", trace.weighted_input(name.rpartition(".")[0])
    name = trace.resolve(name)
    entry = Entry(kind or ("grad" if name in trace.graph.trainable else "value"), name, index or ())
    shape = trace.values[name].shape
    if len(entry.index) != len(shape) or any(not 0 <= i < n for i, n in zip(entry.index, shape, strict=True)):
        ranges = ", ".join(f"0…{n - 1}" for n in shape)
        raise InputError("entry_index", where=name, expected=f"{name}[{ranges}]" if shape else name, got=str(entry))
    return entry


def explain(trace: Trace, what: str | Entry) -> Receipt:
    """The receipt of one entry; see the module's docstring for names.

    Raises UnknownNameError for a name that is not in the trace (the nearest are offered), InputError for an index out
    of range, a gradient that does not exist, or an update where the trace has none.
    """
    entry = find(trace, what) if isinstance(what, str) else what
    from backlit.glass import updates

    ways = {"value": _of_value, "grad": _of_gradient, "update": updates.of_update, "given": updates.of_given}
    with np.errstate(all="ignore"):
        return ways[entry.kind](trace, entry)


# --- values and gradients -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Use:
    """One node's formula for (its share of) an entry: ``target`` is an output, or d<input>."""

    node: Node
    target: str

    @property
    def rule(self) -> Rule:
        return rules.get(self.node.rule)

    @cached_property
    def names(self) -> dict[str, str]:
        """The rule's names -> names in the graph."""
        inputs = zip(self.rule.inputs, self.node.inputs, strict=False)
        return {local: name for local, name in inputs if name} | dict(
            zip(self.rule.outputs, self.node.outputs, strict=True)
        )

    def arrays(self, trace: Trace) -> dict[str, Any]:
        """Everything the formula may name: inputs, outputs, attributes, and the gradients of the outputs."""
        inputs = [None if i is None else trace.values[i] for i in self.node.inputs]
        bound = bind(self.rule, inputs, [trace.values[o] for o in self.node.outputs], self.node.attributes)
        return bound | received(trace, self.node) | shares(trace, self.node)

    def formula(self, trace: Trace) -> Formula:
        """The rule's formula as it is shown for this call: without what is absent or neutral in it."""
        return simplified(formulas_of(self.rule)[self.target], facts(self.rule, self.arrays(trace), {}))

    def operand(self, local: str | Entry, index: Index) -> Entry:
        """The entry of the trace that the rule's own name means."""
        if isinstance(local, Entry):
            return local
        if local in self.names:
            return Entry("value", self.names[local], index)
        return Entry("grad", self.names[local.removeprefix("d")], index)


def received(trace: Trace, node: Node) -> dict[str, Any]:
    """``d<output>`` -> the gradient that comes back to the node there; 0 for an output that none comes back to."""
    outputs = dict(zip(rules.get(node.rule).outputs, node.outputs, strict=True))
    found: dict[str, Any] = {f"d{o}": trace.grads[name] for o, name in outputs.items() if name in trace.grads}
    return ({f"d{o}": 0 for o in rules.get(node.rule).differentiated} | found) if found else {}


def shares(trace: Trace, node: Node) -> dict[str, Array]:
    """``d<input>`` -> what the node sends back there, where formulas of its rule read such, as recursions do."""
    rule = rules.get(node.rule)
    read = {name for f in formulas_of(rule).values() for name in f.names}
    reached = any(o in trace.grads for o in node.outputs)
    if rule.variadic or not reached or read.isdisjoint(f"d{n}" for n in rule.differentiable):
        return {}
    sent = reference.node_gradients(node, trace.values, trace.grads, np)
    places = (rule.differentiable[i] for _, i in differentiable_positions(node))
    return {f"d{local}": gradient for local, (_, gradient) in zip(places, sent, strict=True)}


def _of_value(trace: Trace, entry: Entry) -> Receipt:
    value = trace.values[entry.name][entry.index]
    node = trace.graph.producer.get(entry.name)
    if node is None:
        return _leaf(entry, value)
    use = _Use(node, rules.get(node.rule).outputs[node.outputs.index(entry.name)])

    def recompute() -> Any:
        inputs = (None if i is None else trace.values[i] for i in node.inputs)
        return use.rule.call(np, *inputs, **node.attributes)[node.outputs.index(entry.name)][entry.index]

    return _receipt(trace, entry, [use], value, recompute)


def _of_gradient(trace: Trace, entry: Entry) -> Receipt:
    value = trace.grad(entry.name)[entry.index]
    uses = [_Use(node, f"d{local}") for node in reversed(trace.graph.nodes) for local in _ways(trace, node, entry.name)]
    if not uses:
        return _leaf(entry, value)
    nodes = list({use.node.name: use.node for use in uses}.values())
    return _receipt(trace, entry, uses, value, lambda: _accumulated(trace, nodes, entry))


def _ways(trace: Trace, node: Node, name: str) -> list[str]:
    """The inputs of ``node``, by the rule's names, through which a gradient comes back to the value ``name``."""
    if not any(o in trace.grads for o in node.outputs):
        return []
    rule = rules.get(node.rule)
    found = [
        rule.inputs[0] if rule.variadic else rule.differentiable[i]
        for v, i in differentiable_positions(node)
        if v == name
    ]
    return list(dict.fromkeys(found))


def _accumulated(trace: Trace, nodes: list[Node], entry: Entry) -> Any:
    """The shares of a gradient added up in the order of the backward walk."""
    shares = [
        g
        for node in nodes
        for name, g in reference.node_gradients(node, trace.values, trace.grads, np)
        if name == entry.name
    ]
    total = shares[0]
    for share in shares[1:]:
        total = total + share
    return total[entry.index]


def _leaf(entry: Entry, value: Any) -> Receipt:
    text = f"{entry} = {short(value)}"
    return Receipt(entry, "", text, symbols.latex(entry.kind, entry.name), text, value, (), float(value), lambda: value)


def _receipt(trace: Trace, entry: Entry, uses: list[_Use], value: Any, recompute: Callable[[], Any]) -> Receipt:
    """The receipt of an entry that is the sum of the formulas of ``uses``."""
    found = [(use, _parts(trace, use, entry)) for use in uses]
    values = np.concatenate([values_of(parts) for _, parts in found])
    exact = total(values.tolist())
    terms = _terms(found, values, exact)
    return Receipt(
        entry=entry,
        rule=" + ".join(use.node.rule for use in uses),
        formula=_joined([use.formula(trace).text(symbols.texts(use.names)) for use in uses]),
        latex=_joined([use.formula(trace).latex(symbols.latexes(use.names)) for use in uses]),
        numbers=_numbers(entry, terms, exact),
        value=value,
        terms=terms,
        exact=exact,
        recompute=recompute,
    )


def _joined(lines: list[str]) -> str:
    """Several formulas of one target as one: their right sides added."""
    target = lines[0].split(" = ", 1)[0]
    return f"{target} = " + " + ".join(line.split(" = ", 1)[1] for line in lines)


def _terms(found: Sequence[tuple[_Use, Sequence[Part]]], values: Array, exact: float) -> Terms:
    """The terms of all uses, largest first, each made when it is looked at."""
    order = np.argsort(-np.abs(values), kind="stable")
    starts = np.cumsum([0, *(len(parts) for _, parts in found)])

    def make(rank: int) -> Term:
        number = int(order[rank])
        which = int(np.searchsorted(starts, number, side="right")) - 1
        use, parts = found[which]
        return _term(use, parts[number - int(starts[which])], exact, several=len(found) > 1)

    return Terms(values[order], _shares(values[order], exact), make)


def _shares(values: Array, total: float) -> Array:
    return np.where(values != 0, values / total, 0.0) if total else np.zeros_like(values)


def _parts(trace: Trace, use: _Use, entry: Entry) -> Sequence[Part]:
    if use.rule.moves:
        return _moved(trace, use, entry)
    arrays = use.arrays(trace)
    return parts(formulas_of(use.rule)[use.target], arrays, {}, entry.index)


def _moved(trace: Trace, use: _Use, entry: Entry) -> list[Part]:
    """For a rule that only copies: where the entry came from, or where it went."""
    names = [name for name, _ in differentiable_positions(use.node)]
    source = positions(use.node, [None if i is None else trace.values[i] for i in use.node.inputs])
    if use.target == use.rule.outputs[0]:
        return [_copied(trace, use.node, names, int(source[entry.index]))]
    here = _offsets(trace, names, entry)
    made = use.node.outputs[0]
    places = (tuple(map(int, at)) for at in np.argwhere(np.isin(source, here)))
    return [_one(Entry("grad", made, at), float(trace.grads[made][at])) for at in places]


def positions(node: Node, inputs: Sequence[Array | None]) -> Array:
    """For each entry of a moving node's output the position in its inputs, in a row, that it copies; -1: a constant.

    ``inputs`` are the arrays the node is given; only those with a gradient are counted, so not the indices of ``take``.
    """
    rule, start = rules.get(node.rule), 0
    counted: list[Array | None] = []
    for i, array in enumerate(inputs):
        if array is not None and (rule.variadic or rule.inputs[i] in rule.differentiable):
            counted.append(np.arange(start, start + array.size, dtype=np.float64).reshape(array.shape))
            start += array.size
        else:
            counted.append(array)
    attributes = dict(node.attributes) | ({"value": -1.0} if "value" in node.attributes else {})
    return rule.call(np, *counted, **attributes)[0].astype(np.int64)


def _copied(trace: Trace, node: Node, names: list[str], position: int) -> Part:
    """The part of an output entry that copies the input entry at ``position``."""
    for name in names:
        array = trace.values[name]
        if 0 <= position < array.size:
            at = tuple(int(i) for i in np.unravel_index(position, array.shape))
            return _one(Entry("value", name, at), float(array[at]))
        position -= array.size
    return Part({}, float(node.attributes.get("value", 0.0)), ())


def _one(entry: Entry, value: float) -> Part:
    return Part({}, value, ((entry, entry.index, value),))


def _offsets(trace: Trace, names: list[str], entry: Entry) -> list[int]:
    """Positions, counted through all inputs, at which the entry's array is given to the node."""
    starts = np.cumsum([0, *(trace.values[name].size for name in names)])
    flat = int(np.ravel_multi_index(entry.index, trace.values[entry.name].shape)) if entry.index else 0
    return [int(start) + flat for start, name in zip(starts, names, strict=False) if name == entry.name]


def _term(use: _Use, part: Part, total: float, *, several: bool) -> Term:
    label = ", ".join(f"{letter}={_place(at)}" for letter, at in part.indices.items() if at != ())
    operands = tuple((use.operand(local, index), value) for local, index, value in dict.fromkeys(part.reads))
    via = f"{use.node.name} " if several else ""
    return Term((via + label).strip(), part.value, part.value / total if total and part.value else 0.0, operands)


def _place(at: Any) -> str:
    return ",".join(map(str, at)) if isinstance(at, tuple) else str(at)


def _numbers(entry: Entry, terms: Sequence[Term], exact: float) -> str:
    """The formula with numbers: the largest terms as products where they are products, then the sum."""
    largest = terms[:3]
    shown = " + ".join(_product(t) for t in largest)
    rest = f" + … ({len(terms)})" if len(terms) > len(largest) else ""
    return f"{entry} = {shown}{rest} = {short(exact)}" if terms else f"{entry} = {short(exact)}"


def _product(term: Term) -> str:
    values = [v for _, v in term.operands]
    if len(values) > 1 and math.isclose(math.prod(values), term.value, rel_tol=1e-12):
        return "·".join(f"({short(v)})" if v < 0 else short(v) for v in values)
    return f"({short(term.value)})" if term.value < 0 else short(term.value)
