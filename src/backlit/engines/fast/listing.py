"""A listing: a graph as a list of calls on named buffers, forward, loss and backward. The list is the program."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from backlit.core.types import Shape
from backlit.graph.graph import Graph, Node

CACHE_LINE = 16
"""Entries of float32: what is shared out entry by entry is shared out in multiples of it."""


@dataclass(frozen=True)
class Call:
    """One line of the listing: a kernel on buffers and numbers, and the nodes it was made from."""

    kernel: str
    arguments: tuple[str | int | float, ...]
    extent: int = 1
    """Units of work, which threads share: rows, columns or entries."""
    grain: int = 1
    """In what multiples they are shared out."""
    nodes: tuple[str, ...] = ()
    flops: int = 0
    """Of matrix products."""
    every: int = 1
    """It is done at steps 1, 1 + every, 1 + 2 every, …"""

    def __str__(self) -> str:
        return f"{self.kernel}({', '.join(map(str, self.arguments))})"


@dataclass
class Lowering:
    """A graph on its way to a listing. ``dtype`` is that of the arena's buffers, those named in ``dtypes`` excepted."""

    graph: Graph
    chunks: int = 1
    """In how many parts a kernel with a scratch of its own divides its work: one for each thread there may be."""
    splits: bool = False
    """Whether convolutions may be done by a matrix unit, which splits float32."""
    calls: list[Call] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    """Buffers that need a place in the arena."""
    views: dict[str, tuple[str, Shape]] = field(default_factory=dict)
    """Buffers that are another one in another shape."""
    closures: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """Calls without a kernel: Python functions that write into the buffers they are given."""
    done: set[str] = field(default_factory=set)
    """Nodes that another node's kernel has done, forward as ``name``, backward as ``d name``."""
    written: set[str] = field(default_factory=set)
    """Gradients that have received a first share."""

    # --- names and buffers --------------------------------------------------------------------------------------

    def value(self, name: str | None) -> str:
        """The buffer of a value, made when first asked for."""
        return self.buffer(identifier(str(name)), self.graph.values[str(name)].shape)

    def grad(self, name: str) -> str:
        """The buffer of ∂L/∂name; a trainable parameter's lies in the flat vector of gradients."""
        return self.buffer(f"d_{identifier(name)}", self.graph.values[name].shape)

    def buffer(self, name: str, shape: Shape) -> str:
        """A buffer of that shape in the arena, unless it is known already."""
        if name not in self.views:
            self.shapes.setdefault(name, shape)
        return name

    def scratch(self, node: Node, name: str, shape: Shape) -> str:
        """A buffer of a node's own: what its forward keeps for its backward, or what a kernel works in."""
        return self.buffer(f"{name}_of_{identifier(node.name)}", shape)

    def same(self, name: str, other: str, shape: Shape) -> str:
        """Let buffer ``name`` be ``other`` in ``shape``."""
        self.views[name] = (other, shape)
        return name

    def flat(self, name: str) -> str:
        """A buffer as a vector."""
        return self.shaped(name, "flat", (self.size(name),))

    def rows(self, name: str) -> str:
        """A buffer as a matrix, its last axis kept."""
        shape = self.shape_of(name)
        return self.shaped(name, "rows", (math.prod(shape[:-1]), shape[-1]))

    def shaped(self, name: str, ending: str, shape: Shape) -> str:
        """A buffer in another shape; ``ending`` makes its name."""
        return name if self.shape_of(name) == shape else self.same(f"{name}_{ending}", name, shape)

    def storage(self, name: str) -> str:
        """The buffer that ``name`` is a view of, or itself."""
        while name in self.views and self.views[name][0]:
            name = self.views[name][0]
        return name

    def shape_of(self, name: str) -> Shape:
        """The shape of a buffer."""
        return self.views[name][1] if name in self.views else self.shapes[name]

    def size(self, name: str) -> int:
        """The number of entries of a buffer."""
        return math.prod(self.shape_of(name))

    # --- calls --------------------------------------------------------------------------------------------------

    def emit(
        self, kernel: str, *arguments: str | float, extent: int = 1, grain: int = 1, flops: int = 0,
        node: Node | None = None, also: tuple[str, ...] = (), every: int = 1,
    ) -> None:  # fmt: skip
        """Add a call."""
        nodes = ((node.name,) if node else ()) + also
        self.calls.append(Call(kernel, arguments, extent, grain, nodes, flops, every))

    def entries(self, kernel: str, *arguments: str | float, node: Node | None = None, every: int = 1) -> None:
        """Add a call that goes through buffers entry by entry, as vectors; the first argument is one of them."""
        flat = [self.flat(a) if isinstance(a, str) else a for a in arguments]
        self.emit(kernel, *flat, extent=self.size(str(flat[0])), grain=CACHE_LINE, node=node, every=every)

    # --- gradients ----------------------------------------------------------------------------------------------

    def wants(self, name: str | None) -> bool:
        """True where a gradient by this value leads to a trainable parameter."""
        return name in self._reached

    @cached_property
    def _reached(self) -> frozenset[str]:
        return self.graph.depends_on(self.graph.trainable)

    def share(self, name: str | None, write: Callable[[str], None]) -> None:
        """Let ``write`` put a share of ∂L/∂name into a buffer: the gradient itself at first, else one that is added."""
        name = str(name)
        if name not in self.written:
            self.written.add(name)
            write(self.grad(name))
            return
        part = self.buffer(f"part{len(self.shapes)}_{identifier(name)}", self.graph.values[name].shape)
        write(part)
        self.entries("add_to", self.grad(name), part)

    def move(self, name: str, buffer: str) -> None:
        """Let ∂L/∂name be ``buffer``, which nobody reads any more, or add it to what is there."""
        own = f"d_{identifier(name)}"
        if name not in self.written and own not in self.shapes and own not in self.views:
            self.written.add(name)
            self.same(own, buffer, self.graph.values[name].shape)
        else:
            self.share(name, lambda into: self.entries("copy", buffer, into))

    def consumers(self, name: str) -> list[Node]:
        """Nodes that take the value."""
        return [node for node in self.graph.nodes if name in node.operands]

    def follower(self, node: Node) -> Node | None:
        """The one node that takes this node's value, where nothing else reads it."""
        users = self.consumers(node.name)
        alone = len(users) == 1 and node.name not in (*self.graph.outputs, *self.graph.updates.values())
        return users[0] if alone and users[0].operands.count(node.name) == 1 else None


def identifier(name: str) -> str:
    """A dotted name as a Python name of its own: ``dense1.z`` -> ``dense1_z``, ``d_dense1.z`` -> ``d__dense1_z``."""
    spelled = re.sub(r"[^\w.@]", lambda sign: f"_{ord(sign[0])}_", name.replace("_", "__"))
    return ("_" if name[:1].isdigit() else "") + re.sub(r"[.@]", "_", spelled)


def lifetimes(low: Lowering, lasting: Mapping[str, Shape]) -> dict[str, tuple[int, int]]:
    """(first, last) call that touches each buffer of the arena; ``lasting`` ones are needed from beginning to end."""
    uses: dict[str, tuple[int, int]] = {}
    for at, call in enumerate(low.calls):
        for name in (low.storage(a) for a in call.arguments if isinstance(a, str)):
            first, _ = uses.get(name, (at, at))
            uses[name] = (first, at)
    return {n: (0, len(low.calls)) if n in lasting else uses.get(n, (0, 0)) for n in low.shapes}
