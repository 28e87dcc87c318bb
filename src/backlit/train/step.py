"""One update: gradients of the step's mini-batches, combined by mass, clipped, and handed to the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backlit import optim
from backlit.core.errors import NumericError
from backlit.core.rows import stored
from backlit.core.types import Array, Arrays
from backlit.data.fingerprints import fingerprint
from backlit.engines import reference
from backlit.graph.graph import Graph
from backlit.nn.losses import Loss
from backlit.nn.model import ROWS_AT_ONCE, Model, rows_at_once


@dataclass(frozen=True)
class Samples:
    """Inputs, targets and weights of some samples, as arrays with the samples along the first axis.

    An input may stay in another dtype, as in a memory-mapped file; its rows then take the one in ``dtypes``.
    """

    inputs: tuple[Array, ...]
    target: Array
    weights: Array | None = None
    dtypes: tuple[str, ...] = ()
    """What the model takes for each input; empty where the inputs are in it already."""

    def __len__(self) -> int:
        return len(self.target)

    def rows(self, which: Any) -> Samples:
        """Those of the samples ``which`` (indices or a slice)."""
        weights = None if self.weights is None else self.weights[which]
        inputs = tuple(x[which] for x in self.inputs)
        if self.dtypes:
            inputs = tuple(x.astype(d, copy=False) for x, d in zip(inputs, self.dtypes, strict=True))
        return Samples(inputs, self.target[which], weights)

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """Several mini-batches as one."""
        weights = [p.weights for p in parts if p.weights is not None]
        inputs = tuple(np.concatenate(arrays) for arrays in zip(*(p.inputs for p in parts), strict=True))
        target = np.concatenate([p.target for p in parts])
        return cls(inputs, target, np.concatenate(weights) if weights else None)

    @property
    def lazy(self) -> bool:
        """Whether rows are converted when they are taken, so that no whole input is ever copied."""
        return bool(self.dtypes)

    @property
    def answers(self) -> Samples:
        """The same samples without their inputs."""
        return Samples((), self.target, self.weights)

    @property
    def sha256(self) -> str:
        """Fingerprint of all arrays, of inputs as the model takes them."""
        arrays = [*self.inputs, self.target, *(() if self.weights is None else (self.weights,))]
        return fingerprint(arrays, self.dtypes)

    @property
    def weight(self) -> Array:
        """w[N], 1 where no weights are given."""
        return np.ones(len(self)) if self.weights is None else self.weights.astype(np.float64)

    def graph(self, model: Model, loss: Loss, *, training: bool) -> Graph:
        """The graph of (loss, output, mass) for samples of these shapes."""
        described = [None if a is None else (a.shape, a.dtype.name) for a in (*self.inputs, self.target, self.weights)]
        *inputs, target, weights = described
        return model.graph(tuple(inputs), training=training, loss=loss, target=target, weights=weights)

    def given(self, graph: Graph) -> dict[str, Array]:
        """The graph's inputs by name."""
        arrays = (*self.inputs, self.target, *(() if self.weights is None else (self.weights,)))
        return dict(zip(graph.inputs, arrays, strict=True))


@dataclass
class Outcome:
    """What one step, or one pass over data, found out."""

    loss: float = 0.0
    mass: float = 0.0
    grads: dict[str, Array] = field(default_factory=dict)
    state: dict[str, Array] = field(default_factory=dict)
    seen: list[tuple[Array, Samples, float, float]] = field(default_factory=list)
    """(output, samples without their inputs, loss, mass) of each mini-batch, for the metrics."""


def gradients(
    model: Model,
    loss: Loss,
    parts: Iterable[Samples],
    state: Arrays,
    *,
    seed: int,
    step: int,
    look: Callable[[Arrays, Arrays], None] | None = None,
) -> Outcome:
    """Loss and gradients of one step, over its mini-batches; ``look`` is shown values and gradients of the first.

    With losses L_i, gradients g_i and masses m_i: L = Σ m_i L_i / Σ m_i and g = Σ m_i g_i / Σ m_i, so that the parts of
    a batch give what the whole batch gives. Raises NumericError naming the node where a number is not finite.
    """
    found = Outcome(state=dict(state))
    for number, part in enumerate(parts):
        graph = part.graph(model, loss, training=True)
        env = reference.leaves(graph, model.params | found.state | part.given(graph), seed=seed, step=step, part=number)
        values, d = reference.value_and_grad(graph, env, graph.trainable, rows=True)
        require_finite(graph, values, d, step)
        if look is not None and number == 0:
            look(values, d)
        found.state |= {name: values[new] for name, new in graph.updates.items()}
        _combine(found, [values[o] for o in graph.outputs], {n: d[n] for n in graph.trainable}, part)
    return found


def _combine(found: Outcome, outputs: Sequence[Array], grads: dict[str, Array], part: Samples) -> None:
    loss, output, mass = outputs
    m, total = float(mass), found.mass + float(mass)
    found.seen.append((output, part.answers, float(loss), m))
    if len(found.seen) == 1:
        found.loss, found.grads = float(loss), grads
    elif total:
        old, new = found.mass / total, m / total
        found.loss = old * found.loss + new * float(loss)
        found.grads = {n: (g * old + grads[n] * new).astype(g.dtype) for n, g in found.grads.items()}
    found.mass = total


def require_finite(graph: Graph, values: Arrays, d: Arrays, step: int) -> None:
    """NumericError naming the first value or gradient that is not finite, unless loss and gradients are."""
    if all(np.isfinite(stored(a)).all() for a in (values[graph.outputs[0]], *(d[n] for n in graph.trainable))):
        return
    name, array = next(_not_finite(graph, values, d))
    raise NumericError("not_finite_step", where=name, step=step, snapshot="-", got=first_not_finite(name, array))


def first_not_finite(name: str, array: Array) -> str:
    """``dense1.W[2, 0] = inf``: the first entry that is not finite."""
    array = np.asarray(array)
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return f"{name}{list(index) if index else ''} = {array[index]}"


def _not_finite(graph: Graph, values: Arrays, d: Arrays) -> Iterator[tuple[str, Array]]:
    forward = [*(n for n in values if n in graph.leaves), *(o for node in graph.nodes for o in node.outputs)]
    backward = [*(o for node in reversed(graph.nodes) for o in node.outputs if o in d), *graph.trainable]
    named = [*((n, values[n]) for n in forward), *((f"∂L/∂{n}", d[n]) for n in backward)]
    return ((n, a) for n, a in named if a.dtype.kind == "f" and not np.isfinite(a).all())


def apply(
    optimizer: optim.Optimizer,
    clip: optim.Clip | None,
    params: Arrays,
    grads: Arrays,
    slots: Mapping[str, Arrays],
    *,
    lr: float,
    t: int,
) -> tuple[dict[str, Array], optim.State]:
    """New parameters and optimizer state after clipping and one update."""
    clipped = grads if clip is None else clip(np, grads)
    return optim.apply(np, optimizer, params, clipped, slots, lr=lr, t=t)


Outputs = Callable[["Samples", int], Array]
"""(samples, how many to walk through together) -> the model's outputs at inference."""


def evaluate(
    model: Model, loss: Loss, samples: Samples, *, batch_size: int | None = None, outputs: Outputs | None = None
) -> Outcome:
    """Loss and outputs at inference, without gradients, over all ``samples``: so many at once as prediction takes.

    ``outputs``, where given, computes the model's outputs; what comes after them is the reference engine's.
    """
    found, size = Outcome(), batch_size or _rows_at_once(model, loss, samples.rows(slice(0, ROWS_AT_ONCE)))
    together = len(samples) if outputs is not None and not samples.lazy else size
    for start in range(0, len(samples), together):
        several = samples.rows(slice(start, start + together))
        made = None if outputs is None else outputs(several, size)
        for first in range(0, len(several), size):
            rows = slice(first, first + size)
            part, known = several.rows(rows), None if made is None else made[rows]
            _combine(found, _evaluated(model, loss, part, known), {}, part)
    return found


def _evaluated(model: Model, loss: Loss, part: Samples, output: Array | None) -> list[Array]:
    """(loss, output, mass) of a batch at inference; ``output`` where it is known."""
    graph = part.graph(model, loss, training=False)
    env = reference.leaves(graph, model.params | model.state | part.given(graph))
    if output is not None:
        known = graph.behind(graph.outputs[1:2])
        env |= {graph.outputs[1]: output}
        graph = replace(graph, nodes=tuple(node for node in graph.nodes if known.isdisjoint(node.outputs)))
    values = reference.forward(graph, env)
    return [values[o] for o in graph.outputs]


def _rows_at_once(model: Model, loss: Loss, first: Samples) -> int:
    return rows_at_once(first.graph(model, loss, training=False), len(first))
