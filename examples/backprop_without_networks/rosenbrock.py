"""The minimum of Rosenbrock's curved valley by quasi-Newton steps, with the gradient from backlit."""

from __future__ import annotations

import numpy as np

import backlit as bl


def valley(p: np.ndarray) -> float:
    x, y = p
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


value_and_gradient = bl.value_and_grad(valley)
p, B = np.array([-1.2, 1.0]), np.eye(2)  # B approximates the inverse of the second derivatives (BFGS)
for steps in range(100):  # noqa: B007  printed at the end
    value, g = value_and_gradient(p)
    if np.abs(g).max() < 1e-10:
        break
    direction, rate = -B @ g, 1.0
    while valley(p + rate * direction) > value + 1e-4 * rate * (g @ direction):
        rate /= 2
    s = rate * direction
    y = value_and_gradient(p + s)[1] - g
    A = np.eye(2) - np.outer(s, y) / (y @ s)
    p, B = p + s, A @ B @ A.T + np.outer(s, s) / (y @ s)

print(f"{steps} steps, minimum at ({p[0]:.4f}, {p[1]:.4f}), value {valley(p):.1e}")
print("ok" if np.allclose(p, 1, atol=1e-6) else "not found")
