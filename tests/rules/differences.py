"""Derivatives by difference quotients, with an estimate of their own error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from backlit.core.types import Array


class CrossedError(Exception):
    """A step that reaches another smooth piece, or leaves the domain."""


def derivative(f: Callable[[float], Array], rounds: int = 8) -> tuple[Array, Array]:
    """(f'(0), error estimate) by central differences extrapolated to step 0 (Ridders, Adv. Eng. Softw. 4, 1982)."""
    rows: list[list[Array]] = []
    step = _first_step(f)
    best, error = np.zeros_like(f(0.0)), np.full_like(f(0.0), np.inf)
    for k in range(rounds):
        h = step / 2**k
        rows.append([(f(h) - f(-h)) / (2 * h)])
        for m in range(1, k + 1):
            rows[k].append(rows[k][m - 1] + (rows[k][m - 1] - rows[k - 1][m - 1]) / (4.0**m - 1))
            guess = np.maximum(np.abs(rows[k][m] - rows[k][m - 1]), np.abs(rows[k][m] - rows[k - 1][m - 1]))
            best, error = np.where(guess < error, rows[k][m], best), np.minimum(guess, error)
    return best, error


def _first_step(f: Callable[[float], Array]) -> float:
    for k in range(30):
        try:
            f(0.25 / 2**k), f(-0.25 / 2**k)
        except (CrossedError, FloatingPointError):
            continue
        return 0.25 / 2**k
    raise AssertionError("no step stays on one smooth piece: mark the case on_kink")
