"""Two-dimensional toys, made from a seed: N points of two balanced classes, within about ±1.8 of the origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from backlit.core.rng import generator
from backlit.core.types import Array

Toy = Callable[[np.random.Generator, Array], Array]


def xor(rng: np.random.Generator, y: Array) -> Array:
    """Points of the square [-1, 1]², at least 0.1 from the axes; class 1 where exactly one coordinate is positive."""
    size = rng.uniform(0.1, 1.0, (len(y), 2))
    sign = np.where(rng.random(len(y)) < 0.5, 1.0, -1.0)
    return size * np.stack([sign, np.where(y == 1, -sign, sign)], axis=1)


def moons(rng: np.random.Generator, y: Array) -> Array:
    """Two half circles of radius 1, one standing and one hanging into it, with noise 0.1."""
    t = rng.uniform(0.0, np.pi, len(y))
    side = np.where(y == 0, 1.0, -1.0)
    centred = np.stack([side * (np.cos(t) - 0.5), side * (np.sin(t) - 0.25)], axis=1)
    return centred + rng.normal(0.0, 0.1, centred.shape)


def circles(rng: np.random.Generator, y: Array) -> Array:
    """Circles of radius 1 (class 0) and 0.5 (class 1), with noise 0.05."""
    t = rng.uniform(0.0, 2 * np.pi, len(y))
    points = np.where(y == 0, 1.0, 0.5)[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)
    return points + rng.normal(0.0, 0.05, points.shape)


def spirals(rng: np.random.Generator, y: Array) -> Array:
    """Two arms of one and a half turns, half a turn apart, with noise 0.01.

    After Lang and Witbrock, Learning to tell two spirals apart, Connectionist Models Summer School, 1988.
    """
    radius = np.sqrt(rng.uniform(0.01, 1.0, len(y)))
    angle = 3 * np.pi * radius + np.pi * y
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0.0, 0.01, (len(y), 2))


TOYS: Mapping[str, Toy] = {"xor": xor, "moons": moons, "circles": circles, "spirals": spirals}


def points(name: str, size: int, seed: int) -> tuple[Array, Array]:
    """``size`` points of a toy: X[size, 2] float64, labels y[size], alternating 0 and 1."""
    y = np.arange(size) % 2
    return TOYS[name](generator(seed, 0, f"data.{name}"), y), y
