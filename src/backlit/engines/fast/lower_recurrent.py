"""Recurrence, written down."""

from __future__ import annotations

from backlit.engines.fast.listing import CACHE_LINE, Lowering
from backlit.engines.fast.lowering import lower
from backlit.graph.graph import Node


def lstm(low: Lowering, node: Node) -> None:
    """All steps of all sequences, a chunk of the sequences at a time."""
    z, turned, more = _given(low, node)
    low.emit("lstm", low.chunks, z, turned, *map(low.value, node.outputs), *more, extent=low.chunks,
             flops=_work(low, node), node=node)  # fmt: skip


def lstm_back(low: Lowering, node: Node) -> None:
    """δ of all gates backwards through time, then dU."""
    z, U = node.operands[:2]
    dz = low.scratch(node, "dz", low.graph.values[z].shape)
    low.emit("lstm_grad", low.chunks, low.grad(node.name), low.value(U), *map(low.value, node.outputs), dz,
             *_later(low, node, "back", "carried"), extent=low.chunks, flops=_work(low, node), node=node)  # fmt: skip
    _weights_grad(low, node, dz)
    _move(low, z, dz)


def gru(low: Lowering, node: Node) -> None:
    """All steps of all sequences, a chunk of the sequences at a time."""
    z, turned, more = _given(low, node)
    low.emit("gru", low.chunks, z, turned, low.value(node.inputs[2]), *map(low.value, node.outputs), *more,
             extent=low.chunks, flops=_work(low, node), node=node)  # fmt: skip


def gru_back(low: Lowering, node: Node) -> None:
    """δ of all gates backwards through time, then dU and db_n."""
    z, U, b_n = node.operands[:3]
    dz, products = (low.scratch(node, n, low.graph.values[z].shape) for n in ("dz", "products"))
    low.emit("gru_grad", low.chunks, low.grad(node.name), low.value(U), *map(low.value, node.outputs), dz, products,
             *_later(low, node, "back", "carried"), extent=low.chunks, flops=_work(low, node), node=node)  # fmt: skip
    _weights_grad(low, node, products)
    if low.wants(b_n):
        rows, units = low.rows(products), low.size(low.value(b_n))
        sums = low.scratch(node, "sums", (3, units))
        low.emit("sum_rows", rows, low.flat(sums), extent=3 * units, grain=CACHE_LINE, node=node)
        low.share(b_n, lambda into: low.emit("row", sums, 2, into, extent=units, grain=CACHE_LINE, node=node))
    _move(low, z, dz)


def rnn(low: Lowering, node: Node) -> None:
    """All steps of all sequences, a chunk of the sequences at a time."""
    z, turned, more = _given(low, node)
    low.emit("rnn", low.chunks, _relu(node), z, turned, low.value(node.name), *more, extent=low.chunks,
             flops=_work(low, node), node=node)  # fmt: skip


def rnn_back(low: Lowering, node: Node) -> None:
    """δ backwards through time, then dU."""
    z, U = node.operands[:2]
    dz = low.scratch(node, "dz", low.graph.values[z].shape)
    low.emit("rnn_grad", low.chunks, _relu(node), low.grad(node.name), low.value(U), low.value(node.name), dz,
             *_later(low, node, "back"), extent=low.chunks, flops=_work(low, node), node=node)  # fmt: skip
    _weights_grad(low, node, dz)
    _move(low, z, dz)


def _relu(node: Node) -> int:
    return int(node.attributes["activation"] == "relu")


def _given(low: Lowering, node: Node) -> tuple[str, str, list[str]]:
    """(z, Uᵀ, [places for the state and U h of one step])."""
    z, U = map(low.value, node.operands[:2])
    wide, units = low.shape_of(U)
    turned = low.buffer(f"{U}_turned", (units, wide))
    low.emit("transpose", U, turned, extent=units, grain=CACHE_LINE, node=node)
    return z, turned, [*_states(low, node, "state"), low.scratch(node, "more", (low.shape_of(z)[0], wide))]


def _later(low: Lowering, node: Node, *names: str) -> list[str]:
    """Places for the δ of one step, side by side, and for what it sends to the step before."""
    z = low.graph.values[str(node.inputs[0])]
    return [low.scratch(node, "delta", (z.shape[0], z.shape[2])), *_states(low, node, *names)]


def _states(low: Lowering, node: Node, *names: str) -> list[str]:
    """A place of a state's size for each name."""
    count, _, units = low.graph.values[node.name].shape
    return [low.scratch(node, n, (count, units)) for n in names]


def _work(low: Lowering, node: Node) -> int:
    z, U = map(low.value, node.operands[:2])
    return 2 * low.size(z) * low.shape_of(U)[1]


def _weights_grad(low: Lowering, node: Node, products: str) -> None:
    """dU from ∂L/∂(U h)."""
    U, h = node.operands[1], low.value(node.name)
    if low.wants(U):
        low.share(U, lambda into: low.emit(
            "recurrent_weights_grad", products, h, into, extent=low.shape_of(into)[0], grain=CACHE_LINE,
            flops=_work(low, node), node=node))  # fmt: skip


def _move(low: Lowering, z: str, dz: str) -> None:
    if low.wants(z):
        low.move(z, dz)


def _from_zero(low: Lowering, node: Node) -> bool:
    """Without initial states and mask, and with only h read by others."""
    read = {i for n in low.graph.nodes for i in n.operands} | set(low.graph.updates.values())
    begun = node.inputs[3:] if node.rule == "gru" else node.inputs[2:]
    return all(i is None for i in begun) and read.isdisjoint(node.outputs[1:])


lower("lstm", lstm, lstm_back, _from_zero)
lower("gru", gru, gru_back, _from_zero)
lower("rnn", rnn, rnn_back, _from_zero)
