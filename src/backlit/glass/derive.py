"""derive: the complete derivation of backpropagation for one's own network, as a document.

From the model's graph: the forward equations, the loss, the error term of the output layer by the chain rule, the
recursion for every layer, the gradient of every parameter, the update, and the same with the numbers of one batch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backlit import optim
from backlit.core import files
from backlit.core.errors import InputError
from backlit.core.i18n import language, say, use_language
from backlit.core.rng import generator
from backlit.core.types import Array
from backlit.glass import derive_blocks, derive_html
from backlit.glass.derive_blocks import Block, Heading, Text
from backlit.glass.derive_equations import Equation, Equations, Gradient
from backlit.glass.derive_sections import Sections
from backlit.glass.derive_symbols import Symbols
from backlit.glass.derive_worked import Entry, Worked
from backlit.glass.trace import Trace, trace
from backlit.nn import losses
from backlit.nn.losses import Loss
from backlit.nn.model import Model
from backlit.optim import Optimizer

SAMPLES = 4
"""Size of the batch where none is given."""


@dataclass(frozen=True)
class Derivation:
    """A derivation as a document; ``str()`` of it is :meth:`markdown`, which notebooks show with its formulas."""

    title: str
    lang: str
    blocks: tuple[Block, ...] = field(repr=False)
    trace: Trace = field(repr=False)
    """The step whose numbers it shows."""
    entries: tuple[Entry, ...] = field(repr=False)
    """Every number worked out, with what the formula gives and what the engine stored."""
    longer: tuple[Equation | Gradient, ...] = field(repr=False, default=())
    """Equations of the longer way through a fused loss."""

    @property
    def equations(self) -> tuple[Equation | Gradient, ...]:
        """Every equation in the document: forward, then gradients, then the longer way through a fused loss."""
        return (*Equations(self.trace, Symbols(self.trace.graph)).every(), *self.longer)

    def markdown(self) -> str:
        """The document as Markdown, its formulas as LaTeX between dollar signs."""
        with use_language(self.lang):
            return derive_blocks.markdown(self.blocks)

    def html(self) -> str:
        """The document as one page that needs no network; KaTeX, which sets the formulas, is in it with its fonts."""
        with use_language(self.lang):
            return derive_html.page(self.blocks, title=self.title, lang="zh-CN" if self.lang == "zh" else "en")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the document: HTML to ``*.html`` and ``*.htm``, else Markdown. FileError where that fails."""
        page = Path(path).suffix.lower() in (".html", ".htm")
        return files.write(path, (self.html() if page else self.markdown()).encode())

    def __str__(self) -> str:
        return self.markdown()

    def _repr_markdown_(self) -> str:
        return self.markdown()


def derive(
    model: Model,
    X: Any = None,
    y: Any = None,
    *,
    loss: str | Loss | None = None,
    optimizer: str | Optimizer = "sgd",
    lang: str | None = None,
    seed: int = 0,
) -> Derivation:
    """The derivation of backpropagation in ``model``, in English (``lang="en"``) or Chinese (``"zh"``).

    ``X[N, …]`` and ``y[N, …]`` are the batch whose numbers are shown; a few samples read best. Without them four
    samples are drawn from ``seed``. Without a loss, softmax cross-entropy is taken for integer labels and for an output
    of several units without activation, else the mean squared error. A model that is not built yet is built from X.

    Raises InputError for a model that is not built where no data are given, for X without y, and for data that do
    not fit.
    """
    chosen = optim.get(optimizer)
    lang = lang or language()
    with use_language(lang):
        told: list[Block] = []
        if (X is None) != (y is None):
            raise InputError("derive_pair", where="derive", got="X" if y is None else "y")
        recipe = _loss(model, loss, y, told)
        if X is None:
            X, y = _drawn(model, recipe, seed)
            told.append(Text(say("derive_data_assumed", seed=seed)))
        return _document(trace(model, X, y, loss=recipe, seed=seed), recipe, chosen, lang, told)


def _document(found: Trace, loss: Loss, optimizer: Optimizer, lang: str, told: list[Block]) -> Derivation:
    sections = Sections(Equations(found, Symbols(found.graph)), optimizer)
    worked = Worked(sections)
    title = say("derive_title")
    count = sum(found.values[p].size for p in found.graph.trainable)
    lead = say(
        "derive_lead",
        layers=len(sections.layers),
        parameters=count,
        loss=loss.name,
        optimizer=type(optimizer).__name__,
        samples=sections.equations.samples,
    )
    blocks = (Heading(1, title), Text(lead), *told, *sections.all(), *worked.blocks())
    longer = sections.longer
    more: tuple[Equation | Gradient, ...] = (*longer.forward, *longer.backward) if longer else ()
    return Derivation(title, lang, blocks, found, tuple(worked.entries), more)


def _loss(model: Model, loss: str | Loss | None, y: Any, told: list[Block]) -> Loss:
    """The loss that was asked for, or the usual one, which is then said."""
    if loss is not None:
        return losses.get(loss)
    labels = y is not None and np.asarray(y).dtype.kind in "iu" and np.ndim(y) == 1
    name = "softmax_cross_entropy" if labels or (y is None and _gives_logits(model)) else "mse"
    told.append(Text(say("derive_loss_assumed", loss=name)))
    return losses.get(name)


def _output(model: Model) -> tuple[tuple[int, ...], bool]:
    """(shape of one sample's output, True where no activation comes last)."""
    if not model.built:
        raise InputError("derive_needs_shape", where="derive", got="model.built = False")
    graph = model.graph(model.batch_of(2))
    name = graph.outputs[0]
    return graph.values[name].shape[1:], graph.producer[name].rule == "linear"


def _gives_logits(model: Model) -> bool:
    shape, linear = _output(model)
    return linear and len(shape) == 1 and shape[0] > 1


def _drawn(model: Model, loss: Loss, seed: int) -> tuple[Any, Array]:
    """A batch of samples and targets of the kind that the loss takes."""
    shape, _ = _output(model)
    described = zip(model.samples, model.dtypes, strict=True)
    X = tuple(_draw(f"derive x{i}", s, seed, dtype) for i, (s, dtype) in enumerate(described))
    return X if len(X) > 1 else X[0], _target(loss, shape, seed, model.dtype)


def _draw(name: str, shape: tuple[int, ...], seed: int, dtype: str) -> Array:
    rng, size = generator(seed, 0, name), (SAMPLES, *shape)
    return rng.integers(0, 2, size) if dtype.startswith("int") else rng.normal(size=size).astype(dtype)


def _target(loss: Loss, shape: tuple[int, ...], seed: int, dtype: str) -> Array:
    rng, shape = generator(seed, 0, "derive y"), () if loss.one_each else shape
    if loss.labels:
        return rng.integers(0, shape[-1], (SAMPLES, *shape[:-1]))
    if loss.unit_interval:
        return rng.integers(0, 2, (SAMPLES, *shape)).astype(dtype)
    if loss.name == "kl_divergence":
        return _probabilities(rng.random((SAMPLES, *shape))).astype(dtype)
    return rng.normal(size=(SAMPLES, *shape)).astype(dtype)


def _probabilities(weights: Array) -> Array:
    return weights / weights.sum(axis=-1, keepdims=True)
