"""Logistic regression without a network: the loss is a plain NumPy function, its gradient comes from backlit."""

from __future__ import annotations

import numpy as np

import backlit as bl

rng = np.random.default_rng(0)
X = np.concatenate([rng.normal(-1, 1, (100, 2)), rng.normal(1, 1, (100, 2))])
t = np.repeat([-1.0, 1.0], 100)  # the class of each row


def loss(w: np.ndarray, b: float) -> float:
    """Mean of ln(1 + e⁻ᵐ), m = t (X w + b) being how far a sample is on its own side."""
    return np.mean(bl.ops.softplus(-t * (X @ w + b)))


w, b = np.zeros(2), 0.0
value_and_gradient = bl.value_and_grad(loss)
for _ in range(500):
    value, (dw, db) = value_and_gradient(w, b)
    w, b = w - dw, b - db

accuracy = np.mean(np.sign(X @ w + b) == t)
print(f"loss {value:.6f}, gradient {np.abs(dw).max():.1e}, w = [{w[0]:.4f}, {w[1]:.4f}], b = {b:.4f}")
print(f"accuracy {accuracy:.3f}")
print("ok" if np.abs(dw).max() < 1e-6 and accuracy > 0.85 else "not converged")
