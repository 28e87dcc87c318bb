"""binary_cross_entropy: yes-or-no answers, from logits; the sigmoid is inside.

Shapes: logits[N, …], targets of the same shape with entries t in [0, 1], weights[N] ≥ 0 or absent, pos_weight[] or
[C] (one for each class along the last axis) or of the shape of a sample, or absent; loss[] and mass[] = Σ_n w_n (N
without weights).
With p = sigmoid(z) and the pos_weight q (1 where absent)::

    L = Σ_n w_n mean_k (-q t log p - (1 - t) log(1 - p)) / Σ_n w_n
    δ = ∂L/∂z = w_n / Σ_n w_n ((1 - t) p - q t (1 - p)) / K,    which is w_n / Σ_n w_n (p - t) / K where q = 1

Without weights this is PyTorch's ``F.binary_cross_entropy_with_logits(reduction="mean")``. -log p = softplus(-z) and
-log(1 - p) = softplus(z) are not formed from p: nothing overflows, and a sure answer keeps its small loss. Where all
weights are 0, L and its gradient are 0. All inputs but logits are constants.

InputError: another shape of targets than of logits (no broadcasting), weights that fit neither, no samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from backlit.core.types import Array, Namespace, Shape
from backlit.rules._losses import (
    cast,
    check_axes,
    check_same,
    check_weights,
    expanded_mean,
    expanded_per_sample,
    per_sample,
    share,
    weighted_mean,
)
from backlit.rules.base import Case, rule
from backlit.rules.sigmoids import sigmoid_forward, softplus_forward


def _marks(xp: Namespace, logits: Array, targets: Array, pos_weight: Array | None) -> tuple[Array, Array]:
    """What log p and log(1 - p) count in each entry: q t and 1 - t."""
    t = cast(xp, targets, logits)
    return t if pos_weight is None else t * cast(xp, pos_weight, logits), 1.0 - t


def forward(
    xp: Namespace, logits: Array, targets: Array, weights: Array | None = None, pos_weight: Array | None = None
) -> tuple[Array, Array]:
    yes, no = _marks(xp, logits, targets, pos_weight)
    entries = yes * softplus_forward(xp, -logits) + no * softplus_forward(xp, logits)
    return weighted_mean(xp, per_sample(xp, entries), weights)


def backward(
    xp: Namespace,
    dloss: Array,
    *,
    logits: Array,
    targets: Array,
    weights: Array | None,
    pos_weight: Array | None,
    mass: Array,
) -> Array:
    yes, no = _marks(xp, logits, targets, pos_weight)
    part = share(xp, dloss, weights, mass, logits) / prod(logits.shape[1:])
    return part * (no * sigmoid_forward(xp, logits) - yes * sigmoid_forward(xp, -logits))


def shapes(
    logits: Shape, targets: Shape, weights: Shape | None = None, pos_weight: Shape | None = None
) -> tuple[Shape, Shape]:
    check_axes("binary_cross_entropy", 1, "logits[N, …]", logits=logits)
    check_same("binary_cross_entropy", logits=logits, targets=targets)
    check_weights("binary_cross_entropy", "logits", logits[:1], weights=weights)
    check_weights("binary_cross_entropy", "logits", (), logits[1:][-1:], logits[1:], pos_weight=pos_weight)
    return (), ()


def expand(o: Any, logits: Any, targets: Any, weights: Any, pos_weight: Any) -> Any:
    yes = targets if pos_weight is None else targets * pos_weight
    entries = yes * o.softplus(-logits) + (1.0 - targets) * o.softplus(logits)
    return expanded_mean(o, expanded_per_sample(o, entries), weights)


def cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("one column", (5, 1)), ("vector", (4,)), ("classes", (3, 4)), ("batch of one", (1, 2))):
        yield Case(label, logits=rng.normal(size=shape), targets=np.asarray(rng.integers(0, 2, size=shape), float))
    z, t = rng.normal(size=(4, 3)), rng.uniform(size=(4, 3))
    yield Case("probabilities as targets", logits=z, targets=t)
    yield Case("pos_weight of all", logits=z, targets=t, pos_weight=np.asarray(2.5))
    yield Case("pos_weight of each class", logits=z, targets=t, pos_weight=np.asarray([0.5, 1.0, 3.0]))
    z, t, w = rng.normal(size=(4, 2, 3)), rng.uniform(size=(4, 2, 3)), np.asarray([0.5, 2.0, 0.0, 1.25])
    yield Case("weights", logits=z, targets=t, weights=w, pos_weight=np.asarray([0.5, 1.0, 3.0]))
    yield Case("pos_weight of a sample's shape", logits=z, targets=t, pos_weight=rng.uniform(size=(2, 3)))
    nothing = {"loss": 0.0, "mass": 0.0, "dlogits": 0.0}
    yield Case("all weights 0", logits=z, targets=t, weights=np.zeros(4), expect=nothing)
    far = np.asarray([[1000.0, -1000.0, 1000.0, -1000.0]])
    known = {"loss": 500.0, "dlogits": [[0.25, -0.25, 0.0, 0.0]]}
    yield Case("extreme logits", logits=far, targets=np.asarray([[0.0, 1.0, 1.0, 0.0]]), expect=known)


_ENTRY = (
    "pos_weight[*k] * targets[n,*k] * (max(-logits[n,*k], 0) + log(1 + exp(-abs(logits[n,*k]))))"
    " + (1 - targets[n,*k]) * (max(logits[n,*k], 0) + log(1 + exp(-abs(logits[n,*k]))))"
)
_SLOPE = "(1 - targets[n,*k]) * sigmoid(logits[n,*k]) - pos_weight[*k] * targets[n,*k] * sigmoid(-logits[n,*k])"

binary_cross_entropy = rule(
    "binary_cross_entropy",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        f"loss = Sum(n, weights[n] * Mean(k, {_ENTRY})) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        f"dlogits[n,*k] = dloss * weights[n] / mass * ({_SLOPE}) / Count(k) if mass != 0 else 0",
    ),
    outputs=("loss", "mass"),
    constants=("targets", "weights", "pos_weight"),
    absent={"weights": 1.0, "pos_weight": 1.0},
    expand=expand,
    cases=cases,
    source="Cox: The regression analysis of binary sequences, Journal of the Royal Statistical Society B 20(2), 1958",
)
