"""Losses with weights, masks and options, wherever they stand in the graph, written down.

Forward gives the loss and its slope by what was predicted, as if ∂L/∂loss were 1; where the loss is the graph's own and
nothing else reads the prediction, that is its gradient at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from backlit import rules
from backlit.engines.fast.listing import CACHE_LINE, Lowering
from backlit.engines.fast.lowering import GENERAL, lower, whole_numbers
from backlit.graph.graph import Node


@dataclass(frozen=True)
class Loss:
    """A node of a loss: predictions, targets, weights."""

    low: Lowering
    node: Node

    @cached_property
    def given(self) -> dict[str, str | None]:
        """Values by the names of the rule's inputs."""
        return dict(zip(rules.get(self.node.rule).inputs, self.node.inputs, strict=True))

    @property
    def of_classes(self) -> bool:
        """Whether a row holds the classes of one position, not all entries of a sample."""
        return self.node.rule.startswith("softmax")

    @cached_property
    def size(self) -> tuple[int, int]:
        """(rows, entries of a row)."""
        shape = self.low.graph.values[self.node.operands[0]].shape
        rows = math.prod(shape[:-1]) if self.of_classes else shape[0]
        return rows, math.prod(shape) // rows

    @property
    def places(self) -> int:
        """Positions of a sample, between its first and its last axis."""
        return math.prod(self.low.graph.values[self.node.operands[0]].shape[1:-1])

    @property
    def at_once(self) -> bool:
        """Whether the slope is the gradient of what was predicted."""
        low, pred = self.low, self.node.operands[0]
        return self.node.name == low.graph.outputs[0] and len(low.consumers(pred)) == 1 and low.wants(pred)

    def rows(self, buffer: str) -> str:
        """A buffer as rows."""
        return self.low.shaped(buffer, "by_row", self.size)

    def slope(self) -> str:
        """Where the slope is written."""
        pred, low = self.node.operands[0], self.low
        return self.rows(low.grad(pred) if self.at_once else low.scratch(self.node, "slope", self.size))

    def of_rows(self, name: str) -> str:
        """A number of each row."""
        return self.low.scratch(self.node, name, self.size[:1])

    def numbers(self, name: str, count: int) -> str:
        """A constant input as a vector; ones where it is absent."""
        if self.given.get(name) is not None:
            return self.low.flat(self.low.value(self.given[name]))
        ones = self.low.buffer(f"ones{count}", (count,))
        self.low.entries("fill", ones, 1.0)
        return ones

    def weigh(self) -> str:
        """The share of every row, and the mass."""
        low, shares, mass = self.low, self.of_rows("shares"), self.low.flat(self.low.value(self.node.outputs[1]))
        weights = self.numbers("weights", self.size[0])
        if self.node.rule == "softmax_cross_entropy":
            ignore = self.node.attributes["ignore"]
            low.emit("shares_of_labels", low.flat(low.value(self.given["labels"])), weights,
                     self.numbers("class_weights", self.size[1]), int(ignore or 0), int(ignore is not None), shares,
                     mass, node=self.node)  # fmt: skip
        else:
            low.emit("shares_of", weights, shares, mass, node=self.node)
        return shares

    def finish(self, losses: str, shares: str) -> None:
        """The loss from those of the rows."""
        low, node = self.low, self.node
        low.emit("weighted_loss", losses, shares, low.flat(low.value(node.name)), node=node)
        if self.at_once:
            low.written.add(node.operands[0])


Write = Callable[[Loss, str, str, str], None]
"""(loss, shares, slope, losses) -> the call that fills the last two."""


def forward(write: Write) -> Callable[[Lowering, Node], None]:
    """Shares, losses of rows and slope, then the loss."""

    def made(low: Lowering, node: Node) -> None:
        it = Loss(low, node)
        shares, losses = it.weigh(), it.of_rows("losses")
        write(it, shares, it.slope(), losses)
        it.finish(losses, shares)

    return made


def backward(low: Lowering, node: Node) -> None:
    """δ = slope ∂L/∂loss, where the slope is not δ already."""
    it, pred = Loss(low, node), node.operands[0]
    if not it.at_once:
        slope, dloss = low.flat(it.slope()), low.flat(low.grad(node.name))
        low.share(pred, lambda into: low.emit("times_number", slope, dloss, low.flat(into), extent=low.size(slope),
                                              grain=CACHE_LINE, node=node))  # fmt: skip


def of_errors(kernel: str, *options: str) -> Write:
    """A loss of predictions and targets of one shape, with numbers among its attributes."""

    def write(it: Loss, shares: str, slope: str, losses: str) -> None:
        low, node = it.low, it.node
        pred, target = (it.rows(low.value(i)) for i in node.operands[:2])
        numbers = [float(node.attributes[o]) for o in options]
        more = {"huber": [1.0], "smooth_l1": [1.0 / max(numbers, default=1.0)], "kl_divergence": [1.0 / it.places]}
        low.emit(kernel, pred, target, shares, slope, losses, *numbers, *more.get(node.rule, []), extent=it.size[0],
                 node=node)  # fmt: skip

    return write


def yes_or_no(it: Loss, shares: str, slope: str, losses: str) -> None:
    """With the weights of what is there."""
    low, node = it.low, it.node
    pred, target = (it.rows(low.value(i)) for i in node.operands[:2])
    low.emit("yes_or_no", pred, target, it.numbers("pos_weight", it.size[1]), shares, slope, losses, extent=it.size[0],
             node=node)  # fmt: skip


def dice(it: Loss, shares: str, slope: str, losses: str) -> None:
    """With the two numbers of each sample that are kept."""
    low, node = it.low, it.node
    pred, target = (it.rows(low.value(i)) for i in node.operands[:2])
    low.emit("dice_errors", pred, target, shares, slope, losses, *map(low.value, node.outputs[2:]),
             float(node.attributes["smooth"]), extent=it.size[0], node=node)  # fmt: skip


def of_classes(it: Loss, shares: str, slope: str, losses: str) -> None:
    """With class weights and smoothing."""
    low, node, soft = it.low, it.node, it.node.rule.endswith("soft")
    pred, target, p = (low.value(i) for i in (*node.operands[:2], node.outputs[2]))
    wanted = it.rows(target) if soft else low.flat(target)
    low.emit("weighted_softmax_soft" if soft else "weighted_softmax", it.rows(pred), wanted,
             it.numbers("class_weights", it.size[1]), shares, slope, losses, it.rows(p),
             float(node.attributes["label_smoothing"]), extent=it.size[0], node=node)  # fmt: skip


def _known_labels(low: Lowering, node: Node) -> bool:
    """Labels that are kept as whole numbers; one that is ignored may be no class, which no other can be."""
    return whole_numbers(low, node.operands[1])


for _rule, _write in {
    "mse": of_errors("squared_errors"), "mae": of_errors("absolute_errors"),
    "huber": of_errors("huber_errors", "delta"), "smooth_l1": of_errors("huber_errors", "beta"),
    "binary_cross_entropy": yes_or_no, "focal": of_errors("focal_errors", "gamma", "alpha"), "dice": dice,
    "kl_divergence": of_errors("distances"),
    "softmax_cross_entropy_soft": of_classes,
}.items():  # fmt: skip
    lower(_rule, forward(_write), backward, rank=GENERAL)
lower("softmax_cross_entropy", forward(of_classes), backward, _known_labels, GENERAL)
