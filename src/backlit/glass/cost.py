"""The cost ledger: what one training step costs, node by node, and what it keeps in memory.

FLOPs are counted by :mod:`backlit.engines.counting`, which runs each rule, and the optimizer's formulas, on arrays of
shapes without numbers. Bytes are those that a node at least moves, each array that it takes read once and each that it
makes written once:

- forward reads the inputs and writes the outputs;
- backward reads the ∂L/∂(outputs) that come back and what its rule's memory contract names, writes a gradient for each
  differentiable input, and where a gradient meets an earlier one reads both and writes their sum;
- the update reads a parameter, its gradient and its state, and writes parameter and state.

Their ratio is the arithmetic intensity in FLOP/B: where it is far below the FLOPs that the machine does in the time it
moves a byte, the node waits for memory.
Source: Williams, Waterman, Patterson: Roofline, Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from backlit import optim
from backlit.core.errors import InputError
from backlit.core.i18n import say
from backlit.core.names import lookup
from backlit.core.tables import amount, html_table, text_table
from backlit.engines import counting
from backlit.engines.counting import Counter
from backlit.glass import timing
from backlit.glass.memory import Kept, Memory, Walk, memory, nbytes, saved
from backlit.graph.graph import Graph, Node, differentiable_inputs
from backlit.nn import losses
from backlit.nn.layer import require_count
from backlit.nn.losses import Loss
from backlit.nn.model import Model
from backlit.optim import Optimizer


@dataclass(frozen=True)
class Work:
    """What is computed and moved, and the seconds it took where it was measured."""

    flops: int = 0
    read: int = 0
    """Bytes."""
    written: int = 0
    """Bytes."""
    seconds: float | None = None

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.read + self.written

    @property
    def intensity(self) -> float:
        """FLOPs per byte; 0 where nothing is moved."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def gflops(self) -> float | None:
        """10⁹ FLOPs per second; None where not measured."""
        return self.flops / self.seconds / 1e9 if self.seconds else None

    def __add__(self, other: Work) -> Work:
        times = [s for s in (self.seconds, other.seconds) if s is not None]
        moved = self.read + other.read, self.written + other.written
        return Work(self.flops + other.flops, *moved, sum(times) if times else None)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return vars(self) | {"bytes": self.bytes, "intensity": self.intensity, "gflops": self.gflops}


@dataclass(frozen=True)
class Row:
    """One node."""

    name: str
    rule: str
    forward: Work
    backward: Work | None
    """None where backpropagation does not pass through."""


@dataclass(frozen=True)
class Update:
    """The optimizer's update of one parameter."""

    parameter: str
    work: Work


@dataclass(frozen=True)
class CostLedger:
    """What one training step of a model costs; prints itself, ``ledger["dense1.z"]`` is one row."""

    model: str
    batch_size: int
    dtype: str
    loss: str | None
    """None where backward starts from the gradient of the model's output, whatever the loss."""
    optimizer: str
    rows: tuple[Row, ...]
    """The nodes, in the order in which they are computed."""
    updates: tuple[Update, ...]
    kept: tuple[Kept, ...]
    """What backward needs kept, from which step of the walk to which, and why."""
    memory: Memory

    def __getitem__(self, node: str) -> Row:
        return lookup({row.name: row for row in self.rows}, node, "value")

    @cached_property
    def forward(self) -> Work:
        """Forward, all nodes."""
        return _total(row.forward for row in self.rows)

    @cached_property
    def backward(self) -> Work:
        """Backward, all nodes."""
        return _total(row.backward for row in self.rows if row.backward)

    @cached_property
    def update(self) -> Work:
        """The update of all parameters."""
        return _total(u.work for u in self.updates)

    @property
    def measured(self) -> bool:
        """True where the nodes were timed."""
        return self.forward.seconds is not None

    def as_dict(self) -> dict[str, Any]:
        """The ledger as JSON values."""
        head = {name: getattr(self, name) for name in ("model", "batch_size", "dtype", "loss", "optimizer")}
        totals = {name: getattr(self, name).as_dict() for name in ("forward", "backward", "update")}
        rows = [_row_dict(row) for row in self.rows]
        updates = [{"parameter": u.parameter} | u.work.as_dict() for u in self.updates]
        kept = [vars(k) | {"leaf": k.leaf, "reasons": [vars(r) for r in k.reasons]} for k in self.kept]
        parts = {"nodes": rows, "updates": updates, "kept": kept, "memory": self.memory.as_dict()}
        return head | {"totals": totals} | parts

    # --- printing -----------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        kept = text_table(self._kept_cells(), left={0, 3, 4})
        parts = [self._title(), "", *text_table(self._cells(), left={0, 1}), "", say("cost_kept"), *kept, ""]
        return "\n".join([*parts, *self._memory_lines(), "", say("cost_note")])

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(html.escape, self._memory_lines()))
        kept = f"<p>{html.escape(say('cost_kept'))}</p>{html_table(self._kept_cells())}"
        return f"<p>{html.escape(self._title())}</p>{html_table(self._cells())}{kept}<p>{lines}</p>"

    def _title(self) -> str:
        works = {name: amount(getattr(self, name).flops) for name in ("forward", "backward", "update")}
        return say("cost_title", model=self.model, batch=self.batch_size, dtype=self.dtype, **works)

    def _cells(self) -> list[list[str]]:
        key = "cost_columns_measured" if self.measured else "cost_columns"
        lines = [(r.name, r.rule, r.forward, r.backward) for r in self.rows]
        lines.append((say("cost_total"), "", self.forward, self.backward))
        lines.append((say("cost_update"), self.optimizer, self.update, None))
        return [say(key).split("|"), *([n, r, *self._work(f), *self._work(b)] for n, r, f, b in lines)]

    def _work(self, work: Work | None) -> list[str]:
        if work is None:
            return [""] * (5 if self.measured else 3)
        cells = [amount(work.flops), amount(work.bytes, "B"), f"{work.intensity:.2f}"]
        if not self.measured:
            return cells
        return [*cells, f"{(work.seconds or 0.0) * 1e6:.1f}", f"{work.gflops or 0.0:.2f}"]

    def _kept_cells(self) -> list[list[str]]:
        return [say("cost_kept_columns").split("|"), *map(self._kept_line, self.kept)]

    def _kept_line(self, kept: Kept) -> list[str]:
        start = say("cost_there") if kept.leaf else f"{kept.made}"
        end = f"{kept.until} {self.memory.steps[kept.until - 1]}"
        return [kept.value, amount(kept.bytes, "B"), start, end, ", ".join(map(str, kept.reasons))]

    def _memory_lines(self) -> Iterator[str]:
        for plan, peak in (("reference", self.memory.reference_peak), ("least", self.memory.least_peak)):
            place = {"step": peak.step, "steps": len(self.memory.steps), "name": peak.name}
            yield say(f"cost_peak_{plan}", bytes=amount(peak.bytes, "B"), **place)
        parts = (f"{say(f'cost_{kind}')} {amount(size, 'B')}" for kind, size in self.memory.resident.items() if size)
        yield say("cost_resident", parts=", ".join(parts))


def cost(
    model: Model,
    batch_size: int = 64,
    *,
    loss: str | Loss | None = None,
    optimizer: str | Optimizer = "adam",
    measure: bool = False,
) -> CostLedger:
    """What one training step on ``batch_size`` samples costs: FLOPs and bytes of each node, what is kept, peak memory.

    Without ``loss`` backward starts from the gradient of the model's output. Targets have the output's shape, or are
    class numbers where the loss takes them. With ``measure`` the reference engine runs every node on random samples and
    is timed: seconds are the median of several runs, the interpreter's own time included. The model is not changed.

    Raises InputError where the model is not built or batch_size is below 1, UnknownNameError for an unknown loss or
    optimizer.
    """
    if not model.built:
        raise InputError("not_built", where="cost")
    recipe, chosen = None if loss is None else losses.get(loss), optim.get(optimizer)
    graph = step_graph(model, require_count("cost", "batch_size", batch_size), recipe)
    walk, slots = Walk(graph), _slot_bytes(graph, chosen)
    times = timing.measure(model, graph, walk.back, chosen) if measure else timing.Times()
    return CostLedger(
        type(model).__name__,
        int(batch_size),
        model.dtype,
        None if recipe is None else recipe.name,
        chosen.name,
        tuple(_rows(walk, times)),
        tuple(_update(graph, name, chosen, times.update.get(name)) for name in graph.trainable),
        walk.kept,
        memory(walk, sum(slots.values())),
    )


def step_graph(model: Model, batch_size: int, loss: Loss | None) -> Graph:
    """The graph of a training step on ``batch_size`` samples, with the targets that ``loss`` usually takes."""
    inputs = model.batch_of(batch_size)
    graph = model.graph(inputs, training=True)
    if loss is None:
        return graph
    output = graph.values[graph.outputs[0]].shape
    target = (output[:-1], "int64") if loss.labels else (output, model.dtype)
    return model.graph(inputs, training=True, loss=loss, target=target)


# --- one node -----------------------------------------------------------------------------------------------------


def _rows(walk: Walk, times: timing.Times) -> Iterator[Row]:
    backward = _backward_bytes(walk)
    for node, found in zip(walk.graph.nodes, counting.cost(walk.graph), strict=True):
        forward = Work(found.forward_flops, *_forward_bytes(walk.graph, node), times.forward.get(node.name))
        moved = backward.get(node.name)
        back = moved and Work(found.backward_flops, *moved, times.backward.get(node.name))
        yield Row(node.name, node.rule, forward, back)


def _forward_bytes(graph: Graph, node: Node) -> tuple[int, int]:
    return _size(graph, set(node.operands)), _size(graph, node.outputs)


def _backward_bytes(walk: Walk) -> dict[str, tuple[int, int]]:
    """(bytes read, bytes written) by the backward of each node on the way back."""
    graph = walk.graph
    arrived = {graph.outputs[0]}
    found = {}
    for node, given in walk.back:
        read = _size(graph, arrived.intersection(node.outputs)) + _size(graph, {v for _, v in saved(node)})
        added = _size(graph, _met(given, arrived))
        found[node.name] = read + 2 * added, _size(graph, differentiable_inputs(node)) + added
    return found


def _met(given: Sequence[str], arrived: set[str]) -> list[str]:
    """Those of the gradients ``given`` that meet an earlier one; all of them have ``arrived`` afterwards."""
    met = []
    for name in given:
        met += [name] if name in arrived else []
        arrived.add(name)
    return met


def _size(graph: Graph, names: Iterable[str]) -> int:
    return sum(nbytes(graph, name) for name in names)


# --- the update ---------------------------------------------------------------------------------------------------


def _update(graph: Graph, name: str, optimizer: Optimizer, seconds: float | None) -> Update:
    """Counted by running the optimizer's formulas on arrays without numbers."""
    xp, value = Counter(), graph.values[name]
    p, g = (xp.ghost(value.shape, value.dtype) for _ in "pg")
    state = optimizer.init(xp, p)
    xp.lap()
    optimizer.update(xp, p, g, state, lr=1e-3, t=1)
    slots = sum(s.nbytes for s in state.values())
    return Update(name, Work(xp.lap(), p.nbytes + g.nbytes + slots, p.nbytes + slots, seconds))


def _slot_bytes(graph: Graph, optimizer: Optimizer) -> dict[str, int]:
    """Bytes of the optimizer's state for each parameter."""
    xp, values = Counter(), {name: graph.values[name] for name in graph.trainable}
    states = {name: optimizer.init(xp, xp.ghost(v.shape, v.dtype)) for name, v in values.items()}
    return {name: sum(s.nbytes for s in state.values()) for name, state in states.items()}


def _total(works: Iterable[Work]) -> Work:
    return sum(works, Work())


def _row_dict(row: Row) -> dict[str, Any]:
    back = row.backward and row.backward.as_dict()
    return {"name": row.name, "rule": row.rule, "forward": row.forward.as_dict(), "backward": back}
