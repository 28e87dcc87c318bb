"""A table of ratings with holes, filled by the product of two thin matrices: R ≈ U Vᵀ where entries are known."""

from __future__ import annotations

import numpy as np

import backlit as bl

rng = np.random.default_rng(0)
R = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 20))  # rank 2
known = rng.random(R.shape) < 0.7


def error(U: np.ndarray, V: np.ndarray) -> float:
    """Mean squared error over the known entries."""
    return np.sum(known * (U @ V.T - R) ** 2) / known.sum()


U, V = rng.normal(0, 0.1, (30, 2)), rng.normal(0, 0.1, (20, 2))
gradient = bl.grad(error)
for _ in range(1000):
    slope_u, slope_v = gradient(U, V)
    U, V = U - 8 * slope_u, V - 8 * slope_v

hidden = np.sqrt(np.mean((U @ V.T - R)[~known] ** 2))
print(f"root mean squared error of the known entries {np.sqrt(error(U, V)):.1e}")
print(f"and of the hidden entries {hidden:.1e}, entries being of size {R.std():.2f}")
print("ok" if hidden < 1e-3 else "not found")
