"""A program: a listing on planned memory, run as it is for big nets and compiled whole for small ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backlit import optim
from backlit.core.types import Array
from backlit.engines import reference
from backlit.engines.fast import compiling
from backlit.engines.fast.jit import KERNELS
from backlit.engines.fast.listing import Lowering, identifier, lifetimes
from backlit.engines.fast.memory import Buffer, plan
from backlit.engines.fast.vectors import Vectors, view
from backlit.graph.graph import Graph

SMALL = 200_000
"""FLOPs of a step's products up to which they are loops in one compiled function; above, they are calls of BLAS."""


def product_nt(x: Array, W: Array, z: Array) -> None:
    """z = x Wᵀ by BLAS."""
    np.matmul(x, W.T, out=z)


def product_nn(d: Array, W: Array, dx: Array) -> None:
    """dx = d W by BLAS."""
    np.matmul(d, W, out=dx)


def product_tn(d: Array, x: Array, dW: Array) -> None:
    """dW = dᵀ x by BLAS."""
    np.matmul(d.T, x, out=dW)


def one(x: Array) -> None:
    """x = 1."""
    x[...] = 1


def keep_loss(loss: Array, mass: Array, stats: Array) -> None:
    """Put loss and mass where the loop looks for them."""
    stats[0], stats[1] = loss, mass


BY_NUMPY: dict[str, Callable[..., Any]] = {f.__name__: f for f in (product_nt, product_nn, product_tn, one, keep_loss)}
"""What an uncompiled listing calls instead of a kernel of that name, or besides."""


@dataclass
class Made:
    """What the steps of one call gave; shorter than asked where a loss or gradient was not finite."""

    losses: Array
    masses: Array
    norms: Array
    """‖∂L/∂θ‖ over all parameters, before clipping."""
    outputs: Array
    """The model's output of each step, [steps, N, …]."""


class Program:
    """A graph of (loss, output, mass) with an optimizer, ready to run steps of one batch shape.

    Several programs (for another batch size) may share :class:`Vectors`. A step allocates nothing but what rules
    without a kernel do.
    """

    def __init__(
        self, graph: Graph, optimizer: optim.Optimizer, clip: optim.Clip | None, vectors: Vectors, *, seed: int = 0
    ) -> None:
        self.graph, self.optimizer, self.clip, self.vectors, self.seed = graph, optimizer, clip, vectors, seed
        self.low = Lowering(graph)
        for name, shape in self._lasting().items():
            self.low.views[name] = ("", shape)
        self.low.run()
        self.stats = np.zeros(2)
        self.batch = {n: np.zeros(graph.values[n].shape, graph.values[n].dtype) for n in (*graph.inputs, *graph.masks)}
        self.buffers, size = self._plan()
        self.arena = np.zeros(size, vectors.params.dtype)

    def _lasting(self) -> dict[str, tuple[int, ...]]:
        """Arrays with a place of their own: data, parameters, their gradients, state, constants."""
        g = self.graph
        names = (*g.inputs, *g.masks, *g.parameters, *g.state, *g.constants)
        found = {identifier(n): g.values[n].shape for n in names} | {"stats": (2,)}
        return found | {f"d_{identifier(n)}": g.values[n].shape for n in g.trainable}

    def _plan(self) -> tuple[dict[str, Buffer], int]:
        read_after = [identifier(n) for n in (*self.graph.outputs, *self.graph.updates.values())]
        lasting = {b: s for b, s in self.low.shapes.items() if b in map(self.low.storage, read_after)}
        return plan(self.low.shapes, lifetimes(self.low, lasting))

    @cached_property
    def space(self) -> dict[str, Array]:
        """Every buffer of the listing by its name there."""
        g, v = self.graph, self.vectors.views
        space = {identifier(n): a for n, a in (*self.batch.items(), *g.constants.items())} | {"stats": self.stats}
        space |= {identifier(n): v[n] for n in (*g.parameters, *g.state)}
        space |= {f"d_{identifier(n)}": v[f"d {n}"] for n in g.trainable}
        space |= {n: view(self.arena, b.offset, b.shape) for n, b in self.buffers.items()}
        space |= {n: space[self.low.storage(n)].reshape(s) for n, (other, s) in self.low.views.items() if other}
        return space | {"p": self.vectors.trained, "g": self.vectors.grads} | self.vectors.slots

    # --- the listing --------------------------------------------------------------------------------------------

    @cached_property
    def compiled(self) -> bool:
        """True where the loop over steps is one compiled function: a small net, all of kernels."""
        work = sum(_products(self.graph, node) for node in self.graph.nodes if node.rule == "linear")
        calls = {call.kernel for call in self.low.calls}
        return (
            calls <= KERNELS.keys()
            and not self.graph.masks
            and not self.clip
            and bool(self._kernel())
            and work <= SMALL
        )

    def source(self) -> str:
        """The listing: plain Python that runs as it is."""
        data = [n.upper() for n in self.graph.inputs]
        results = ["order", "rates", "first", "losses", "masses", "norms", "outputs"]
        head = f"def run({', '.join([*data, *results, *self._named()])}):"
        body = "".join(f"        {line}\n" for line in self._body())
        return f"{head}\n    for s in range(rates.size):\n{body}    return rates.size\n"

    def _body(self) -> list[str]:
        lines = [f"gather({n.upper()}, order, s * {len(self.batch[n])}, {identifier(n)})" for n in self.graph.inputs]
        lines += ["draw(first + s)"] if self.graph.masks else []
        lines += [str(call) for call in self.low.calls]
        lines += ["if not note(stats, g, losses, masses, norms, s):", "    return s"]
        lines += [f"keep({self._rows_of(self.graph.outputs[1])}, outputs, s)"]
        lines += [f"copy({identifier(new)}, {identifier(old)})" for old, new in self.graph.updates.items()]
        return lines + self._update()

    def _rows_of(self, name: str) -> str:
        return self.low.flat(identifier(name))

    def _named(self) -> list[str]:
        """The buffers that the listing names, its parameters."""
        used = [a for call in self.low.calls for a in call.arguments]
        used += [identifier(n) for pair in self.graph.updates.items() for n in pair]
        used += [identifier(n) for n in self.graph.inputs]
        kept = ["stats", self._rows_of(self.graph.outputs[1]), "p", "g", *self.vectors.slots]
        return [n for n in dict.fromkeys([*used, *kept]) if n in self.space]

    def _update(self) -> list[str]:
        return [*(["clip()"] if self.clip else []), self._kernel() or "optimize(rates[s], first + s)"]

    def _kernel(self) -> str:
        """The call of the optimizer's kernel; "" where it has none for these options."""
        o = self.optimizer
        if isinstance(o, optim.Adam) and not o.amsgrad and not o.l1:
            options = (o.beta1, o.beta2, o.eps, o.l2, o.weight_decay)
            return f"adam(p, g, m, v, rates[s], first + s, {', '.join(map(repr, options))})"
        if isinstance(o, optim.SGD) and not o.momentum and not o.l1:
            return f"sgd(p, g, rates[s], {o.l2!r}, {o.weight_decay!r})"
        return ""

    def show(self) -> str:
        """The listing, with the nodes that each line was made from, and the memory."""
        width = max(len(str(c)) for c in self.low.calls)
        lines = [f"{c!s:{width}}  # {', '.join(c.nodes)}" for c in self.low.calls]
        return "\n".join([*lines, *self._update(), f"# {len(self.buffers)} buffers in {self.arena.nbytes:,} bytes"])

    # --- running ------------------------------------------------------------------------------------------------

    @cached_property
    def function(self) -> Callable[..., int]:
        """The listing as a function: compiled where the net is small."""
        if self.compiled:
            return compiling.compiled(self.source())
        own = {"optimize": self._optimize, "clip": self._clip, "draw": self._draw}
        return compiling.interpreted(self.source(), KERNELS | BY_NUMPY | self.low.closures | own)

    def run(self, data: Mapping[str, Array], order: Array, rates: Array, first: int) -> Made:
        """Steps ``first``, ``first + 1``, … on mini-batches gathered from ``data`` by ``order``, one for each rate.

        ``data`` holds whole arrays by input name, samples along the first axis; ``order`` the samples of all steps in a
        row. A step whose loss or gradient is not finite is the last and changes nothing.
        """
        steps = len(rates)
        losses, masses, norms = np.zeros((3, steps))
        outputs = np.zeros((steps, math.prod(self.graph.values[self.graph.outputs[1]].shape)), self.arena.dtype)
        buffers = (self.space[n] for n in self._named())
        rows = (data[n] for n in self.graph.inputs)
        made = self.function(*rows, order, rates, first, losses, masses, norms, outputs, *buffers)
        shaped = outputs[:made].reshape(made, *self.graph.values[self.graph.outputs[1]].shape)
        return Made(losses[:made], masses[:made], norms[:made], shaped)

    def _draw(self, step: int) -> None:
        """Draw the dropout masks of a step."""
        for name in self.graph.masks:
            self.batch[name][...] = reference.draw_mask(self.graph, name, self.seed, int(step))

    def _optimize(self, lr: float, t: int) -> None:
        """The update of an optimizer without a kernel: its formulas on the flat vectors."""
        v = self.vectors
        v.trained[...], slots = self.optimizer.update(np, v.trained, v.grads, v.slots, lr=float(lr), t=int(t))
        for name, a in slots.items():
            v.slots[name][...] = a

    def _clip(self) -> None:
        assert self.clip is not None
        grads = {n: self.vectors.views[f"d {n}"] for n in self.graph.trainable}
        for name, g in self.clip(np, grads).items():
            grads[name][...] = g


def _products(graph: Graph, node: Any) -> int:
    """FLOPs of a linear node's three products."""
    return 6 * math.prod(graph.values[node.inputs[0]].shape) * graph.values[node.name].shape[-1]
