"""Who does the steps: the interpreter, one at a time, or a program of the fast engine, a stretch in one call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from backlit.core.errors import InputError, NumericError
from backlit.core.i18n import say
from backlit.core.rows import stored
from backlit.core.types import Array
from backlit.nn.model import Model
from backlit.train.batches import Batches
from backlit.train.feeding import Feed, Feeding
from backlit.train.progress import Progress
from backlit.train.recording import Recorder
from backlit.train.settings import Settings
from backlit.train.step import Outcome, Samples, apply, evaluate, first_not_finite, gradients

if TYPE_CHECKING:
    from backlit.engines.fast.forward import Forwards
    from backlit.engines.fast.looking import Looking
    from backlit.engines.fast.program import Program
    from backlit.engines.fast.vectors import Vectors
    from backlit.graph.graph import Graph

    P = TypeVar("P", bound=Program)

STRETCH = 256
"""Steps in one call at most, so that Ctrl-C is heard soon."""

PREPARED = 16
"""Steps whose mini-batches are prepared for one call, where they are not just rows of the data."""


def _nobody(_: str) -> None:
    """Listens to no notice."""


@dataclass
class Stretch:
    """What some steps in a row gave, a number for each."""

    losses: list[float] = field(default_factory=list)
    masses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    """‖∂L/∂θ‖ before clipping."""
    seen: list[tuple[Array, Samples]] = field(default_factory=list)
    """(outputs, samples) of each mini-batch, or of several together."""


class Stepper(Protocol):
    """Moves a run's progress on. ``longest`` steps may be asked for in one call."""

    longest: int

    def advance(self, progress: Progress, rates: Sequence[float]) -> Stretch:
        """Do one step for each learning rate; NumericError where a number is not finite, that step left out."""

    def settle(self, progress: Progress) -> None:
        """Make the progress' arrays its own, unchanged by later steps."""

    def evaluate(self, samples: Samples) -> Outcome:
        """Loss and outputs at inference after the last step."""


@dataclass
class ByReference:
    """Steps by the interpreter."""

    model: Model
    train: Samples
    settings: Settings
    batches: Batches
    recorder: Recorder | None = None
    feed: Feeding | None = None
    """Where mini-batches come from; made here when asked for unless given."""
    longest = 1

    def __post_init__(self) -> None:
        self.feeding = self.feed or Feed.of(self.train, self.settings, self.batches)

    def advance(self, progress: Progress, rates: Sequence[float]) -> Stretch:
        found = Stretch()
        for rate in rates:
            self._step(progress, rate, found)
        return found

    def settle(self, progress: Progress) -> None:
        """Nothing to do: every step makes new arrays."""

    def evaluate(self, samples: Samples) -> Outcome:
        return evaluate(self.model, self.settings.loss, samples)

    def _step(self, p: Progress, rate: float, stretch: Stretch) -> None:
        s, step = self.settings, p.step + 1
        parts = self.feeding.of_step(step)
        recorder = self.recorder if self.recorder is not None and self.recorder.due(step) else None
        look = None if recorder is None else recorder.look
        found = gradients(self.model, s.loss, parts, p.state, seed=s.seed, step=step, look=look)
        params, slots = apply(s.optimizer, s.clip, p.params, found.grads, p.slots, lr=rate, t=step)
        for name, array in params.items():
            if not np.isfinite(array).all():
                raise NumericError(
                    "not_finite_step", where=name, step=step, snapshot="-", got=first_not_finite(name, array)
                )
        squares = {n: float(np.sum(np.square(stored(g), dtype=np.float64))) for n, g in found.grads.items()}
        if recorder is not None:
            recorder.keep(step, p.params, squares, params)
        p.step, p.params, p.slots, p.state = step, params, slots, found.state
        self.model.params, self.model.state = params, found.state
        stretch.losses.append(found.loss)
        stretch.masses.append(found.mass)
        stretch.norms.append(float(np.sqrt(sum(squares.values()))))
        stretch.seen += [(output, part) for output, part, *_ in found.seen]


@dataclass
class ByProgram:
    """Steps by the fast engine: flat vectors that its programs, one for each batch size, change in place."""

    model: Model
    train: Samples
    settings: Settings
    batches: Batches
    recorder: Recorder | None = None
    feed: Feeding | None = None
    tell: Callable[[str], None] = _nobody
    """Told what a person should know, in a line."""
    longest: int = STRETCH
    vectors: Vectors | None = None
    programs: dict[int, Program] = field(default_factory=dict)
    forwards: Forwards | None = None

    def __post_init__(self) -> None:
        self.feeding = self.feed or Feed.of(self.train, self.settings, self.batches)
        if self.feeding.prepares:
            self.longest = PREPARED

    def advance(self, progress: Progress, rates: Sequence[float]) -> Stretch:
        found = Stretch()
        while len(found.losses) < len(rates):
            self._stretch(progress, rates[len(found.losses) :], found)
        return found

    def settle(self, progress: Progress) -> None:
        if self.vectors is not None:
            values, slots = self.vectors.copies()
            self._place(progress, values)
            progress.slots = slots

    def evaluate(self, samples: Samples) -> Outcome:
        return evaluate(self.model, self.settings.loss, samples, outputs=self._outputs)

    def _outputs(self, samples: Samples, size: int) -> Array:
        """The model's outputs by programs that share the vectors with the steps'."""
        from backlit.engines.fast.forward import Forwards

        if self.forwards is None:
            assert self.vectors is not None
            self.forwards = Forwards(self.vectors, self.settings.threads, self._announce)
        return self.forwards.outputs(partial(self.model.graph_like, samples.inputs), samples.inputs, size)

    def _place(self, p: Progress, values: dict[str, Array]) -> None:
        p.params, p.state = {n: values[n] for n in p.params}, {n: values[n] for n in p.state}
        self.model.params, self.model.state = p.params, p.state

    def _stretch(self, p: Progress, rates: Sequence[float], stretch: Stretch) -> None:
        """As many of the steps as have one batch size."""
        order, count = self.batches.stretch(p.step + 1, len(rates))
        samples, order = self._prepared(p.step + 1, order, count)
        program = self._program(len(order) // count, p, samples)
        data = samples.given(program.graph)
        made = program.run(data, order, np.asarray(rates[:count], np.float64), p.step + 1)
        assert self.vectors is not None
        self._place(p, self.vectors.views)
        self._record(p.step + 1, program, made.looked)
        p.step += len(made.losses)
        if len(made.losses) < count:
            self._explain(p)
        stretch.losses += made.losses.tolist()
        stretch.masses += made.masses.tolist()
        stretch.norms += made.norms.tolist()
        stretch.seen.append((made.outputs.reshape(-1, *made.outputs.shape[2:]), samples.answers.rows(order)))

    def _prepared(self, step: int, order: Array, count: int) -> tuple[Samples, Array]:
        """The samples that the steps' ``order`` counts in: all of them, or what is prepared for these steps."""
        if not self.feeding.prepares:
            return self.train, order
        parts = [samples for i in range(count) for samples in self.feeding.of_step(step + i)]
        return Samples.joined(parts), np.arange(len(order))

    def _program(self, size: int, p: Progress, samples: Samples) -> Program:
        from backlit.engines.fast.program import Program

        if size not in self.programs:
            self.programs[size] = self._made(Program, self._graph(size, samples), p)
        return self.programs[size]

    def _made(self, kind: type[P], graph: Graph, p: Progress, **options: Any) -> P:
        """A program of that kind on the run's vectors."""
        s, vectors = self.settings, self._loaded(graph, p)
        given = {"seed": s.seed, "threads": s.threads, "looking": self._looking(graph)} | options
        made = kind(graph, s.optimizer, s.clip, vectors, **given)
        self._announce(made)
        return made

    def _announce(self, made: Program) -> None:
        """Tell that kernels have to be compiled."""
        if count := made.waiting():
            self.tell(say("engine_compiling", count=str(count)))

    def _loaded(self, graph: Graph, p: Progress) -> Vectors:
        """The run's vectors, which begin with the progress' arrays."""
        from backlit.engines.fast.vectors import Vectors

        if self.vectors is None:
            self.vectors = Vectors.of(graph, self.settings.optimizer, self.model.dtype)
            self.vectors.load(p.params, p.state, p.slots)
        return self.vectors

    def _graph(self, size: int, samples: Samples) -> Graph:
        return samples.rows(np.zeros(size, np.int64)).graph(self.model, self.settings.loss, training=True)

    def _record(self, first: int, program: Program, looked: Array) -> None:
        """Keep the rows of the steps that are due."""
        if self.recorder is None or program.looking is None:
            return
        due = [i for i in range(len(looked)) if self.recorder.due(first + i)]
        for i, numbers in zip(due, program.looking.numbers(looked[due]), strict=True):
            self.recorder.add(first + i, numbers)

    def _looking(self, graph: Graph) -> Looking | None:
        """What the recorder wants to know of the steps of this graph."""
        from backlit.engines.fast.looking import Looking
        from backlit.train.recording import SATURATED, Columns

        return None if self.recorder is None else Looking(Columns.of(graph), self.recorder.every, SATURATED)

    def _aside(self) -> Model:
        """The model with its own table of parameters."""
        return copy.copy(self.model)

    def _copy(self, p: Progress) -> Progress:
        assert self.vectors is not None
        values, slots = self.vectors.copies()
        state = {n: values[n] for n in p.state}
        return Progress(p.step, {n: values[n] for n in p.params}, state, slots)

    def _explain(self, p: Progress) -> None:
        """A step stopped: the interpreter does it again and names the node."""
        ByReference(self._aside(), self.train, self.settings, self.batches).advance(self._copy(p), [0.0])
        raise NumericError("not_finite_step", where="loss", step=p.step + 1, snapshot="-", got="?")


def stepper(engine: str, model: Model, train: Samples, settings: Settings, batches: Batches, **options: Any) -> Stepper:
    """The stepper of that engine; InputError where the fast engine cannot do what the settings ask for."""
    if engine != "fast":
        options.pop("tell", None)
        return ByReference(model, train, settings, batches, **options)
    _require_numba()
    if settings.accumulate > 1:
        from backlit.train.accumulating import ByParts

        return ByParts(model, train, settings, batches, **options)
    return ByProgram(model, train, settings, batches, **options)


def _require_numba() -> None:
    from importlib.util import find_spec

    if find_spec("numba") is None:
        raise InputError("engine_numba", where="fit")
