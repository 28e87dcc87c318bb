"""Recurrence with masks and given states, written down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from backlit import rules
from backlit.engines.fast.listing import CACHE_LINE, Lowering
from backlit.engines.fast.lowering import GENERAL, lower
from backlit.graph.graph import Node


@dataclass(frozen=True)
class Scan:
    """A node's walk along time, as its kernels take it."""

    low: Lowering
    node: Node

    @cached_property
    def given(self) -> dict[str, str | None]:
        """Values by the names of the rule's inputs."""
        return dict(zip(rules.get(self.node.rule).inputs, self.node.inputs, strict=True))

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """Sequences, steps, units."""
        count, steps, units = self.low.graph.values[self.node.name].shape
        return count, steps, units

    @cached_property
    def wide(self) -> int:
        """Rows of U."""
        return self.low.graph.values[self.node.operands[1]].shape[0]

    @property
    def masked(self) -> int:
        """1 where steps are left out."""
        return int(self.given["mask"] is not None)

    @property
    def flops(self) -> int:
        """Of U times all states."""
        count, steps, units = self.size
        return 2 * count * steps * units * self.wide

    def mask(self) -> str:
        """The mask; where there is none anything of two axes."""
        return self.low.value(self.given["mask"]) if self.masked else self.own("state")

    def begin(self, name: str) -> str:
        """An initial state; zeros where it is not given."""
        if self.given[name] is not None:
            return self.low.value(self.given[name])
        count, _, units = self.size
        zeros = self.low.buffer(f"zeros{count}x{units}", (count, units))
        self.low.entries("fill", zeros, 0.0)
        return zeros

    def own(self, name: str) -> str:
        """A place for something of a state's size."""
        return self.low.scratch(self.node, name, (self.size[0], self.size[2]))

    def broad(self, name: str) -> str:
        """A place for something of all gates of one step."""
        return self.low.scratch(self.node, name, (self.size[0], self.wide))

    def states(self) -> str:
        """What each step starts from."""
        return self.low.scratch(self.node, "states", self.size)

    def turned(self) -> str:
        """Uᵀ."""
        U = self.low.value(self.node.operands[1])
        turned = self.low.scratch(self.node, "turned", (self.size[2], self.wide))
        self.low.emit("transpose", U, turned, extent=self.size[2], grain=CACHE_LINE, node=self.node)
        return turned

    def delta(self, name: str) -> str:
        """A place for δ of all gates and steps."""
        return self.low.scratch(self.node, name, (*self.size[:2], self.wide))

    def emit(self, kernel: str, *arguments: str | int) -> None:
        """A call for chunks of the sequences."""
        self.low.emit(kernel, self.low.chunks, self.masked, *arguments, extent=self.low.chunks, flops=self.flops,
                      node=self.node)  # fmt: skip

    def finish(self, dz: str, products: str, **first: str) -> None:
        """dU from ∂L/∂(U h), the gradients of initial states, and dz."""
        low, (z, U) = self.low, self.node.operands[:2]
        rows, states = low.rows(products), low.rows(self.states())
        if low.wants(U):
            low.share(U, lambda into: low.emit("product_tn", 0, rows, states, into, extent=self.wide, grain=CACHE_LINE,
                                               flops=self.flops, node=self.node))  # fmt: skip
        for name, found in first.items():
            if low.wants(self.given[name]):
                low.share(self.given[name], lambda into, found=found: low.entries(  # type: ignore[misc]
                    "copy", found, into, node=self.node))  # fmt: skip
        if low.wants(z):
            low.move(z, dz)


def lstm(low: Lowering, node: Node) -> None:
    """All steps of all sequences, a chunk of the sequences at a time."""
    it = Scan(low, node)
    it.emit("lstm_masked", low.value(node.inputs[0]), it.turned(), it.begin("h0"), it.begin("c0"), it.mask(),
            *map(low.value, node.outputs), it.states(), it.own("state"), it.own("cell"), it.broad("more"))  # fmt: skip


def lstm_back(low: Lowering, node: Node) -> None:
    """δ of all gates backwards through time, then dU and what the initial states get."""
    it = Scan(low, node)
    dz, first = it.delta("dz"), (it.own("dh0"), it.own("dc0"))
    it.emit("lstm_masked_grad", *map(low.grad, node.outputs[:2]), low.value(node.inputs[1]), it.begin("c0"), it.mask(),
            *map(low.value, node.outputs[1:]), dz, it.broad("delta"), it.own("back"), it.own("carried"),
            *first)  # fmt: skip
    it.finish(dz, dz, h0=first[0], c0=first[1])


def gru(low: Lowering, node: Node) -> None:
    """All steps of all sequences, a chunk of the sequences at a time."""
    it = Scan(low, node)
    it.emit("gru_masked", low.value(node.inputs[0]), it.turned(), low.value(node.inputs[2]), it.begin("h0"), it.mask(),
            *map(low.value, node.outputs), it.states(), it.own("state"), it.broad("more"))  # fmt: skip


def gru_back(low: Lowering, node: Node) -> None:
    """δ of all gates backwards through time, then dU, db_n and what the initial state gets."""
    it, b_n = Scan(low, node), node.inputs[2]
    dz, products, first, units = it.delta("dz"), it.delta("products"), it.own("dh0"), it.size[2]
    it.emit("gru_masked_grad", low.grad(node.name), low.value(node.inputs[1]), it.mask(), it.states(),
            *map(low.value, node.outputs[1:]), dz, products, it.broad("delta"), it.own("back"), it.own("through"),
            first)  # fmt: skip
    if low.wants(b_n):
        sums = low.scratch(node, "sums", (3, units))
        low.emit("sum_rows", low.rows(products), low.flat(sums), extent=3 * units, grain=CACHE_LINE, node=node)
        low.share(b_n, lambda into: low.emit("row", sums, 2, into, extent=units, grain=CACHE_LINE, node=node))
    it.finish(dz, products, h0=first)


def rnn(low: Lowering, node: Node) -> None:
    """All steps of all sequences, a chunk of the sequences at a time."""
    it = Scan(low, node)
    it.emit("rnn_masked", _relu(node), low.value(node.inputs[0]), it.turned(), it.begin("h0"), it.mask(),
            low.value(node.name), it.states(), it.own("state"), it.broad("more"))  # fmt: skip


def rnn_back(low: Lowering, node: Node) -> None:
    """δ backwards through time, then dU and what the initial state gets."""
    it = Scan(low, node)
    dz, first = it.delta("dz"), it.own("dh0")
    it.emit("rnn_masked_grad", _relu(node), low.grad(node.name), low.value(node.inputs[1]), it.mask(),
            low.value(node.name), dz, it.broad("delta"), it.own("back"), first)  # fmt: skip
    it.finish(dz, dz, h0=first)


def _relu(node: Node) -> int:
    return int(node.attributes["activation"] == "relu")


lower("lstm", lstm, lstm_back, rank=GENERAL)
lower("gru", gru, gru_back, rank=GENERAL)
lower("rnn", rnn, rnn_back, rank=GENERAL)
