"""The gradient check: whether backpropagation is right on this model and these data.

Every trainable parameter is tested in float64 with the reference engine: the derivative of the loss along its
gradient, along random directions, and along single entries, each by central differences
(:mod:`backlit.glass.differences`) against the gradient from backpropagation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backlit.core.i18n import say
from backlit.core.rng import generator
from backlit.core.types import Array
from backlit.engines import reference
from backlit.glass.differences import Derivative, Point, derivative
from backlit.graph.graph import Graph
from backlit.nn.grad import loss_graph
from backlit.nn.losses import Loss
from backlit.nn.model import Model

TOLERANCE = 1e-6
"""Largest relative error of a right gradient: well above what the differences lose, a 500th of a slip of 0.05 %."""

SMALL = 1e-4
"""A derivative below this share of the whole gradient's norm is small: see ``Row.error``."""


@dataclass(frozen=True)
class Row:
    """What was found out about one parameter."""

    parameter: str
    shape: tuple[int, ...]
    error: float
    """Largest relative error |numeric - backpropagated| / scale over the directions tried; NaN where none could be.

    The scale is the derivative's size along that direction, or a typical one of this parameter where that is larger. A
    small derivative that differs by no more than noise is measured by the whole gradient's norm: a bias before batch
    normalisation has derivative 0, and all that the differences see is rounding.
    """
    noise: float
    """What the differences themselves may be off by, in the same units, for that direction."""
    directions: int
    """Directions compared."""
    route: str
    verdict: str
    """``ok``, ``wrong``, ``kink`` (every direction crosses a kink) or ``undecided`` (the noise hides the answer)."""
    kinks: dict[str, int]
    """Nodes whose kinks stopped a direction -> entries that crossed; these directions are left out, not failed."""


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`check`: one row per parameter."""

    rows: tuple[Row, ...]
    loss: float
    samples: int
    tolerance: float

    @property
    def ok(self) -> bool:
        """True where no parameter is wrong or undecided and at least one was compared."""
        verdicts = {row.verdict for row in self.rows}
        return "ok" in verdicts and verdicts <= {"ok", "kink"}

    @property
    def worst(self) -> float:
        """The largest relative error of all parameters that could be compared."""
        return max((r.error for r in self.rows if not np.isnan(r.error)), default=float("nan"))

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values; None for a number that is not finite."""
        rows = [{name: _finite(value) for name, value in asdict(row).items()} for row in self.rows]
        figures = {"worst": self.worst, "tolerance": self.tolerance, "loss": self.loss, "samples": self.samples}
        return {"ok": self.ok} | {name: _finite(value) for name, value in figures.items()} | {"rows": rows}

    def __str__(self) -> str:
        width = max((len(r.parameter) for r in self.rows), default=0)
        lines = [say("check_head", samples=self.samples, tolerance=f"{self.tolerance:.0e}")]
        lines += [_line(r, width) for r in self.rows]
        return "\n".join([*lines, say("check_ok" if self.ok else "check_not_ok", worst=f"{self.worst:.1e}")])


def check(
    model: Model,
    X: Any,
    y: Any,
    *,
    loss: str | Loss,
    weights: Any = None,
    training: bool = True,
    seed: int = 0,
    step: int = 1,
    directions: int = 3,
    entries: int = 3,
    tolerance: float = TOLERANCE,
) -> Report:
    """Compare every gradient of ``loss`` on the batch (X[N, …], y[N, …]) with central differences, in float64.

    Each parameter is tried along its own gradient, ``directions`` random directions and ``entries`` single entries (the
    one with the largest gradient first). ``training``, ``seed`` and ``step`` fix batch statistics and dropout masks as
    in training. Raises InputError where data and model do not fit. The model is not changed.
    """
    settings = {"weights": weights, "training": training, "seed": seed, "step": step, "dtype": "float64"}
    with np.errstate(all="ignore"):
        graph, env = loss_graph(model, X, y, loss=loss, **settings)
        gradients = reference.value_and_grad(graph, env, graph.trainable)[1]
        here = Point.of(graph, env)
        whole = float(np.sqrt(sum(np.sum(gradients[n] ** 2) for n in graph.trainable)))
        trial = Trial(graph, env, here, directions, entries, seed, tolerance, whole)
        rows = [_row(trial, n, gradients[n]) for n in graph.trainable]
    return Report(tuple(rows), here.loss, len(env[graph.inputs[0]]), tolerance)


@dataclass(frozen=True)
class Trial:
    """What :func:`check` was told, the point it looks at, and the norm of the whole gradient there."""

    graph: Graph
    env: dict[str, Array]
    here: Point
    directions: int
    entries: int
    seed: int
    tolerance: float
    whole: float

    def moved(self, name: str, by: Array) -> Point:
        """The point where the parameter ``name`` is larger ``by`` that much."""
        return Point.of(self.graph, self.env | {name: self.env[name] + by})


def _row(trial: Trial, name: str, g: Array) -> Row:
    tried: list[tuple[float, float]] = []
    kinks: dict[str, int] = {}
    for v in _directions(name, g, trial):
        found = derivative(lambda h, v=v: trial.moved(name, h * v), trial.here)  # type: ignore[misc]
        kinks |= found.kinks
        if not found.kinks:
            tried.append(_errors(found, float(np.sum(g * v)), _typical(g, v), trial.whole))
    error, noise = max(tried, default=(float("nan"), float("nan")))
    return Row(name, g.shape, error, noise, len(tried), "central differences", _verdict(tried, trial.tolerance), kinks)


def _directions(name: str, g: Array, trial: Trial) -> Iterator[Array]:
    """Unit vectors of g's shape: g itself, random ones, single entries."""
    rng = generator(trial.seed, 0, f"check {name}")
    norm = float(np.linalg.norm(g))
    if norm > 0 and np.isfinite(norm):
        yield g / norm
    for _ in range(trial.directions):
        v = rng.normal(size=g.shape)
        yield v / np.linalg.norm(v)
    chosen = [int(np.argmax(np.abs(g))), *rng.integers(0, g.size, max(trial.entries - 1, 0)).tolist()][: trial.entries]
    for i in dict.fromkeys(chosen):
        yield np.eye(1, g.size, i).reshape(g.shape)


def _typical(g: Array, v: Array) -> float:
    """|g·v| of a direction like v, on average."""
    return float(np.linalg.norm(g)) * float(np.linalg.norm(v)) / float(np.sqrt(g.size))


def _errors(found: Derivative, backpropagated: float, typical: float, whole: float) -> tuple[float, float]:
    """(relative error, noise), as :class:`Row` has them."""
    scale = max(abs(found.value), abs(backpropagated), typical)
    difference = abs(found.value - backpropagated)
    if scale <= SMALL * whole and difference <= 10 * found.error:
        scale = whole
    if scale == 0.0:
        return 0.0, 0.0
    return (difference / scale if np.isfinite(scale) else float("inf")), float(found.error / scale)


def _verdict(tried: list[tuple[float, float]], tolerance: float) -> str:
    if not tried:
        return "kink"
    if all(error <= tolerance for error, _ in tried):
        return "ok"
    return "wrong" if any(error > max(tolerance, 10 * noise) for error, noise in tried) else "undecided"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _line(row: Row, width: int) -> str:
    error = "-" if np.isnan(row.error) else f"{row.error:.1e}"
    kinks = ", ".join(f"{node} ({count})" for node, count in row.kinks.items())
    note = say("check_kinks", kinks=kinks) if kinks else ""
    head = f"  {row.parameter:{width}}  {list(row.shape)!s:14} {error:>8}"
    return f"{head}  {say(f'check_verdict_{row.verdict}')}  {note}".rstrip()
