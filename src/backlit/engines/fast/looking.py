"""What the recording wants to know of a step, as calls: each looks at a buffer while it holds the value.

They are done every so many steps only; in between they cost a comparison each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from backlit.core.types import Array
from backlit.engines.fast.listing import Lowering, identifier
from backlit.graph.graph import Node

SLOPES = {"tanh": (-1.0, 0.0, 1.0), "sigmoid": (-4.0, 4.0, 0.0)}
"""Slope of an activation, by its output and as a share of the steepest: square·y² + linear·y + constant."""


class Columns(Protocol):
    """What is looked at: column -> name in the graph; ``idle`` has the rule too, ``owned`` a layer's parameters."""

    @property
    def names(self) -> list[str]: ...
    @property
    def outputs(self) -> Mapping[str, str]: ...
    @property
    def deltas(self) -> Mapping[str, str]: ...
    @property
    def idle(self) -> Mapping[str, tuple[str, str]]: ...
    @property
    def owned(self) -> Mapping[str, tuple[str, ...]]: ...


@dataclass
class Looking:
    """The columns of a recording and how they are read."""

    columns: Columns
    every: int
    saturated: float

    def __post_init__(self) -> None:
        self.at = {name: i for i, name in enumerate(self.columns.names)}
        self.scale = np.ones(len(self.at))
        """What a sum is divided by before its root is taken."""
        self.rooted = np.ones(len(self.at), bool)
        self.seen: set[str] = set()

    def forward(self, low: Lowering) -> None:
        """Sizes of outputs, and units that do nothing."""
        for column, value in self.columns.outputs.items():
            if not self._overwritten(low, value):
                self._squares(low, low.value(value), column)
        for column, (rule, value) in self.columns.idle.items():
            self._idle(low, rule, low.value(value), column)

    def backward(self, low: Lowering, name: str) -> None:
        """Size of ∂L/∂name, if it is wanted and all there."""
        for column, value in self.columns.deltas.items():
            if value == name and name in low.written and column not in self.seen:
                self._squares(low, low.grad(name), column)

    def behind(self, low: Lowering, node: Node) -> None:
        """Size of δ of a node whose backward has left it in place of that of the activation behind it."""
        after = low.follower(node)
        for column, value in self.columns.deltas.items():
            if value == node.name and column not in self.seen and after is not None and f"d {after.name}" in low.done:
                self._squares(low, low.grad(after.name), column)

    @staticmethod
    def _overwritten(low: Lowering, value: str) -> bool:
        """True where the activation behind it, done by the same kernel, has taken its place."""
        after = low.follower(low.graph.producer[value])
        return (
            after is not None
            and after.name in low.done
            and low.storage(identifier(after.name)) == low.storage(identifier(value))
        )

    def gradients(self, low: Lowering) -> None:
        """Norms of gradients and parameters; the parameters are put aside."""
        for layer, names in self.columns.owned.items():
            for name in names:
                self._squares(low, f"d_{identifier(name)}", f"{layer}.gradient", count=1)
                self._squares(low, identifier(name), f"{layer}.parameters", count=1)
        before = low.buffer("parameters_before", low.shape_of("p"))
        low.entries("copy", "p", before, every=self.every)

    def updates(self, low: Lowering, starts: dict[str, int]) -> None:
        """Norms of what the update has changed; ``starts`` is where each parameter lies in their vector."""
        for layer, names in self.columns.owned.items():
            for name in names:
                column, value = f"{layer}.update", low.flat(identifier(name))
                self.seen.add(column)
                low.emit(
                    "look_change", value, "parameters_before", starts[name], "looked", self.at[column], every=self.every
                )

    def _squares(self, low: Lowering, buffer: str, column: str, count: int = 0) -> None:
        self.seen.add(column)
        self.scale[self.at[column]] = count or max(low.size(buffer), 1)
        low.emit("look_squares", low.flat(buffer), "looked", self.at[column], every=self.every)

    def _idle(self, low: Lowering, rule: str, buffer: str, column: str) -> None:
        rows = low.rows(buffer)
        self.seen.add(column)
        self.scale[self.at[column]], self.rooted[self.at[column]] = max(low.shape_of(rows)[1], 1), False
        if rule == "relu":
            low.emit("look_dead", rows, "looked", self.at[column], every=self.every)
        else:
            low.emit("look_flat", rows, *SLOPES[rule], self.saturated, "looked", self.at[column], every=self.every)

    def numbers(self, sums: Array) -> Array:
        """The columns' numbers from the sums [steps, columns]; NaN where nothing was looked at."""
        found = sums / self.scale
        found[:, self.rooted] = np.sqrt(found[:, self.rooted])
        found[:, [i for n, i in self.at.items() if n not in self.seen]] = math.nan
        return found
