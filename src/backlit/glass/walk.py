"""A walk from one number through the whole step: on to the loss by the chain rule, and down to the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from backlit.core.i18n import say
from backlit.glass.explain import explain
from backlit.glass.receipts import Entry, Receipt
from backlit.glass.trace import Trace

Following: TypeAlias = Callable[[Receipt], Entry | None]
"""What to explain after a receipt."""


@dataclass(frozen=True)
class Walk:
    """Receipts, each of the operand that matters most in the one before."""

    up: tuple[Receipt, ...]
    """From the entry to the loss: Δw, ∂L/∂w, δ of one layer after the other, the loss."""
    down: tuple[Receipt, ...]
    """From the value that the gradient was multiplied by, down to an entry of the data."""

    end: Entry | None = None
    """The entry of the data that contributes most; None where the way does not lead to the data."""

    @property
    def ok(self) -> bool:
        """True where every number, computed again, is the stored one."""
        return all(receipt.ok for receipt in self)

    def __iter__(self) -> Iterator[Receipt]:
        return iter((*self.up, *self.down))

    def __len__(self) -> int:
        return len(self.up) + len(self.down)

    def __getitem__(self, i: int) -> Receipt:
        return (*self.up, *self.down)[i]

    def __str__(self) -> str:
        parts = [(say("walk_up"), self.up), (say("walk_down"), self.down)]
        return "\n\n".join("\n".join([head, *map(str, found)]) for head, found in parts if found)

    def _repr_html_(self) -> str:
        return "".join(receipt._repr_html_() for receipt in self)


def walk(trace: Trace, what: str | Entry, *, depth: int | None = None) -> Walk:
    """Walk from an entry to the loss and to the data; each next receipt explains the operand that matters most.

    A gradient's way leads over the δ of each layer to the loss; what δ was multiplied by is followed down through z and
    a to the data. A value's way leads down only. ``depth`` bounds the receipts of each way. Errors as for
    :func:`backlit.glass.explain.explain`.
    """
    first, data = explain(trace, what), _from_data(trace)
    upward = partial(_towards_loss, trace)
    downward = partial(_towards_data, data)
    up = () if first.entry.kind == "value" else tuple(_followed(trace, first, upward, depth))
    start = first.entry if not up else next((e for r in up if r.entry.kind != "value" and (e := downward(r))), None)
    down = () if start is None else tuple(_followed(trace, explain(trace, start), downward, depth))
    last = down[-1].entry if down else None
    return Walk(up, down, last if last and last.name in data and last.name in trace.graph.leaves else None)


def _followed(trace: Trace, first: Receipt, step: Following, depth: int | None) -> Iterator[Receipt]:
    receipt, left = first, depth
    while left is None or left > 0:
        yield receipt
        following = step(receipt)
        if following is None:
            return
        receipt, left = explain(trace, following), None if left is None else left - 1


def _towards_loss(trace: Trace, receipt: Receipt) -> Entry | None:
    """The gradient that a receipt rests on most; in place of ∂L/∂L = 1 the loss itself, where the way ends."""
    if receipt.entry.kind == "value":
        return None
    loss = trace.graph.outputs[0]
    found = next((e for e in receipt.operands() if e.kind in ("grad", "given")), None)
    return Entry("value", loss, ()) if found is not None and found.name == loss else found


def _towards_data(data: frozenset[str], receipt: Receipt) -> Entry | None:
    return next((e for e in receipt.operands() if e.kind == "value" and e.name in data), None)


def _from_data(trace: Trace) -> frozenset[str]:
    """Names of the model's inputs and of all that is computed from them; not targets and weights."""
    graph = trace.graph
    reached = {i for i in graph.inputs if i in _behind(trace, graph.outputs[min(1, len(graph.outputs) - 1)])}
    for node in graph.nodes:
        if not reached.isdisjoint(node.operands):
            reached.update(node.outputs)
    return frozenset(reached)


def _behind(trace: Trace, name: str) -> frozenset[str]:
    """Everything that a value is computed from."""
    needed = {name}
    for node in reversed(trace.graph.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.operands)
    return frozenset(needed)
