"""A program: a step of training as a table of kernel calls on planned memory, run by a team of threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import backlit.engines.fast.families  # noqa: F401  enters all kernels in the tables
from backlit import optim
from backlit.core.environment import available_memory
from backlit.core.errors import InputError
from backlit.core.rng import key_words
from backlit.core.types import Array
from backlit.engines.fast import blas, machine_code, team
from backlit.engines.fast.jit import KERNELS, as_python
from backlit.engines.fast.kernels_loss import CHUNK
from backlit.engines.fast.listing import CACHE_LINE, Call, Lowering, identifier, lifetimes
from backlit.engines.fast.looking import Looking
from backlit.engines.fast.lowering import listed
from backlit.engines.fast.memory import Buffer, plan, zeros
from backlit.engines.fast.split_convolution import convolves
from backlit.engines.fast.update import kernel_of
from backlit.engines.fast.vectors import Vectors, view
from backlit.graph.graph import Graph, Value

LONGEST = 256
"""Steps in one call at most."""
KEPT = 1 << 21
"""Entries of the model's outputs that one call keeps at most; fewer steps where they are big."""
WORTH = 400_000
"""FLOPs and entries moved in a step from which a second thread gains more than meeting it costs."""


_MADE = ("losses", "masses", "norms", "outputs", "looked")


@dataclass
class Made:
    """What the steps of one call gave; shorter than asked where a loss or gradient was not finite."""

    losses: Array
    masses: Array
    norms: Array
    """‖∂L/∂θ‖ over all parameters, before clipping."""
    outputs: Array
    """The model's output of each step, [steps, N, …]."""
    looked: Array
    """What was looked at, [steps, columns]; of steps that are due only."""


class Program:
    """A graph of (loss, output, mass) with an optimizer, ready to run steps of one batch shape.

    Several programs (for another batch size) may share :class:`Vectors`. A step allocates nothing but what rules
    without a kernel do. ``threads`` is how many may share the work; a small step uses one. ``looking`` says what the
    recording wants to know.
    """

    def __init__(
        self, graph: Graph, optimizer: optim.Optimizer, clip: optim.Clip | None, vectors: Vectors, *, seed: int = 0,
        threads: int = 1, looking: Looking | None = None,
    ) -> None:  # fmt: skip
        self.looking = looking
        self.graph, self.optimizer, self.clip, self.vectors, self.seed = graph, optimizer, clip, vectors, seed
        self.low = Lowering(graph, threads, splits=vectors.params.dtype == np.float32 and convolves())
        self.batch = {n: zeros(graph.values[n].shape, graph.values[n].dtype) for n in (*graph.inputs, *graph.masks)}
        self.whole = {identifier(n): zeros(v.shape, v.dtype) for n, v in _whole_numbers(graph)}
        output = math.prod(graph.values[graph.outputs[1]].shape)
        self.longest = max(1, min(LONGEST, KEPT // max(output, 1)))
        self.results = self._results(output)
        for name, array in self._lasting().items():
            self.low.views[name] = ("", array.shape)
        self._list()
        self.buffers, size = self._plan()
        self._require_memory(size)
        self.arena = zeros((size,), vectors.params.dtype)
        self.parts = threads if self._shares else 1
        self.threads = threads if self._by_rules else 1

    def _results(self, output: int) -> dict[str, Array]:
        """What goes into and comes out of a call, for all its steps, and the counters that threads meet by."""
        steps, rows = self.longest, self.graph.values[self.graph.inputs[0]].shape[0]
        counters, squares = zeros((team.COUNTERS,), np.int64), -(-self.vectors.grads.size // CHUNK)
        keys = {self._keys(name): np.zeros((steps, 2), np.uint64) for name in self.graph.masks}
        return keys | {
            "order": np.zeros(steps * rows, np.int64), "rates": np.zeros(steps), "clock": np.zeros(1, np.int64),
            "losses": np.zeros(steps), "masses": np.zeros(steps), "norms": np.zeros(steps),
            "outputs": zeros((steps, output), self.vectors.params.dtype), "sums": zeros((squares,), "float64"),
            "looked": np.zeros((steps, len(self.looking.at) if self.looking else 0)),
            "stats": np.zeros(2), "counters": counters, "stop": counters[team.STOP : team.STOP + 1],
        }  # fmt: skip

    def _lasting(self) -> dict[str, Array]:
        """Arrays with a place of their own: data, parameters, their gradients, state, constants, results."""
        g, v = self.graph, self.vectors
        lasting = {identifier(n): a for n, a in (*self.batch.items(), *g.constants.items())} | self.results
        lasting |= self.whole | {identifier(n): v.views[n] for n in (*g.parameters, *g.state)}
        lasting |= {f"d_{identifier(n)}": v.views[f"d {n}"] for n in g.trainable}
        lasting |= {f"read_{identifier(n)}": a for n, a in v.read.items()}
        return lasting | {"p": v.trained, "g": v.grads} | {n: a.reshape(-1) for n, a in v.slots.items()}

    def _plan(self) -> tuple[dict[str, Buffer], int]:
        read_after = [identifier(n) for n in (*self.graph.outputs, *self.graph.updates.values())]
        lasting = {b: s for b, s in self.low.shapes.items() if b in map(self.low.storage, read_after)}
        return plan(self.low.shapes, lifetimes(self.low, lasting))

    def _require_memory(self, size: int) -> None:
        """InputError where the arena does not fit into memory, with the largest batch that would."""
        need, there = size * self.vectors.params.itemsize, available_memory()
        batch = self.graph.values[self.graph.inputs[0]].shape[0]
        if there is not None and need > there:
            most = batch * there // need
            sizes = (f"{n / 2**20:,.0f} MiB" for n in (need, there))
            expected, got = (f"{what} {n}" for what, n in zip(("≥", "="), sizes, strict=True))
            raise InputError("engine_memory", where="fit", batch=batch, most=most, expected=expected, got=got)

    @cached_property
    def space(self) -> dict[str, Array]:
        """Every buffer of the listing by its name there."""
        space = self._lasting() | {n: view(self.arena, b.offset, b.shape) for n, b in self.buffers.items()}
        return space | {n: space[self.low.storage(n)].reshape(s) for n, (other, s) in self.low.views.items() if other}

    # --- the listing --------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Write down the step: mini-batch, forward, loss, backward, what is noted, update."""
        self._list_gradients()
        self._list_notes()
        self._list_results()
        self._list_update()

    def _list_gradients(self) -> None:
        """Mini-batch, forward, loss, backward."""
        low, g = self.low, self.graph
        for name in g.inputs:
            shape = g.values[name].shape
            rows = low.shaped(identifier(name), "gathered", (shape[0], math.prod(shape[1:])))
            low.emit("gather", f"all_{identifier(name)}", "order", rows, extent=shape[0])
        for name, mask in g.masks.items():
            flat = low.flat(identifier(name))
            low.emit("dropout_mask", self._keys(name), flat, float(mask.rate), extent=-(-low.size(flat) // 4), grain=4)
        listed(g, low, self.looking)

    def _list_notes(self) -> None:
        """Loss, mass and norm of the step, which ends here where they are not finite."""
        low = self.low
        if self.looking is not None:
            self.looking.gradients(low)
        low.emit("squares", "g", "sums", extent=low.shape_of("sums")[0])
        low.emit("note", "stats", "sums", "losses", "masses", "norms", "stop")

    def _list_results(self) -> None:
        """The output, which is kept, and the running state."""
        low, g = self.low, self.graph
        output = low.flat(low.value(g.outputs[1]))
        low.emit("keep", output, "outputs", extent=low.size(output), grain=CACHE_LINE)
        for old, new in g.updates.items():
            low.entries("copy", low.value(new), low.value(old))

    def _list_update(self) -> None:
        """Clipping, and the optimizer."""
        size = self.vectors.grads.size
        self._list_clipping(size)
        self._list_optimizer()
        if self.looking is not None:
            self.looking.updates(self.low, {n: start for n, (start, _) in self.vectors.places.items()})

    def _list_clipping(self, size: int) -> None:
        known = {"clip_by_global_norm": ("g", "norms"), "clip_by_value": ("g",)}
        if self.clip and self.clip.name in known:
            arrays = known[self.clip.name]
            self.low.emit(self.clip.name, *arrays, float(self.clip.limit), extent=size, grain=CACHE_LINE)
        elif self.clip:
            self._python("clip", self._clip)

    def _list_optimizer(self) -> None:
        found, v = kernel_of(self.optimizer), self.vectors
        given: tuple[str | float, ...] = ("p", "g", *found.slots, "rates", "clock", *found.numbers)
        self.low.emit(found.name, *given, extent=v.dense, grain=CACHE_LINE)
        for table in v.read:
            start, (rows, width) = v.places[table]
            self.low.emit(found.rows, *given, f"read_{identifier(table)}", start, width, extent=rows)
        if found.shared:
            self.low.emit(found.shared, *given)

    def _python(self, name: str, function: Callable[[int], None]) -> None:
        self.low.closures[name] = function
        self.low.emit(name)

    @property
    def calls(self) -> list[Call]:
        """The lines of the listing."""
        return self.low.calls

    @cached_property
    def _shares(self) -> bool:
        """True where threads share the work: a step big enough, its layers all of kernels."""
        return not self._by_rules and sum(call.flops or call.extent for call in self.calls) >= WORTH

    @cached_property
    def _by_rules(self) -> bool:
        """True where layers have no kernels: NumPy's products in their rules share the work among BLAS's threads."""
        return any(call.kernel in self.low.closures and call.arguments for call in self.calls)

    def show(self) -> str:
        """The listing: each call, the bytes of its arrays, its FLOPs, and the nodes it was made from; the memory."""
        cells = [
            (str(c), f"{self._bytes(c):,}", f"{c.flops:,}" if c.flops else "", ", ".join(c.nodes)) for c in self.calls
        ]
        width, bytes_, flops = (max(len(row[i]) for row in cells) for i in range(3))
        lines = [f"{a:{width}}  # {b:>{bytes_}} B  {f:>{flops}}  {n}".rstrip() for a, b, f, n in cells]
        return "\n".join(
            [*lines, f"# {len(self.buffers)} buffers in {self.arena.nbytes:,} bytes, {self.parts} threads"]
        )

    def _bytes(self, call: Call) -> int:
        return sum(a.nbytes for a in self.arguments(call, self._samples) if isinstance(a, np.ndarray))

    # --- running ------------------------------------------------------------------------------------------------

    def arguments(self, call: Call, data: Mapping[str, Array]) -> tuple[Any, ...]:
        """What a call is given: arrays and numbers."""
        return tuple((data[a] if a in data else self.space[a]) if isinstance(a, str) else a for a in call.arguments)

    @cached_property
    def table(self) -> tuple[Array, Array]:
        """The calls as numbers, and their arguments as words: see :mod:`backlit.engines.fast.team`."""
        table, words = np.zeros((len(self.calls), team.COLUMNS), np.int64), list[int]()
        for row, call in zip(table, self.calls, strict=True):
            given = self.arguments(call, self._samples)
            row[[team.WORDS, team.EXTENT, team.GRAIN]] = len(words), call.extent, call.grain
            row[team.EVERY] = call.every
            row[team.FUNCTION] = 0 if call.kernel in self.low.closures else machine_code.address(call.kernel, given)
            words += machine_code.words_of(given)
        for line, call in enumerate(self.calls[:-1]):
            table[line + 1, team.CHECKED] = call.kernel == "note"
        return table, np.array(words, np.int64)

    def waiting(self) -> int:
        """How many kernels have to be compiled, because no process has used them so before."""
        calls = [call for call in self.calls if call.kernel not in self.low.closures]
        return machine_code.waiting((call.kernel, self.arguments(call, self._samples)) for call in calls)

    @cached_property
    def _samples(self) -> dict[str, Array]:
        """Stand-ins of the data, of the same kind."""
        return {f"all_{identifier(n)}": a.reshape(len(a), -1) for n, a in self.batch.items()}

    def run(self, data: Mapping[str, Array], order: Array, rates: Array, first: int) -> Made:
        """Steps ``first``, ``first + 1``, … on mini-batches gathered from ``data`` by ``order``, one for each rate.

        ``data`` holds whole arrays by input name, samples along the first axis, C-contiguous; ``order`` the samples of
        all steps in a row. A step whose loss or gradient is not finite is the last and changes nothing.
        """
        pieces = [self._run(data, *piece) for piece in self._pieces(order, rates, first)]
        made = Made(*(np.concatenate([p[n] for p in pieces]) for n in _MADE))
        made.outputs = made.outputs.reshape(-1, *self.graph.values[self.graph.outputs[1]].shape)
        return made

    def _pieces(self, order: Array, rates: Array, first: int) -> Iterator[tuple[Array, Array, int]]:
        rows = self.graph.values[self.graph.inputs[0]].shape[0]
        for start in range(0, len(rates), self.longest):
            if self.results["stop"][0] and start:
                return
            part = slice(start, start + self.longest)
            yield order[part.start * rows : part.stop * rows], rates[part], first + start

    def _run(self, data: Mapping[str, Array], order: Array, rates: Array, first: int) -> dict[str, Array]:
        into, steps = self.results, len(rates)
        into["looked"][:steps] = 0
        into["order"][: len(order)], into["rates"][:steps], into["clock"][0] = order, rates, first
        self._prepare_keys(steps)
        given = {f"all_{identifier(n)}": data[n].reshape(len(data[n]), -1) for n in self.graph.inputs}
        made = self._interpret(given, steps) if as_python() else self._execute(given, steps)
        return {n: into[n][:made].copy() for n in _MADE}

    def _execute(self, given: Mapping[str, Array], steps: int) -> int:
        """By machine code; gives the number of steps that were finite."""
        table, words = self.table
        for line in self._gathering:
            new = machine_code.words_of([given[str(self.calls[line].arguments[0])]])
            words[table[line, team.WORDS] :][: len(new)] = new
        first = int(self.results["clock"][0])
        with blas.one_thread() if self._by_rules and self.threads == 1 else nullcontext():
            self._team.run(steps, self._by_python, first)
        return self._finished(steps)

    @cached_property
    def _team(self) -> team.Team:
        return team.Team(*self.table, self.results["counters"], self.parts)

    @cached_property
    def _gathering(self) -> list[int]:
        """The lines that read the data."""
        return [i for i, call in enumerate(self.calls) if call.kernel == "gather"]

    def _finished(self, steps: int) -> int:
        """How many of the steps were finite."""
        stopped = int(self.results["stop"][0])
        return stopped - 1 if stopped else steps

    def _by_python(self, line: int, step: int) -> None:
        call = self.calls[line]
        self.low.closures[call.kernel](*self.arguments(call, {}), *([step] if not call.arguments else []))

    def _interpret(self, given: Mapping[str, Array], steps: int) -> int:
        """The same line by line in Python, for looking closely and for tests."""
        self.results["stop"][0] = 0
        for step in range(steps):
            for line, call in enumerate(self.calls):
                if self.results["stop"][0]:
                    return self._finished(steps)
                if (self._number(step) - 1) % call.every:
                    continue
                self._interpret_line(line, call, step, given)
        return steps

    def _interpret_line(self, line: int, call: Call, step: int, given: Mapping[str, Array]) -> None:
        if call.kernel in self.low.closures:
            self._by_python(line, step)
            return
        counted = (step,) if machine_code.takes_step(call.kernel) else ()
        KERNELS[call.kernel](0, call.extent, *counted, *self.arguments(call, given))

    def _keys(self, mask: str) -> str:
        """The buffer of a dropout mask's keys, one for each step of a call."""
        return f"keys_of_{identifier(mask)}"

    def _prepare_keys(self, steps: int) -> None:
        for name in self.graph.masks:
            keys = [key_words(self.seed, self._number(step), name) for step in range(steps)]
            self.results[self._keys(name)][:steps] = keys

    def _number(self, step: int) -> int:
        return int(self.results["clock"][0]) + step

    def _clip(self, _: int) -> None:
        assert self.clip is not None
        grads = {n: self.vectors.views[f"d {n}"] for n in self.graph.trainable}
        for name, g in self.clip(np, grads).items():
            grads[name][...] = g


def _whole_numbers(graph: Graph) -> list[tuple[str, Value]]:
    """Values that nodes make and that the arena, of floats, cannot hold: token ids that a model has moved around."""
    made = ((name, graph.values[name]) for node in graph.nodes for name in node.outputs)
    return [(name, value) for name, value in made if np.dtype(value.dtype).kind in "iu"]
