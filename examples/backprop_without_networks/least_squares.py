"""A straight-line fit by gradient descent, compared with the closed-form solution."""

from __future__ import annotations

import numpy as np

import backlit as bl

rng = np.random.default_rng(0)
A = np.column_stack([rng.uniform(0, 1, 50), np.ones(50)])
b = A @ [3.0, -1.0] + rng.normal(0, 0.1, 50)


def error(w: np.ndarray) -> float:
    return np.mean((A @ w - b) ** 2)


w, gradient = np.zeros(2), bl.grad(error)
for _ in range(1000):
    w = w - 0.5 * gradient(w)

best = np.linalg.lstsq(A, b, rcond=None)[0]
print(f"gradient descent: slope {w[0]:.6f}, intercept {w[1]:.6f}")
print(f"closed form:      slope {best[0]:.6f}, intercept {best[1]:.6f}")
print(f"largest gradient entry at the solution: {np.abs(gradient(best)).max():.1e}")
print("ok" if np.allclose(w, best, atol=1e-8) else "the two differ")
