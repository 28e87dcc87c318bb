"""The gradient check: whether backpropagation is right on this model and these data.

Every trainable parameter is tested in float64 with the reference engine: the derivative of the loss along its
gradient, along random directions, and along single entries, each by central differences
(:mod:`backlit.glass.differences`) against the gradient from backpropagation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.core.rng import generator
from backlit.core.types import Array
from backlit.glass.certificate import Certificate, Subject, certify
from backlit.glass.differences import Derivative, Point, derivative
from backlit.glass.report import Report, Row
from backlit.graph.graph import Graph
from backlit.nn.grad import loss_graph
from backlit.nn.losses import Loss
from backlit.nn.model import Model

TOLERANCE = 1e-6
"""Largest relative error of a right gradient: well above what the differences lose, a 500th of a slip of 0.05 %."""

SMALL = 1e-4
"""A derivative below this share of the whole gradient's norm is small: see ``Row.error``."""


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
    oracles: Iterable[str] = (),
) -> Certificate:
    """Compare every gradient of ``loss`` on the batch (X[N, …], y[N, …]) with central differences, in float64.

    Each parameter is tried along its own gradient, ``directions`` random directions and ``entries`` single entries (the
    one with the largest gradient first). ``training``, ``seed`` and ``step`` fix batch statistics and dropout masks as
    in training. Every rule is judged on the arrays of this run too, and the engine apart from the rules; where
    something is wrong the certificate names the probable mistake. ``oracles`` names other programs to ask about each
    rule (``"jax"``, ``"torch"``; :func:`backlit.core.oracles.installed` lists those that there are).

    The model is not changed. Raises InputError where data and model do not fit, or an oracle is not installed.
    """
    settings = {"weights": weights, "training": training, "seed": seed, "step": step, "dtype": "float64"}
    with np.errstate(all="ignore"):
        graph, env = loss_graph(model, X, y, loss=loss, **settings)
        subject, broken = Subject.of(graph, env, seed)
        gradients = {n: subject.gradient(n) for n in graph.trainable}
        here = Point.of(graph, env)
        whole = float(np.sqrt(sum(np.sum(gradients[n] ** 2) for n in graph.trainable)))
        trial = Trial(graph, env, here, directions, entries, seed, tolerance, whole)
        rows = [_row(trial, n, gradients[n]) for n in graph.trainable]
        report = Report(tuple(rows), here.loss, len(env[graph.inputs[0]]), tolerance)
        return certify(subject, report, model.params | model.state, oracles, broken)


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
    if g.shape != trial.env[name].shape or np.isnan(g).all():  # the backward pass gave nothing that could be compared
        return Row(name, trial.env[name].shape, float("inf"), 0.0, 0, "central differences", "wrong", {})
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
