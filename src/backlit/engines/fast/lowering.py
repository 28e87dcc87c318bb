"""The planner: how each rule is written down, forward and backward, and which neighbours are done in one kernel.

A family's file enters its functions in the tables :data:`FORWARD` and :data:`BACKWARD` with the condition under which
its kernels fit; where they do not, the rule's own functions do the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backlit import rules
from backlit.core.types import Array
from backlit.engines.fast.listing import Call, Lowering, identifier
from backlit.graph.graph import Graph, Node, differentiable_positions

if TYPE_CHECKING:
    from backlit.engines.fast.looking import Looking

Write = Callable[[Lowering, Node], None]


@dataclass(frozen=True)
class Entry:
    """How a rule is written down where ``fits``."""

    forward: Write
    backward: Write
    fits: Callable[[Lowering, Node], bool]
    rank: int


TABLE: dict[str, list[Entry]] = {}
"""Rule -> ways in which it is written down; the first that fits is taken."""
FUSED, USUAL, GENERAL = range(3)
"""What is tried first, whatever the order of families: together with a neighbour, the usual case, any other case."""


def lower(
    rule: str, forward: Write, backward: Write, fits: Callable[[Lowering, Node], bool] = lambda *_: True,
    rank: int = USUAL,
) -> None:  # fmt: skip
    """Enter a way of writing a rule down in the table."""
    ways = TABLE.setdefault(rule, [])
    ways.append(Entry(forward, backward, fits, rank))
    ways.sort(key=lambda entry: entry.rank)


def nothing(_: Lowering, __: Node) -> None:
    """For what another kernel has done already."""


def listed(graph: Graph, low: Lowering, looking: Looking | None = None) -> Lowering:
    """Write down a whole step of ``graph`` up to the gradients, and what looks at it."""
    entries = {node.name: _entry(low, node) for node in graph.nodes}
    for node in graph.nodes:
        if node.name not in low.done:
            entries[node.name].forward(low, node)
    _keep_loss(low)
    if looking is not None:
        looking.forward(low)
    way = graph.depends_on(graph.trainable)
    for node in reversed(graph.nodes):
        if looking is not None:
            looking.backward(low, node.name)
        if f"d {node.name}" not in low.done and not way.isdisjoint(node.outputs):
            seeds = _seed(low, node, entries[node.name])
            entries[node.name].backward(low, node)
            _drop_unread(low, seeds)
        if looking is not None:
            looking.behind(low, node)
    return low


def _entry(low: Lowering, node: Node) -> Entry:
    return next((entry for entry in TABLE.get(node.rule, ()) if entry.fits(low, node)), BY_RULE)


def _keep_loss(low: Lowering) -> None:
    """Note loss and mass, where there are any, unless a kernel of a loss has done it."""
    if low.graph.outputs[0] and not any("stats" in call.arguments for call in low.calls):
        loss, mass = (low.flat(low.value(low.graph.outputs[i])) for i in (0, 2))
        low.emit("keep_loss", loss, mass, "stats")


def _seed(low: Lowering, node: Node, entry: Entry) -> list[Call]:
    """∂L/∂L is 1; an output that nobody reads has a gradient of 0, unless a kernel has passed over it."""
    after, start = low.follower(node), len(low.calls)
    if entry.backward is nothing or (after is not None and f"d {after.name}" in low.done):
        return []
    for seed in differentiated(node):
        if seed not in low.written:
            low.written.add(seed)
            low.entries("fill", low.grad(seed), float(seed == low.graph.outputs[0]), node=node)
    return low.calls[start:]


def _drop_unread(low: Lowering, seeds: list[Call]) -> None:
    """Take out those of the last calls that fill what no call behind them reads."""
    for seed in seeds:
        at = low.calls.index(seed)
        filled = low.storage(str(seed.arguments[0]))
        read = {low.storage(a) for call in low.calls[at + 1 :] for a in call.arguments if isinstance(a, str)}
        if filled not in read:
            del low.calls[at]


def differentiated(node: Node) -> list[str]:
    """The outputs that a node's backward takes gradients of."""
    rule = rules.get(node.rule)
    return [o for o, kind in zip(node.outputs, rule.outputs, strict=True) if kind in rule.differentiated]


def whole_numbers(low: Lowering, name: str) -> bool:
    """True where a value's buffer holds whole numbers: that of a leaf, or of one in another shape."""
    while name in low.graph.producer and low.graph.producer[name].rule == "reshape":
        name = low.graph.producer[name].operands[0]
    return name in low.graph.leaves and low.graph.values[name].dtype.startswith(("int", "uint"))


# --- rules without a kernel -----------------------------------------------------------------------------------------


def _forward_by_rule(low: Lowering, node: Node) -> None:
    """Call the rule's forward and copy what it gives into the buffers."""
    name = f"{identifier(node.name)}_forward"
    low.closures[name] = _forward_closure(low, node)
    low.emit(name, *map(low.value, (*node.operands, *node.outputs)), node=node)


def _forward_closure(low: Lowering, node: Node) -> Callable[..., None]:
    rule, present, kinds = rules.get(node.rule), [i is not None for i in node.inputs], _kinds(low, node)

    def forward(*buffers: Array) -> None:
        given = iter([*map(_as, buffers, kinds), *buffers[len(kinds) :]])
        for found, into in zip(rule.call(np, *_present(given, present), **node.attributes), given, strict=True):
            into[...] = found

    return forward


def _present(given: Iterator[Array], present: list[bool]) -> tuple[Any, ...]:
    return tuple(next(given) if there else None for there in present)


def _backward_by_rule(low: Lowering, node: Node) -> None:
    """Call the rule's backward and copy, or add, what it gives."""
    name = f"{identifier(node.name)}_backward"
    asked = [(v, i) for v, i in differentiable_positions(node) if low.wants(v)]
    seeds = differentiated(node)
    parts = [low.buffer(f"{name}_{i}", low.graph.values[v].shape) for v, i in asked]
    low.closures[name] = _backward_closure(low, node, len(seeds), [i for _, i in asked])
    values = map(low.value, (*node.operands, *node.outputs))
    low.emit(name, *map(low.grad, seeds), *values, *parts, node=node)
    for (value, _), part in zip(asked, parts, strict=True):
        low.share(value, lambda into, part=part: low.entries("copy", part, into, node=node))  # type: ignore[misc]


def _kinds(low: Lowering, node: Node) -> list[str | None]:
    """The dtype of each input that lies among numbers of another kind: whole numbers and conditions that nodes make."""
    values = [low.graph.values[i] for i in node.operands]
    return [v.dtype if v.name not in low.graph.leaves and v.dtype[0] in "iub" else None for v in values]


def _as(buffer: Array, kind: str | None) -> Array:
    return buffer if kind is None else buffer.astype(kind)


def _backward_closure(low: Lowering, node: Node, seeds: int, positions: list[int]) -> Callable[..., None]:
    rule, present, kinds = rules.get(node.rule), [i is not None for i in node.inputs], _kinds(low, node)

    def backward(*buffers: Array) -> None:
        d, rest = buffers[:seeds], buffers[seeds:]
        given = iter([*map(_as, rest, kinds), *rest[len(kinds) :]])
        inputs = _present(given, present)
        outputs = tuple(next(given) for _ in node.outputs)
        found = rule.gradients(np, d, rule.saved_from(inputs, outputs, node.attributes))
        for into, position in zip(given, positions, strict=True):
            into[...] = found[position]

    return backward


BY_RULE = Entry(_forward_by_rule, _backward_by_rule, lambda *_: True, GENERAL)
